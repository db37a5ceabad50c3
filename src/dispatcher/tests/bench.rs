//! A dispatcher over a journal in memory and mock targets, in paused time.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_connectors::{Attempt, AttemptError};
use pointsman_schemas::{
    Backoff, Class, Clock, Cursor, DeliveryId, Epoch, Event, JournalId, Name, Outcome, PositionRow,
    Rate, Sequence, SubscriptionNumber, Timestamp,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

use super::isolation::arrivals::Arrivals;
use crate::dispatcher::policy::Policy;
use crate::dispatcher::testing::{identity, policy, route};
use crate::dispatcher::{Dispatcher, Handle, Options, Plan, Route, Summary, Target};
use crate::pipes::Pipes;
use crate::router::Router;
use crate::router::testing::matcher;
use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_journal::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// One call of a mock target.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) at: Instant,
    pub(super) event: Arc<Event>,
    pub(super) rule: Name,
    pub(super) attempt: u32,
    /// Calls under way with it.
    pub(super) under_way: usize,
    pub(super) class: Class,
}

type Behaviour = dyn Fn(&Call) -> (Duration, Outcome) + Send + Sync;

/// A target that notes its calls and answers as it is told.
#[derive(Clone)]
pub(super) struct Mock {
    pub(super) calls: Arc<Mutex<Vec<Call>>>,
    behaviour: Arc<Mutex<Arc<Behaviour>>>,
    pub(super) under_way: Arc<AtomicUsize>,
}

struct RunningAttempt(Arc<AtomicUsize>);

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mock {
    pub(super) fn new(
        behaviour: impl Fn(&Call) -> (Duration, Outcome) + Send + Sync + 'static,
    ) -> Self {
        Self {
            calls: Arc::default(),
            behaviour: Arc::new(Mutex::new(Arc::new(behaviour))),
            under_way: Arc::default(),
        }
    }

    /// Takes everything, after so long.
    pub(super) fn taking(took: Duration) -> Self {
        Self::new(move |_| (took, Outcome::delivered()))
    }

    /// Answers each event's attempts with these classes, one after the other, the last for ever.
    pub(super) fn classes(classes: &'static [Class]) -> Self {
        Self::new(move |call| {
            let index = (call.attempt as usize - 1).min(classes.len() - 1);
            (MS, Outcome::new(classes[index], "as told"))
        })
    }

    pub(super) fn becomes(
        &self,
        behaviour: impl Fn(&Call) -> (Duration, Outcome) + Send + Sync + 'static,
    ) {
        *self.behaviour.lock() = Arc::new(behaviour);
    }

    pub(super) fn target(&self, name: &str) -> Target {
        let mock = self.clone();
        let service = tower::service_fn(move |attempt: Attempt| mock.clone().answer(attempt));
        Target {
            tenant: Name::default_tenant(),
            name: Name::new(name).unwrap(),
            service: BoxCloneSyncService::new(service),
            concurrency_max: NonZeroUsize::new(64).unwrap(),
            rate: None,
            fingerprint: 0,
        }
    }

    async fn answer(self, mut attempt: Attempt) -> Result<Vec<Outcome>, AttemptError> {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let _under_way = RunningAttempt(Arc::clone(&self.under_way));
        let delivery = attempt.deliveries.pop().unwrap();
        let (at, event, rule) = (Instant::now(), delivery.event, attempt.rule);
        let mut call = Call {
            at,
            event,
            rule,
            attempt: delivery.attempt,
            under_way,
            class: Class::Delivered,
        };
        let behaviour = Arc::clone(&self.behaviour.lock());
        let (took, outcome) = behaviour(&call);
        call.class = outcome.class;
        self.calls.lock().push(call);
        tokio::time::sleep(took).await;
        Ok(vec![outcome])
    }

    pub(super) fn ids(&self, class: Class) -> Vec<String> {
        self.calls
            .lock()
            .iter()
            .filter(|call| call.class == class)
            .map(|call| call.event.id().to_string())
            .collect()
    }

    pub(super) fn count(&self) -> usize {
        self.calls.lock().len()
    }
}

