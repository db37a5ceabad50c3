//! What is known of a source's connection to its outside system, told from inside as it happens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Clock, Name, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// While a source is down, one line of the log tells so at most this often, however often it is tried.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What a source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Where a source tells of its connection. Clones tell of the same.
///
/// A client that reconnects by itself tells [`Link::down`] and [`Link::up`] as often as it likes: the log is spared here. A source whose
/// connection ends with it needs to tell nothing: its owner does.
#[derive(Clone)]
pub struct Link {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    source: Name,
    status: LinkStatus,
    /// When the log was last told that it is down, and how often that has happened since.
    told: Option<(Instant, u64)>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.status()).finish()
    }
}

impl Link {
    /// A source that is being opened.
    #[must_use]
    pub fn new(source: Name, clock: Arc<dyn Clock>) -> Self {
        let status = LinkStatus { state: SourceState::Opening, since: clock.now(), last_error: None, lag: None };
        Self { clock, inner: Arc::new(Mutex::new(Inner { source, status, told: None })) }
    }

    /// It is connected.
    pub fn up(&self) {
        let mut inner = self.inner.lock();
        inner.turn(SourceState::Running, &*self.clock);
        if inner.told.take().is_some() {
            tracing::info!(source = %inner.source, "the source is connected again");
        }
    }

    /// It is not, and is tried again.
    pub fn down(&self, error: impl Into<String>) {
        let mut inner = self.inner.lock();
        let error = error.into();
        inner.turn(SourceState::Waiting, &*self.clock);
        let now = Instant::now();
        match &mut inner.told {
            Some((at, quiet)) if now.duration_since(*at) < LOG_EVERY => *quiet += 1,
            told => {
                let failures = told.map_or(1, |(_, quiet)| quiet + 1);
                *told = Some((now, 0));
                tracing::warn!(source = %inner.source, %error, failures, "the source is down and is tried again");
            }
        }
        inner.status.last_error = Some(error);
    }

    /// Somebody must change something before it goes on.
    pub fn stopped(&self, error: impl Into<String>) {
        let mut inner = self.inner.lock();
        let error = error.into();
        inner.turn(SourceState::Stopped, &*self.clock);
        tracing::error!(source = %inner.source, %error, "the source has stopped until its settings change");
        inner.status.last_error = Some(error);
    }

    /// So many messages wait in the outside system; none where it cannot tell at the moment.
    pub fn lag(&self, messages: Option<u64>) {
        self.inner.lock().status.lag = messages;
    }

    /// What is known.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.inner.lock().status.clone()
    }
}

impl Inner {
    fn turn(&mut self, state: SourceState, clock: &dyn Clock) {
        if self.status.state != state {
            (self.status.state, self.status.since) = (state, clock.now());
        }
    }
}
