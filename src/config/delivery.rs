//! How deliveries are made: the settings of target, rule and `to` entry, laid over one another key
//! by key.

use std::num::NonZeroU32;
use std::time::Duration;

use pointsman_rules::Path;
use pointsman_schemas::schedule::AHEAD_MAX;
use pointsman_schemas::{Backoff, Problem, Rate};

use super::load::addresses::order_in_no_event;
use super::priority::DeliveryPriority;
use super::raw::{RawBatch, RawDelivery, WhenFull};
use super::reader::Piece;
use crate::dispatcher::Batch;
use crate::dispatcher::HistoryLevel;
use crate::dispatcher::policy::{InvalidPolicy, Policy, TIMEOUT_MAX};

/// How the deliveries of one subscription are made.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long after its arrival an event is still tried.
    pub max_age: Duration,
    /// How often it is tried, the first time included.
    pub attempts: NonZeroU32,
    /// The bounds of the pauses between attempts.
    pub backoff: Backoff,
    /// What of the event, before the transform, orders its deliveries.
    pub order_by: Option<Path>,
    /// How long after its arrival an event is first tried.
    pub delay: Duration,
    /// How urgent they are.
    pub priority: DeliveryPriority,
    /// How many deliveries may wait; where none, the store's own share holds.
    pub backlog_max: Option<u64>,
    /// What happens to more.
    pub when_full: WhenFull,
    /// How they go together; none where each goes alone.
    pub batch: Option<Batch>,
    /// Of which attempts and ends the history tells.
    pub history: HistoryLevel,
}

/// What a target takes, whoever sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetLimits {
    /// Attempts at once, at most.
    pub concurrency_max: NonZeroU32,
    /// Attempts in a time, at most.
    pub rate: Option<Rate>,
}

/// Attempts that run at once where nothing is said.
const CONCURRENCY_MAX: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// Attempts where nothing is said.
const ATTEMPTS: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// A batch where nothing is said: what most functions work off in a second, in a body that most
/// servers take.
const BATCH: Batch = Batch {
    events: 100,
    bytes: 1 << 20,
    window: Duration::ZERO,
    bisect: false,
};

/// The largest batch, and the longest that one may be waited for: a fraction of what may be in
/// flight in all, and of what a delivery may age.
const BATCH_MAX: Batch = Batch {
    events: 1_000,
    bytes: 16 << 20,
    window: Duration::from_secs(5 * 60),
    bisect: true,
};

/// What one `delivery:` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    raw: RawDelivery,
    order_by: Option<Path>,
    priority: Option<DeliveryPriority>,
    /// Of a target's layer: why it cannot be given batches.
    pub(super) refuses_batches: Option<Problem>,
}

