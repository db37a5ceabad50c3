//! The owner's side: a call is read, carried out and answered.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_journal::{JournalError, Shard, ShardNumber};

use crate::append::store;
use crate::call::Call;
use crate::message::{self, answer};

/// The shards that a node owns.
pub trait Shards: fmt::Debug + Send + Sync {
    /// The shard of this number, where this node owns it now. It is never one that another node
    /// answers for.
    fn here(&self, number: ShardNumber) -> Option<Arc<dyn Shard>>;
}

/// Answers a call to one of the shards that this node owns; where it does not own it, the answer
/// says so.
pub async fn serve_one_of(shards: &dyn Shards, number: ShardNumber, call: Bytes) -> Bytes {
    match shards.here(number) {
        Some(shard) => serve(&*shard, call).await,
        None => not_owned(),
    }
}

/// The answer of a node that does not own the shard it is asked about, whatever it is asked.
#[must_use]
pub fn not_owned() -> Bytes {
    not_done("the node that was asked does not own it")
}

/// Answers a call to a shard. It never panics, whatever the bytes are.
///
/// Where the future is dropped, what has been handed to the shard still happens.
pub async fn serve(shard: &dyn Shard, call: Bytes) -> Bytes {
    let read = message::read(&call);
    drop(call);
    match read {
        Ok(Call::Append(sent)) => answer(Ok(store(sent, |append| shard.append(append)).await)),
        Ok(Call::Command(command)) => command.carry_out(shard).await,
        Ok(Call::Read(read)) => read.carry_out(&*shard.reader()).await,
        Err(why) => not_done(&format!(
            "the node that was asked cannot read the call: {why}"
        )),
    }
}

fn not_done(why: &str) -> Bytes {
    answer(Err::<(), _>(JournalError::Away(why.to_owned())))
}