/// A journal that fails as it is told, and counts what it is asked.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) inner: Arc<MemoryJournal>,
    /// Settles what it is given and answers that it failed.
    pub(super) lies: AtomicBool,
    /// Has no room for retries.
    pub(super) is_short: AtomicBool,
    pub(super) settles: AtomicUsize,
    pub(super) leases: AtomicUsize,
    pub(super) grants: AtomicUsize,
    /// The most deliveries that have been leased and not settled.
    pub(super) in_flight: AtomicUsize,
    pub(super) in_flight_most: AtomicUsize,
    /// Where set: leases of this event without end, and so many settlements, and neither costs
    /// anything.
    pub(super) endless: Option<(Arc<Event>, Arc<tokio::sync::Semaphore>)>,
    /// Where set: everything that is leased and settled is there.
    pub(super) arrivals: Option<Arc<Arrivals>>,
    /// The fences of what is leased of subscriptions; once one is cancelled nothing more is.
    pub(super) fences: Mutex<HashMap<SubscriptionNumber, CancellationToken>>,
}

#[async_trait]
impl Journal for Watched {
    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }
    fn id(&self) -> JournalId {
        self.inner.id()
    }
    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        self.inner.append(append).await
    }
    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        if let Some(arrivals) = &self.arrivals {
            return Ok(arrivals.lease(grants).await);
        }
        if let Some((event, _)) = &self.endless {
            let leased = grants
                .iter()
                .flat_map(|grant| (0..grant.count).map(|_| self.leased(grant.subscription, event)))
                .collect();
            return Ok(Leases {
                leased,
                cut: Vec::new(),
                gathering: Vec::new(),
            });
        }
        self.leases.fetch_add(1, Ordering::Relaxed);
        self.grants.fetch_add(grants.len(), Ordering::Relaxed);
        let fence = |number| self.fences.lock().get(&number).cloned();
        let mut open = grants.to_vec();
        open.retain(|grant| fence(grant.subscription).is_none_or(|own| !own.is_cancelled()));
        let mut leases = self.inner.lease(&open, bytes_max).await?;
        for leased in &mut leases.leased {
            leased.fence = fence(leased.id.subscription);
        }
        let count = leases.leased.len();
        let in_flight = self.in_flight.fetch_add(count, Ordering::Relaxed) + count;
        self.in_flight_most.fetch_max(in_flight, Ordering::Relaxed);
        // A store takes a while, in which other things happen.
        tokio::time::sleep(MS / 10).await;
        Ok(leases)
    }
    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        if let Some(arrivals) = &self.arrivals {
            return Ok(arrivals.settle(settlements).await);
        }
        if let Some((_, settled)) = &self.endless {
            settled.add_permits(settlements.len());
            return Ok(vec![SettleAnswer::Settled; settlements.len()]);
        }
        self.settles.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(MS / 2).await;
        let is_short = self.is_short.load(Ordering::Relaxed);
        let mut answers = Vec::new();
        for settlement in settlements {
            if is_short && matches!(settlement.ending, Ending::Retry { .. }) {
                answers.push(SettleAnswer::NoRoom);
            } else {
                answers.extend(self.inner.settle(vec![settlement]).await?);
            }
        }
        let is_settled = |answer: &&SettleAnswer| **answer == SettleAnswer::Settled;
        self.in_flight
            .fetch_sub(answers.iter().filter(is_settled).count(), Ordering::Relaxed);
        if self.lies.load(Ordering::Relaxed) {
            Err(JournalError::Io("a lie".to_owned()))
        } else {
            Ok(answers)
        }
    }
    async fn due(&self) -> Vec<SubscriptionNumber> {
        match &self.arrivals {
            Some(arrivals) => arrivals.due().await,
            None => self.inner.due().await,
        }
    }
    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.inner.subscribe(wanted).await
    }
    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.inner.set_quotas(quotas).await
    }
    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.inner.set_activity(subscription, activity).await
    }
    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.inner.cursor(tenant, source).await
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.inner.positions(tenant, source, after, limit).await
    }
    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.inner.cancel(deliveries).await
    }
    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.inner.skip(deliveries).await
    }
    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.inner.suspend(deliveries).await
    }
    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.inner.resume(deliveries).await
    }
    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.inner.retry(deliveries).await
    }
    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.inner.cancel_all(subscription).await
    }
    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.inner.move_all(from, to).await
    }
    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.inner.redrive(selection).await
    }
    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        self.inner.edit_dead(id, event).await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.inner.redrive_some(redrive).await
    }
    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.inner.begin_replay(replay).await
    }
    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.inner.replay(step).await
    }
    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        self.inner.end_replay(id, state, message).await
    }
    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.inner.purge(selection).await
    }
    fn reader(&self) -> Arc<dyn Reader> {
        self.inner.reader()
    }
    fn trouble(&self) -> Option<JournalError> {
        self.inner.trouble()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

impl Watched {
    fn leased(&self, subscription: SubscriptionNumber, event: &Arc<Event>) -> Leased {
        let number = self.leases.fetch_add(1, Ordering::Relaxed) as u64;
        leased(number, subscription, event)
    }
}

/// A lease with this number, of the first attempt at an event.
pub(super) fn leased(number: u64, subscription: SubscriptionNumber, event: &Arc<Event>) -> Leased {
    Leased {
        token: LeaseToken::new(LeaseOwner::Memory, number),
        id: DeliveryId {
            epoch: Epoch(1),
            sequence: Sequence(number),
            subscription,
            run: 0,
        },
        event: Arc::clone(event),
        tenant: Name::default_tenant(),
        replay: None,
        origin: Name::ingress(),
        attempts: 0,
        failures: 0,
        since: Timestamp::now(),
        begins_call: true,
        fence: None,
    }
}

pub(super) struct Bench {
    pub(super) journal: Arc<Watched>,
    pub(super) clock: Arc<RuntimeClock>,
    pub(super) options: Options,
    /// The rules that replies meet: none until a test puts some in force.
    pub(super) router: Arc<ArcSwap<Router>>,
    /// Whether other nodes use its targets too.
    pub(super) is_one_of_several: bool,
    next: AtomicUsize,
}

pub(super) struct Running {
    pub(super) handle: Handle,
    pub(super) stop: CancellationToken,
    task: JoinHandle<Summary>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(None)
    }

    pub(super) fn with(endless: Option<(Arc<Event>, Arc<tokio::sync::Semaphore>)>) -> Self {
        let clock = Arc::new(RuntimeClock::new(Timestamp(1_700_000_000_000_000)));
        let inner = MemoryJournal::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            MemoryOptions::default(),
        );
        let zero = AtomicUsize::default;
        let (settles, leases, grants, in_flight, in_flight_most) =
            (zero(), zero(), zero(), zero(), zero());
        let journal = Watched {
            inner,
            lies: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            settles,
            leases,
            grants,
            in_flight,
            in_flight_most,
            endless,
            arrivals: None,
            fences: Mutex::default(),
        };
        let options = Options {
            seed: 1,
            ..Options::default()
        };
        Self {
            journal: Arc::new(journal),
            clock,
            options,
            router: Arc::default(),
            is_one_of_several: false,
            next: zero(),
        }
    }

    /// Attaches exactly these rules.
    pub(super) async fn subscribe(&self, rules: &[&str]) -> Vec<SubscriptionNumber> {
        let wanted = rules.iter().map(|rule| Subscription {
            identity: identity(rule),
            renamed_from: None,
            backlog: None,
            start: None,
        });
        self.journal.subscribe(wanted.collect()).await.unwrap()
    }

    pub(super) fn start(&self, plan: Plan) -> Running {
        self.start_with(plan, SECOND * 60)
    }

    pub(super) fn start_with(&self, plan: Plan, grace: Duration) -> Running {
        self.start_hastened(plan, grace, CancellationToken::new())
    }

    pub(super) fn start_hastened(
        &self,
        plan: Plan,
        grace: Duration,
        hasten: CancellationToken,
    ) -> Running {
        let journal = Arc::clone(&self.journal) as Arc<dyn Journal>;
        let (dispatcher, handle) = Dispatcher::new(
            Arc::clone(&journal),
            Pipes::new(Arc::clone(&journal), journal.clock()),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            matcher(&self.router),
            plan,
            self.options,
        );
        let dispatcher = match self.is_one_of_several {
            true => dispatcher.sharing_limits(),
            false => dispatcher,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(dispatcher.hastened_by(hasten).run(stop.clone(), grace));
        Running { handle, stop, task }
    }

    /// Appends so many events for a subscription, with ids that count on.
    pub(super) async fn append(&self, subscription: SubscriptionNumber, count: usize) {
        self.append_keyed(subscription, count, |_| None).await;
    }

    /// A bench whose deliveries arrive as [`Arrivals`] are told.
    pub(super) fn of_arrivals(seed: u64) -> (Self, Arc<Arrivals>) {
        let mut bench = Self::new();
        bench.options.seed = seed;
        let arrivals = Arrivals::new(bench.journal.inner.clock());
        if let Some(journal) = Arc::get_mut(&mut bench.journal) {
            journal.arrivals = Some(Arc::clone(&arrivals));
        }
        (bench, arrivals)
    }

    pub(super) async fn append_keyed(
        &self,
        subscription: SubscriptionNumber,
        count: usize,
        key: impl Fn(usize) -> Option<u64>,
    ) {
        let entries = (0..count).map(|_| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let event = Event::builder(number.to_string(), "/s", "t")
                .build()
                .unwrap();
            self.entry(
                event,
                NewDelivery {
                    order_key: key(number),
                    ..NewDelivery::now(subscription)
                },
            )
        });
        self.append_entries(entries.collect()).await;
    }

    /// Appends an event with so many bytes of data.
    pub(super) async fn append_sized(
        &self,
        subscription: SubscriptionNumber,
        id: &str,
        bytes: usize,
    ) {
        let data = pointsman_schemas::Data::binary(vec![0; bytes].into());
        let event = Event::builder(id, "/s", "t").data(data).build().unwrap();
        self.append_entries(vec![self.entry(event, NewDelivery::now(subscription))])
            .await;
    }

    pub(super) fn entry(&self, event: Event, delivery: NewDelivery) -> Entry {
        Entry {
            event: Arc::new(event),
            deliveries: [delivery].into_iter().collect(),
            deduplicate: None,
            dead: None,
            terms: None,
        }
    }

    pub(super) async fn append_entries(&self, entries: Vec<Entry>) {
        let (tenant, origin) = (Name::default_tenant(), Name::ingress());
        self.journal
            .append(Append {
                tenant,
                origin,
                entries,
                rejects: Vec::new(),
                cursor: None,
                positions: Vec::new(),
            })
            .await
            .unwrap();
    }

    /// Puts a new fence around what is leased of a subscription from now on.
    pub(super) fn fence(&self, subscription: SubscriptionNumber) -> CancellationToken {
        let fence = CancellationToken::new();
        let mut fences = self.journal.fences.lock();
        fences.insert(subscription, fence.clone());
        fence
    }

    pub(super) async fn status(&self, subscription: SubscriptionNumber) -> SubscriptionStatus {
        let statuses = self.journal.reader().subscriptions().await.unwrap();
        statuses
            .into_iter()
            .find(|status| status.number == subscription)
            .unwrap()
    }

    pub(super) async fn counts(&self, subscription: SubscriptionNumber) -> Counts {
        self.status(subscription).await.counts
    }

    pub(super) async fn dead(&self) -> Vec<DeadLetter> {
        self.journal
            .reader()
            .dead(&DeadSelection::default(), None, usize::MAX)
            .await
            .unwrap()
    }

    /// Lets time pass until nothing is pending; fails after a day of it.
    pub(super) async fn drained(&self) {
        for _ in 0..24 * 3_600 {
            if self
                .journal
                .reader()
                .subscriptions()
                .await
                .unwrap()
                .iter()
                .all(|status| status.counts.pending == 0)
            {
                return;
            }
            tokio::time::sleep(SECOND).await;
        }
        panic!(
            "still pending: {:?}",
            self.journal.reader().subscriptions().await.unwrap()
        );
    }
}

