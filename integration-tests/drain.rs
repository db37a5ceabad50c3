//! How fast a bus takes a backlog out of an outside system, for the benchmarks.

use std::time::{Duration, Instant};

use serde_json::Value;

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
