//! Keys that are rewritten quickly: what happens to a key waits until nothing more has happened to
//! it for a while, and the last counts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::happening::Happening;
use crate::{Acknowledgement, Verdict};

/// How many keys wait at most before no more notifications are taken.
pub(super) const WAITING_MAX: usize = 10_000;

/// For how many of its settling times a key that is rewritten without end is put off.
const PUT_OFF_MAX: u32 = 10;

/// One of several parts of a message, which is acknowledged once all of them are told.
#[derive(Debug)]
pub(super) struct Part(Arc<Mutex<Whole>>);

#[derive(Debug)]
struct Whole {
    left: usize,
    worst: Verdict,
    acknowledgement: Option<Acknowledgement>,
}

/// Splits an acknowledgement into so many parts.
pub(super) fn split(acknowledgement: Acknowledgement, parts: usize) -> Vec<Part> {
    let whole = Whole {
        left: parts,
        worst: Verdict::Stored,
        acknowledgement: Some(acknowledgement),
    };
    let whole = Arc::new(Mutex::new(whole));
    (0..parts).map(|_| Part(Arc::clone(&whole))).collect()
}

impl Part {
    /// Tells what became of this part; with the last the message is told the worst of all.
    pub(super) async fn send(self, verdict: Verdict) {
        let whole = {
            let mut whole = self.0.lock();
            whole.left = whole.left.saturating_sub(1);
            if verdict != Verdict::Stored {
                whole.worst = verdict;
            }
            if whole.left > 0 {
                return;
            }
            whole
                .acknowledgement
                .take()
                .map(|acknowledgement| (acknowledgement, whole.worst.clone()))
        };
        if let Some((acknowledgement, worst)) = whole {
            acknowledgement.send(worst).await;
        }
    }
}

/// What waits, by key.
#[derive(Debug)]
pub(super) struct Settling {
    time: Duration,
    waiting: HashMap<String, Waiting>,
    due: BTreeSet<(Instant, String)>,
}

#[derive(Debug)]
struct Waiting {
    at: Instant,
    until: Instant,
    last: Happening,
    /// Of everything that happened to the key meanwhile.
    parts: Vec<Part>,
}

impl Settling {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            waiting: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// True where no more should be taken for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Lets a happening wait.
    pub(super) fn put(&mut self, happening: Happening, part: Part, now: Instant) {
        let key = happening.mark.key.clone();
        let until = now + self.time * PUT_OFF_MAX;
        let waiting = match self.waiting.remove(&key) {
            None => Waiting {
                at: now + self.time,
                until,
                last: happening,
                parts: vec![part],
            },
            Some(mut waiting) => {
                self.due.remove(&(waiting.at, key.clone()));
                waiting.at = (now + self.time).min(waiting.until);
                waiting.parts.push(part);
                if happening.is_after(&waiting.last) {
                    waiting.last = happening;
                }
                waiting
            }
        };
        self.due.insert((waiting.at, key.clone()));
        self.waiting.insert(key, waiting);
    }

    /// One that has settled, with all that is acknowledged by it.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Happening, Vec<Part>)> {
        let (at, key) = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.remove(&(at, key.clone()));
        self.waiting
            .remove(&key)
            .map(|waiting| (waiting.last, waiting.parts))
    }

    /// When the next one has settled.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::oneshot;

    use super::*;

    fn happening(key: &str, n: u64) -> Happening {
        let object = json!({ "key": key, "eTag": n.to_string() });
        let time = format!("2026-01-01T00:00:{n:02}Z");
        Happening::read(
            json!({ "eventName": "ObjectCreated:Put", "eventTime": time, "s3": { "bucket": { "name": "b" }, "object": object } }),
        )
        .unwrap()
    }

    fn part() -> (Part, oneshot::Receiver<Verdict>) {
        let (caller, told) = oneshot::channel();
        (
            split(Acknowledgement::Caller(caller, None), 1).remove(0),
            told,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_of_a_key_is_told_when_nothing_more_comes() {
        let mut settling = Settling::new(Duration::from_secs(2));
        let start = Instant::now();
        let after = |seconds: f32| start + Duration::from_secs_f32(seconds);
        let mut told = Vec::new();
        // Out of order: the second of the key is the last.
        for (key, n, at) in [("a", 1, 0.0), ("a", 3, 0.3), ("b", 1, 0.5), ("a", 2, 0.6)] {
            let (part, receiver) = part();
            settling.put(happening(key, n), part, after(at));
            told.push(receiver);
        }
        assert!(settling.take(after(2.4)).is_none());
        assert_eq!(settling.next_at(), Some(after(2.5)));
        let (b, _) = settling.take(after(2.7)).unwrap();
        let (a, parts) = settling.take(after(2.7)).unwrap();
        assert_eq!(
            (b.mark.key.as_str(), a.mark.key.as_str(), a.etag.as_deref()),
            ("b", "a", Some("3"))
        );
        assert_eq!(parts.len(), 3, "all three are acknowledged by it");
        for part in parts {
            part.send(Verdict::Stored).await;
        }
        assert_eq!(told.remove(0).await, Ok(Verdict::Stored));
        assert!(settling.take(after(99.0)).is_none() && settling.next_at().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_rewritten_without_end_is_told_all_the_same() {
        let mut settling = Settling::new(Duration::from_secs(1));
        let start = Instant::now();
        let mut told = 0;
        for n in 0..50_u32 {
            let now = start + Duration::from_millis(500) * n;
            settling.put(happening("a", u64::from(n)), part().0, now);
            told += u32::from(settling.take(now).is_some());
        }
        assert_eq!(told, 2);
    }

    #[tokio::test]
    async fn a_message_is_told_the_worst_of_its_parts_and_only_once() {
        for (verdicts, expect) in [
            (vec![Verdict::Stored, Verdict::Stored], Verdict::Stored),
            (vec![Verdict::Failed, Verdict::Stored], Verdict::Failed),
            (
                vec![Verdict::Stored, Verdict::Later(Duration::from_secs(1))],
                Verdict::Later(Duration::from_secs(1)),
            ),
        ] {
            let (caller, mut told) = oneshot::channel();
            let parts = split(Acknowledgement::Caller(caller, None), verdicts.len());
            for (part, verdict) in parts.into_iter().zip(verdicts) {
                assert!(told.try_recv().is_err());
                part.send(verdict).await;
            }
            assert_eq!(told.await, Ok(expect));
        }
    }
}
