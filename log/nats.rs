//! The log in NATS JetStream.
//!
//! A cluster is a stream for each shard, one for the beats, of which the last of each node is kept,
//! and one whose description says how many shards there are. A record is a message, and its place
//! the stream's sequence. No message has an id: within its window JetStream would drop a copy, and
//! whoever appends again could not tell where the first one is.

mod feed;
mod reader;
mod streams;

use std::fmt;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use pointsman_schemas::Name;
use tokio::time::{Instant, sleep, timeout_at};

use crate::part::Found;
use crate::{
    Beat, Beats, Cluster, FollowError, Follower, Log, LogError, OpenError, Opened, Probed,
};
use crate::{Place, Shard, fits};
use feed::Feed;
use streams::Names;

/// How to keep a log in JetStream.
#[derive(Clone, Debug)]
pub struct Options {
    /// A connection to the account. It connects again by itself, for ever; its pings decide how soon
    /// it notices that a server has gone without a word.
    pub client: Client,
    /// On how many servers each stream lies: 1, 3 or 5.
    pub replicas: usize,
    /// How long a call may take.
    pub timeout: Duration,
}

/// The log of a cluster in JetStream.
#[derive(Clone)]
pub struct NatsLog {
    cluster: Cluster,
    client: Client,
    context: Context,
    names: Names,
    timeout: Duration,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLog")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl NatsLog {
    /// Opens the log of a cluster, whose streams are made where they are not there yet.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] where JetStream does not answer in time, [`OpenError::Shards`]
    /// where the cluster has another number of shards, [`OpenError::Part`] where the engine keeps
    /// another part of it, and [`OpenError::Refused`] where JetStream refuses, is older than 2.10, takes no messages of 1 MiB, or has one of the streams in a form
    /// that would lose records.
    pub async fn open(cluster: Cluster, options: Options) -> Result<Opened<Self>, OpenError> {
        let replicas = options.replicas;
        let log = Self::connect(cluster, options).await?;
        let adopted = streams::adopt(&log.context, &log.names, &log.cluster, replicas);
        let Found { part, is_used } = log.in_time(adopted).await?;
        let warnings = streams::warnings(replicas);
        Ok(Opened {
            log,
            part,
            is_used,
            warnings,
        })
    }

    /// Looks whether [`NatsLog::open`] would succeed, as far as can be seen without making a stream,
    /// and changes nothing.
    ///
    /// # Errors
    /// As [`NatsLog::open`].
    pub async fn probe(cluster: Cluster, options: Options) -> Result<Probed, OpenError> {
        let replicas = options.replicas;
        let log = Self::connect(cluster, options).await?;
        let probed = streams::probe(&log.context, &log.names, &log.cluster, replicas);
        let (is_there, Found { part, is_used }) = log.in_time(probed).await?;
        Ok(Probed {
            is_there,
            part,
            is_used,
            warnings: streams::warnings(replicas),
        })
    }

    async fn connect(cluster: Cluster, options: Options) -> Result<Self, OpenError> {
        let log = Self {
            context: ContextBuilder::new()
                .timeout(options.timeout)
                .build(options.client.clone()),
            names: Names::of(&cluster),
            client: options.client,
            timeout: options.timeout,
            cluster,
        };
        let until = log.until();
        log.connected(until)
            .await
            .map_err(|error| OpenError::Unavailable(error.to_string()))?;
        streams::check_server(&log.client)?;
        Ok(log)
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, OpenError>>,
    ) -> Result<T, OpenError> {
        let answered = timeout_at(self.until(), asked).await;
        answered.unwrap_or_else(|_| Err(OpenError::Unavailable(NO_ANSWER.to_owned())))
    }

    fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Waits until there is a connection. Without one the client would keep what it is given, and
    /// send it when nobody waits for it any more.
    async fn connected(&self, until: Instant) -> Result<(), LogError> {
        while self.client.connection_state() != State::Connected {
            if Instant::now() >= until {
                return Err(LogError::Unavailable("no connection to NATS".to_owned()));
            }
            sleep(CONNECTED_EVERY).await;
        }
        Ok(())
    }

