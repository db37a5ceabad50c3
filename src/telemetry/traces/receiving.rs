//! The spans of an event that is taken in: `receive`, and within it `match` and `append`.

use std::sync::Arc;

use pointsman_schemas::trace::{SpanId, TraceFlags, TraceId, TraceParent};
use pointsman_schemas::{Event, Name, Timestamp, TraceContext};

use super::span::{Kind, Span};
use super::{Traces, ids};

/// An event of a trace that is being taken in.
#[derive(Debug)]
pub struct Receiving {
    event: Arc<Event>,
    tenant: Name,
    origin: Name,
    context: TraceContext,
    id: SpanId,
    began: Timestamp,
    matched: Timestamp,
    deliveries: usize,
}

/// How an event was taken in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received<'w> {
    /// When its append began and ended; none where there was none.
    pub appended: Option<(Timestamp, Timestamp)>,
    /// Whether it had been stored before.
    pub is_duplicate: bool,
    /// Why it was not taken in, where it was not.
    pub refused: Option<&'w str>,
}

/// What is wrong with the append of a duplicate: nothing was stored.
const DUPLICATE: &str = "it had been stored before";

impl Receiving {
    /// It has been matched, and is to be delivered so often.
    pub fn matched(&mut self, deliveries: usize) {
        (self.matched, self.deliveries) = (Timestamp::now(), deliveries);
    }

    /// When it had been matched, or had come where it has not been.
    #[must_use]
    pub fn matched_at(&self) -> Timestamp {
        self.matched
    }

    /// The trace that it is recorded in.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.context.parent.trace_id
    }
}

impl Traces {
    /// Begins to record an event that comes in, where it is to be recorded. One that belongs to no
    /// trace and is chosen is given a trace: from here on it is another event.
    pub fn receive(
        &self,
        tenant: &Name,
        origin: &Name,
        event: Arc<Event>,
    ) -> (Arc<Event>, Option<Box<Receiving>>) {
        let Some(tracer) = self.0.as_deref() else {
            return (event, None);
        };
        let began = Timestamp::now();
        let (event, context) = match TraceContext::of(&event) {
            Some(context) if tracer.sampler.takes(&context.parent) => (event, context),
            None if tracer.sampler.begins() => {
                let context = begun(tenant, origin, &event);
                (Arc::new(context.add_to(Event::clone(&event))), context)
            }
            _ => return (event, None),
        };
        let receiving = Receiving {
            id: ids::of_receive(context.parent.trace_id, tenant, origin, &event),
            event: Arc::clone(&event),
            tenant: tenant.clone(),
            origin: origin.clone(),
            context,
            began,
            matched: began,
            deliveries: 0,
        };
        (event, Some(Box::new(receiving)))
    }

    /// Records an event that has been taken in, or could not be.
    pub fn received(&self, receiving: &Receiving, received: Received<'_>) {
        let Some(tracer) = self.0.as_deref() else {
            return;
        };
        let context = &receiving.context;
        let receive = receiving.span(received);
        let id = receive.id;
        tracer.queue.push(receive);
        let step = |name: &str, times, error: Option<&str>| {
            let ids = (ids::random_span(), Some(id));
            let mut span = Span::new(context, ids, name.to_owned(), times);
            span.error = error.map(str::to_owned);
            tracer.queue.push(span);
        };
        step("match", (receiving.began, receiving.matched), None);
        if let Some(times) = received.appended {
            let duplicate = received.is_duplicate.then_some(DUPLICATE);
            step("append", times, received.refused.or(duplicate));
        }
    }
}

impl Receiving {
    fn span(&self, received: Received<'_>) -> Span {
        let Self {
            event,
            context,
            origin,
            ..
        } = self;
        // A trace that begins here begins with this span, which the event itself names.
        let is_root = context.parent.span_id == self.id && !received.is_duplicate;
        let parent = Some(context.parent.span_id).filter(|_| !is_root);
        // Of one that came before there is a span of this id already, and of one that comes again
        // there will be.
        let comes_again = received.refused.is_some() && !is_root;
        let id = if received.is_duplicate || comes_again {
            ids::random_span()
        } else {
            self.id
        };
        let ended = received.appended.map_or(self.matched, |(_, ended)| ended);
        let times = (self.began, ended);
        let mut span = Span::new(context, (id, parent), format!("receive {origin}"), times);
        span.kind = Kind::Consumer;
        span.text("messaging.system", "pointsman");
        span.text("messaging.operation.type", "receive");
        span.text("messaging.operation.name", "receive");
        span.text("messaging.destination.name", origin.as_str());
        span.text("messaging.message.id", event.id());
        span.text("cloudevents.event_id", event.id());
        span.text("cloudevents.event_source", event.source());
        span.text("cloudevents.event_spec_version", "1.0");
        span.text("cloudevents.event_type", event.ty());
        if let Some(subject) = event.subject() {
            span.text("cloudevents.event_subject", subject);
        }
        span.text("pointsman.tenant", self.tenant.as_str());
        span.text("pointsman.source", origin.as_str());
        span.flag("pointsman.duplicate", received.is_duplicate);
        span.number("pointsman.deliveries", self.deliveries);
        span.error = received.refused.map(str::to_owned);
        span
    }
}

/// A trace that begins with an event's being received.
fn begun(tenant: &Name, origin: &Name, event: &Event) -> TraceContext {
    let trace_id = ids::random_trace();
    let parent = TraceParent {
        trace_id,
        span_id: ids::of_receive(trace_id, tenant, origin, event),
        flags: TraceFlags::SAMPLED_AT_RANDOM,
    };
    TraceContext {
        parent,
        state: None,
    }
}