impl Running {
    /// Drops the dispatcher as it is.
    pub(super) async fn abort(self) {
        self.task.abort();
        drop(self.task.await);
    }

    pub(super) async fn stop(self) -> Summary {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

pub(super) fn plan(
    targets: Vec<Target>,
    routes: impl IntoIterator<Item = (SubscriptionNumber, Route)>,
) -> Plan {
    Plan {
        targets,
        routes: routes
            .into_iter()
            .map(|(number, route)| (number, Arc::new(route)))
            .collect(),
        quotas: Vec::new(),
    }
}

/// One rule to one mock target.
pub(super) fn one(mock: &Mock, number: SubscriptionNumber) -> Plan {
    plan(vec![mock.target("t")], [(number, route("r", 0, policy()))])
}

pub(super) fn attempts(attempts: u32) -> Policy {
    Policy::new(
        SECOND * 30,
        HOUR * 24,
        attempts,
        Backoff::new(SECOND, SECOND * 300),
    )
    .unwrap()
}

pub(super) fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().unwrap())
}

/// How often each was there.
pub(super) fn tally<T: std::hash::Hash + Eq + Ord>(
    all: impl IntoIterator<Item = T>,
) -> BTreeMap<T, usize> {
    let mut counts = HashMap::new();
    all.into_iter()
        .for_each(|one| *counts.entry(one).or_default() += 1);
    counts.into_iter().collect()
}

/// A pseudo-random number in `0..below` that depends on its arguments alone.
pub(super) fn chance(seed: u64, of: &str, below: u64) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (seed, of).hash(&mut hasher);
    hasher.finish() % below
}
