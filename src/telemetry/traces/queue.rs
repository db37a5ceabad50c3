//! Spans on their way to whoever collects them. What the queue has no room for is left out: nobody
//! waits for that.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_connectors::LogLimit;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::span::Span;

/// Spans that wait, at most: of about a kilobyte each.
pub(super) const QUEUED_MAX: usize = 8_192;

/// Counts what becomes of spans.
#[derive(Clone, Debug, Default)]
pub struct SpanCounters {
    /// Whoever collects them has taken them.
    pub exported: Counter,
    /// They are lost: there was no room for them, or nobody took them.
    pub dropped: Counter,
}

/// Where spans wait.
#[derive(Debug)]
pub(super) struct SpanQueue {
    spans: mpsc::Sender<Span>,
    counters: SpanCounters,
    log: Arc<Mutex<LogLimit>>,
}

impl SpanQueue {
    /// A queue and its other end.
    #[cfg_attr(
        not(any(feature = "otlp", test)),
        expect(dead_code, reason = "nothing is exported by a build without it")
    )]
    pub(super) fn new(counters: SpanCounters) -> (Self, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(QUEUED_MAX);
        let log = Arc::default();
        let queue = Self {
            spans,
            counters,
            log,
        };
        (queue, receiver)
    }

    pub(super) fn push(&self, span: Span) {
        if self.spans.try_send(span).is_ok() {
            return;
        }
        self.counters.dropped.inc();
        if let Some(dropped) = self.log.lock().admit(1) {
            tracing::warn!(
                dropped,
                "spans of traces are left out: there are more than are taken; sample fewer events"
            );
        }
    }
}
