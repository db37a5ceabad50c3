//! The task that pulls: it sees that the consumer is there, has it read, and says what is wrong
//! where it is not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::Info;
use parking_lot::Mutex;
use pointsman_schemas::Backoff;
use pointsman_schemas::backoff::spread;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep, timeout};

use super::auth::Renewal;
use super::connection::{Plan, RENEWED};
use super::consumer::ConsumerError;
use super::poison;
use super::reader::{CLOSED, ConsumerReader, Interruption};
use crate::files::Files;
use crate::{Acknowledgement, Message, SourceError, Verdict};

/// First and longest pause after the server could not say what became of the consumer, of which at
/// least half is waited.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How long a server may take over a consumer's end before that is worth a word. It says that a
/// consumer is deleted before it has deleted it: until then it may still find it, answer without
/// one (2.9), or stumble over what is left of it when it is made again.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// The task that pulls.
pub(super) struct Puller {
    reader: ConsumerReader,
    /// Messages that the client cannot read, and that are stored as rejects: they stay among the
    /// first unacknowledged ones while an earlier message is.
    rejected: Arc<Mutex<HashSet<u64>>>,
    _renewal: Option<Renewal>,
}

impl Puller {
    pub(super) fn new(plan: &Plan, reader: ConsumerReader) -> Self {
        Self {
            rejected: Arc::default(),
            _renewal: plan.renewal(&reader.client),
            reader,
        }
    }

    /// Pulls until the source ends, and then waits until the messages are acknowledged.
    pub(super) async fn run(mut self, found: Info, mut fixed_files: Files) -> SourceError {
        let outstanding = Arc::clone(&self.reader.outstanding);
        let acknowledging = outstanding.run();
        tokio::pin!(acknowledging);
        let ended = tokio::select! {
            ended = self.pull(found) => ended,
            () = &mut acknowledging => SourceError::Ended,
            () = fixed_files.changed() => SourceError::Unavailable(RENEWED.to_owned()),
        };
        // What is not acknowledged may still be, but this source says nothing of its connection any
        // more.
        drop(self);
        tokio::select! {
            () = outstanding.drained() => {}
            () = acknowledging => {}
        }
        ended
    }

    async fn pull(&mut self, found: Info) -> SourceError {
        let mut info = Ok(found);
        let mut pause = AGAIN.initial;
        let mut connected_anew = true;
        let mut settled_at = Instant::now();
        loop {
            let problem = match info {
                Ok(info) => {
                    self.reader.looked_at(&info);
                    if !self.reader.refused {
                        self.reader.monitor.link.up();
                    }
                    // What the client cannot read breaks the connection, so only after that there
                    // can be such.
                    if std::mem::take(&mut connected_anew) {
                        self.reject_unreadable(&info).await;
                    }
                    let begin = Instant::now();
                    let interruption = self.reader.read(&info).await;
                    if begin.elapsed() > AGAIN.max {
                        pause = AGAIN.initial;
                    }
                    if interruption.may_be_an_end() && !self.reader.refused {
                        settled_at = Instant::now() + SETTLES_WITHIN;
                    }
                    match interruption {
                        Interruption::Dropped => return SourceError::Ended,
                        Interruption::Misconfigured(problem) => {
                            return SourceError::Unavailable(problem);
                        }
                        Interruption::Gone => None,
                        Interruption::Reconnected => {
                            (connected_anew, self.reader.refused) = (true, false);
                            None
                        }
                        // The consumer may be gone or have changed, so that the next are other
                        // requests; but nobody hurries twice.
                        Interruption::Refused(problem) => {
                            std::mem::replace(&mut self.reader.refused, true).then_some(problem)
                        }
                        Interruption::Stopped(problem) => Some(problem),
                    }
                }
                Err(ConsumerError::Unavailable(_)) if self.is_closed().await => {
                    return SourceError::Unavailable(CLOSED.to_owned());
                }
                Err(ConsumerError::Unavailable(problem)) => Some(problem),
                Err(ConsumerError::Misconfigured(problem)) => {
                    return SourceError::Unavailable(problem);
                }
            };
            if let Some(problem) = problem {
                if Instant::now() >= settled_at {
                    self.reader.monitor.link.down(problem);
                }
                tokio::select! {
                    () = sleep(spread(pause, rand::random())) => {}
                    () = self.reader.out.closed() => return SourceError::Ended,
                }
                pause = AGAIN.longer(pause);
            }
            info = match self.ensured().await {
                Some(info) => info,
                None => return SourceError::Ended,
            };
        }
    }

    /// The consumer, which is made where it is not there; none where nobody takes messages any
    /// more.
    async fn ensured(&mut self) -> Option<Result<Info, ConsumerError>> {
        let ensure = async {
            self.connected().await;
            self.reader
                .spec
                .ensure(&self.reader.jetstream, Some(self.reader.known))
                .await
        };
        tokio::select! {
            ensured = ensure => Some(ensured.map(|(info, known, gaps)| {
                self.reader.known = known;
                self.reader.monitor.skipped(gaps);
                info
            })),
            () = self.reader.out.closed() => None,
        }
    }

    /// Returns once there is a connection: until then the client tells why there is none, and
    /// asking for the consumer would tell less.
    async fn connected(&self) {
        let mut connects = self.reader.monitor.connects.subscribe();
        while self.reader.client.connection_state() != State::Connected {
            // The state may change a moment after it is reported.
            let _ = timeout(Duration::from_secs(1), connects.changed()).await;
        }
    }

    /// Hands on, as rejected, the messages over which the client would break off again and again.
    async fn reject_unreadable(&self, info: &Info) {
        for found in poison::find(&self.reader.jetstream, &self.reader.spec, info).await {
            if self.rejected.lock().contains(&found.sequence) {
                continue;
            }
            let acknowledgement =
                self.reader
                    .outstanding
                    .take(found.reply, found.reject.raw.len(), 1);
            let rejected = Arc::clone(&self.rejected);
            let acknowledgement = Acknowledgement::io(async move |verdict| {
                if verdict == Verdict::Stored {
                    rejected.lock().insert(found.sequence);
                }
                acknowledgement.send(verdict).await;
            });
            // Full or closed: it is dropped without a verdict, and found again.
            let _ = self.reader.out.try_send(Message {
                arrivals: SmallVec::new(),
                rejects: vec![found.reject],
                acknowledgement,
                positions: Vec::new(),
            });
        }
    }

    /// True where the client has ended, which it never does by itself but by a mistake of its own.
    async fn is_closed(&self) -> bool {
        let asked = timeout(
            Duration::from_secs(1),
            self.reader.client.subscribe(self.reader.client.new_inbox()),
        )
        .await;
        matches!(asked, Ok(Err(_)))
    }
}
