//! Leasing from the windows: goes on where it stopped once what it lacked has been read.

use std::num::NonZeroU64;
use std::sync::Arc;

use pointsman_schemas::{Name, SubscriptionNumber, Timestamp};

use super::window::Window;
use super::{Carried, Lane, Moment, Queues, ReadyKey};
use crate::disk::record::{Damage, EventRow};
use crate::disk::row::RowKey;
use crate::queue::{DeliveryKey, DeliveryQueues, Filling, Fit, Member, turn};
use crate::{Cut, Due, Gathering, Grant, Leased, Leases, NumberMap, Priority};

/// Events that are read from the disk at once. A busy target frees its slots one by one: where each
/// lease had its one event read, a backlog would be drained no faster than the loader's thread can
/// be woken.
const EVENTS_PER_LOAD: usize = 128;

/// Events read from the disk, or why they cannot be.
pub(in crate::disk) type Found = NumberMap<u64, Result<Arc<EventRow>, Damage>>;

/// A call of `lease` under way.
#[derive(Debug)]
pub(in crate::disk) struct Leasing {
    grants: Vec<Grant>,
    bytes_max: usize,
    now: Moment,
    at: usize,
    /// Of the grant under way.
    taken: usize,
    grant_bytes: usize,
    filling: Filling,
    bytes: usize,
    pub(in crate::disk) leases: Leases,
    /// Deliveries whose event cannot be read, taken out of their queue.
    pub(in crate::disk) damaged: Vec<Damaged>,
}

/// A delivery whose event cannot be read.
#[derive(Debug)]
pub(in crate::disk) struct Damaged {
    pub(in crate::disk) key: RowKey,
    pub(in crate::disk) block: Option<u64>,
    pub(in crate::disk) due: Due,
    pub(in crate::disk) why: Damage,
}

/// What a call of `lease` lacks.
#[derive(Debug)]
pub(in crate::disk) enum Need {
    Nothing,
    /// The rows of a lane behind its window.
    Rows(Lane),
    /// These events.
    Events(Vec<u64>),
}

impl Leasing {
    pub(in crate::disk) fn new(grants: Vec<Grant>, bytes_max: usize, now: Moment) -> Self {
        Self {
            grants,
            bytes_max,
            now,
            at: 0,
            taken: 0,
            grant_bytes: 0,
            filling: Filling::default(),
            bytes: 0,
            leases: Leases::default(),
            damaged: Vec::new(),
        }
    }

    /// Leases as far as memory and `found` reach.
    pub(in crate::disk) fn run(&mut self, queues: &mut Queues, found: &Found) -> Need {
        queues.advance(self.now);
        while let Some(grant) = self.grants.get(self.at).copied() {
            let need = self.lease(&grant, queues, found);
            queues.fill_where_low(grant.subscription.0);
            if let Some(need) = need {
                return need;
            }
            self.at += 1;
            (self.taken, self.grant_bytes, self.filling) = (0, 0, Filling::default());
        }
        Need::Nothing
    }

