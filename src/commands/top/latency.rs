//! How long attempts take, from the bus's histograms.

use std::collections::BTreeMap;

/// The histogram of attempts at targets.
const NAME: &str = "pointsman_attempt_duration_seconds_bucket{";

/// What it says of the attempts at one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Latency {
    /// How many took no longer than a time, which is in the order of floats' bits; all classes
    /// together.
    buckets: BTreeMap<u64, u64>,
    /// How many there were, and how many of them were not delivered.
    pub(super) attempts: u64,
    pub(super) failures: u64,
}

/// Of each tenant and target, from the text of `/metrics`.
pub(super) fn read(metrics: &str) -> BTreeMap<(String, String), Latency> {
    let mut all = BTreeMap::<_, Latency>::new();
    for line in metrics.lines() {
        let Some((labels, value)) = line
            .strip_prefix(NAME)
            .and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let label = |wanted: &str| {
            // Names and classes have no characters that would be escaped.
            let mut labels = labels.split(',').filter_map(|label| label.split_once('='));
            let (_, value) = labels.find(|(name, _)| *name == wanted)?;
            Some(value.trim_matches('"'))
        };
        // An exemplar may stand behind the number.
        let count = value
            .split(' ')
            .next()
            .and_then(|text| text.parse::<u64>().ok());
        let (Some(tenant), Some(target), Some(le), Some(count)) =
            (label("tenant"), label("target"), label("le"), count)
        else {
            continue;
        };
        let one = all
            .entry((tenant.to_owned(), target.to_owned()))
            .or_default();
        match le.parse::<f64>() {
            Ok(le) if le.is_finite() => *one.buckets.entry(le.to_bits()).or_default() += count,
            _ => {
                one.attempts += count;
                if label("class") != Some("delivered") {
                    one.failures += count;
                }
            }
        }
    }
    all
}

impl Latency {
    /// Those since an earlier look.
    pub(super) fn since(&self, before: &Self) -> Self {
        let earlier = |le: &u64| before.buckets.get(le).copied().unwrap_or_default();
        let since = |(le, count): (&u64, &u64)| (*le, count.saturating_sub(earlier(le)));
        Self {
            buckets: self.buckets.iter().map(since).collect(),
            attempts: self.attempts.saturating_sub(before.attempts),
            failures: self.failures.saturating_sub(before.failures),
        }
    }

    /// The time in seconds that a part of them stayed within, by the bucket that it falls into; none
    /// where there were none, or they took longer than the last bucket's.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = (self.attempts as f64 * part).ceil();
        let mut buckets = self.buckets.iter();
        let (le, _) = buckets.find(|(_, count)| **count > 0 && **count as f64 >= wanted)?;
        Some(f64::from_bits(*le))
    }
}
