//! How urgent a delivery is among those of its subscription, and where that puts it in the queue.

use std::time::Duration;

use pointsman_schemas::Timestamp;

/// How urgent a delivery is: from 0, which is usual, to 9. An ordered delivery has none, since it
/// goes when the one before it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Priority(u8);

impl Priority {
    /// What most deliveries have.
    pub const USUAL: Self = Self(0);

    /// The most urgent one.
    pub const HIGHEST: Self = Self(9);

    /// How many there are.
    pub const COUNT: usize = 10;

    /// By how much longer than one of the next lower priority a delivery is taken to have waited.
    /// So a delivery is overtaken by those alone that come within this time for each priority
    /// between them, and waits no longer than that for its turn: nothing starves.
    pub const STEP: Duration = Duration::from_secs(10 * 60);

    /// The priority of this number; none above 9.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number <= Self::HIGHEST.0).then_some(Self(number))
    }

    /// All of them, the usual one first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=Self::HIGHEST.0).map(Self)
    }

    /// Its number, from 0 to 9.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// How many times the share of the usual priority one of this has, where several want more
    /// than there is.
    #[must_use]
    pub fn share(self) -> usize {
        self.index() + 1
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("no priority is above 9"))
    }
}

/// When a delivery falls due, and how urgent it is then: one number, which the store keeps in the
/// column `due`. The deliveries of one priority lie together, by when they fall due; of the usual
/// one it is the time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due(i64);

/// The room that the times of one priority have: times are less than half of it before or after
/// 1970, which is 2283 years.
const LANE_BITS: u32 = 57;
const TIME_MAX: i64 = (1 << (LANE_BITS - 1)) - 1;

impl Due {
    /// Due at a time, and so urgent then.
    #[must_use]
    pub fn new(priority: Priority, time: Timestamp) -> Self {
        let time = time.0.clamp(-TIME_MAX, TIME_MAX);
        Self(time - (i64::from(priority.0) << LANE_BITS))
    }

    /// Before all others of a priority.
    #[must_use]
    pub fn first(priority: Priority) -> Self {
        Self::new(priority, Timestamp(i64::MIN))
    }

    /// After all others of a priority.
    #[must_use]
    pub fn last(priority: Priority) -> Self {
        Self::new(priority, Timestamp(i64::MAX))
    }

    /// From the column `due`; none where it is not one that is written there.
    #[must_use]
    pub(crate) fn from_column(column: i64) -> Option<Self> {
        let lane = TIME_MAX.checked_sub(column)? >> LANE_BITS;
        let priority = Priority::new(u8::try_from(lane).ok()?)?;
        let due = Self(column);
        (Self::new(priority, due.time()) == due).then_some(due)
    }

    /// As the column `due`.
    #[must_use]
    pub(crate) fn column(self) -> i64 {
        self.0
    }

    /// How urgent it is.
    #[must_use]
    pub fn priority(self) -> Priority {
        let lane = (TIME_MAX - self.0) >> LANE_BITS;
        Priority(u8::try_from(lane).unwrap_or_default())
    }

    /// When it falls due.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp(self.0 + (i64::from(self.priority().0) << LANE_BITS))
    }

    /// The same at another time.
    #[must_use]
    pub fn at(self, time: Timestamp) -> Self {
        Self::new(self.priority(), time)
    }

    /// When a delivery of the usual priority would have to fall due to be leased in this one's
    /// place: what is due is leased by it.
    #[must_use]
    pub(crate) fn turn(self) -> Timestamp {
        self.time()
            .minus(Priority::STEP * u32::from(self.priority().0))
    }
}

impl From<Timestamp> for Due {
    fn from(time: Timestamp) -> Self {
        Self::new(Priority::USUAL, time)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_due_time_and_its_priority_come_back_and_are_ordered(
            times in prop::array::uniform2(-TIME_MAX..=TIME_MAX),
            number in 0..=9_u8,
        ) {
            let priority = Priority::new(number).unwrap();
            let [one, other] = times.map(|time| Due::new(priority, Timestamp(time)));
            prop_assert_eq!((one.priority(), one.time()), (priority, Timestamp(times[0])));
            prop_assert_eq!(Due::from_column(one.column()), Some(one));
            prop_assert_eq!(one.cmp(&other), times[0].cmp(&times[1]));
            prop_assert!(Due::first(priority) <= one && one <= Due::last(priority));
        }
    }

    #[test]
    fn no_priority_above_the_highest_is_read() {
        use serde::Deserialize;
        use serde::de::IntoDeserializer;
        use serde::de::value::Error;

        let read = |number: u8| {
            Priority::deserialize(IntoDeserializer::<Error>::into_deserializer(number))
        };
        assert_eq!(read(9), Ok(Priority::HIGHEST));
        assert!(read(10).is_err());
    }

    #[test]
    fn lanes_lie_apart_and_the_column_of_a_usual_one_is_its_time() {
        assert_eq!(Due::from(Timestamp(17)).column(), 17);
        for priority in Priority::all().skip(1) {
            let lower = Priority::new(priority.number() - 1).unwrap();
            assert!(Due::last(priority) < Due::first(lower));
        }
        assert_eq!(Priority::all().count(), Priority::COUNT);
        let lowest = Due::first(Priority::HIGHEST).column();
        for column in [i64::MIN, i64::MAX, lowest - 1, TIME_MAX + 1, -TIME_MAX - 1] {
            assert_eq!(Due::from_column(column), None, "{column}");
        }
        assert_eq!(Due::from(Timestamp(i64::MAX)), Due::last(Priority::USUAL));
    }
}
