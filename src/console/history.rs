//! What happened a moment ago, and in the last hour: counters turned into rates, and the samples
//! that charts are drawn from. All of it lies in memory and is bounded.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Name, SubscriptionNumber};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::admin::api::{Answer, Nothing};
use crate::admin::routes::subscriptions;
use crate::admin::view::SubscriptionView;
use crate::admin::{Admin, Circuit, RuleStatus, SourceStatus, TargetStatus};
use crate::telemetry::metrics::Attempts;

/// How often a sample is taken, and how many are kept: an hour.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
const SAMPLES_MAX: usize = 360;

/// How many have samples: past it what comes new has none. With four series each they take 6 MB.
const CHARTED_MAX: usize = 1_000;

/// Rates are those of a time like this, and of no shorter one than the second.
const RATE_OVER: Duration = Duration::from_secs(12);
const LOOKS_APART: Duration = Duration::from_millis(1_500);

/// How many earlier counters are kept for that.
const EARLIER_MAX: usize = 8;

/// How long a sample may take: what cannot be asked now has a gap.
const SAMPLE_WITHIN: Duration = Duration::from_secs(5);

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    Source(Name, Name),
    Rule(Name, Name),
    Subscription(SubscriptionNumber),
    Target(Name, Name),
    /// How long attempts at a target take: a chart of its own.
    Attempts(Name, Name),
}

/// The bus at one moment.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) sources: Vec<SourceStatus>,
    pub(super) rules: Vec<RuleStatus>,
    pub(super) targets: Vec<TargetStatus>,
    pub(super) subscriptions: Vec<SubscriptionView>,
    /// How long attempts at each target took since the start; of none where there are many targets.
    pub(super) attempts: HashMap<(Name, Name), Attempts>,
    /// Shards that could not be asked.
    pub(super) incomplete: Vec<u16>,
}

impl Look {
    /// Of a bus that has nothing.
    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        Self {
            at: Instant::now(),
            sources: Vec::new(),
            rules: Vec::new(),
            targets: Vec::new(),
            subscriptions: Vec::new(),
            attempts: HashMap::new(),
            incomplete: Vec::new(),
        }
    }

    async fn take(admin: &Arc<Admin>) -> Answer<Self> {
        let page = subscriptions::list(Arc::clone(admin), (), Nothing {}).await?;
        let targets = admin.overview.targets();
        let attempts = (targets.len() <= CHARTED_MAX).then(|| admin.histograms.attempts());
        Ok(Self {
            at: Instant::now(),
            sources: admin.overview.sources(),
            rules: admin.overview.rules(),
            targets,
            subscriptions: page.items,
            attempts: attempts.unwrap_or_default(),
            incomplete: page.incomplete,
        })
    }

    fn counters(&self) -> Counters {
        let mut of = HashMap::new();
        for one in &self.sources {
            let key = Counted::Source(one.tenant.clone(), one.name.clone());
            of.insert(key, [one.events, one.rejects]);
        }
        for one in &self.rules {
            let key = Counted::Rule(one.tenant.clone(), one.name.clone());
            of.insert(key, [one.matches, one.duplicates]);
        }
        for one in &self.subscriptions {
            let died = died(one);
            of.insert(
                Counted::Subscription(one.number),
                [one.counts.delivered, died],
            );
            let target = (one.identity.tenant.clone(), one.identity.target.clone());
            let sum = of.entry(Counted::Target(target.0, target.1)).or_default();
            let [passed, failed] = *sum;
            *sum = [passed + one.counts.delivered, failed + died];
        }
        Counters {
            at: self.at,
            of,
            attempts: self.attempts.clone(),
        }
    }
}

/// Deliveries that have died so far, whatever became of the dead letters.
fn died(one: &SubscriptionView) -> u64 {
    one.counts.dead + one.counts.redriven + one.counts.purged
}

