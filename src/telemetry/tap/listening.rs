//! One who listens, as he sees it himself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_rules::{Document, Scratch};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::{Listener, Passing, Tap};

/// The time in which a rate is kept, where it allows for one in each.
const WINDOW: Duration = Duration::from_millis(100);

/// What passes in this time is taken together: each wake-up costs as much as several of them.
const GATHERED: Duration = Duration::from_millis(20);

/// How many are held against a filter in a window, at most: together one to two hundredths of what
/// two busy cores do.
const FILTERED_PER_WINDOW: u32 = 300;

/// How often is told what was left out.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How many pass to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    window: Duration,
    /// How many he is handed in a window.
    pub(super) looked_at: u32,
    /// How many of these are shown.
    shown: u32,
}

impl Pace {
    /// Of so many in a second; where a filter has to be held against them more are looked at.
    pub(super) fn new(rate: u32, is_filtered: bool) -> Self {
        const WINDOWS_PER_SECOND: u32 = 10;
        let rate = rate.max(1);
        let (window, shown) = match rate / WINDOWS_PER_SECOND {
            0 => (Duration::from_secs(1) / rate, 1),
            shown => (WINDOW, shown),
        };
        let looked_at = match is_filtered {
            true => shown.max(FILTERED_PER_WINDOW),
            false => shown,
        };
        Self {
            window,
            looked_at,
            shown,
        }
    }
}

/// What somebody hears.
#[derive(Debug)]
pub enum Heard {
    Passing(Passing),
    /// Since this was said last so many were left out.
    LeftOut(u64),
}

/// Hears what passes. It ends with being dropped.
pub struct Listening {
    tap: Arc<Tap>,
    listener: Arc<Listener>,
    queue: Queue,
    pace: Pace,
    windows: Interval,
    /// How many more are shown in this window.
    still_shown: u32,
    told_at: Instant,
    scratch: Scratch,
}

/// What lies there for him.
struct Queue {
    passing: mpsc::Receiver<Passing>,
    /// When it is looked at again, once it is empty.
    gathered_at: Instant,
}

impl Queue {
    /// What passes next. Safe to cancel.
    async fn next(&mut self) -> Option<Passing> {
        if let Ok(passing) = self.passing.try_recv() {
            return Some(passing);
        }
        sleep_until(self.gathered_at).await;
        let passing = self.passing.recv().await;
        self.gathered_at = Instant::now() + GATHERED;
        passing
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.tap.leave(&self.listener);
    }
}

impl Listening {
    pub(super) fn new(
        tap: Arc<Tap>,
        listener: Arc<Listener>,
        passing: mpsc::Receiver<Passing>,
        pace: Pace,
    ) -> Self {
        let now = Instant::now();
        let mut windows = interval_at(now + pace.window, pace.window);
        windows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            tap,
            listener,
            queue: Queue {
                passing,
                gathered_at: now,
            },
            pace,
            windows,
            still_shown: pace.shown,
            told_at: now,
            scratch: Scratch::default(),
        }
    }

    /// What is heard next; none once the tap is closed. Safe to cancel.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            tokio::select! {
                biased;
                () = self.tap.closed.cancelled() => return None,
                now = self.windows.tick() => {
                    self.listener.room.store(self.pace.looked_at, Ordering::Relaxed);
                    self.still_shown = self.pace.shown;
                    if let Some(left_out) = self.left_out(now) {
                        return Some(Heard::LeftOut(left_out));
                    }
                }
                Some(passing) = self.queue.next() => {
                    let size = passing.event().size_bytes();
                    self.listener.queued_bytes.fetch_sub(size, Ordering::Relaxed);
                    if self.shows(&passing) {
                        return Some(Heard::Passing(passing));
                    }
                }
            }
        }
    }

    /// How many were left out, where it is time to say so and there are any.
    fn left_out(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.told_at) < TELL_EVERY {
            return None;
        }
        self.told_at = now;
        Some(self.listener.left_out.swap(0, Ordering::Relaxed)).filter(|count| *count > 0)
    }

    /// Whether it is wanted, and has room in this window.
    fn shows(&mut self, passing: &Passing) -> bool {
        let holds = self.listener.filter.event.as_ref().is_none_or(|filter| {
            filter.holds(&Document::event(passing.event()), &mut self.scratch)
        });
        if holds && self.still_shown == 0 {
            self.listener.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.still_shown -= u32::from(holds);
        holds
    }
}
