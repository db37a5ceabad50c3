//! Finds out whether the broker at the other end is still there.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::packet::Outgoing;
use super::wire::{Broken, Wire};

/// Pings that go out by the clock, and the answer that is owed for each.
pub(super) struct Pulse {
    every: Duration,
    next: Instant,
    /// Whether the broker owes a sign of life: it was asked for one, and listened to since.
    is_owed: bool,
}

impl Pulse {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            next: Instant::now() + every,
            is_owed: false,
        }
    }

    /// Nobody listens at present: a broker that is not heard may be there.
    pub(super) fn forgive(&mut self) {
        self.is_owed = false;
    }

    /// Waits until it is time for a ping.
    pub(super) async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// Sends one.
    ///
    /// # Errors
    /// Nothing has come since the one before, in words.
    pub(super) fn beat(&mut self, wire: &mut Wire) -> Result<(), String> {
        if !wire.has_heard() && self.is_owed {
            return Err("the MQTT broker does not answer".to_owned());
        }
        self.is_owed = true;
        self.next = Instant::now() + self.every;
        wire.put(Outgoing::Ping)
            .map_err(|error| Broken::from(error).words())
    }
}