/// Counters at one moment: what passed, and what did not.
#[derive(Debug)]
struct Counters {
    at: Instant,
    of: HashMap<Counted, [u64; 2]>,
    attempts: HashMap<(Name, Name), Attempts>,
}

/// What happens in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// Events of a source; events that a rule takes; deliveries of a subscription, or to a target.
    pub(super) passed: f64,
    /// What could not be read; duplicates; what has died.
    pub(super) failed: f64,
}

/// How long attempts at a target took just now, in microseconds: half of them, and 99 of 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Rates by what counts.
#[derive(Debug, Default)]
pub(super) struct Rates {
    of: HashMap<Counted, Rate>,
    latencies: HashMap<(Name, Name), Latency>,
}

impl Rates {
    pub(super) fn of(&self, counted: &Counted) -> Rate {
        self.of.get(counted).copied().unwrap_or_default()
    }

    /// Of attempts at a target; none where none ended.
    pub(super) fn latency(&self, tenant: &Name, target: &Name) -> Option<Latency> {
        self.latencies
            .get(&(tenant.clone(), target.clone()))
            .copied()
    }

    fn between(before: &Counters, now: &Counters) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return Self::default();
        }
        // A counter that is less than before is one of another process, or a part of it is away.
        let rate = |now: u64, before: u64| match now.checked_sub(before) {
            #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
            Some(more) => more as f64 / seconds,
            None => 0.0,
        };
        let rates = now.of.iter().filter_map(|(key, [passed, failed])| {
            let [passed_before, failed_before] = before.of.get(key)?;
            let rate = Rate {
                passed: rate(*passed, *passed_before),
                failed: rate(*failed, *failed_before),
            };
            Some((key.clone(), rate))
        });
        let latencies = now.attempts.iter().filter_map(|(key, attempts)| {
            let just_now = attempts.since(before.attempts.get(key)?);
            let latency = Latency {
                p50: just_now.quantile_micros(0.5)?,
                p99: just_now.quantile_micros(0.99)?,
            };
            Some((key.clone(), latency))
        });
        Self {
            of: rates.collect(),
            latencies: latencies.collect(),
        }
    }
}

/// Samples of an hour.
#[derive(Default)]
pub(crate) struct History(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    earlier: VecDeque<Counters>,
    /// When samples were taken, in seconds since the epoch.
    times: VecDeque<i64>,
    /// Of each as many as there are times, or fewer where it came later.
    samples: HashMap<Counted, VecDeque<[f32; 4]>>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples", self.0.lock().times.len())
    }
}

impl History {
    /// Takes samples until stopped.
    pub(crate) async fn keep(self: Arc<Self>, admin: Arc<Admin>, stop: CancellationToken) {
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let looking = tokio::time::timeout(SAMPLE_WITHIN, self.look(&admin));
            if let Some(Ok(Ok((look, rates)))) = stop.run_until_cancelled(looking).await {
                self.sample(&look, &rates, admin.clock.now().0 / 1_000_000);
            }
        }
    }

    /// Looks at the bus, and tells what has happened there in the last seconds.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) async fn look(&self, admin: &Arc<Admin>) -> Answer<(Look, Rates)> {
        let look = Look::take(admin).await?;
        let now = look.counters();
        let mut kept = self.0.lock();
        let recent = |one: &&Counters| now.at.saturating_duration_since(one.at) <= RATE_OVER;
        let before = kept.earlier.iter().find(recent).or(kept.earlier.back());
        let rates = before.map(|before| Rates::between(before, &now));
        let is_due = |last: &Counters| now.at.saturating_duration_since(last.at) >= LOOKS_APART;
        if kept.earlier.back().is_none_or(is_due) {
            kept.earlier.push_back(now);
        }
        if kept.earlier.len() > EARLIER_MAX {
            kept.earlier.pop_front();
        }
        Ok((look, rates.unwrap_or_default()))
    }

    fn sample(&self, look: &Look, rates: &Rates, seconds: i64) {
        let mut kept = self.0.lock();
        kept.times.push_back(seconds);
        if kept.times.len() > SAMPLES_MAX {
            kept.times.pop_front();
        }
        let all = kept.times.len();
        let new = samples(look, rates);
        kept.samples.retain(|key, _| new.contains_key(key));
        for (key, values) in new {
            if kept.samples.len() >= CHARTED_MAX && !kept.samples.contains_key(&key) {
                continue;
            }
            let own = kept.samples.entry(key).or_default();
            own.push_back(values);
            while own.len() > all {
                own.pop_front();
            }
        }
    }

    /// The samples of one: their times, and each of its series with its name. None where it has
    /// none.
    pub(super) fn of(&self, counted: &Counted, kind: Kind) -> Option<Chart> {
        let kept = self.0.lock();
        let own = kept.samples.get(counted)?;
        let times = kept.times.iter().skip(kept.times.len() - own.len());
        let series = counted.series().into_iter().zip(0..);
        let series = series
            .filter(|((_, of), _)| *of == kind)
            .map(|((label, _), index)| Line {
                label,
                values: own.iter().map(|values| value(values, index)).collect(),
            });
        Some(Chart {
            times: times.copied().collect(),
            series: series.collect(),
        })
    }
}

