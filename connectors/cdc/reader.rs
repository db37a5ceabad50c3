//! The queue between a task that reads changes and the bus.

use async_trait::async_trait;
use pointsman_schemas::{Cursor, Reject};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{Acknowledgement, Arrival, Batch, Message, Source, SourceError};

/// How many messages a batch holds at most.
pub(crate) const BATCH_MESSAGES_MAX: usize = 256;

/// A batch with more bytes than this takes no more.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// How many batches wait to be asked for.
const BATCHES_WAITING: usize = 4;

/// Where batches go.
pub(crate) type Batches = mpsc::Sender<Result<Batch, SourceError>>;

/// What becomes of rows that are there at the very first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WhatIsThere {
    /// They are read.
    #[default]
    Initial,
    /// Only changes from then on are told.
    Never,
}

/// A batch of what was read, with the position behind it.
pub(crate) fn batch(
    arrivals: Vec<Result<Arrival, Reject>>,
    cursor: Cursor,
    acknowledgement: impl Fn() -> Acknowledgement,
) -> Batch {
    let messages = arrivals.into_iter();
    Batch {
        messages: messages
            .map(|arrival| Message::of(arrival, acknowledgement()))
            .collect(),
        cursor: Some(cursor),
    }
}

/// Hands a batch on whose position alone says that it is stored.
///
/// # Errors
/// Nobody is there any more to take it.
pub(crate) async fn hand_on(
    batches: &Batches,
    arrivals: Vec<Result<Arrival, Reject>>,
    cursor: Cursor,
) -> Result<(), SourceError> {
    let batch = batch(arrivals, cursor, || Acknowledgement::None);
    let handed = batches.send(Ok(batch)).await;
    handed.map_err(|_| SourceError::Ended)
}

/// A source that tasks read, which end with it.
pub(crate) struct Reader {
    waiting: mpsc::Receiver<Result<Batch, SourceError>>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Reader {
    /// A source of what `read` hands over until that is over, while `telling` tells how far behind
    /// it is.
    pub(crate) fn begin<R>(
        read: impl FnOnce(Batches) -> R,
        telling: impl Future<Output = ()> + Send + 'static,
    ) -> Box<dyn Source>
    where
        R: Future<Output = SourceError> + Send + 'static,
    {
        let (batches, waiting) = mpsc::channel(BATCHES_WAITING);
        let read = read(batches.clone());
        let reading = async move {
            let ended = read.await;
            // Nobody may be there any more to hear it.
            let _ = batches.send(Err(ended)).await;
        };
        let tasks = [tokio::spawn(reading), tokio::spawn(telling)];
        Box::new(Self {
            waiting,
            _tasks: tasks.map(AbortOnDropHandle::new),
        })
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let ended = || SourceError::Unavailable("what reads the changes has ended".to_owned());
        self.waiting.recv().await.unwrap_or_else(|| Err(ended()))
    }
}
