//! Lines for the log that would be too many one by one: what happens to deliveries, gathered for
//! each subscription.
//!
//! The first is told a moment after it has happened, with what came with it; what follows at most
//! every ten seconds, and nothing is left untold for longer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_connectors::LOG_EVERY;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long the first waits for those that come with it.
const GATHERED_FOR: Duration = Duration::from_millis(200);

/// Somebody who has something to say and says it when asked.
pub trait Tell: Send + Sync {
    /// Writes what has gathered.
    fn tell(&self);
}

type Turns = VecDeque<(Instant, Arc<dyn Tell>)>;

/// Who has something to say, and when it is their turn.
#[derive(Default)]
pub struct Digest {
    /// First those that gather, then those that have spoken lately: within each, the next first.
    waiting: Mutex<[Turns; 2]>,
    changed: Notify,
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digest").finish_non_exhaustive()
    }
}

impl Digest {
    /// Lets one speak that has had nothing to say until now. Gives when that will be.
    pub fn announce(&self, who: Arc<dyn Tell>, spoke_at: Option<Instant>) -> Instant {
        let soon = Instant::now() + GATHERED_FOR;
        let later = spoke_at.map(|at| at + LOG_EVERY).filter(|at| *at > soon);
        let at = later.unwrap_or(soon);
        let [first, again] = &mut *self.waiting.lock();
        // Each of the two grows by time alone, or nearly so: whoever spoke earlier has its turn
        // earlier.
        let queue = if later.is_some() { again } else { first };
        let place = queue
            .iter()
            .rposition(|(earlier, _)| *earlier <= at)
            .map_or(0, |place| place + 1);
        queue.insert(place, (at, who));
        self.changed.notify_one();
        at
    }

    /// Lets them speak until told to stop, and then all that have something left to say.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let next = self
                .waiting
                .lock()
                .iter()
                .filter_map(|queue| queue.front().map(|(at, _)| *at))
                .min();
            let turn = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.changed.notified() => {}
                () = turn => self.speak(Some(Instant::now())),
            }
        }
        self.speak(None);
    }

    fn speak(&self, until: Option<Instant>) {
        let mut due = Vec::new();
        for queue in self.waiting.lock().iter_mut() {
            let count = queue
                .iter()
                .take_while(|(at, _)| until.is_none_or(|until| *at <= until))
                .count();
            due.extend(queue.drain(..count));
        }
        for (_, who) in due {
            who.tell();
        }
    }
}
