//! The streams of a cluster: their names, making them, and what is wrong with those that are there.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};

use crate::part::Found;
use crate::{BODY_BYTES_MAX, Cluster, OpenError, Part, Shard};

/// How long a beat is listed after its node has gone.
const BEATS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a cluster says how many shards it has.
const SHARDS: &str = "pointsman-shards";

/// Where one of several engines says which it is.
const PART: &str = "pointsman-part";

/// What the streams and subjects of a cluster are called. A cluster's name has no `_` and no `.`.
#[derive(Clone, Debug)]
pub(super) struct Names(String);

impl Names {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self(cluster.name().to_string())
    }

    pub(super) fn log_stream(&self, shard: Shard) -> String {
        format!("PM_{}_{shard}", self.0)
    }

    pub(super) fn log_subject(&self, shard: Shard) -> String {
        format!("pm.{}.log.{shard}", self.0)
    }

    pub(super) fn beat_stream(&self) -> String {
        format!("PM_{}_beat", self.0)
    }

    pub(super) fn beat_subject(&self, node: &str) -> String {
        format!("pm.{}.beat.{node}", self.0)
    }
}

/// Refuses a server that cannot keep a log.
pub(super) fn check_server(client: &Client) -> Result<(), OpenError> {
    let info = client.server_info();
    if !client.is_server_compatible(2, 10, 0) {
        return Err(OpenError::Refused(format!(
            "nats-server {} is older than 2.10, the first that can keep a log",
            info.version
        )));
    }
    if info.max_payload < BODY_BYTES_MAX {
        return Err(OpenError::Refused(format!(
            "nats-server takes messages of {} bytes, and a record may have {BODY_BYTES_MAX}; set \
             max_payload",
            info.max_payload
        )));
    }
    Ok(())
}

/// What is at stake. How often servers sync is not said to those who use an account.
pub(super) fn warnings(replicas: usize) -> Vec<String> {
    let mut warnings = vec![
        "whether JetStream syncs before it acknowledges cannot be seen from here: unless its \
         servers run with jetstream { sync_interval: always }, a power cut of several of them \
         loses acknowledged events"
            .to_owned(),
    ];
    if replicas < 2 {
        warnings.push(
            "the log lies on one NATS server: if its disk is lost, so are all events that are not \
             delivered yet; set replicas: 3"
                .to_owned(),
        );
    }
    warnings
}

/// What the streams of a cluster are to be. The first says how many shards it has, so that those
/// who disagree about the number make no other one.
fn wanted(names: &Names, cluster: &Cluster, replicas: usize) -> Vec<Config> {
    let of = |name: String, subject: String| Config {
        name,
        subjects: vec![subject],
        num_replicas: replicas,
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        ..Config::default()
    };
    let shards = (SHARDS.to_owned(), cluster.shards().to_string());
    let part = cluster.part().map(|part| (PART.to_owned(), part.written()));
    let meta = Config {
        metadata: [shards].into_iter().chain(part).collect(),
        ..of(
            format!("PM_{}_meta", cluster.name()),
            format!("pm.{}.meta", cluster.name()),
        )
    };
    let beats = Config {
        max_messages_per_subject: 1,
        max_age: BEATS_KEPT,
        ..of(names.beat_stream(), names.beat_subject("*"))
    };
    let log = |shard| Config {
        discard: DiscardPolicy::New,
        deny_delete: true,
        ..of(names.log_stream(shard), names.log_subject(shard))
    };
    let shards = (0..cluster.shards()).map(Shard);
    let logs = shards.filter(|shard| cluster.has(*shard)).map(log);
    [meta, beats].into_iter().chain(logs).collect()
}

/// Makes the streams that are not there, and refuses those that are there in another form. Returns
/// what they are of the cluster.
pub(super) async fn adopt(
    context: &Context,
    names: &Names,
    cluster: &Cluster,
    replicas: usize,
) -> Result<Found, OpenError> {
    let mut all = Found::default();
    for stream in wanted(names, cluster, replicas) {
        let found = match find(context, &stream.name).await? {
            Some(found) => found,
            None => {
                cluster.may_be_made()?;
                make(context, &stream).await?
            }
        };
        all.add(check(&found, &stream, cluster)?, &found);
    }
    Ok(all)
}

