//! Ids of spans that are known wherever their event is, and for ever: what is hashed here must
//! never change.

use std::fmt::Display;

use pointsman_schemas::trace::{SpanId, TraceId};
use pointsman_schemas::{DeliveryId, Event, Name};
use sha2::{Digest, Sha256};

/// The id of the span in which an event was received from a source. Another bus that receives the
/// same event from a source of another name has another one.
pub(super) fn of_receive(trace: TraceId, tenant: &Name, origin: &Name, event: &Event) -> SpanId {
    let parts = [tenant.as_str(), origin.as_str(), event.source(), event.id()];
    hashed(trace, "receive", &parts)
}

/// The id of the span of an attempt, by its number from 1.
pub(super) fn of_attempt(trace: TraceId, id: DeliveryId, attempt: u32) -> SpanId {
    hashed(trace, "attempt", &[&id as &dyn Display, &attempt])
}

/// The first bytes of a hash that are the id of a span.
fn hashed<T: Display>(trace: TraceId, what: &str, parts: &[T]) -> SpanId {
    let mut hash = Sha256::new();
    hash.update(trace.to_bytes());
    hash.update(what);
    for part in parts {
        let part = part.to_string();
        // The length keeps two parts from being taken for others.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let mut ids = hash
        .chunks_exact(8)
        .filter_map(|bytes| bytes.try_into().ok());
    ids.find_map(SpanId::new).unwrap_or(SpanId::MAX)
}

/// The id of a span that nothing follows from.
pub(super) fn random_span() -> SpanId {
    SpanId::new(rand::random::<u64>().to_be_bytes()).unwrap_or(SpanId::MAX)
}

/// The id of a new trace.
pub(super) fn random_trace() -> TraceId {
    TraceId::new(rand::random::<u128>().to_be_bytes()).unwrap_or(TraceId::MAX)
}