    /// Leases what a grant allows; returns what is lacking for more.
    fn lease(&mut self, grant: &Grant, queues: &mut Queues, found: &Found) -> Option<Need> {
        let (number, until) = (grant.subscription.0, self.now.after(grant.lease));
        while self.taken < grant.count {
            let (ready_key, sequence) = match queues.next(number) {
                Next::Nothing => return None,
                Next::Unloaded(lane) => return Some(Need::Rows(lane)),
                Next::Delivery(ready_key, sequence) => (ready_key, sequence),
            };
            let cached = queues.cache.get(sequence).cloned().map(Ok);
            let stored = match cached.or_else(|| found.get(&sequence).cloned()) {
                None => return Some(Need::Events(queues.upcoming(number))),
                Some(Err(why)) => {
                    self.damaged.extend(queues.withdraw(number, ready_key, why));
                    continue;
                }
                Some(Ok(stored)) => stored,
            };
            let event_bytes = stored.event.size_bytes();
            let member = Member {
                event_bytes,
                ..queues.member(grant, ready_key)
            };
            let fit = self.filling.fit(grant, member);
            let gathers = match fit {
                Fit::Exceeds => return None,
                Fit::Begins => queues.gathers(grant, grant.count - self.taken),
                Fit::Joins => Gathers::NoLonger,
            };
            match gathers {
                Gathers::NoLonger => {}
                Gathers::Rows(lane) => return Some(Need::Rows(lane)),
                Gathers::Until(until) => {
                    self.leases.gathering.push(Gathering {
                        subscription: grant.subscription,
                        until,
                    });
                    return None;
                }
            }
            if self.bytes + event_bytes > self.bytes_max
                || self.grant_bytes + event_bytes > grant.bytes_max
            {
                self.leases.cut.push(Cut {
                    subscription: grant.subscription,
                    event_bytes,
                });
                return None;
            }
            self.bytes += event_bytes;
            self.grant_bytes += event_bytes;
            self.taken += 1;
            self.filling.add(fit, member);
            let leased = queues.take(number, ready_key, &stored, until);
            self.leases.leased.extend(leased.map(|leased| Leased {
                begins_call: fit == Fit::Begins,
                ..leased
            }));
        }
        None
    }
}

/// Whether a call waits for more deliveries.
enum Gathers {
    NoLonger,
    Until(Timestamp),
    /// There are more behind the window.
    Rows(Lane),
}

enum Next {
    Nothing,
    Unloaded(Lane),
    Delivery(ReadyKey, u64),
}

impl Queues {
    /// What of a queue may be leased next.
    fn next(&mut self, number: u32) -> Next {
        let subscription = SubscriptionNumber(number);
        if !self.machine.is_open(subscription) {
            return Next::Nothing;
        }
        let Some(windows) = self.windows.get(&number) else {
            return Next::Nothing;
        };
        let machine = &mut self.machine;
        let mut next = (None, Next::Nothing);
        for (priority, window) in windows.iter() {
            let lane = Lane {
                subscription: number,
                priority,
            };
            let of_lane = next_of(machine, lane, window);
            let at = match of_lane {
                Next::Nothing => continue,
                Next::Delivery(ready_key, _) => Some(turn(ready_key)),
                // Where its first one stands is not known better.
                Next::Unloaded(_) => window.beyond.map(turn),
            };
            if next.0.is_none() || at < next.0 {
                next = (at, of_lane);
            }
        }
        next.1
    }

    /// What a call has to know of what waits under a key, but for its event; nothing where each
    /// goes alone.
    fn member(&self, grant: &Grant, ready_key: ReadyKey) -> Member {
        let carried = match grant.batching {
            Some(_) => self.machine.carried(grant.subscription, ready_key),
            None => None,
        };
        carried.map_or_else(Member::default, |carried| Member {
            event_bytes: 0,
            is_tried: carried.attempts > 0,
            batch_max: carried.batch_max,
        })
    }

    /// Whether the next call of a grant waits for more deliveries, of which it may have this many.
    fn gathers(&self, grant: &Grant, events: usize) -> Gathers {
        let Some(batching) = &grant.batching else {
            return Gathers::NoLonger;
        };
        let member = |key: DeliveryKey, carried: &Carried| {
            let cached = self.cache.get(key.sequence);
            Member {
                // What is not in memory is not read for this: such a call is found to be full by
                // its count, or goes when its time is over.
                event_bytes: cached.map_or(0, |stored| stored.event.size_bytes()),
                is_tried: carried.attempts > 0,
                batch_max: carried.batch_max,
            }
        };
        let number = grant.subscription;
        let until = self.machine.gathers_until(number, batching, events, member);
        let Some(until) = until else {
            return Gathers::NoLonger;
        };
        let time = self.machine.time();
        let windows = self.windows.get(&number.0).into_iter();
        let mut beyond = windows
            .flat_map(|windows| windows.iter())
            .filter(|(_, window)| window.is_due_beyond(time))
            .map(|(priority, _)| priority)
            .peekable();
        if beyond.peek().is_none() {
            return Gathers::Until(until);
        }
        let has_room =
            |priority: &Priority| self.machine.ready_of(number, *priority) < self.capacity();
        let lane = beyond.find(has_room).map(|priority| Lane {
            subscription: number.0,
            priority,
        });
        lane.map_or(Gathers::NoLonger, Gathers::Rows)
    }