fn value(values: &[f32; 4], index: usize) -> Option<f32> {
    values.get(index).copied().filter(|value| value.is_finite())
}

/// What a chart is drawn from.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(super) struct Chart {
    times: Vec<i64>,
    series: Vec<Line>,
}

#[derive(Debug, PartialEq, serde::Serialize)]
struct Line {
    label: &'static str,
    values: Vec<Option<f32>>,
}

/// Whether something happens in a second, or is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rate,
    Level,
}

impl Counted {
    /// What is sampled of it, in the order of the samples.
    fn series(&self) -> Vec<(&'static str, Kind)> {
        match self {
            Self::Source(..) => vec![
                ("events/s", Kind::Rate),
                ("unreadable/s", Kind::Rate),
                ("waiting outside", Kind::Level),
            ],
            Self::Rule(..) => vec![("taken/s", Kind::Rate), ("duplicates/s", Kind::Rate)],
            Self::Subscription(_) => vec![
                ("delivered/s", Kind::Rate),
                ("dead/s", Kind::Rate),
                ("waiting", Kind::Level),
                ("retrying", Kind::Level),
            ],
            Self::Target(..) => vec![
                ("delivered/s", Kind::Rate),
                ("dead/s", Kind::Rate),
                ("in flight", Kind::Level),
                ("limit", Kind::Level),
            ],
            Self::Attempts(..) => vec![
                ("half within, ms", Kind::Level),
                ("99 of 100 within, ms", Kind::Level),
                ("circuit open", Kind::Level),
            ],
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "for a chart"
)]
fn samples(look: &Look, rates: &Rates) -> HashMap<Counted, [f32; 4]> {
    let mut all = HashMap::new();
    let mut add = |key: Counted, levels: [Option<u64>; 2]| {
        let rate = rates.of(&key);
        let [first, second] = levels.map(|level| level.map_or(f32::NAN, |level| level as f32));
        all.insert(key, [rate.passed as f32, rate.failed as f32, first, second]);
    };
    for one in &look.sources {
        let key = Counted::Source(one.tenant.clone(), one.name.clone());
        add(key, [one.lag, None]);
    }
    for one in &look.rules {
        add(
            Counted::Rule(one.tenant.clone(), one.name.clone()),
            [None, None],
        );
    }
    for one in &look.subscriptions {
        let levels = [Some(one.counts.pending), Some(one.counts.retrying)];
        add(Counted::Subscription(one.number), levels);
    }
    for one in &look.targets {
        let key = Counted::Target(one.tenant.clone(), one.name.clone());
        add(key, [Some(one.in_flight), Some(one.limit)]);
    }
    for one in &look.targets {
        let latency = rates.latency(&one.tenant, &one.name);
        let of =
            |part: fn(Latency) -> f64| latency.map_or(f32::NAN, |own| (part(own) / 1e3) as f32);
        // A line along the bottom for as long as it is open.
        let open = if one.circuit == Circuit::Open {
            0.0
        } else {
            f32::NAN
        };
        let key = Counted::Attempts(one.tenant.clone(), one.name.clone());
        all.insert(key, [of(|own| own.p50), of(|own| own.p99), open, f32::NAN]);
    }
    all
}

#[cfg(test)]
mod tests {
    use pointsman_schemas::{Class, Timestamp};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::telemetry::Metrics;

