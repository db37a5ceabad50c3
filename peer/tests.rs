//! A remote shard is a shard: by the journal's own suite, and where it is more or less than one.

mod bytes;
mod conformance;
mod errors;
mod order;
mod samples;

use std::sync::Arc;

use ::bytes::Bytes;
use async_trait::async_trait;
use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_journal::suite::{START, append_of, entry, paused, wanted};
use pointsman_journal::{Append, Journal, JournalError, Shard, ShardNumber};
use pointsman_schemas::SubscriptionNumber;

use crate::{CallError, Remote, Shards, Transport, serve, serve_one_of};

fn number(number: u16) -> ShardNumber {
    ShardNumber::new(number).unwrap()
}

/// A node in this process, which owns one shard at most.
#[derive(Debug)]
struct Node(Option<Arc<MemoryJournal>>);

impl Shards for Node {
    fn here(&self, number: ShardNumber) -> Option<Arc<dyn Shard>> {
        let own = Arc::clone(self.0.as_ref()?) as Arc<dyn Shard>;
        (own.number() == Some(number)).then_some(own)
    }
}

#[async_trait]
impl Transport for Node {
    async fn call(&self, shard: ShardNumber, call: Bytes) -> Result<Bytes, CallError> {
        Ok(serve_one_of(self, shard, call).await)
    }
}

fn in_memory(shard: u16) -> Arc<MemoryJournal> {
    let clock = Arc::new(RuntimeClock::new(START));
    MemoryJournal::shard(clock, MemoryOptions::default(), number(shard))
}

/// An append of events with these ids, for nobody.
fn events<'i>(ids: impl IntoIterator<Item = &'i str>) -> Append {
    append_of(ids.into_iter().map(|id| entry(id, &[])).collect())
}

/// Lets every other task go as far as it can.
async fn settle_down() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
