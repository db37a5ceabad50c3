//! Calls of a collector, which are made again where that may help. The log is told once that nobody
//! takes what is exported, and once that somebody does again.

use std::time::Duration;

use bytes::Bytes;
use pointsman_connectors::LogLimit;
use pointsman_schemas::Backoff;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::collector::{Answer, Collector};
use super::settings::Export;

/// The pauses before a call is made again.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How long a stop waits for what is still to be exported.
pub const FLUSHED_WITHIN: Duration = Duration::from_secs(3);

/// What the log calls what is exported, and what becomes of it while nobody takes it.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    pub exported: &'static str,
    pub meanwhile: &'static str,
}

/// Calls one collector.
#[derive(Debug)]
pub struct Calls {
    collector: Collector,
    words: Words,
    /// For how long a call is made again.
    again_within: Duration,
    /// Whether the log knows that nobody takes what is exported.
    is_away: bool,
    rejected_log: LogLimit,
}

impl Calls {
    /// # Errors
    /// The collector's address or a header is none, or a certificate cannot be read.
    pub fn new(export: &Export, words: Words, again_within: Duration) -> Result<Self, String> {
        Ok(Self {
            collector: Collector::new(export)?,
            words,
            again_within,
            is_away: false,
            rejected_log: LogLimit::default(),
        })
    }

    /// Who collects it.
    pub fn collector(&self) -> String {
        self.collector.address()
    }

    /// Calls the collector with the message of a request, and again for a while where it cannot be
    /// reached. Returns how much of it was rejected, or none where nobody has taken it.
    pub async fn call(&mut self, message: Bytes, stop: &CancellationToken) -> Option<u64> {
        let (began, mut pause) = (Instant::now(), None);
        loop {
            match self.collector.call(message.clone()).await {
                Answer::Taken { rejected, why } => {
                    self.taken(rejected, &why);
                    return Some(rejected);
                }
                Answer::Untaken { why, again } => {
                    self.untaken(&why);
                    let after = again
                        .filter(|_| !stop.is_cancelled() && began.elapsed() < self.again_within)?;
                    let next = AGAIN.next(pause);
                    pause = Some(next);
                    let wait = after.unwrap_or(next).min(AGAIN.max);
                    // A stop asks once more.
                    stop.run_until_cancelled(sleep(wait)).await;
                }
            }
        }
    }

    fn taken(&mut self, rejected: u64, why: &str) {
        let collector = self.collector.address();
        let exported = self.words.exported;
        if std::mem::take(&mut self.is_away) {
            tracing::info!(%collector, "{exported} are taken again");
        }
        if let Some(rejected) = self.rejected_log.admit(rejected) {
            tracing::warn!(%collector, rejected, why, "the collector rejects {exported}");
        }
    }

    /// Nobody has taken it: the log is told once.
    fn untaken(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_away, true) {
            let collector = self.collector.address();
            let Words {
                exported,
                meanwhile,
            } = self.words;
            tracing::warn!(%collector, why, "{exported} cannot be exported; {meanwhile}");
        }
    }
}