    fn look(at: Instant, events: u64, sources: usize) -> Look {
        let source = |index: usize| SourceStatus {
            events,
            ..crate::admin::testing::source(&format!("s{index}"))
        };
        Look {
            at,
            sources: (0..sources).map(source).collect(),
            ..Look::nothing()
        }
    }

    #[test]
    fn an_hour_is_kept_of_so_many() {
        let (history, now) = (History::default(), Instant::now());
        let name = |text: &str| Name::new(text).unwrap();
        for second in 0..SAMPLES_MAX as i64 + 5 {
            let looked = look(now, 1, CHARTED_MAX + 1);
            history.sample(&looked, &Rates::default(), second);
        }
        let chart = history
            .of(&Counted::Source(name("default"), name("s0")), Kind::Level)
            .unwrap();
        assert_eq!(
            (chart.times.len(), chart.times.first()),
            (SAMPLES_MAX, Some(&5))
        );
        assert_eq!(chart.series.len(), 1, "what waits outside");
        assert_eq!(chart.series[0].values[0], Some(12.0));
        assert_eq!(history.0.lock().samples.len(), CHARTED_MAX);
        // What is gone is forgotten.
        history.sample(&look(now, 1, 1), &Rates::default(), 0);
        assert_eq!(history.0.lock().samples.len(), 1);
    }

    #[test]
    fn how_long_attempts_took_just_now_is_charted() {
        let metrics = Metrics::new(&mut Registry::default(), Timestamp(0));
        let (tenant, target) = (Name::new("default").unwrap(), Name::new("t").unwrap());
        let own = metrics.target(&tenant, &target);
        let (history, now) = (History::default(), Instant::now());
        let mut before = None;
        for (second, ended, circuit) in [
            (0, 9, Circuit::Closed),
            (1, 1, Circuit::Open),
            (2, 0, Circuit::Open),
        ] {
            for _ in 0..ended {
                own.attempted(Class::Failed, Duration::from_micros(1_500), None);
            }
            let looked = Look {
                targets: vec![crate::admin::testing::target("t", circuit)],
                attempts: metrics.histograms().attempts(),
                ..look(now + Duration::from_secs(second), 0, 0)
            };
            let counters = looked.counters();
            let rates =
                before.map_or_else(Rates::default, |before| Rates::between(&before, &counters));
            history.sample(&looked, &rates, second as i64);
            before = Some(counters);
        }
        let chart = history
            .of(&Counted::Attempts(tenant, target), Kind::Level)
            .unwrap();
        let values: Vec<_> = chart
            .series
            .iter()
            .map(|line| line.values.clone())
            .collect();
        assert_eq!(
            values,
            [
                // It lies in the bucket from 1 to 2.5 ms.
                vec![None, Some(1.75), None],
                vec![None, Some(2.485), None],
                vec![None, Some(0.0), Some(0.0)],
            ]
        );
    }

    #[test]
    fn a_rate_is_what_was_added_in_a_second() {
        let now = Instant::now();
        let before = look(now, 10, 1).counters();
        for (events, expect) in [(10, 0.0), (30, 5.0), (3, 0.0)] {
            let after = look(now + Duration::from_secs(4), events, 1).counters();
            let rates = Rates::between(&before, &after);
            let (key, _) = after.of.iter().next().unwrap();
            assert_eq!(rates.of(key).passed, expect, "{events}");
        }
    }
}
