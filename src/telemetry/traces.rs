//! Spans of what happens to events, in the traces that these belong to.
//!
//! An event of a trace says so in its attributes, which are stored with it; nothing else is kept.
//! So the ids of the spans that others follow from are hashes of what they are of: whichever node
//! makes an attempt, and after whatever restart, knows in which span the event was received, and
//! which was that of the attempt before.
//!
//! Where nothing is exported, [`Traces`] is none and its methods return at once, but for
//! [`Traces::context`], by which a trace is passed on.

mod attempts;
mod ids;
#[cfg(feature = "otlp")]
mod otlp;
mod queue;
mod receiving;
mod sampler;
pub mod settings;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use foldhash::HashMap;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use pointsman_schemas::trace::{SpanId, TraceId};
use pointsman_schemas::{DeliveryId, Event, Timestamp, TraceContext};
use tokio_util::sync::CancellationToken;

pub use self::attempts::{Batch, Tried};
pub use self::queue::SpanCounters;
use self::queue::SpanQueue;
pub use self::receiving::{Received, Receiving};
use self::sampler::Sampler;
use self::settings::TraceSettings;

/// What traces are made of; none where nothing is exported.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Tracer>>);

#[derive(Debug)]
struct Tracer {
    sampler: Sampler,
    queue: SpanQueue,
    /// When the last attempt ended at deliveries that are to be tried again, as far as there is
    /// room.
    waits: Mutex<HashMap<DeliveryId, Timestamp>>,
}

impl Traces {
    /// Traces that go into a queue.
    #[cfg_attr(
        not(any(feature = "otlp", test)),
        expect(dead_code, reason = "nothing is exported by a build without it")
    )]
    fn new(sampler: Sampler, queue: SpanQueue) -> Self {
        Self(Some(Arc::new(Tracer {
            sampler,
            queue,
            waits: Mutex::default(),
        })))
    }

    /// Whether anything is recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Where an event belongs, and who records that; none where nobody does.
    fn sampled(&self, event: &Event) -> Option<(&Tracer, TraceContext)> {
        let tracer = self.0.as_deref()?;
        let context = TraceContext::of(event)?;
        tracer
            .sampler
            .takes(&context.parent)
            .then_some((tracer, context))
    }

    /// The trace of an event that is recorded.
    #[must_use]
    pub fn trace_id(&self, event: &Event) -> Option<TraceId> {
        Some(self.sampled(event)?.1.parent.trace_id)
    }

    /// Where an attempt at a delivery belongs, as whoever is called is told: in the span of the
    /// attempt where one is recorded, and else where its event does.
    #[must_use]
    pub fn context(&self, event: &Event, id: DeliveryId, attempt: u32) -> Option<TraceContext> {
        let mut context = TraceContext::of(event)?;
        let tracer = self.0.as_deref();
        if tracer.is_some_and(|tracer| tracer.sampler.takes(&context.parent)) {
            let parent = context.parent;
            context.parent.span_id = ids::of_attempt(parent.trace_id, id, attempt);
            context.parent.flags = parent.flags.sampled();
        }
        Some(context)
    }
}

/// Exports until it is told to stop.
pub type Exporting = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// What records traces and what exports them, where the settings or the environment ask for that.
///
/// # Errors
/// Why they cannot be exported, in words.
#[cfg(feature = "otlp")]
pub fn export(
    settings: &TraceSettings,
    counters: &SpanCounters,
) -> Result<Option<(Traces, Exporting)>, String> {
    let variables = |name: &str| std::env::var(name).ok();
    let Some(export) = settings::TraceExport::of(settings, &variables)? else {
        return Ok(None);
    };
    let (traces, exporter) = otlp::Exporter::new(&export, counters.clone())?;
    tracing::info!(
        collector = exporter.collector(),
        sample = export.sampler.ratio,
        "traces are exported"
    );
    let run = |stop| -> BoxFuture<'static, ()> { Box::pin(exporter.run(stop)) };
    Ok(Some((traces, Box::new(run))))
}

/// Nothing is exported by a build without the feature `otlp`.
#[cfg(not(feature = "otlp"))]
pub fn export(_: &TraceSettings, _: &SpanCounters) -> Result<Option<(Traces, Exporting)>, String> {
    Ok(None)
}

/// A span of some trace, as others link to it.
type Link = (TraceId, SpanId);

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The name of a span, and what went wrong in it.
    pub(crate) type Told = (String, Option<String>);

    /// Traces of everything that belongs to one that is sampled, and what has been recorded since
    /// one asked last.
    pub(crate) fn recording() -> (Traces, impl FnMut() -> Vec<Told>) {
        let (queue, mut spans) = SpanQueue::new(SpanCounters::default());
        let sampler = Sampler {
            ratio: 0.0,
            follows_parent: true,
        };
        let mut next = move || {
            let span = spans.try_recv().ok()?;
            Some((span.name, span.error))
        };
        let taken = move || std::iter::from_fn(&mut next).collect();
        (Traces::new(sampler, queue), taken)
    }
}
