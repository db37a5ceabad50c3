//! What a journal must be able to do to be one of several shards.

use std::sync::LazyLock;
use std::time::Instant;

use async_trait::async_trait;
use pointsman_schemas::{Name, PositionChange, Sequence, SubscriptionNumber, Timestamp};

use crate::{Append, Bounded, Journal, JournalError, NewReplay, Replay, ReplayId, Subscription};

/// The bits of a sequence, and of the number of a lease token, that are counted within a shard.
const WITHIN_BITS: u32 = 48;

/// The number of a shard. It is the high 16 bits of the sequences and lease tokens that the shard
/// gives out, and below 2¹⁵, since SQLite's numbers are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardNumber(u16);

impl ShardNumber {
    /// The shard of this number; none of 2¹⁵ and above.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < 1 << 15).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// The number of the shard that has given out a sequence.
    #[must_use]
    pub fn of(sequence: Sequence) -> Self {
        Self::of_bits(sequence.0)
    }

    /// The number of the shard that has given out a sequence or a lease token.
    pub(crate) fn of_bits(number: u64) -> Self {
        Self((number >> WITHIN_BITS) as u16)
    }

    /// What stands before the first number of this shard: it is never given out.
    #[must_use]
    pub fn before_first(self) -> Sequence {
        Sequence(u64::from(self.0) << WITHIN_BITS)
    }

    /// The last number that this shard may ever give out.
    #[must_use]
    pub fn last(self) -> Sequence {
        Sequence(self.before_first().0 | ((1 << WITHIN_BITS) - 1))
    }
}

/// The number of a sequence within its shard.
pub(crate) fn within(sequence: u64) -> u64 {
    sequence & ((1 << WITHIN_BITS) - 1)
}

/// What stands before the first sequence and the first lease token that a journal gives out.
pub(crate) fn before_first(shard: Option<ShardNumber>) -> u64 {
    shard.map_or(0, |shard| shard.before_first().0)
}

/// What stands before the first lease token that a journal gives out now. Where a shard is opened
/// again in one process, what an earlier opening has leased may still be settled: its tokens are
/// never given out again, as long as fewer than a million leases are made in a second.
pub(crate) fn before_first_token(shard: Option<ShardNumber>) -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let micros = |began: Instant| began.elapsed().as_micros() as u64;
    shard.map_or(0, |shard| shard.before_first().0 + micros(*BEGAN))
}

/// The bits of a row's number in the history of a shard that tell rows of one moment apart, and
/// those that say which shard it is of.
const HISTORY_COUNT_BITS: u32 = 10;
const HISTORY_SHARD_BITS: u32 = 15;

/// A moment of the history: 2¹⁴ µs. So its number has 38 bits until the year 2112, and that of a
/// row 63.
const HISTORY_MOMENT_BITS: u32 = 14;

/// The number of the next row of the history, behind `last`. Those of shards go by time, so that
/// the places of several shards can be compared; a journal that stands alone counts.
pub(crate) fn next_history(shard: Option<ShardNumber>, last: u64, now: Timestamp) -> u64 {
    let Some(ShardNumber(shard)) = shard else {
        return last + 1;
    };
    let moment = u64::try_from(now.0).unwrap_or(0) >> HISTORY_MOMENT_BITS;
    let counted = (moment << HISTORY_COUNT_BITS).max((last >> HISTORY_SHARD_BITS) + 1);
    counted << HISTORY_SHARD_BITS | u64::from(shard)
}

/// A subscription under the number that it has in all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The subscription.
    pub subscription: Subscription,
    /// Its number.
    pub number: SubscriptionNumber,
    /// The replay that it begins with, where it has a start.
    pub replay: ReplayId,
}

/// A journal that is one of several: what has to be the same in all of them is told to it.
#[async_trait]
pub trait Shard: Journal {
    /// Which one it is; none of a journal that stands alone.
    fn number(&self) -> Option<ShardNumber>;

    /// Whether its store is on this machine. Of one that is elsewhere nothing is leased here, and
    /// [`subscribe_as`](Shard::subscribe_as) and [`Journal::set_quotas`] do nothing: its owner sees
    /// to that.
    fn is_here(&self) -> bool {
        true
    }

    /// Returns how many deliveries wait here of each of these, in their order; nothing at all where
    /// the store is not on this machine. It answers from memory.
    fn waiting(&self, of: &[Bounded]) -> Vec<u64>;

    /// Says how many deliveries wait in the other shards, in the place of all that was said before;
    /// of what is not among these, none. Against [`Subscription::backlog`] and quotas they count as
    /// what waits here does, from the next append on. It is not stored, and says nothing to a shard
    /// whose store is not on this machine.
    fn set_elsewhere(&self, elsewhere: Vec<(Bounded, u64)>);

    /// As [`Journal::subscribe`], under given numbers. A number that the journal has never heard of
    /// comes for the first time, and so do all below it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn subscribe_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError>;

    /// Returns the highest number of a subscription that there is or ever was.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError>;

    /// Returns the numbers of subscriptions in the order wanted, and gives one to each that has
    /// none. Whoever asks for the same gets the same, also after all of them were dropped. Nothing
    /// is attached by it. It is asked of one of the shards, always the same.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError>;

    /// Changes rows of the position of a source that nobody runs, all or nothing. Unlike an append
    /// with rows it goes to wherever the shard is: it is for what any node may note.
    ///
    /// # Errors
    /// As [`Journal::append`].
    async fn note(
        &self,
        tenant: Name,
        source: Name,
        changes: Vec<PositionChange>,
    ) -> Result<(), JournalError> {
        let append = Append {
            tenant,
            origin: source,
            entries: Vec::new(),
            rejects: Vec::new(),
            cursor: None,
            positions: changes,
        };
        self.append(append).await.map(drop)
    }

    /// As [`Journal::begin_replay`], under a given identity.
    ///
    /// # Errors
    /// As there.
    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_shards_do_not_meet() {
        assert_eq!(ShardNumber::new(1 << 15), None);
        let last = ShardNumber::new((1 << 15) - 1).unwrap();
        assert!(i64::try_from(last.last().0).is_ok());
        let (two, three) = (ShardNumber(2), ShardNumber(3));
        assert_eq!(two.last().0, three.before_first().0 - 1);
        assert_eq!(ShardNumber::of(Sequence(two.before_first().0 + 1)), two);
        assert_eq!(ShardNumber::of(two.last()), two);
    }

    #[test]
    fn rows_of_the_history_go_by_time_over_all_shards() {
        let last = ShardNumber::new((1 << 15) - 1);
        let year_2100 = Timestamp(4_102_444_800_000_000);
        let far = next_history(last, 0, year_2100);
        assert!(i64::try_from(far).is_ok());
        let earlier = next_history(last, 0, Timestamp(year_2100.0 - 20_000));
        assert!(earlier < next_history(ShardNumber::new(0), 0, year_2100));
        let again = next_history(last, far, year_2100);
        assert!(again > far && again != next_history(ShardNumber::new(0), far, year_2100));
        assert_eq!(next_history(None, 7, year_2100), 8);
    }
}
