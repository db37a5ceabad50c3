//! The export of metrics by OTLP: what `/metrics` shows, every so often.
//!
//! One task reads everything, calls the collector with it and forgets it. A collector that is away
//! costs the bus nothing, and what it misses are points in between: the numbers go on.

mod message;

use std::time::Duration;

use pointsman_schemas::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use self::message::requests;
use super::settings::MetricExport;
use crate::telemetry::exposition::Expose;
use crate::telemetry::otlp::{Calls, FLUSHED_WITHIN, Source, Words};

/// For how long a call is made again, at most: then there are newer numbers.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

const WORDS: Words = Words {
    exported: "metrics",
    meanwhile: "they are counted on, and go out once they can",
};

/// Brings metrics to whoever collects them.
#[derive(Debug)]
pub struct Exporter {
    calls: Calls,
    source: Source,
    interval: Duration,
    started: Timestamp,
}

impl Exporter {
    /// What exports, once it runs, the metrics of a process that started at this time.
    ///
    /// # Errors
    /// The collector's address or a header is none, or a certificate cannot be read.
    pub fn new(
        MetricExport { export, interval }: &MetricExport,
        started: Timestamp,
    ) -> Result<Self, String> {
        Ok(Self {
            calls: Calls::new(export, WORDS, AGAIN_WITHIN.min(*interval))?,
            source: Source::of(&export.resource),
            interval: *interval,
            started,
        })
    }

    /// Who collects them.
    pub fn collector(&self) -> String {
        self.calls.collector()
    }

    /// Exports until it is stopped, and then once more, as far as that is soon done.
    pub async fn run(mut self, expose: Expose, stop: CancellationToken) {
        let is_late = async {
            stop.cancelled().await;
            sleep(FLUSHED_WITHIN).await;
        };
        tokio::select! {
            () = self.export_all(&expose, &stop) => {}
            () = is_late => {
                tracing::warn!("the last metrics could not be exported in time");
            }
        }
    }

    async fn export_all(&mut self, expose: &Expose, stop: &CancellationToken) {
        let mut ticks = interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = stop.run_until_cancelled(ticks.tick()).await.is_none();
            self.export(expose, stop).await;
            if is_last {
                return;
            }
        }
    }

    async fn export(&mut self, expose: &Expose, stop: &CancellationToken) {
        let Some(exposition) = expose().await else {
            return;
        };
        for body in requests(&self.source, &exposition, self.started, Timestamp::now()) {
            if self.calls.call(body, stop).await.is_none() {
                return;
            }
        }
    }
}

/// How many points an export of these numbers has.
#[cfg(test)]
pub(super) fn points(exposition: &crate::telemetry::exposition::Exposition) -> usize {
    self::message::points(exposition)
}
