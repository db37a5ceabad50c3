//! Appends to several shards in one statement.
//!
//! A commit costs PostgreSQL far more than a record: what waits while one is under way goes
//! together, one record of each shard.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::pool::{Pool, Purpose};
use super::session::{Dialer, NO_ANSWER, Session};
use crate::{LogError, Place, Shard};

/// How many statements are under way at once: with two, the records of one are on their way while
/// the other waits for its sync.
const STATEMENTS: usize = 2;

/// Bytes of records in one statement, about: one record is always taken.
const BYTES_AT_ONCE: usize = 2 << 20;

type Answer = Result<Place, LogError>;

/// A record that waits to be appended.
struct Waiting {
    number: u64,
    shard: Shard,
    body: Bytes,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The shards of the statements under way.
    busy: HashSet<u16>,
    /// Counts what was asked for.
    asked: u64,
}

impl Queue {
    /// What goes together, in the order of the shards: of each one that is not under way the record
    /// that has waited longest.
    fn take(&mut self) -> Vec<Waiting> {
        let Self { waiting, busy, .. } = self;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut rest = VecDeque::new();
        while let Some(next) = waiting.pop_front() {
            if next.answer.is_closed() {
                // Its caller has gone.
                continue;
            }
            if !batch.is_empty() && bytes + next.body.len() > BYTES_AT_ONCE {
                // What waits longest goes first, however large it is.
                rest.push_back(next);
                rest.append(waiting);
                break;
            }
            if busy.insert(next.shard.0) {
                bytes += next.body.len();
                batch.push(next);
            } else {
                rest.push_back(next);
            }
        }
        *waiting = rest;
        batch.sort_unstable_by_key(|record: &Waiting| record.shard);
        batch
    }
}

/// Appends for all shards of a log.
pub(super) struct Appends {
    shared: Arc<Shared>,
    /// They end with the log.
    _senders: JoinSet<()>,
}

struct Shared {
    queue: Mutex<Queue>,
    news: Notify,
    pool: Pool,
    statement: String,
    timeout: Duration,
}

impl Appends {
    pub(super) fn start(dialer: Arc<Dialer>, schema: &str, timeout: Duration) -> Self {
        // The rows of the heads are locked in the order of the shards, in which they are given:
        // two nodes that append to the same ones wait for each other and not in a circle.
        let statement = format!(
            "WITH head AS (UPDATE {schema}.head h SET last = last + 1 \
             FROM unnest($1::int4[], $2::bytea[]) AS r(shard, body) WHERE h.shard = r.shard \
             RETURNING h.shard, h.last, r.body) \
             INSERT INTO {schema}.log (shard, place, body) SELECT shard, last, body FROM head \
             RETURNING shard, place"
        );
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            news: Notify::new(),
            pool: Pool::new(dialer, Purpose::Write, STATEMENTS),
            statement,
            timeout,
        });
        let mut senders = JoinSet::new();
        for _ in 0..STATEMENTS {
            let shared = Arc::clone(&shared);
            senders.spawn(async move { shared.send().await });
        }
        Self {
            shared,
            _senders: senders,
        }
    }

    /// Appends a record of a shard that the cluster has, as [`crate::Log::append`].
    pub(super) async fn append(&self, shard: Shard, body: Bytes) -> Answer {
        let until = Instant::now() + self.shared.timeout;
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut queue = self.shared.queue.lock();
            queue.asked += 1;
            let number = queue.asked;
            queue.waiting.push_back(Waiting {
                number,
                shard,
                body,
                answer,
            });
            number
        };
        self.shared.news.notify_one();
        match timeout_at(until, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LogError::Unknown("the log is closed".to_owned())),
            Err(_) => Err(self.shared.give_up(number)),
        }
    }
}

impl Shared {
    /// What is known of a record that was not answered in time. It is not sent any more.
    fn give_up(&self, number: u64) -> LogError {
        let mut queue = self.queue.lock();
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.number != number);
        match queue.waiting.len() < before {
            true => LogError::Unavailable(NO_ANSWER.to_owned()),
            false => LogError::Unknown(NO_ANSWER.to_owned()),
        }
    }

    /// Sends one statement after the other.
    async fn send(&self) {
        loop {
            let news = self.news.notified();
            let batch = self.queue.lock().take();
            if batch.is_empty() {
                news.await;
                continue;
            }
            self.append(batch).await;
        }
    }

    async fn append(&self, batch: Vec<Waiting>) {
        let places = async |session: &Session| {
            let statement = &session.prepared(&self.statement).await?;
            let shards: Vec<i32> = batch.iter().map(|one| i32::from(one.shard.0)).collect();
            let bodies: Vec<&[u8]> = batch.iter().map(|one| &*one.body).collect();
            let rows = session
                .client()
                .query(statement, &[&shards, &bodies])
                .await?;
            let place = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
            rows.iter()
                .map(place)
                .collect::<Result<Vec<(i32, i64)>, _>>()
        };
        let until = Instant::now() + self.timeout;
        let done = self.pool.run(until, places).await;
        {
            let mut queue = self.queue.lock();
            for Waiting { shard, .. } in &batch {
                queue.busy.remove(&shard.0);
            }
        }
        // What waited for these shards is for whoever is idle.
        self.news.notify_one();
        for Waiting { shard, answer, .. } in batch {
            let place = done.as_ref().map_err(Clone::clone).and_then(|places| {
                let own = places.iter().find(|(of, _)| *of == i32::from(shard.0));
                own.and_then(|(_, place)| u64::try_from(*place).ok())
                    .map(Place)
                    .ok_or_else(|| LogError::Refused(format!("the head of shard {shard} is gone")))
            });
            // The caller may have given up.
            let _ = answer.send(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each shard with so many bytes, and who waits for them.
    fn queue(of: &[(u16, usize)]) -> (Queue, Vec<oneshot::Receiver<Answer>>) {
        let mut queue = Queue::default();
        let wait = |(number, (shard, bytes)): (u64, &(u16, usize))| {
            let (answer, answered) = oneshot::channel();
            queue.waiting.push_back(Waiting {
                number,
                shard: Shard(*shard),
                body: vec![0; *bytes].into(),
                answer,
            });
            answered
        };
        let answered = (1..).zip(of).map(wait).collect();
        (queue, answered)
    }

    fn take(queue: &mut Queue) -> Vec<u64> {
        let batch = queue.take();
        let shards: Vec<_> = batch.iter().map(|one| one.shard).collect();
        assert!(shards.is_sorted(), "{shards:?}");
        batch.iter().map(|one| one.number).collect()
    }

    #[test]
    fn one_record_of_each_shard_goes_at_once_and_the_next_when_that_is_done() {
        let (mut queue, mut answered) = queue(&[(3, 9), (1, 9), (3, 9), (2, 9)]);
        // Its caller has gone.
        drop(answered.remove(3));
        assert_eq!(take(&mut queue), [2, 1]);
        assert_eq!(take(&mut queue), [0; 0]);
        queue.busy.remove(&3);
        assert_eq!(take(&mut queue), [3]);
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn a_large_record_goes_before_what_came_later() {
        let half = BYTES_AT_ONCE / 2;
        let (mut queue, _answered) = queue(&[(1, half), (2, BYTES_AT_ONCE + 1), (2, 1), (4, 1)]);
        assert_eq!(take(&mut queue), [1]);
        assert_eq!(take(&mut queue), [2]);
        queue.busy.clear();
        assert_eq!(take(&mut queue), [3, 4]);
    }
}