impl Layer {
    /// Checks what stands in a `delivery:`.
    pub(super) fn new(raw: Option<RawDelivery>, piece: Piece<'_>) -> Self {
        let (Some(raw), Some(piece)) = (raw, piece.get("delivery")) else {
            return Self::default();
        };
        let backoff = piece.get("retry").and_then(|retry| retry.get("backoff"));
        let initial = raw
            .retry
            .as_ref()
            .and_then(|retry| retry.backoff.as_ref()?.initial);
        let times = [
            ("timeout", piece.get("timeout"), raw.timeout),
            ("max_age", piece.get("max_age"), raw.max_age),
            (
                "initial",
                backoff.and_then(|backoff| backoff.get("initial")),
                initial,
            ),
        ];
        for (key, at, given) in times {
            if let (Some(at), true) = (at, given.is_some_and(|given| given.0.is_zero())) {
                at.report(format!("`{key}` is nothing"), "give a time such as 30s");
            }
        }
        if let (Some(at), true) = (
            piece.get("timeout"),
            raw.timeout.is_some_and(|timeout| timeout.0 > TIMEOUT_MAX),
        ) {
            at.report("no attempt may take so long", "give at most 24h");
        }
        if let Some(backoff) = raw.retry.as_ref().and_then(|retry| retry.backoff.as_ref())
            && let (Some(initial), Some(max)) = (backoff.initial, backoff.max)
            && initial > max
            && let Some(at) = piece.get("retry").and_then(|retry| retry.get("backoff"))
        {
            at.report(
                format!("the backoff begins at {initial}, which is past its `max` of {max}"),
                "make `max` the longer of them",
            );
        }
        if let (Some(at), true) = (
            piece.get("delay"),
            raw.delay.is_some_and(|delay| delay.0 > AHEAD_MAX),
        ) {
            at.report("nothing is kept for so long", "give at most 366d");
        }
        if let (Some(batch), Some(at)) = (raw.batch, piece.get("batch")) {
            check_batch(batch, at);
        }
        let order_by = raw
            .order_by
            .as_ref()
            .zip(piece.get("order_by").filter(|piece| piece.is_whole()));
        let order_by = order_by.and_then(|(text, at)| {
            let path = Path::parse(text)
                .map_err(|problem| at.report_problems([problem]))
                .ok()?;
            order_in_no_event(at, &path);
            Some(path)
        });
        let priority = raw.priority.as_ref().zip(piece.get("priority"));
        let priority = priority.and_then(|(priority, at)| priority.compile(at));
        Self {
            raw,
            order_by,
            priority,
            refuses_batches: None,
        }
    }

    /// Refuses a `batch` in the `delivery` of `piece`, for a target that cannot be given one.
    pub(super) fn refuse_batch(&self, piece: Piece<'_>, target: &str) {
        let at = piece.get("delivery").and_then(|at| at.get("batch"));
        let (Some(at), Some(problem)) = (at, &self.refuses_batches) else {
            return;
        };
        let message = format!("`{target}` takes no batches: {}", problem.message);
        let message = match problem.path.is_empty() {
            true => message,
            // The path alone, as a problem shows it.
            false => {
                let place = Problem {
                    message: String::new(),
                    help: None,
                    ..problem.clone()
                };
                let place = place.to_string();
                format!("{message} (`{}`)", place.trim_end_matches([':', ' ']))
            }
        };
        let help = problem.help.as_deref().unwrap_or("remove `batch`");
        at.report_key(message, help);
    }

    /// Refuses what belongs to a target alone.
    pub(super) fn refuse_limits(piece: Piece<'_>) {
        let Some(delivery) = piece.get("delivery") else {
            return;
        };
        for key in ["concurrency", "rate"] {
            if let Some(at) = delivery.get(key) {
                at.report_key(
                    format!("`{key}` belongs to a target alone"),
                    "move it to the target's `delivery`: it holds for all rules that use the \
                     target",
                );
            }
        }
    }

    /// What a target's layer says of its limits.
    pub(super) fn limits(&self) -> TargetLimits {
        let concurrency_max = self
            .raw
            .concurrency
            .as_ref()
            .and_then(|concurrency| concurrency.max)
            .unwrap_or(CONCURRENCY_MAX);
        TargetLimits {
            concurrency_max,
            rate: self.raw.rate,
        }
    }
}

/// Refuses a batch past its bounds.
fn check_batch(batch: RawBatch, at: Piece<'_>) {
    let too_much = [
        (
            "events",
            batch
                .events
                .is_some_and(|events| events.get() as usize > BATCH_MAX.events),
            "give at most 1000",
        ),
        (
            "bytes",
            batch
                .bytes
                .is_some_and(|size| size.bytes > BATCH_MAX.bytes as u64),
            "give at most 16MiB",
        ),
        (
            "window",
            batch
                .window
                .is_some_and(|window| window.0 > BATCH_MAX.window),
            "give at most 5m",
        ),
    ];
    for (key, is_too_much, help) in too_much {
        if let (Some(at), true) = (at.get(key), is_too_much) {
            at.report(format!("no batch has so much: `{key}`"), help);
        }
    }
    if let (Some(at), true) = (
        at.get("bytes"),
        batch.bytes.is_some_and(|size| size.bytes == 0),
    ) {
        at.report("`bytes` is nothing", "give a size such as 1MiB");
    }
}