    /// The sequences of the next deliveries whose events are not in memory, as far as the window
    /// knows.
    fn upcoming(&self, number: u32) -> Vec<u64> {
        self.machine
            .due_sequences(SubscriptionNumber(number))
            .filter(|sequence| self.cache.get(*sequence).is_none())
            .take(EVENTS_PER_LOAD)
            .collect()
    }

    /// Takes a delivery out whose event cannot be read.
    fn withdraw(&mut self, number: u32, ready_key: ReadyKey, why: Damage) -> Option<Damaged> {
        let withdrawn = self
            .machine
            .withdraw(SubscriptionNumber(number), ready_key)?;
        let (key, carried) = withdrawn;
        Some(Damaged {
            key: key.into(),
            block: carried.block.map(NonZeroU64::get),
            due: ready_key.due,
            why,
        })
    }

    fn take(
        &mut self,
        number: u32,
        ready_key: ReadyKey,
        stored: &EventRow,
        until: tokio::time::Instant,
    ) -> Option<Leased> {
        let (subscription, origin) = (SubscriptionNumber(number), stored.origin.clone());
        let (token, lease) = self
            .machine
            .take(subscription, ready_key, Some(until), origin)?;
        Some(Leased {
            token,
            id: self.epochs.id(number, lease.key.sequence, lease.key.run),
            event: Arc::clone(&stored.event),
            tenant: stored.tenant.clone(),
            replay: lease.carried.replay,
            origin: stored.origin.clone(),
            attempts: lease.carried.attempts,
            failures: lease.carried.failures,
            since: lease.carried.since,
            begins_call: true,
            fence: None,
        })
    }
}

/// What of a lane may be leased next.
fn next_of(machine: &mut DeliveryQueues<Carried, Name>, lane: Lane, window: &Window) -> Next {
    let subscription = SubscriptionNumber(lane.subscription);
    match (machine.next_of(subscription, lane.priority), window.beyond) {
        (Some((ready_key, sequence)), None) => Next::Delivery(ready_key, sequence),
        (Some((ready_key, sequence)), Some(beyond)) if ready_key < beyond => {
            Next::Delivery(ready_key, sequence)
        }
        // One that came back or was freed, past rows that have not been read.
        (Some(_), Some(_)) => Next::Unloaded(lane),
        (None, Some(_))
            if window.is_due_beyond(machine.time())
                || machine.ready_of(subscription, lane.priority) == 0 =>
        {
            Next::Unloaded(lane)
        }
        (None, _) => Next::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use pointsman_schemas::SubscriptionNumber;

    use super::*;
    use crate::disk::queues::Effect;
    use crate::disk::row::PendingRow;

    #[test]
    fn events_are_read_ahead_of_a_target_that_frees_one_slot_at_a_time() {
        let now = Moment {
            time: Timestamp(0),
            instant: Instant::now(),
        };
        let mut queues = Queues::new(0, Arc::default());
        queues.add(1, true, false);
        let all: Vec<u64> = (1..=200).collect();
        queues.apply(
            all.chunks(50)
                .map(|chunk| Effect::Insert(PendingRow::block(1, chunk, now.time))),
            now.time,
        );
        let grant = Grant {
            subscription: SubscriptionNumber(1),
            count: 1,
            lease: Duration::from_secs(60),
            bytes_max: usize::MAX,
            batching: None,
        };
        match Leasing::new(vec![grant], usize::MAX, now).run(&mut queues, &Found::default()) {
            Need::Events(sequences) => assert_eq!(sequences, all[..EVENTS_PER_LOAD]),
            need => panic!("{need:?}"),
        }
    }
}
