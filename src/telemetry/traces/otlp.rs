//! The export of spans by OTLP: <https://opentelemetry.io/docs/specs/otlp/>.
//!
//! One task takes spans from the queue, gathers them for a moment and calls the collector with
//! them. While that cannot be reached the queue fills, and what has no room there is left out: the
//! bus waits for nothing of this.

mod collector;
mod message;

use std::time::Duration;

use pointsman_connectors::LogLimit;
use pointsman_schemas::Backoff;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use self::collector::{Answer, Collector};
use self::message::{Source, request};
use super::Traces;
use super::queue::{SpanCounters, SpanQueue};
use super::settings::Export;
use super::span::Span;

/// Spans in one call, at most: about half a megabyte.
const CALL_SPANS_MAX: usize = 512;

/// How long the first span of a call waits for others.
const GATHERED_FOR: Duration = Duration::from_secs(1);

/// The pauses before a call is made again.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// For how long it is: those that wait behind it are newer.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// How long a stop waits for what is queued.
const FLUSHED_WITHIN: Duration = Duration::from_secs(3);

/// Brings spans to whoever collects them.
#[derive(Debug)]
pub struct Exporter {
    queued: mpsc::Receiver<Span>,
    /// Those of the next call, or of the one under way.
    gathered: Vec<Span>,
    collector: Collector,
    source: Source,
    counters: SpanCounters,
    /// Whether the log knows that nobody takes them.
    is_away: bool,
    rejected_log: LogLimit,
}

impl Exporter {
    /// What records spans, and what exports them once it runs.
    ///
    /// # Errors
    /// The collector's address or a header is none, or a certificate cannot be read.
    pub fn new(export: &Export, counters: SpanCounters) -> Result<(Traces, Self), String> {
        let (queue, queued) = SpanQueue::new(counters.clone());
        let exporter = Self {
            queued,
            gathered: Vec::new(),
            collector: Collector::new(export)?,
            source: Source::of(&export.resource),
            counters,
            is_away: false,
            rejected_log: LogLimit::default(),
        };
        Ok((Traces::new(export.sampler, queue), exporter))
    }

    /// Who collects them.
    pub fn collector(&self) -> String {
        self.collector.address()
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
        let (began, mut pause) = (Instant::now(), None);
        loop {
            match self.collector.call(body.clone()).await {
                Answer::Taken { rejected, why } => {
                    self.taken(count, rejected.min(count), &why);
                    return;
                }
                Answer::Untaken { why, again } => {
                    self.untaken(&why);
                    let Some(after) =
                        again.filter(|_| !stop.is_cancelled() && began.elapsed() < AGAIN_WITHIN)
                    else {
                        self.counters.dropped.inc_by(count);
                        return;
                    };
                    let next = AGAIN.next(pause);
                    pause = Some(next);
                    let wait = after.unwrap_or(next).min(AGAIN.max);
                    // A stop asks once more.
                    stop.run_until_cancelled(sleep(wait)).await;
                }
            }
        }
    }

    fn taken(&mut self, count: u64, rejected: u64, why: &str) {
        self.counters.exported.inc_by(count - rejected);
        self.counters.dropped.inc_by(rejected);
        let collector = self.collector.address();
        if std::mem::take(&mut self.is_away) {
            tracing::info!(%collector, "spans of traces are taken again");
        }
        if let Some(spans) = self.rejected_log.admit(rejected) {
            tracing::warn!(%collector, spans, why, "the collector rejects spans of traces");
        }
    }

    /// Nobody has taken them: the log is told once.
    fn untaken(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_away, true) {
            let collector = self.collector.address();
            tracing::warn!(
                %collector, why,
                "spans of traces cannot be exported; what there is no room for is left out until \
                 they can"
            );
        }
    }
}
