//! What tests of such sources share.

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::Event;
use serde_json::Value;

use crate::suite::{Stored, next_within};
use crate::{
    Acknowledgement, Arrival, Batch, Link, OpenError, Source, SourceError, SourceSettings, Verdict,
};

/// Longer than anything takes; only a broken test waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Opens a source where it is stored that it stands.
pub(crate) async fn open(
    source: &dyn SourceSettings,
    stored: &Stored,
) -> Result<(Box<dyn Source>, Link), OpenError> {
    let context = stored.context();
    let link = context.link.clone();
    let opened = source.open(context).await;
    opened.map(|source| (source, link))
}

/// The next batch; what it says of the position is stored.
pub(crate) async fn batch(source: &mut dyn Source, stored: &mut Stored) -> Batch {
    let batch = next_within(source, LONG).await.expect("something comes");
    let batch = batch.unwrap();
    stored.store(&batch);
    batch
}

/// The events of a batch, and their acknowledgements.
pub(crate) fn events(batch: Batch) -> (Vec<Arc<Event>>, Vec<Acknowledgement>) {
    let taken = batch.messages.into_iter().map(|mut message| {
        assert!(message.rejects.is_empty(), "{message:?}");
        match message.arrivals.pop() {
            Some(Arrival::Event(event)) => (event, message.acknowledgement),
            other => panic!("no event: {other:?}"),
        }
    });
    taken.unzip()
}

/// The next so many events, which are stored.
pub(crate) async fn take(
    source: &mut dyn Source,
    stored: &mut Stored,
    count: usize,
) -> Vec<Arc<Event>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let (events, acknowledgements) = events(batch(source, stored).await);
        taken.extend(events);
        for acknowledgement in acknowledgements {
            acknowledgement.send(Verdict::Stored).await;
        }
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

pub(crate) fn data(event: &Event) -> Value {
    event.data().unwrap().value().unwrap().clone()
}

/// What the events say: their kind, and the id of the row.
pub(crate) fn told(events: &[Arc<Event>]) -> Vec<(String, u64)> {
    let one = |event: &Arc<Event>| {
        let kind = event.ty().rsplit('.').next().unwrap().to_owned();
        (kind, data(event)["after"]["id"].as_u64().unwrap())
    };
    events.iter().map(one).collect()
}

/// What a probe says, or what is wrong.
pub(crate) async fn probed(source: &dyn SourceSettings) -> String {
    match source.probe().await {
        Ok(told) => told,
        Err(error) => error.0.to_string(),
    }
}

/// What a source ends with that is open.
pub(crate) async fn ended(source: &dyn SourceSettings, stored: &Stored) -> SourceError {
    let (mut source, _) = open(source, stored).await.unwrap();
    loop {
        if let Err(ended) = next_within(&mut *source, LONG).await.unwrap() {
            return ended;
        }
    }
}
