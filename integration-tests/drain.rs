//! How fast a bus takes a backlog out of an outside system, for the benchmarks.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::median;
use crate::{Bus, until_within};

/// A backlog of a benchmark is through by then.
const THROUGH_WITHIN: Duration = Duration::from_secs(300);

/// Starts a bus whose one rule is `all`, and tells how many deliveries per second it makes from the
/// first that is seen to the last of `messages`. How long the process takes to start is not what is
/// measured.
///
/// # Panics
/// Where the bus does not start, or does not come to the end.
pub async fn rate(rules: &str, messages: u64) -> f64 {
    measured(rules, messages, async |bus| {
        bus.counts("all")
            .await
            .get("delivered")
            .and_then(Value::as_u64)
    })
    .await
}

/// The same, where it only stores what comes: how many events per second are on disk, and
/// acknowledged.
///
/// # Panics
/// As [`rate`].
pub async fn stored(rules: &str, messages: u64) -> f64 {
    measured(rules, messages, async |bus| {
        bus.api("/api/v1/status")
            .await
            .pointer("/totals/events")
            .and_then(Value::as_u64)
    })
    .await
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
async fn measured(rules: &str, messages: u64, counted: impl AsyncFn(&Bus) -> Option<u64>) -> f64 {
    let mut bus = Bus::prepare(rules);
    bus.discard_output();
    bus.spawn();
    bus.ready().await;
    let delivered = async || counted(&bus).await.unwrap_or_default();
    let mut first = None;
    let mut last = Instant::now();
    until_within(THROUGH_WITHIN, "the backlog is through", async || {
        let count = delivered().await;
        last = Instant::now();
        if count > 0 && first.is_none() {
            first = Some((count, last));
        }
        count >= messages
    })
    .await;
    let (count, begin) = first.expect("there was a first look");
    (messages - count) as f64 / (last - begin).as_secs_f64()
}

/// The rates of several ways in the same rounds, and their ratios to one of them.
#[derive(Clone, Debug)]
pub struct Comparison {
    against: &'static str,
    /// The ways in the order in which they were first added, with a rate for each round.
    ways: Vec<(String, Vec<f64>)>,
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

    /// Adds the rate of a way in the round that is on.
    pub fn add(&mut self, way: &str, rate: f64) {
        match self.ways.iter_mut().find(|(name, _)| name == way) {
            Some((_, rates)) => rates.push(rate),
            None => self.ways.push((way.to_owned(), vec![rate])),
        }
    }

    /// Forgets the rates so far.
    pub fn clear(&mut self) {
        self.ways.clear();
    }
}

impl fmt::Display for Comparison {
    /// A line for each way: the median of its rates, the median of the ratios of each round, and
    /// these ratios.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let against = self.ways.iter().find(|(way, _)| way == self.against);
        let against = against.map_or(&[][..], |(_, rates)| rates);
        for (way, rates) in &self.ways {
            let ratios: Vec<f64> = rates.iter().zip(against).map(|(a, b)| a / b).collect();
            let each: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            writeln!(
                f,
                "  {way:<28}{:>8.0}/s  ratio {:.2}  ({})",
                median(rates.clone()),
                median(ratios),
                each.join(", ")
            )?;
        }
        Ok(())
    }
}
