//! The spans of a delivery: `wait` and `attempt`, for each of its attempts.

use pointsman_journal::{Ending, Leased, SubscriptionIdentity};
use pointsman_schemas::trace::SpanId;
use pointsman_schemas::{Class, Outcome, Timestamp, TraceContext};

use super::span::{Kind, Span};
use super::{Link, Tracer, Traces, ids};

/// Deliveries that wait for their next attempt and of which it is known since when, at most: past
/// that it is forgotten, and the spans of these waits are left out.
const WAITS_MAX: usize = 10_000;

/// Spans that one span links to, at most: what the SDKs of OpenTelemetry keep unless they are told
/// otherwise.
const LINKS_MAX: usize = 128;

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// Its delivery, as it was leased for it.
    pub leased: &'a Leased,
    /// Whose delivery it is.
    pub subscription: &'a SubscriptionIdentity,
    /// What it came to, and what becomes of the delivery.
    pub outcome: &'a Outcome,
    pub ending: &'a Ending,
    /// When the delivery's run began, by the time of day.
    pub since: Timestamp,
    /// When the attempt did, and when it was over.
    pub began: Timestamp,
    pub ended: Timestamp,
    /// The call that it was a part of.
    pub batch: &'a Batch,
}

/// The attempts of a call of several deliveries, as far as they are recorded.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// How many deliveries there are, recorded or not; none of a call of one.
    count: usize,
    /// The first of them is the one that whoever was called is told of.
    attempts: Vec<Link>,
}

impl Batch {
    /// What the attempt of this link belongs together with. Not each with each: that would be a
    /// million links of a thousand deliveries.
    pub(super) fn links(&self, own: Link) -> &[Link] {
        match self.attempts.split_first() {
            Some((first, others)) if *first == own => others.get(..LINKS_MAX).unwrap_or(others),
            Some(_) => self.attempts.get(..1).unwrap_or_default(),
            None => &[],
        }
    }
}

impl Traces {
    /// The attempts of a call.
    pub fn batch(&self, call: &[Leased]) -> Batch {
        if self.0.is_none() || call.len() < 2 {
            return Batch::default();
        }
        let attempt = |leased: &Leased| {
            let (_, context) = self.sampled(&leased.event)?;
            Some(attempt_of(&context, leased))
        };
        Batch {
            count: call.len(),
            attempts: call.iter().filter_map(attempt).collect(),
        }
    }

    /// Records an attempt, and the wait before it. Of one that is put back as if nothing had
    /// happened that is the wait of the next one, which has its number.
    pub fn tried(&self, tried: &Tried<'_>) {
        let Some((tracer, context)) = self.sampled(&tried.leased.event) else {
            return;
        };
        if !tried.is_released()
            && let Some(since) = tracer.waited_since(tried)
        {
            tracer.queue.push(tried.wait(&context, since));
        }
        tracer.queue.push(tried.attempt(&context));
    }
}

impl Tracer {
    /// Since when a delivery had waited; notes since when it does now, where it is tried again.
    fn waited_since(&self, tried: &Tried<'_>) -> Option<Timestamp> {
        let Tried { leased, ending, .. } = tried;
        let mut waits = self.waits.lock();
        let before = waits.remove(&leased.id);
        if matches!(ending, Ending::Retry { .. }) {
            // Those that end without another attempt stay behind.
            if waits.len() >= WAITS_MAX {
                waits.clear();
            }
            waits.insert(leased.id, tried.ended);
        }
        match leased.attempts {
            0 => Some(tried.since),
            _ => before,
        }
    }
}

impl Tried<'_> {
    fn is_released(&self) -> bool {
        *self.ending == Ending::Released
    }

    fn wait(&self, context: &TraceContext, since: Timestamp) -> Span {
        let times = (since.min(self.began), self.began);
        let ids = (ids::random_span(), Some(self.receive(context)));
        let name = format!("wait {}", self.subscription.target);
        let mut span = Span::new(context, ids, name, times);
        self.identify(&mut span);
        span
    }

    fn attempt(&self, context: &TraceContext) -> Span {
        let Self {
            leased,
            outcome,
            ending,
            batch,
            ..
        } = self;
        let target = &self.subscription.target;
        let own = attempt_of(context, leased);
        // The next attempt has the number of one that is put back, and so its id.
        let id = match self.is_released() {
            true => ids::random_span(),
            false => own.1,
        };
        let ids = (id, Some(self.receive(context)));
        let times = (self.began, self.ended);
        let mut span = Span::new(context, ids, format!("attempt {target}"), times);
        span.kind = Kind::Client;
        span.text("messaging.system", "pointsman");
        span.text("messaging.operation.type", "send");
        span.text("messaging.operation.name", "attempt");
        span.text("messaging.destination.name", target.as_str());
        span.text("messaging.message.id", leased.event.id());
        if batch.count > 1 {
            span.number("messaging.batch.message_count", batch.count);
        }
        self.identify(&mut span);
        let class = match self.is_released() {
            true => next(ending),
            false => outcome.class.as_str(),
        };
        span.text("pointsman.outcome", class);
        span.text("pointsman.next", next(ending));
        if let Some(code) = outcome.code {
            span.number("pointsman.code", code);
        }
        if outcome.class != Class::Delivered {
            span.text("error.type", class);
            span.error = Some(outcome.message.clone());
        }
        span.links.extend_from_slice(batch.links(own));
        if leased.attempts > 0 {
            let before = ids::of_attempt(own.0, leased.id, leased.attempts);
            span.links.push((own.0, before));
        }
        span
    }

    /// Says which attempt it is.
    fn identify(&self, span: &mut Span) {
        let SubscriptionIdentity {
            tenant,
            rule,
            role,
            target,
        } = self.subscription;
        span.text("pointsman.tenant", tenant.as_str());
        span.text("pointsman.rule", rule.as_str());
        span.text("pointsman.role", role.as_str());
        span.text("pointsman.target", target.as_str());
        span.text("pointsman.task", &self.leased.id.to_string());
        span.number("pointsman.attempt", self.leased.attempts.saturating_add(1));
    }

    /// The span that the event was received in.
    fn receive(&self, context: &TraceContext) -> SpanId {
        let Leased {
            tenant,
            origin,
            event,
            ..
        } = self.leased;
        ids::of_receive(context.parent.trace_id, tenant, origin, event)
    }
}

fn attempt_of(context: &TraceContext, leased: &Leased) -> Link {
    let trace = context.parent.trace_id;
    let attempt = leased.attempts.saturating_add(1);
    (trace, ids::of_attempt(trace, leased.id, attempt))
}

/// What becomes of a delivery, in a word.
fn next(ending: &Ending) -> &'static str {
    match ending {
        Ending::Delivered => "delivered",
        Ending::Retry { .. } => "retry",
        Ending::Dead { .. } => "dead",
        Ending::Stopped => "stopped",
        Ending::Released => "released",
    }
}
