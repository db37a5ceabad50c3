//! What every source must hold to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::{Clock, Cursor, Event, Name};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::time::timeout;

use super::Stored;
use crate::listener::Routes;
use crate::{
    Acknowledgement, Arrival, Batch, Link, Message, Source, SourceContext, SourceError,
    SourceSettings, Verdict, connector,
};

/// Longer than anything takes, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How long nothing may come before nothing is taken to be there.
const QUIET: Duration = Duration::from_millis(100);

/// An outside system that a source is tried against.
pub(crate) trait SourceFixture {
    /// The connector's key.
    const KIND: &'static str;

    /// Reads settings of a source at this system.
    fn parse(&self, settings: &Value) -> Result<Box<dyn SourceSettings>, String> {
        parse_source(Self::KIND, settings)
    }

    /// Settings of a source at this system.
    fn settings(&self) -> Value;

    /// The time of day.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Where it sends its requests, where it does.
    fn routes(&self) -> Routes {
        Routes::default()
    }

    /// Makes so many things happen, also while no source is open, and tells the identity of the
    /// event that each is to become.
    async fn happen(&mut self, count: usize) -> Vec<String>;

    /// What tells an event of this system from another.
    fn identity(&self, event: &Event) -> String;

    /// How many messages a batch holds at most.
    fn batch_messages_max(&self) -> usize;

    /// Whether it is read on from its cursor; else it has none, or one that only keeps what is to be
    /// told of the outside system, which knows by itself how far it was read.
    fn is_read_by_cursor(&self) -> bool {
        true
    }

    /// Makes something happen that cannot be read, and tells its bytes; none where there is no such
    /// thing.
    async fn unreadable(&mut self) -> Option<Bytes> {
        None
    }