impl DeliverySettings {
    /// Refuses priorities by event where something orders the deliveries: in the first of these
    /// places that says either.
    pub(super) fn refuse_ordered_priorities(&self, places: &[Piece<'_>]) {
        let (Some(_), DeliveryPriority::OfEach(_)) = (&self.order_by, &self.priority) else {
            return;
        };
        let deliveries = places.iter().filter_map(|piece| piece.get("delivery"));
        let said = deliveries.flat_map(|at| ["priority", "order_by"].map(|key| at.get(key)));
        // Where its target says both, that is refused for each rule that uses it.
        if let Some(at) = said.flatten().next().or(places.first().copied()) {
            at.report_key(
                "what `order_by` puts in order goes in that order, whatever its priority",
                "remove one of them, or give all deliveries one `priority`, a number",
            );
        }
    }

    /// What of it decides about retries.
    ///
    /// # Errors
    /// Never of settings that were read without a mistake.
    pub fn policy(&self) -> Result<Policy, InvalidPolicy> {
        Policy::new(
            self.timeout,
            self.max_age,
            self.attempts.get(),
            self.backoff,
        )
    }

    /// Lays layers over one another, the strongest first, and the defaults under them.
    pub(super) fn merged(layers: &[&Layer]) -> Self {
        fn first<'l, T>(layers: &[&'l Layer], get: impl Fn(&'l Layer) -> Option<T>) -> Option<T> {
            layers.iter().find_map(|layer| get(layer))
        }
        let retry = |layer: &Layer| layer.raw.retry.clone().unwrap_or_default();
        let max = first(layers, |layer| retry(layer).backoff?.max)
            .map_or(Duration::from_secs(300), |max| max.0);
        let initial = first(layers, |layer| retry(layer).backoff?.initial)
            .map_or(Duration::from_secs(1), |initial| initial.0);
        Self {
            timeout: first(layers, |layer| layer.raw.timeout)
                .map_or(Duration::from_secs(30), |timeout| timeout.0),
            max_age: first(layers, |layer| layer.raw.max_age)
                .map_or(Duration::from_secs(24 * 3_600), |max_age| max_age.0),
            attempts: first(layers, |layer| retry(layer).attempts).unwrap_or(ATTEMPTS),
            // One of them may come from another layer than the other.
            backoff: Backoff::new(initial.min(max), max),
            order_by: first(layers, |layer| layer.order_by.clone()),
            delay: first(layers, |layer| layer.raw.delay).map_or(Duration::ZERO, |delay| delay.0),
            priority: first(layers, |layer| layer.priority.clone()).unwrap_or_default(),
            backlog_max: first(layers, |layer| layer.raw.backlog.as_ref()?.max)
                .map(std::num::NonZeroU64::get),
            when_full: first(layers, |layer| layer.raw.backlog.as_ref()?.when_full)
                .unwrap_or_default(),
            batch: first(layers, |layer| layer.raw.batch).map(|_| Batch {
                events: first(layers, |layer| layer.raw.batch?.events)
                    .map_or(BATCH.events, |events| events.get() as usize),
                bytes: first(layers, |layer| layer.raw.batch?.bytes).map_or(BATCH.bytes, |size| {
                    size.bytes.try_into().unwrap_or(usize::MAX)
                }),
                window: first(layers, |layer| layer.raw.batch?.window)
                    .map_or(BATCH.window, |window| window.0),
                bisect: first(layers, |layer| layer.raw.batch?.bisect).unwrap_or(BATCH.bisect),
            }),
            history: first(layers, |layer| layer.raw.history).unwrap_or_default(),
        }
    }
}
