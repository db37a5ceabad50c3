//! Histograms of durations, with an exemplar for each bucket: a trace in which it took that long.
//!
//! Counting is two atomic additions. Only an event of a trace that is recorded leaves an exemplar,
//! and where another thread is at the bucket's one at that moment it leaves none: nobody waits.

use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::Timestamp;
use pointsman_schemas::trace::TraceId;

use super::labelled::Label;

/// A histogram of durations.
#[derive(Debug)]
pub struct Durations {
    /// What lasted up to each of these is in a bucket, what lasted longer than all in one more.
    bounds_micros: &'static [u64],
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
    /// The newest of each bucket; made with the first.
    exemplars: OnceLock<Box<[Slot]>>,
}

type Slot = Mutex<Option<Exemplar>>;

/// A duration of a bucket, and the trace that it is of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exemplar {
    trace: TraceId,
    took: Duration,
    at: Timestamp,
}

impl Durations {
    pub(super) fn new(bounds_micros: &'static [u64]) -> Self {
        Self {
            bounds_micros,
            buckets: (0..=bounds_micros.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            nanoseconds: AtomicU64::new(0),
            exemplars: OnceLock::new(),
        }
    }

    /// Counts what took this long, as part of a trace that is recorded where it was.
    pub(super) fn observe(&self, took: Duration, trace: Option<TraceId>) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // A duration of each bound would take a division.
        let is_past = |micros: &u64| micros.saturating_mul(1_000) < nanoseconds;
        let place = self.bounds_micros.partition_point(is_past);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        let Some(trace) = trace else {
            return;
        };
        let slot = self.slots().get(place).and_then(Mutex::try_lock);
        if let Some(mut slot) = slot {
            *slot = Some(Exemplar {
                trace,
                took,
                at: Timestamp::now(),
            });
        }
    }

