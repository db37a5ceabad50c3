//! What is known of a source's connection to its outside system, told from inside as it happens.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Clock, Name, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::LogLimit;

/// What a source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// It is being opened for the first time.
    Opening,
    /// It is open and connected.
    Running,
    /// Its connection is down, or it could not be opened; it is tried again by itself.
    Waiting,
    /// It has ended, or somebody must decide what becomes of it.
    Stopped,
    /// It runs on another node.
    Away,
}

impl SourceState {
    /// The state as it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
            Self::Away => "away",
        }
    }
}

/// A source's connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// What the source does.
    pub state: SourceState,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong last; kept after it runs again.
    pub last_error: Option<String>,
    /// Messages that wait in the outside system and have not been handed over, where it can tell.
    pub lag: Option<u64>,
    /// Messages that the outside system removed before they could be read, as far as it can tell.
    pub skipped: u64,
}

/// Where a source tells of its connection. Clones tell of the same.
///
/// A client that reconnects by itself tells [`Link::down`] and [`Link::up`] as often as it likes:
/// the log is spared here. A source whose connection ends with it needs to tell nothing: its owner
/// does.
#[derive(Clone)]
pub struct Link {
    source: Name,
    clock: Arc<dyn Clock>,
    status: watch::Sender<LinkStatus>,
    told: Arc<Mutex<Told>>,
}

/// What the log has been told.
#[derive(Debug, Default)]
struct Told {
    /// Failures, however often it is tried.
    down: LogLimit,
    /// Whether it has yet to hear that the source is up again.
    is_down: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link")
            .field(&self.source)
            .field(&self.status())
            .finish()
    }
}

impl Link {
    /// A source that is being opened.
    #[must_use]
    pub fn new(source: Name, clock: Arc<dyn Clock>) -> Self {
        let status = LinkStatus {
            state: SourceState::Opening,
            since: clock.now(),
            last_error: None,
            lag: None,
            skipped: 0,
        };
        Self {
            source,
            clock,
            status: watch::Sender::new(status),
            told: Arc::default(),
        }
    }

    /// It is connected.
    pub fn up(&self) {
        self.turn(SourceState::Running, None);
        if std::mem::take(&mut self.told.lock().is_down) {
            tracing::info!(source = %self.source, "the source is connected again");
        }
    }

    /// It is not, and is tried again. What waits there is not known meanwhile.
    pub fn down(&self, error: impl Into<String>) {
        let error = error.into();
        let mut told = self.told.lock();
        if let Some(failures) = told.down.admit(1) {
            tracing::warn!(
                source = %self.source, %error, failures,
                "the source is down and is tried again"
            );
            told.is_down = true;
        }
        drop(told);
        self.turn(SourceState::Waiting, Some(error));
        self.lag(None);
    }

    /// Somebody must change something before it goes on.
    pub fn stopped(&self, error: impl Into<String>) {
        let error = error.into();
        tracing::error!(
            source = %self.source, %error,
            "the source has stopped until its settings change"
        );
        self.turn(SourceState::Stopped, Some(error));
    }

    /// It is another node's to open. What waits there is not known here.
    pub fn away(&self) {
        self.turn(SourceState::Away, None);
        self.lag(None);
    }

    /// It is to be opened, and has been another node's.
    pub fn opening(&self) {
        self.turn(SourceState::Opening, None);
    }

    /// So many messages wait in the outside system; none where it cannot tell at the moment.
    pub fn lag(&self, messages: Option<u64>) {
        self.status.send_modify(|status| status.lag = messages);
    }

    /// So many messages were removed from the outside system before they could be read: nobody will
    /// ever see them. `why` says where, and by what. None says that there may have been some that
    /// nobody counted.
    pub fn skipped(&self, messages: u64, why: impl fmt::Display) {
        if messages == 0 {
            tracing::warn!(
                source = %self.source, %why,
                "messages may have been removed before they could be read"
            );
        } else {
            tracing::warn!(
                source = %self.source, messages, %why,
                "messages were removed before they could be read"
            );
        }
        self.status.send_modify(|status| status.skipped += messages);
    }

    /// What is known.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    /// Waits until the source has been opened, or could not be.
    pub async fn opened(&self) {
        self.until(|state| state != SourceState::Opening).await;
    }

    /// Waits for a state.
    pub(crate) async fn until(&self, is_it: impl Fn(SourceState) -> bool) {
        // The sender lives in self: it cannot be gone.
        let mut status = self.status.subscribe();
        let _ = status.wait_for(|status| is_it(status.state)).await;
    }

    fn turn(&self, state: SourceState, error: Option<String>) {
        self.status.send_modify(|status| {
            if status.state != state {
                (status.state, status.since) = (state, self.clock.now());
            }
            status.last_error = error.or_else(|| status.last_error.take());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pointsman_schemas::SystemClock;
    use tokio::time::advance;

    use super::*;
    use crate::suite::Log;

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_once_in_ten_seconds_and_the_status_always() {
        let link = Link::new(Name::new("orders").unwrap(), Arc::new(SystemClock));
        let (log, _in_force) = Log::capture();
        for round in 0..35 {
            link.down(format!("refused {round}"));
            advance(Duration::from_secs(1)).await;
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 4, "at 0, 10, 20 and 30 seconds: {lines:?}");
        assert!(
            lines[1].contains("refused 10") && lines[1].contains("failures=10"),
            "{lines:?}"
        );
        assert_eq!(
            (link.status().state, link.status().last_error.as_deref()),
            (SourceState::Waiting, Some("refused 34"))
        );

        link.up();
        link.up();
        assert_eq!(log.lines().len(), 1, "up again, told once");
        assert_eq!(
            (link.status().state, link.status().last_error.as_deref()),
            (SourceState::Running, Some("refused 34"))
        );

        // A connection that flaps is no reason for more lines.
        for _ in 0..20 {
            link.down("flaps");
            link.up();
        }
        assert!(log.lines().len() <= 2);
    }

    #[test]
    fn what_is_skipped_adds_up() {
        let link = Link::new(Name::new("orders").unwrap(), Arc::new(SystemClock));
        link.skipped(900, "the stream's limits");
        link.skipped(1, "the stream's limits");
        assert_eq!(
            (link.status().skipped, link.status().state),
            (901, SourceState::Opening)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_opened_once_it_is_up_or_down() {
        let link = Link::new(Name::new("orders").unwrap(), Arc::new(SystemClock));
        let opened = tokio::spawn({
            let link = link.clone();
            async move { link.opened().await }
        });
        tokio::task::yield_now().await;
        link.lag(Some(3));
        tokio::task::yield_now().await;
        assert!(!opened.is_finished());
        assert_eq!(link.status().lag, Some(3));
        link.down("refused");
        opened.await.unwrap();
        assert_eq!(link.status().lag, None, "nobody knows now");
    }
}
