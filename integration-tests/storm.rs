//! The oracle of what goes through an outside system: messages that are published while the system
//! and the bus are killed again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Bus, Sink, until_within};

/// Publishers at work at the same time.
const PUBLISHERS: usize = 16;

/// Messages that are published and have not arrived, about: each kill hits both who publishes and
/// who consumes.
const AHEAD: usize = 1_000;

/// How long nothing may arrive. The slowest broker takes some seconds to start again, and a bus as
/// long as 30 to come back to it.
const STILLNESS: Duration = Duration::from_secs(90);

/// The data of the events that are published.
pub const DATA: &str = r#"{"total":250}"#;

/// What is published, and how often each side is killed meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Messages.
    pub messages: usize,
    /// Kills of the outside system, and as many of the bus.
    pub kills: usize,
}

/// Deliveries that the bus has in flight at once at most, which is how many a kill may let arrive
/// twice: those whose attempt was made and whose end was not yet on disk.
const IN_FLIGHT_MAX: usize = 4_096;

/// What the oracle counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    /// Messages that the outside system had confirmed and that never arrived.
    missing: usize,
    /// Arrivals of a message that had arrived before.
    again: usize,
    /// Confirmations that did not come, most of them because the system was down: what they were
    /// for was published again.
    resent: usize,
    /// Deliveries of the rule `all` to the function that the bus made out of the messages.
    created: usize,
    /// Those of them that are dead letters.
    dead: usize,
}

impl Tally {
    /// Nothing is missing or a dead letter, every message was stored once, and twice arrived no more
    /// than what was in flight at the kills.
    fn assert_holds(&self, storm: Storm) {
        assert_eq!(
            (self.missing, self.created, self.dead),
            (0, storm.messages, 0),
            "{self:?}"
        );
        assert!(self.again <= storm.kills * IN_FLIGHT_MAX, "{self:?}");
    }
}

impl Storm {
    /// A storm of the usual size; with `POINTSMAN_LONG` in the environment one of 100,000 messages
    /// and ten kills of each side.
    #[must_use]
    pub fn of(messages: usize, kills: usize) -> Self {
        if std::env::var_os("POINTSMAN_LONG").is_some() {
            Self {
                messages: 100_000,
                kills: 10,
            }
        } else {
            Self { messages, kills }
        }
    }

    /// Publishes event ids by `publish`, which tells whether the outside system has confirmed;
    /// kills the system by `restart` and the bus in turn, evenly spread over what arrives at the
    /// sink; and counts once nothing more is to come.
    ///
    /// # Panics
    /// Where nothing arrives for 90 seconds, with what was missing then; where something is missing
    /// or a dead letter at the end, was stored twice, or more came again than was in flight.
    pub async fn rage<P, R>(
        self,
        bus: &mut Bus,
        sink: &Sink,
        publish: P,
        mut restart: impl AsyncFnMut(),
    ) where
        P: Fn(String) -> R + Clone + Send + 'static,
        R: Future<Output = bool> + Send + 'static,
    {
        let (next, arrived) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut publishers = JoinSet::new();
        for _ in 0..PUBLISHERS {
            publishers.spawn(publisher(
                self.messages,
                Arc::clone(&next),
                Arc::clone(&arrived),
                publish.clone(),
            ));
        }
        let arrive = async |messages: usize| {
            while sink.arrived() < messages {
                let before = sink.arrived();
                arrived.store(before, Ordering::Relaxed);
                let what = format!(
                    "more than {before} of {} messages have arrived",
                    self.messages
                );
                until_within(STILLNESS, &what, async || sink.arrived() > before).await;
            }
        };
        for kill in 0..self.kills * 2 {
            arrive(self.messages * (kill + 1) / (self.kills * 2 + 1)).await;
            if kill.is_multiple_of(2) {
                restart().await;
            } else {
                bus.kill();
                bus.spawn();
                bus.ready().await;
            }
        }
        arrive(self.messages).await;
        let resent = timeout(STILLNESS, publishers.join_all()).await;
        let resent = resent
            .expect("all messages have arrived, but some are not confirmed")
            .into_iter()
            .sum();
        until_idle(bus).await;
        let tally = self.count(bus, sink, resent).await;
        println!("{self:?}: {tally:?}");
        tally.assert_holds(self);
    }

    /// Counts what is known at the end; `resent` is what the publishers have counted.
    async fn count(self, bus: &Bus, sink: &Sink, resent: usize) -> Tally {
        let ids = sink.ids();
        let missing = (0..self.messages)
            .filter(|number| !ids.contains_key(&id(*number)))
            .count();
        let counts = bus.counts("all").await;
        let [created, dead] = ["created", "dead"].map(|name| {
            let count = counts.get(name).and_then(Value::as_u64);
            usize::try_from(count.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
        });
        Tally {
            missing,
            again: ids.values().map(|times| times - 1).sum(),
            resent,
            created,
            dead,
        }
    }
}

/// Waits until no delivery waits any longer.
///
/// # Panics
/// Where their number stays the same for 90 seconds.
async fn until_idle(bus: &Bus) {
    let pending = async || {
        let page = bus.api("/api/v1/status").await;
        page.pointer("/deliveries/pending")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX)
    };
    let mut before = pending().await;
    while before > 0 {
        let mut left = before;
        until_within(
            STILLNESS,
            &format!("fewer than {before} deliveries wait"),
            async || {
                left = pending().await;
                left < before
            },
        )
        .await;
        before = left;
    }
}

fn id(number: usize) -> String {
    format!("m-{number}")
}

/// Publishes until there is nothing left, each message until it is confirmed; tells how often that
/// had to be done again.
async fn publisher<R: Future<Output = bool>>(
    messages: usize,
    next: Arc<AtomicUsize>,
    arrived: Arc<AtomicUsize>,
    publish: impl Fn(String) -> R,
) -> usize {
    let mut resent = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= messages {
            return resent;
        }
        while number > arrived.load(Ordering::Relaxed) + AHEAD {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while !publish(id(number)).await {
            resent += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