/// Whether all streams are there, and what they are of the cluster; refuses those that are
/// there in another form.
pub(super) async fn probe(
    context: &Context,
    names: &Names,
    cluster: &Cluster,
    replicas: usize,
) -> Result<(bool, Found), OpenError> {
    let (mut are_there, mut all) = (true, Found::default());
    for stream in wanted(names, cluster, replicas) {
        match find(context, &stream.name).await? {
            Some(found) => all.add(check(&found, &stream, cluster)?, &found),
            None => {
                cluster.may_be_made()?;
                are_there = false;
            }
        }
    }
    Ok((are_there, all))
}

impl Found {
    fn add(&mut self, part: Option<Part>, stream: &Info) {
        self.part = self.part.or(part);
        self.is_used |= stream.state.last_sequence > 0;
    }
}

async fn find(context: &Context, name: &str) -> Result<Option<Info>, OpenError> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(OpenError::Unavailable(format!(
            "JetStream does not tell of the stream {name}: {error}"
        ))),
    }
}

/// Makes a stream that was not there, or finds it. Returns what it is like.
async fn make(context: &Context, wanted: &Config) -> Result<Info, OpenError> {
    match context.create_stream(wanted.clone()).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        // Somebody else has been faster, and may want another one.
        Err(error) => match find(context, &wanted.name).await {
            Ok(Some(found)) => Ok(found),
            _ => {
                let told = format!(
                    "JetStream does not make the stream {}: {error}",
                    wanted.name
                );
                Err(match is_final(&error) {
                    true => OpenError::Refused(told),
                    false => OpenError::Unavailable(told),
                })
            }
        },
    }
}

/// Refuses a stream that is there in another form. Returns which part of the cluster it says that
/// the engine keeps.
fn check(found: &Info, wanted: &Config, cluster: &Cluster) -> Result<Option<Part>, OpenError> {
    let found = &found.config;
    if let Some(what) = difference(found, wanted) {
        return Err(OpenError::Refused(format!(
            "the stream {} {what}, and records would be lost with it",
            wanted.name
        )));
    }
    if !wanted.metadata.contains_key(SHARDS) {
        return Ok(None);
    }
    let said = |key| found.metadata.get(key);
    let shards = said(SHARDS).and_then(|shards| shards.parse().ok());
    let part = said(PART).and_then(|part| Part::read(part));
    cluster.admit(shards.unwrap_or_default(), part)?;
    Ok(part)
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether a stream is not made later either. Of several servers none tells of a stream yet that
/// somebody else has just had made, and which is in use for all that.
fn is_final(error: &CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(error)
        if error.error_code() != ErrorCode::STREAM_NAME_EXIST)
}

/// What of a stream loses records that are there, or lets others in.
fn difference(found: &Config, wanted: &Config) -> Option<String> {
    let unlimited = |limit: i64| limit <= 0;
    let checks = [
        (found.subjects == wanted.subjects, "has other subjects"),
        (found.storage == wanted.storage, "lies in memory"),
        (found.retention == wanted.retention, "drops what was read"),
        (
            found.discard == wanted.discard,
            "discards old messages when it is full",
        ),
        (found.max_age == wanted.max_age, "has another max_age"),
        (unlimited(found.max_messages), "has a limit of messages"),
        (
            found.max_messages_per_subject == wanted.max_messages_per_subject
                || unlimited(found.max_messages_per_subject)
                    && unlimited(wanted.max_messages_per_subject),
            "has another limit of messages for each subject",
        ),
        (
            found.num_replicas >= wanted.num_replicas,
            "has fewer replicas",
        ),
        (
            !found.sealed && !found.no_ack,
            "is sealed, or acknowledges nothing",
        ),
        (!found.deny_purge, "cannot be trimmed"),
        (
            found.deny_delete || !wanted.deny_delete,
            "lets single messages be deleted",
        ),
        (
            found.mirror.is_none() && found.sources.as_ref().is_none_or(Vec::is_empty),
            "is fed by other streams",
        ),
        (found.subject_transform.is_none(), "renames subjects"),
        (
            found.persist_mode != Some(PersistenceMode::Async),
            "acknowledges before it has written",
        ),
        (
            found.max_message_size <= 0
                || usize::try_from(found.max_message_size).is_ok_and(|max| max >= BODY_BYTES_MAX),
            "takes no messages of 1 MiB",
        ),
    ];
    let wrong = checks.iter().find(|(is_right, _)| !is_right)?;
    Some(wrong.1.to_owned())
}
