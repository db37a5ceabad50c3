//! The export of spans by OTLP: <https://opentelemetry.io/docs/specs/otlp/>.
//!
//! One task takes spans from the queue, gathers them for a moment and calls the collector with
//! them. While that cannot be reached the queue fills, and what has no room there is left out: the
//! bus waits for nothing of this.

mod message;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use self::message::request;
use super::Traces;
use super::queue::{SpanCounters, SpanQueue};
use super::settings::TraceExport;
use super::span::Span;
use crate::telemetry::otlp::{Calls, FLUSHED_WITHIN, Source, Words};

/// Spans in one call, at most: about half a megabyte.
const CALL_SPANS_MAX: usize = 512;

/// How long the first span of a call waits for others.
const GATHERED_FOR: Duration = Duration::from_secs(1);

/// For how long a call is made again: those that wait behind it are newer.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

const WORDS: Words = Words {
    exported: "spans of traces",
    meanwhile: "what there is no room for is left out until they can",
};

/// Brings spans to whoever collects them.
#[derive(Debug)]
pub struct Exporter {
    queued: mpsc::Receiver<Span>,
    /// Those of the next call, or of the one under way.
    gathered: Vec<Span>,
    calls: Calls,
    source: Source,
    counters: SpanCounters,
}

impl Exporter {
    /// What records spans, and what exports them once it runs.
    ///
    /// # Errors
    /// The collector's address or a header is none, or a certificate cannot be read.
    pub fn new(
        TraceExport { export, sampler }: &TraceExport,
        counters: SpanCounters,
    ) -> Result<(Traces, Self), String> {
        let (queue, queued) = SpanQueue::new(counters.clone());
        let exporter = Self {
            queued,
            gathered: Vec::new(),
            calls: Calls::new(export, WORDS, AGAIN_WITHIN)?,
            source: Source::of(&export.resource),
            counters,
        };
        Ok((Traces::new(*sampler, queue), exporter))
    }

    /// Who collects them.
    pub fn collector(&self) -> String {
        self.calls.collector()
    }

    /// Exports until it is stopped, and then what is queued, as far as that is soon done.
    pub async fn run(mut self, stop: CancellationToken) {
        let is_late = async {
            stop.cancelled().await;
            sleep(FLUSHED_WITHIN).await;
        };
        tokio::select! {
            () = self.export_all(&stop) => return,
            () = is_late => {}
        }
        let spans = self.gathered.len() + self.queued.len();
        self.counters.dropped.inc_by(spans as u64);
        tracing::warn!(
            spans,
            "the last spans of traces could not be exported in time"
        );
    }

    async fn export_all(&mut self, stop: &CancellationToken) {
        loop {
            stop.run_until_cancelled(self.gather()).await;
            while self.gathered.len() < CALL_SPANS_MAX
                && let Ok(span) = self.queued.try_recv()
            {
                self.gathered.push(span);
            }
            if self.gathered.is_empty() {
                return;
            }
            self.export(stop).await;
            self.gathered.clear();
        }
    }

    /// Waits for the spans of the next call. Safe to cancel.
    async fn gather(&mut self) {
        let mut until = None;
        while self.gathered.len() < CALL_SPANS_MAX {
            let room = CALL_SPANS_MAX - self.gathered.len();
            let more = self.queued.recv_many(&mut self.gathered, room);
            let more = match until {
                None => Ok(more.await),
                Some(until) => timeout_at(until, more).await,
            };
            match more {
                Ok(1..) => until = until.or(Some(Instant::now() + GATHERED_FOR)),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Exports what is gathered, or gives it up.
    async fn export(&mut self, stop: &CancellationToken) {
        let count = self.gathered.len() as u64;
        let body = request(&self.source, &self.gathered);
        let rejected = self.calls.call(body, stop).await;
        let dropped = rejected.unwrap_or(count).min(count);
        self.counters.exported.inc_by(count - dropped);
        self.counters.dropped.inc_by(dropped);
    }
}

#[cfg(test)]
mod tests {
    use pointsman_schemas::trace::TRACEPARENT;
    use pointsman_schemas::{Event, Name};
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::traces::Received;
    use crate::telemetry::traces::settings::TraceSettings;

    #[tokio::test]
    async fn what_nobody_takes_until_the_stop_is_counted() {
        let counters = SpanCounters::default();
        // Nobody listens there.
        let there = |name: &str| {
            (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://127.0.0.1:9".to_owned())
        };
        let export = TraceExport::of(&TraceSettings::default(), &there);
        let (traces, exporter) =
            Exporter::new(&export.unwrap().unwrap(), counters.clone()).unwrap();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let event = Event::builder("1", "/s", "t").attribute(TRACEPARENT, parent.into());
        let (tenant, origin) = (Name::default_tenant(), Name::ingress());
        let (_, receiving) = traces.receive(&tenant, &origin, Arc::new(event.build().unwrap()));
        traces.received(&receiving.unwrap(), Received::default());
        let stop = CancellationToken::new();
        stop.cancel();
        exporter.run(stop).await;
        assert_eq!((counters.exported.get(), counters.dropped.get()), (0, 2));
    }
}
