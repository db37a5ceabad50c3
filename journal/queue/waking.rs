//! Who is woken because something may be leased, and when.

use std::time::Duration;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::{DeliveryQueues, Moment};

/// A clock may be set while somebody waits for it: who waits asks it again at least this often.
const CLOCK_TRUSTED_FOR: Duration = Duration::from_secs(60);

/// What happens next by itself: the earliest time at which something falls due, and the earliest
/// end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    timer: Option<Timestamp>,
    deadline: Option<Instant>,
}

impl Alarm {
    /// Whether anything of this comes before the same thing of another one.
    fn is_sooner_than(&self, other: &Self) -> bool {
        fn is_sooner<A: Ord>(one: Option<A>, other: Option<A>) -> bool {
            one.is_some_and(|one| other.is_none_or(|other| one < other))
        }
        is_sooner(self.timer, other.timer) || is_sooner(self.deadline, other.deadline)
    }
}

impl<T: Clone, L> DeliveryQueues<T, L> {
    /// Brings the queues up to a moment: leases run out and deliveries fall due. Time never goes
    /// back here: a moment may have been read before another one and arrive after it.
    pub fn advance(&mut self, now: Moment) {
        self.advance_time(now.time);
        self.expire(now.instant);
        while let Some((due, subscription)) = self.timers.first().copied()
            && due <= self.time
        {
            self.timers.pop_first();
            if let Some(queue) = self.queues.get_mut(&subscription) {
                queue.timer = None;
            }
            self.announce(subscription);
        }
    }

    /// Sets the time, so that what is inserted next is ready at once where it is due.
    pub fn advance_time(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
    }

    /// Takes the subscriptions that may have something to lease which they had not before.
    pub fn take_ready(&mut self) -> Option<Vec<SubscriptionNumber>> {
        let ready = std::mem::take(&mut self.newly_ready);
        (!ready.is_empty()).then(|| ready.into_iter().collect())
    }

    /// Whether whoever [sleeps](DeliveryQueues::sleep) is to be woken: something became ready, or
    /// something falls due or runs out before what the sleep was to end for.
    #[must_use]
    pub fn should_wake(&self) -> bool {
        let is_late = |sleeper: &Alarm| self.alarm().is_sooner_than(sleeper);
        !self.newly_ready.is_empty() || self.sleeper.as_ref().is_some_and(is_late)
    }

    /// Returns how long the caller may sleep unless [`DeliveryQueues::should_wake`] says otherwise
    /// before.
    pub fn sleep(&mut self, now: Moment) -> Duration {
        let alarm = self.alarm();
        self.sleeper = Some(alarm);
        let timer = alarm.timer.map(|due| due.since(now.time));
        let deadline = alarm
            .deadline
            .map(|until| until.saturating_duration_since(now.instant));
        timer
            .into_iter()
            .chain(deadline)
            .fold(CLOCK_TRUSTED_FOR, Duration::min)
            .max(Duration::from_micros(1))
    }

    fn alarm(&self) -> Alarm {
        Alarm {
            timer: self.timers.first().map(|(due, _)| *due),
            deadline: self.deadlines.first_key_value().map(|(until, _)| *until),
        }
    }

    /// Tells of a subscription where something of it may be leased, and sees to what falls due
    /// next.
    pub(super) fn announce(&mut self, subscription: SubscriptionNumber) {
        let Some(queue) = self.queues.get(&subscription) else {
            return;
        };
        let next_due = queue.next_due(self.time);
        if queue.is_open && queue.due(self.time).next().is_some() {
            self.newly_ready.insert(subscription);
        }
        if let Some(due) = next_due {
            self.set_timer(subscription, due);
        }
    }

    pub(super) fn set_timer(&mut self, subscription: SubscriptionNumber, due: Timestamp) {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return;
        };
        if queue.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = queue.timer.replace(due) {
                self.timers.remove(&(timer, subscription));
            }
            self.timers.insert((due, subscription));
        }
    }
}