    async fn publish(&self, subject: String, body: Bytes) -> Result<u64, LogError> {
        let until = self.until();
        self.connected(until).await?;
        let publish = async {
            let acknowledged = self.context.publish(subject, body).await?;
            acknowledged.await
        };
        match timeout_at(until, publish).await {
            Ok(Ok(acknowledged)) => Ok(acknowledged.sequence),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(LogError::Unknown(NO_ANSWER.to_owned())),
        }
    }
}

/// Said where JetStream was told something and has not answered in time.
const NO_ANSWER: &str = "JetStream has not answered in time";

/// How often it is looked whether there is a connection again.
const CONNECTED_EVERY: Duration = Duration::from_millis(20);

/// What a stream refuses without having stored it anywhere: it or the account is full, or there are
/// too few servers. JetStream's `errors.json` has all of them.
const REFUSED: [u64; 5] = [10_002, 10_008, 10_023, 10_047, 10_077];

fn failure(error: &PublishError) -> LogError {
    let source = std::error::Error::source(error);
    let refusal = source.and_then(|source| source.downcast_ref::<jetstream::Error>());
    let told = match source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match (error.kind(), refusal) {
        // Nobody listens for the stream, so nobody has it.
        (PublishErrorKind::StreamNotFound, _) => LogError::Unavailable(told),
        (PublishErrorKind::MaxAckPending | PublishErrorKind::MaxPayloadExceeded, _) => {
            LogError::Refused(told)
        }
        (_, Some(refusal)) if REFUSED.contains(&refusal.error_code().0) => LogError::Refused(told),
        _ => LogError::Unknown(told),
    }
}

#[async_trait]
impl Log for NatsLog {
    async fn append(&self, shard: Shard, body: Bytes) -> Result<Place, LogError> {
        fits(&body)?;
        self.cluster.check(shard)?;
        let sequence = self.publish(self.names.log_subject(shard), body).await?;
        Ok(Place(sequence))
    }

    fn follow(&self, shard: Shard, after: Place) -> Follower {
        if !self.cluster.has(shard) {
            return stream::iter([Err(FollowError::NoShard(shard))]).boxed();
        }
        let stream = self.names.log_stream(shard);
        reader::follow(self.context.clone(), stream, shard, after)
    }

    async fn trim(&self, shard: Shard, before: Place) -> Result<(), LogError> {
        self.cluster.check(shard)?;
        let until = self.until();
        self.connected(until).await?;
        let unknown = |error: &dyn fmt::Display| LogError::Unknown(error.to_string());
        let trim = async {
            let stream = self
                .context
                .get_stream_no_info(self.names.log_stream(shard));
            let stream = stream.await.map_err(|error| unknown(&error))?;
            let info = stream.get_info().await.map_err(|error| unknown(&error))?;
            // Past its end JetStream would leave places out.
            let before = before.0.min(info.state.last_sequence + 1);
            if before > info.state.first_sequence.max(1) {
                let purged = stream.purge().sequence(before).await;
                purged.map_err(|error| unknown(&error))?;
            }
            Ok(())
        };
        let in_time = timeout_at(until, trim).await;
        in_time.unwrap_or_else(|_| Err(LogError::Unknown(NO_ANSWER.to_owned())))
    }

    async fn beat(&self, node: &Name, body: Bytes) -> Result<(), LogError> {
        fits(&body)?;
        self.publish(self.names.beat_subject(node.as_str()), body)
            .await?;
        Ok(())
    }

    fn beats(&self) -> Vec<Beats> {
        let feed = Feed::new(self.context.clone(), self.names.beat_stream(), 0);
        let prefix = self.names.beat_subject("");
        let beats = stream::unfold((feed, prefix), async |(mut feed, prefix)| {
            loop {
                let Some(message) = feed.next().await else {
                    // Nothing comes: it may be that nothing comes any more.
                    feed.begin_anew();
                    continue;
                };
                feed.read(message.sequence);
                let node = message.subject.strip_prefix(&*prefix);
                if let Some(Ok(node)) = node.map(Name::new) {
                    let body = message.body;
                    return Some((Beat { node, body }, (feed, prefix)));
                }
            }
        });
        vec![beats.boxed()]
    }
}
