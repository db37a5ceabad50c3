//! Sessions that are used one call at a time, and opened anew when they break.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Backoff, backoff::spread};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::session::{Dialer, NO_ANSWER, Session};
use crate::LogError;

/// First and longest pause between two tries to connect. The longest is short: shards wait for it.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Whether its calls change anything: where the outcome of one is unknown, reading has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// A fixed number of sessions.
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    purpose: Purpose,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
    /// One connects at a time; the others learn from it.
    dialing: AsyncMutex<Dialing>,
}

/// How connecting has gone lately.
#[derive(Default)]
struct Dialing {
    failures: u32,
    /// When the next try may be made, and why the last has failed.
    failed: Option<(Instant, LogError)>,
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>, purpose: Purpose, size: usize) -> Self {
        Self {
            dialer,
            purpose,
            permits: Semaphore::new(size),
            idle: Mutex::default(),
            dialing: AsyncMutex::default(),
        }
    }

    /// Does something with a session. One that has failed, or whose caller has gone before it was
    /// done, is not used again.
    pub(super) async fn run<T>(
        &self,
        until: Instant,
        work: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, LogError> {
        let unavailable = |_| LogError::Unavailable("all connections are in use".to_owned());
        let permit = timeout_at(until, self.permits.acquire()).await;
        let _permit = permit
            .map_err(unavailable)?
            .map_err(|_| LogError::Unavailable("the log is closed".to_owned()))?;
        let session = match self.take() {
            Some(session) => session,
            None => self.dial(until).await?,
        };
        let done = session.run(until, work).await;
        match &done {
            Ok(_) => self.idle.lock().push(session),
            Err(LogError::Refused(_)) if !session.is_closed() => self.idle.lock().push(session),
            Err(_) => drop(session),
        }
        match done {
            Err(LogError::Unknown(why)) if self.purpose == Purpose::Read => {
                Err(LogError::Unavailable(why))
            }
            done => done,
        }
    }

    /// A session that is still open, as far as is known.
    fn take(&self) -> Option<Session> {
        let mut idle = self.idle.lock();
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }

    /// Connects, again and again until it works or the time is over.
    async fn dial(&self, until: Instant) -> Result<Session, LogError> {
        let Ok(mut dialing) = timeout_at(until, self.dialing.lock()).await else {
            return Err(LogError::Unavailable(NO_ANSWER.to_owned()));
        };
        let engine = self.dialer.engine();
        loop {
            if let Some((not_before, error)) = &dialing.failed {
                sleep_until((*not_before).min(until)).await;
                // A try without any time left would fail, and put off the next one.
                if *not_before >= until {
                    return Err(error.clone());
                }
            }
            match self.dialer.dial(until).await {
                Ok(session) => {
                    if dialing.failures > 0 {
                        tracing::info!(engine, "connected to PostgreSQL again");
                    }
                    *dialing = Dialing::default();
                    return Ok(session);
                }
                Err(error) => {
                    let error = LogError::from(error);
                    if dialing.failures == 0 {
                        tracing::warn!(%error, engine, "the log has lost PostgreSQL and tries again");
                    }
                    let pause = spread(RECONNECT.after(dialing.failures), rand::random());
                    dialing.failures = dialing.failures.saturating_add(1);
                    dialing.failed = Some((Instant::now() + pause, error));
                }
            }
        }
    }
}
