//! Keeps a connection alive, and finds out whether the broker at the other end still is (part 2,
//! section 2.4.5).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::client::silence_max;
use super::wire::Wire;

/// Frames that go out by the clock, and when something last came.
pub(super) struct Pulse {
    every: Duration,
    next: Instant,
    heard: Instant,
}

impl Pulse {
    pub(super) fn new(every: Duration) -> Self {
        let now = Instant::now();
        Self {
            every,
            next: now + every,
            heard: now,
        }
    }

    /// Nobody listens at present: a broker that is not heard may be there.
    pub(super) fn forgive(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits until it is time to say something.
    pub(super) async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// Says that we live.
    ///
    /// # Errors
    /// The broker has said nothing for too long, in words.
    pub(super) fn beat(&mut self, wire: &mut Wire) -> Result<(), String> {
        let now = Instant::now();
        if wire.has_heard() {
            self.heard = now;
        }
        if now - self.heard >= silence_max() {
            return Err("the AMQP broker does not answer".to_owned());
        }
        wire.put_nothing();
        self.next = now + self.every;
        Ok(())
    }
}