    /// How many fell into each bucket.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(|own| own.load(Ordering::Relaxed))
    }

    fn slots(&self) -> &[Slot] {
        self.exemplars
            .get_or_init(|| self.buckets.iter().map(|_| Slot::default()).collect())
    }

    fn exemplar(&self, place: usize) -> Option<Exemplar> {
        *self.exemplars.get()?.get(place)?.lock()
    }

    /// An empty one with the same buckets.
    pub(super) fn like(&self) -> Self {
        Self::new(self.bounds_micros)
    }

    /// Adds the numbers of another one with the same buckets.
    pub(super) fn add(&self, other: &Self) {
        for (place, (own, more)) in self.buckets.iter().zip(&other.buckets).enumerate() {
            own.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
            if let Some(theirs) = other.exemplar(place)
                && let Some(slot) = self.slots().get(place)
            {
                let mut slot = slot.lock();
                if slot.is_none_or(|own| own.at < theirs.at) {
                    *slot = Some(theirs);
                }
            }
        }
        let more = other.nanoseconds.load(Ordering::Relaxed);
        self.nanoseconds.fetch_add(more, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, labels: &[Label<'_>]) -> fmt::Result {
        let counts: Vec<u64> = self.counts().collect();
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        write_name(text, name, "_sum", None, labels)?;
        writeln!(text, " {:?}", sum.as_secs_f64())?;
        write_name(text, name, "_count", None, labels)?;
        writeln!(text, " {}", counts.iter().sum::<u64>())?;
        let bounds = self.bounds_micros.iter();
        let bounds = bounds.map(|micros| format!("{:?}", seconds(*micros)));
        let (mut count, ends) = (0, bounds.chain(["+Inf".to_owned()]));
        for (place, (end, own)) in ends.zip(counts).enumerate() {
            count += own;
            write_name(text, name, "_bucket", Some(&end), labels)?;
            write!(text, " {count}")?;
            if let Some(Exemplar { trace, took, at }) = self.exemplar(place) {
                let (took, at) = (took.as_secs_f64(), seconds(at.0.try_into().unwrap_or(0)));
                write!(text, " # {{trace_id=\"{trace}\"}} {took} {at}")?;
            }
            text.push('\n');
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times of day stay below 2^53 microseconds for 285 years, and buckets do too"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Writes a family of histograms as OpenMetrics.
///
/// The encoder of the crate writes exemplars of its own histograms alone, and these take a lock for
/// each number.
///
/// # Errors
/// None: a text takes everything.
pub(super) fn write_family(
    text: &mut String,
    name: &str,
    help: &str,
    series: &[(Vec<Label<'_>>, &Durations)],
) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}")?;
    writeln!(text, "# TYPE {name} histogram")?;
    let mut series = series.iter();
    series.try_for_each(|(labels, durations)| durations.write(text, name, labels))
}

/// Writes the name of a number with its labels, none of which needs escaping: names are made of
/// letters, digits and hyphens.
fn write_name(
    text: &mut String,
    name: &str,
    suffix: &str,
    end: Option<&str>,
    labels: &[Label<'_>],
) -> fmt::Result {
    write!(text, "{name}{suffix}")?;
    let end = end.map(|end| ("le", end));
    for (place, (label, value)) in end.iter().chain(labels).enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        write!(text, "{before}{label}=\"{value}\"")?;
    }
    if end.is_some() || !labels.is_empty() {
        text.push('}');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 2] = [1_000, 1_000_000];
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn written(durations: &Durations) -> String {
        let mut text = String::new();
        write_family(&mut text, "d_seconds", "How long", &[(vec![], durations)]).unwrap();
        text
    }

    #[test]
    fn each_bucket_has_the_newest_of_those_that_are_recorded() {
        let trace = |first: &str| {
            TraceId::new(
                u128::from_str_radix(&TRACE.replacen("0a", first, 1), 16)
                    .unwrap()
                    .to_be_bytes(),
            )
        };
        let durations = Durations::new(&BOUNDS);
        durations.observe(Duration::from_millis(1), None);
        let text = written(&durations);
        assert_eq!(
            text,
            "# HELP d_seconds How long\n# TYPE d_seconds histogram\nd_seconds_sum 0.001\n\
             d_seconds_count 1\nd_seconds_bucket{le=\"0.001\"} 1\nd_seconds_bucket{le=\"1.0\"} 1\n\
             d_seconds_bucket{le=\"+Inf\"} 1\n"
        );
        durations.observe(Duration::from_millis(2), trace("1a"));
        durations.observe(Duration::from_millis(3), trace("2a"));
        durations.observe(Duration::from_millis(4), None);
        durations.observe(Duration::from_secs(2), trace("3a"));
        // Somebody is at it: what comes meanwhile counts, and leaves no exemplar.
        {
            let _held = durations.slots()[1].lock();
            durations.observe(Duration::from_millis(5), trace("4a"));
        }
        let summed = durations.like();
        summed.add(&durations);
        summed.add(&Durations::new(&BOUNDS));
        for text in [written(&durations), written(&summed)] {
            let lines: Vec<_> = text.lines().collect();
            let of = |bucket: &str| {
                let start = format!("d_seconds_bucket{{le=\"{bucket}\"}} ");
                lines
                    .iter()
                    .find_map(|line| line.strip_prefix(&*start))
                    .unwrap()
            };
            assert_eq!(of("0.001"), "1");
            let middle = format!(
                "5 # {{trace_id=\"{}\"}} 0.003 ",
                TRACE.replacen("0a", "2a", 1)
            );
            assert!(of("1.0").starts_with(&middle), "{text}");
            let last = format!("6 # {{trace_id=\"{}\"}} 2 ", TRACE.replacen("0a", "3a", 1));
            let at = of("+Inf")
                .strip_prefix(&last)
                .unwrap()
                .parse::<f64>()
                .unwrap();
            assert!(at > 1.7e9, "{text}");
        }
    }
}
