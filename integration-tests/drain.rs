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
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How fast a backlog was taken out.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Messages per second.
    pub rate: f64,
    /// Processor time for each, in microseconds.
    pub cpu_micros: f64,
}

impl Drained {
    /// So many messages in so much time, with so much work.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 52 bits"
    )]
    pub fn of(messages: u64, took: Duration, worked: Duration) -> Self {
        let messages = messages as f64;
        Self {
            rate: messages / took.as_secs_f64(),
            cpu_micros: worked.as_secs_f64() * 1e6 / messages,
        }
    }

    /// The same of this process, which has worked for nothing else since `begin`, when it had
    /// worked for `before`.
    #[must_use]
    pub fn here(messages: u64, begin: Instant, before: Duration) -> Self {
        let worked = cpu_time(std::process::id()).saturating_sub(before);
        Self::of(messages, begin.elapsed(), worked)
    }
}

/// Starts a bus whose one rule is `all`, and tells how it makes deliveries from the first that is
/// seen to the last of `messages`. How long the process takes to start is not what is measured.
///
/// # Panics
/// Where the bus does not start, or does not come to the end.
pub async fn delivered(rules: &str, messages: u64) -> Drained {
    measured(rules, messages, async |bus| {
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
pub async fn stored(rules: &str, messages: u64) -> Drained {
    measured(rules, messages, async |bus| {
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
        let (now, worked) = (Instant::now(), bus.cpu_time());
        if count > 0 && first.is_none() {
            first = Some((count, now, worked));
        }
        if let Some((before, began, worked_before)) = first.filter(|_| count >= messages) {
            return Drained::of(messages - before, now - began, worked - worked_before);
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
    /// A line for each way: the medians of its rates and of its processor time, the median of the
    /// ratios of each round, and these ratios.
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
                "  {way:<28}{:>8.0}/s {:>6.1} µs  ratio {:.2}  ({})",
                of(|drained| drained.rate),
                of(|drained| drained.cpu_micros),
                median(ratios),
                each.join(", ")
            )?;
        }
        Ok(())
    }
}
