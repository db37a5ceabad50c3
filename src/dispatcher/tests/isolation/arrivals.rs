//! A store in virtual time that costs the same however many subscriptions there are, and knows how
//! long each delivery has waited.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_journal::*;
use pointsman_schemas::{Clock, Event, SubscriptionNumber, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::bench::leased;

/// What a lease call and a settle call take, and what each delivery in them adds.
const LEASE: (Duration, Duration) = (Duration::from_micros(50), Duration::from_micros(2));
const SETTLE: (Duration, Duration) = (Duration::from_micros(500), Duration::from_micros(5));

/// A delivery that waits.
#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    event: Arc<Event>,
    arrived: Instant,
    since: Timestamp,
    attempts: u32,
    failures: u32,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<SubscriptionNumber, VecDeque<Waiting>>,
    later: BinaryHeap<Reverse<(Timestamp, u64)>>,
    /// Those of `later`.
    retries: HashMap<u64, (SubscriptionNumber, Waiting)>,
    leased: HashMap<u64, (SubscriptionNumber, Waiting)>,
    ready: BTreeSet<SubscriptionNumber>,
    tokens: u64,
    arrived: u64,
    waits: HashMap<SubscriptionNumber, Vec<Duration>>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Arrivals {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    wake: Notify,
}

impl Arrivals {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Deliveries of this event for a subscription arrive now.
    pub(super) fn arrive(&self, number: SubscriptionNumber, event: &Arc<Event>, count: usize) {
        let since = self.clock.now();
        let mut state = self.state.lock();
        for _ in 0..count {
            state.arrived += 1;
            let waiting = Waiting {
                number: state.arrived,
                event: Arc::clone(event),
                arrived: Instant::now(),
                since,
                attempts: 0,
                failures: 0,
            };
            state.queues.entry(number).or_default().push_back(waiting);
        }
        state.ready.insert(number);
        self.wake.notify_one();
    }

    /// How long the deliveries of a subscription took from their arrival until they were settled as
    /// delivered.
    pub(super) fn waits(&self, number: SubscriptionNumber) -> Vec<Duration> {
        let state = self.state.lock();
        state.waits.get(&number).cloned().unwrap_or_default()
    }

    pub(crate) async fn lease(&self, grants: &[Grant]) -> Leases {
        let mut leases = Leases::default();
        {
            let mut state = self.state.lock();
            for grant in grants {
                for _ in 0..grant.count {
                    let queue = state.queues.entry(grant.subscription).or_default();
                    let Some(waiting) = queue.pop_front() else {
                        break;
                    };
                    state.tokens += 1;
                    let token = state.tokens;
                    let mut one = leased(token, grant.subscription, &waiting.event);
                    one.id.sequence = pointsman_schemas::Sequence(waiting.number);
                    one.attempts = waiting.attempts;
                    one.failures = waiting.failures;
                    one.since = waiting.since;
                    leases.leased.push(one);
                    state.leased.insert(token, (grant.subscription, waiting));
                }
            }
        }
        let count = u32::try_from(leases.leased.len()).unwrap();
        tokio::time::sleep(LEASE.0 + LEASE.1 * count).await;
        leases
    }

    pub(crate) async fn settle(&self, settlements: Vec<Settlement>) -> Vec<SettleAnswer> {
        let count = settlements.len();
        tokio::time::sleep(SETTLE.0 + SETTLE.1 * u32::try_from(count).unwrap()).await;
        let mut state = self.state.lock();
        for Settlement { token, ending, .. } in settlements {
            let (number, mut waiting) = state.leased.remove(&token.number()).unwrap();
            match ending {
                Ending::Delivered => {
                    let waited = waiting.arrived.elapsed();
                    state.waits.entry(number).or_default().push(waited);
                }
                Ending::Retry { at, failure, .. } => {
                    waiting.attempts += 1;
                    waiting.failures += u32::from(failure);
                    state.later.push(Reverse((at, waiting.number)));
                    state.retries.insert(waiting.number, (number, waiting));
                }
                Ending::Dead { .. } | Ending::Stopped => {}
                Ending::Released => {
                    state.queues.entry(number).or_default().push_front(waiting);
                    state.ready.insert(number);
                }
            }
        }
        self.wake.notify_one();
        vec![SettleAnswer::Settled; count]
    }

    pub(crate) async fn due(&self) -> Vec<SubscriptionNumber> {
        loop {
            let next = {
                let now = self.clock.now();
                let mut state = self.state.lock();
                while let Some(Reverse((at, number))) = state.later.peek().copied()
                    && at <= now
                {
                    state.later.pop();
                    let (subscription, waiting) = state.retries.remove(&number).unwrap();
                    let queue = state.queues.entry(subscription).or_default();
                    queue.push_back(waiting);
                    state.ready.insert(subscription);
                }
                if !state.ready.is_empty() {
                    return std::mem::take(&mut state.ready).into_iter().collect();
                }
                state.later.peek().map(|Reverse((at, _))| at.since(now))
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(next.unwrap_or(Duration::from_secs(3_600))) => {}
            }
        }
    }
}