    /// Settings with one mistake, and the path at which it is told.
    fn mistakes(&self) -> Vec<(Value, &'static str)>;
}

/// Reads the settings of a source.
pub(crate) fn parse_source(
    kind: &str,
    settings: &Value,
) -> Result<Box<dyn SourceSettings>, String> {
    let kind = connector(kind).unwrap().source.built().unwrap();
    (kind.parse)(&mut <dyn erased_serde::Deserializer>::erase(settings))
        .map_err(|error| error.to_string())
}

/// Opens a source of the fixture.
pub(crate) async fn open<F: SourceFixture>(
    fixture: &F,
    stored: impl Into<Stored>,
    mapped: bool,
) -> Box<dyn Source> {
    let stored = stored.into();
    let (name, tenant) = (Name::new("suite").unwrap(), Name::default_tenant());
    let link = Link::new(name.clone(), fixture.clock());
    let context = SourceContext {
        name,
        tenant,
        positions: stored.positions(),
        cursor: stored.cursor,
        mapped,
        clock: fixture.clock(),
        alarms: crate::Alarms::new(fixture.clock()),
        routes: fixture.routes(),
        link,
    };
    fixture
        .parse(&fixture.settings())
        .unwrap()
        .open(context)
        .await
        .unwrap()
}

/// The next batch, or none where `within` is over first: then the future has been dropped.
pub(crate) async fn next_within(
    source: &mut dyn Source,
    within: Duration,
) -> Option<Result<Batch, SourceError>> {
    timeout(within, source.next()).await.ok()
}

/// What has been read from a source.
#[derive(Default)]
struct Read {
    events: Vec<Arc<Event>>,
    acknowledgements: Vec<Acknowledgement>,
}

/// Reads until so many events are there, dropping the future of `next` again and again meanwhile.
async fn read(
    source: &mut dyn Source,
    count: usize,
    batch_max: usize,
    stored: &mut Stored,
    chance: &mut StdRng,
) -> Read {
    let mut read = Read::default();
    while read.events.len() < count {
        let Some(batch) = next_within(
            source,
            Duration::from_micros(chance.random_range(0..20_000)),
        )
        .await
        else {
            continue;
        };
        let batch = batch.unwrap();
        stored.store(&batch);
        assert!(
            batch.messages.len() <= batch_max,
            "a batch of {} messages",
            batch.messages.len()
        );
        assert!(
            !batch.messages.is_empty() || batch.cursor.is_some(),
            "an empty batch"
        );
        for message in batch.messages {
            assert!(
                !message.arrivals.is_empty()
                    || !message.rejects.is_empty()
                    || !message.positions.is_empty(),
                "an empty message"
            );
            for arrival in message.arrivals {
                match arrival {
                    Arrival::Event(event) => read.events.push(event),
                    Arrival::Plain(plain) => panic!("nothing is mapped: {plain:?}"),
                }
            }
            read.acknowledgements.push(message.acknowledgement);
        }
    }
    read
}

fn identities<F: SourceFixture>(fixture: &F, events: &[Arc<Event>]) -> Vec<String> {
    let mut identities: Vec<_> = events.iter().map(|event| fixture.identity(event)).collect();
    identities.sort();
    identities
}

fn sorted(mut identities: Vec<String>) -> Vec<String> {
    identities.sort();
    identities
}

/// Runs the suite.
pub(crate) async fn sources<F: SourceFixture>(fixture: &mut F) {
    let settings = settings_are_checked(fixture);
    let batch_max = fixture.batch_messages_max();
    let mut chance = StdRng::seed_from_u64(7);

    // What a source has to say before anything happens is how far it has read.
    let mut source = open(fixture, None, false).await;
    let mut stored = Stored::default();
    while let Some(batch) = next_within(&mut *source, QUIET).await {
        let batch = batch.unwrap();
        let is_empty =
            |message: &Message| message.arrivals.is_empty() && message.rejects.is_empty();
        assert!(
            batch.messages.iter().all(is_empty),
            "nothing has happened: {batch:?}"
        );
        stored.store(&batch);
    }

    let expect = fixture.happen(batch_max.min(30) + 5).await;
    let first = read(
        &mut *source,
        expect.len(),
        batch_max,
        &mut stored,
        &mut chance,
    )
    .await;
    assert_eq!(
        identities(fixture, &first.events),
        sorted(expect),
        "each once, wherever next was cut off"
    );

    // Acknowledged out of order, while next goes on.
    let expect = fixture.happen(5).await;
    let mut acknowledgements = first.acknowledgements.into_iter().rev();
    for acknowledgement in acknowledgements.by_ref().take(3) {
        acknowledgement.send(Verdict::Stored).await;
    }
    stored.cursor = None;
    let second = read(
        &mut *source,
        expect.len(),
        batch_max,
        &mut stored,
        &mut chance,
    )
    .await;
    assert_eq!(
        identities(fixture, &second.events),
        sorted(expect),
        "what is acknowledged late holds up nothing"
    );
    for acknowledgement in acknowledgements.chain(second.acknowledgements) {
        acknowledgement.send(Verdict::Stored).await;
    }

    if let Some(raw) = fixture.unreadable().await {
        let rejected = loop {
            let batch = next_within(&mut *source, SOON).await.unwrap().unwrap();
            if let Some(reject) = batch
                .messages
                .into_iter()
                .flat_map(|message| message.rejects)
                .next()
            {
                break reject;
            }
        };
        assert!(
            rejected.raw == raw && !rejected.reason.is_empty(),
            "{rejected:?}"
        );
    }
    drop(source);

    if fixture.is_read_by_cursor() {
        assert!(stored.cursor.is_some(), "how far it was read is stored");
        cursors_are_kept(fixture, &*settings, stored, &mut chance).await;
    }

    if !settings.always_cloudevents() {
        let mut source = open(fixture, None, true).await;
        while next_within(&mut *source, QUIET).await.is_some() {}
        fixture.happen(1).await;
        let plain = loop {
            let batch = next_within(&mut *source, SOON).await.unwrap().unwrap();
            match batch
                .messages
                .into_iter()
                .flat_map(|message| message.arrivals)
                .next()
            {
                Some(Arrival::Plain(plain)) => break plain,
                Some(Arrival::Event(event)) => panic!("everything is mapped: {event:?}"),
                None => {}
            }
        };
        assert!(plain.fields["headers"].is_object(), "{plain:?}");
        plain.defaults.build().unwrap();
    }
}

async fn cursors_are_kept<F: SourceFixture>(
    fixture: &mut F,
    settings: &dyn SourceSettings,
    stored: Stored,
    chance: &mut StdRng,
) {
    let batch_max = fixture.batch_messages_max();
    let expect = sorted(fixture.happen(7).await);
    let mut source = open(fixture, stored.clone(), false).await;
    let mut later = stored.clone();
    let third = read(&mut *source, expect.len(), batch_max, &mut later, chance).await;
    assert_eq!(
        identities(fixture, &third.events),
        expect,
        "a stored cursor resumes exactly"
    );
    drop(source);

    // As after a crash between handing over and storing.
    let mut source = open(fixture, stored.clone(), false).await;
    let mut later = stored.clone();
    let again = read(&mut *source, expect.len(), batch_max, &mut later, chance).await;
    assert_eq!(identities(fixture, &again.events), expect);
    if settings.has_stable_ids() {
        let ids = |read: &Read| {
            let mut ids: Vec<_> = read
                .events
                .iter()
                .map(|event| (event.source().to_owned(), event.id().to_owned()))
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(
            ids(&third),
            ids(&again),
            "what comes again has the id that it had"
        );
    }
    drop(source);

    let cursor = stored.cursor.clone().unwrap();
    for (what, position) in [
        ("of another configuration", None),
        ("that is damaged", Some(Bytes::from_static(b"\xff\0{"))),
    ] {
        let fingerprint = if position.is_some() {
            cursor.fingerprint
        } else {
            !cursor.fingerprint
        };
        let of_another = Cursor {
            fingerprint,
            position: position.unwrap_or_else(|| cursor.position.clone()),
        };
        let of_another = Stored {
            cursor: Some(of_another),
            ..stored.clone()
        };
        let mut source = open(fixture, of_another, false).await;
        let refused = next_within(&mut *source, SOON).await.unwrap();
        assert!(
            matches!(refused, Err(SourceError::CursorMismatch(_))),
            "a cursor {what} is refused: {refused:?}"
        );
    }
}

fn settings_are_checked<F: SourceFixture>(fixture: &F) -> Box<dyn SourceSettings> {
    let settings = fixture.parse(&fixture.settings()).unwrap();
    assert_eq!(settings.check(), [], "the suite's own settings are right");
    let mut unknown = fixture.settings();
    unknown
        .as_object_mut()
        .unwrap()
        .insert("no-such-setting".into(), true.into());
    assert!(
        fixture
            .parse(&unknown)
            .is_err_and(|error| error.contains("no-such-setting"))
    );
    for (mistaken, path) in fixture.mistakes() {
        let problems = fixture
            .parse(&mistaken)
            .unwrap_or_else(|error| panic!("{mistaken}: {error}"))
            .check();
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let told = |problem: &String| path.is_empty() || problem.starts_with(&format!("{path}: "));
        assert!(found.iter().any(told), "{mistaken} at {path}: {found:?}");
    }
    settings
}
