//! How a bus takes a backlog out of an outside system, for the benchmarks.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Bus;
use crate::load::median;
use crate::process::cpu_time;

/// A backlog of a benchmark is through by then.
const THROUGH_WITHIN: Duration = Duration::from_secs(300);

/// How often it is looked how far a bus has come: seldom enough to cost nothing beside its work.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How fast a backlog was taken out, and at what cost.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Messages per second.
    pub rate: f64,
    /// Processor time of the client or the bus for each, in microseconds.
    pub cpu_micros: f64,
    /// That of the server.
    pub server_micros: f64,
}

/// A moment, and what a client and its server have worked until then.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pids: [u32; 2],
    at: Instant,
    worked: [Duration; 2],
}

impl Moment {
    /// Now, by the processes of the client and of the server.
    #[must_use]
    pub fn now(client: u32, server: u32) -> Self {
        let pids = [client, server];
        Self {
            pids,
            at: Instant::now(),
            worked: pids.map(cpu_time),
        }
    }

    /// What has been since, with so many messages.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 52 bits"
    )]
    pub fn until_now(self, messages: u64) -> Drained {
        let ([client, server], messages) = (self.pids, messages as f64);
        let now = Self::now(client, server);
        let micros = |now: Duration, before: Duration| {
            now.saturating_sub(before).as_secs_f64() * 1e6 / messages
        };
        let ([client, server], [client_before, server_before]) = (now.worked, self.worked);
        Drained {
            rate: messages / (now.at - self.at).as_secs_f64(),
            cpu_micros: micros(client, client_before),
            server_micros: micros(server, server_before),
        }
    }
}

/// Starts a bus whose one rule is `all`, and tells how it makes deliveries from the first that is
/// seen to the last of `messages` that the process `server` hands over. How long the process takes
/// to start is not what is measured.
///
/// # Panics
/// Where the bus does not start, or does not come to the end.
pub async fn delivered(rules: &str, messages: u64, server: u32) -> Drained {
    measured(rules, messages, server, async |bus| {
        bus.counts("all")
            .await
            .get("delivered")
            .and_then(Value::as_u64)
    })
    .await
}

/// The same, where it only stores what comes: how events come to be on disk, and acknowledged.
///
/// # Panics
/// As [`delivered`].
pub async fn stored(rules: &str, messages: u64, server: u32) -> Drained {
    measured(rules, messages, server, async |bus| {
        bus.api("/api/v1/status")
            .await
            .pointer("/totals/events")
            .and_then(Value::as_u64)
    })
    .await
}

async fn measured(
    rules: &str,
    messages: u64,
    server: u32,
    counted: impl AsyncFn(&Bus) -> Option<u64>,
) -> Drained {
    let mut bus = Bus::prepare(rules);
    bus.discard_output();
    bus.spawn();
    bus.ready().await;
    let mut first = None;
    let begin = Instant::now();
    loop {
        let count = counted(&bus).await.unwrap_or_default();
        if count > 0 && first.is_none() {
            first = Some((count, Moment::now(bus.pid(), server)));
        }
        if let Some((before, moment)) = first.filter(|_| count >= messages) {
            return moment.until_now(messages - before);
        }
        assert!(begin.elapsed() < THROUGH_WITHIN, "{count} are through");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The rates of several ways in the same rounds, and their ratios to one of them.
#[derive(Clone, Debug)]
pub struct Comparison {
    against: &'static str,
    /// The ways in the order in which they were first added, with what each round came to.
    ways: Vec<(String, Vec<Drained>)>,
}

impl Comparison {
    /// Nothing yet; the ratios will be those to the way `against`.
    #[must_use]
    pub fn new(against: &'static str) -> Self {
        Self {
            against,
            ways: Vec::new(),
        }
    }

    /// Adds what a way came to in the round that is on.
    pub fn add(&mut self, way: &str, drained: Drained) {
        match self.ways.iter_mut().find(|(name, _)| name == way) {
            Some((_, rounds)) => rounds.push(drained),
            None => self.ways.push((way.to_owned(), vec![drained])),
        }
    }

    /// Forgets the rates so far.
    pub fn clear(&mut self) {
        self.ways.clear();
    }
}

impl fmt::Display for Comparison {
    /// A line for each way: the medians of its rates and of the processor time of client and
    /// server, the median of the ratios of each round, and these ratios.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let against = self.ways.iter().find(|(way, _)| way == self.against);
        let against = against.map_or(&[][..], |(_, rounds)| rounds);
        for (way, rounds) in &self.ways {
            let pairs = rounds.iter().zip(against);
            let ratios: Vec<f64> = pairs.map(|(a, b)| a.rate / b.rate).collect();
            let each: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            let of = |figure: fn(&Drained) -> f64| median(rounds.iter().map(figure).collect());
            writeln!(
                f,
                "  {way:<28}{:>8.0}/s {:>6.1} µs {:>6.1} µs  ratio {:.2}  ({})",
                of(|drained| drained.rate),
                of(|drained| drained.cpu_micros),
                of(|drained| drained.server_micros),
                median(ratios),
                each.join(", ")
            )?;
        }
        Ok(())
    }
}
