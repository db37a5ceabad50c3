//! The journal's conformance suite, over a shard that is asked as one of another node.

use std::time::Duration;

use pointsman_journal::sharded::Sharded;
use pointsman_journal::suite::{Bounds, Implementation};
use pointsman_journal::*;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionRow, SubscriptionNumber,
};

use super::*;

/// What goes over goes through a [`Remote`]; what does not is done where the shard is.
#[derive(Debug)]
struct Apart {
    remote: Remote,
    owner: Arc<MemoryJournal>,
}

impl Apart {
    fn new(clock: Arc<dyn Clock>, bounds: Bounds, place: u16) -> Self {
        let options = MemoryOptions {
            retention: bounds.retention,
            bytes_max: bounds.bytes_max,
            ..MemoryOptions::default()
        };
        let owner = MemoryJournal::shard(clock, options, number(place));
        let node = Arc::new(Node(Some(Arc::clone(&owner))));
        let remote = Remote::new(number(place), node);
        Self { remote, owner }
    }
}

#[async_trait]
impl Journal for Apart {
    fn id(&self) -> JournalId {
        self.owner.id()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.owner.clock()
    }

    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        if append.cursor.is_some() || !append.positions.is_empty() {
            return self.owner.append(append).await;
        }
        self.remote.append(append).await
    }

    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        self.owner.lease(grants, bytes_max).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        self.owner.settle(settlements).await
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        self.owner.due().await
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.remote.subscribe(wanted).await
    }

    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.owner.set_quotas(quotas).await
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.remote.set_activity(subscription, activity).await
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.remote.cursor(tenant, source).await
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.remote.positions(tenant, source, after, limit).await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.remote.cancel(deliveries).await
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.remote.skip(deliveries).await
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.remote.suspend(deliveries).await
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.remote.resume(deliveries).await
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.remote.retry(deliveries).await
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.remote.cancel_all(subscription).await
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.remote.move_all(from, to).await
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.remote.redrive(selection).await
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        self.remote.edit_dead(id, event).await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.remote.redrive_some(redrive).await
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.remote.begin_replay(replay).await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.remote.replay(step).await
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        self.remote.end_replay(id, state, message).await
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.remote.purge(selection).await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.remote.reader()
    }

    fn trouble(&self) -> Option<JournalError> {
        self.owner.trouble()
    }

    async fn close(&self) {
        self.owner.close().await;
    }
}

#[async_trait]
impl Shard for Apart {
    fn number(&self) -> Option<ShardNumber> {
        self.remote.number()
    }

    fn waiting(&self, of: &[Bounded]) -> Vec<u64> {
        self.owner.waiting(of)
    }

    fn set_elsewhere(&self, elsewhere: Vec<(Bounded, u64)>) {
        self.owner.set_elsewhere(elsewhere);
    }

    async fn subscribe_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError> {
        self.owner.subscribe_as(wanted).await
    }

    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError> {
        self.remote.last_subscription().await
    }

    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.remote.assign(wanted).await
    }

    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError> {
        self.remote.begin_replay_as(id, replay).await
    }
}

/// One shard, or several as one journal.
struct InMemory(u16);

#[async_trait]
impl Implementation for InMemory {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let apart = |place| Arc::new(Apart::new(Arc::clone(&clock), bounds, place));
        match self.0 {
            1 => apart(0),
            count => {
                Sharded::new((0..count).map(|at| apart(at) as Arc<dyn Shard>).collect()).unwrap()
            }
        }
    }

    fn keeps_numbers(&self) -> bool {
        self.0 > 1
    }

    fn persists(&self) -> bool {
        false
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| {})
    }

    async fn upkeep(&self) {}
}

mod alone {
    use super::*;
    pointsman_journal::conformance!(InMemory(1));
}

mod one_of_three {
    use super::*;
    pointsman_journal::conformance!(over shards: InMemory(3));
}

#[test]
fn what_is_the_owners_own_is_not_asked_for() {
    paused(async {
        // Nobody would answer.
        let remote = Remote::new(number(3), Arc::new(Node(None)));
        let one = SubscriptionNumber(1);
        let grant = Grant {
            subscription: one,
            count: 1,
            lease: Duration::from_secs(60),
            bytes_max: usize::MAX,
            batching: None,
        };
        let leases = remote.lease(&[grant], usize::MAX).await.unwrap();
        assert!(leases.leased.is_empty() && leases.cut.is_empty());
        let token = LeaseToken::new(LeaseOwner::Disk, 7);
        let settlements = vec![Settlement::new(token, Ending::Delivered); 2];
        let settled = remote.settle(settlements).await.unwrap();
        assert_eq!(settled, [SettleAnswer::Gone; 2]);
        let due = tokio::time::timeout(Duration::from_secs(3600), remote.due()).await;
        assert!(due.is_err(), "{due:?}");
        let numbered = Numbered {
            subscription: wanted("r"),
            number: one,
            replay: ReplayId::random(),
        };
        assert_eq!(remote.subscribe_as(vec![numbered]).await, Ok(()));
        assert_eq!(remote.set_quotas(Vec::new()).await, Ok(()));
        assert_eq!(remote.trouble(), None);
        remote.close().await;
        assert_eq!(
            (remote.number(), remote.is_here()),
            (Some(number(3)), false)
        );
    });
}
