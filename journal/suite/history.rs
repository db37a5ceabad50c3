//! Random histories: every journal answers as the one in memory does, its counters add up after
//! every step, and every task goes the ways of the [table](crate::TaskState) alone.
//!
//! With `POINTSMAN_LONG` set there are thousands of them.

mod again;
mod compare;
mod play;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::play::play;
use super::*;

/// One thing that somebody does to a journal. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Per event: bits of the subscriptions, an order key (0 for none), a delay in seconds, a
    /// priority.
    Append(Vec<(u8, u8, u8, u8)>),
    Duplicate(u8),
    /// An event whose delivery, with this order key, has ended already.
    Ended(u8, u8),
    Lease(u8, u8),
    Settle(u8, Settle),
    /// So many in one call, of all that are leased.
    SettleMany(u8, Settle),
    Wait(u8),
    Subscribe(u8),
    Activity(u8, bool),
    Redrive(u8),
    Purge(u8),
    Cancel(u8, u8),
    Skip(u8, u8),
    Suspend(u8, u8),
    Resume(u8, u8),
    TryNow(u8, u8),
    CancelAll(u8),
    MoveAll(u8, u8),
    Again(Again),
    Reopen,
    /// The process ends as it stands.
    Crash,
}

/// Something that makes runs anew, or changes what is sent then. It goes on over other steps.
#[derive(Clone, Debug)]
enum Again {
    /// One of the dead letters; true takes the edit back.
    Edit(u8, bool),
    /// A letter that is brought over, for a subscription; the same one may be twice.
    Import(u8, u8),
    /// Begins a redrive at a rate: of a rule, for another subscription or its own, of what was dead
    /// so many seconds ago.
    Redrive { of: u8, to: Option<u8>, earlier: u8 },
    /// So many letters more of one that has begun.
    RedriveOn(u8, u8),
    /// Begins a replay up to an event, which takes some of them.
    Replay { of: u8, to: u8, filter: u8 },
    /// So many events more of one that has begun.
    ReplayOn(u8, u8),
    /// Ends one that has begun.
    Stop(u8),
}

#[derive(Clone, Debug)]
enum Settle {
    Delivered,
    Retry(u8),
    Dead,
    Expired,
    Stopped,
    Released,
    DeliveredThenOriginal(u8),
    DeadThenReport(u8),
}

const RULES: [&str; 4] = ["a", "b", "stops", "buries"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = 0_u8..6;
    let settle = prop_oneof![
        4 => Just(Settle::Delivered),
        2 => (0_u8..40).prop_map(Settle::Retry),
        2 => Just(Settle::Dead),
        1 => Just(Settle::Expired),
        1 => Just(Settle::Stopped),
        1 => Just(Settle::Released),
        1 => small.clone().prop_map(Settle::DeliveredThenOriginal),
        1 => small.clone().prop_map(Settle::DeadThenReport),
    ];
    let event = (
        0_u8..16,
        0_u8..4,
        prop_oneof![3 => Just(0_u8), 1 => 1_u8..40],
        prop_oneof![3 => Just(0_u8), 1 => 1_u8..4],
    );
    let step = prop_oneof![
        6 => prop::collection::vec(event, 1..6).prop_map(Step::Append),
        1 => small.clone().prop_map(Step::Duplicate),
        1 => (small.clone(), 0_u8..4)
            .prop_map(|(subscription, key)| Step::Ended(subscription, key)),
        6 => (small.clone(), 1_u8..8)
            .prop_map(|(subscription, count)| Step::Lease(subscription, count)),
        9 => (any::<u8>(), settle.clone()).prop_map(|(which, settle)| Step::Settle(which, settle)),
        4 => (1_u8..9, settle.clone())
            .prop_map(|(count, settle)| Step::SettleMany(count, settle)),
        2 => (0_u8..90).prop_map(Step::Wait),
        1 => (0_u8..16).prop_map(Step::Subscribe),
        1 => (small.clone(), any::<bool>())
            .prop_map(|(subscription, active)| Step::Activity(subscription, active)),
        1 => small.clone().prop_map(Step::Redrive),
        1 => small.clone().prop_map(Step::Purge),
        1 => (small.clone(), any::<u8>())
            .prop_map(|(subscription, which)| Step::Cancel(subscription, which)),
        1 => (small.clone(), any::<u8>())
            .prop_map(|(subscription, which)| Step::Skip(subscription, which)),
        2 => (small.clone(), any::<u8>())
            .prop_map(|(subscription, which)| Step::Suspend(subscription, which)),
        2 => (small.clone(), any::<u8>())
            .prop_map(|(subscription, which)| Step::Resume(subscription, which)),
        1 => (small.clone(), any::<u8>())
            .prop_map(|(subscription, which)| Step::TryNow(subscription, which)),
        1 => small.clone().prop_map(Step::CancelAll),
        1 => (small.clone(), small.clone()).prop_map(|(from, to)| Step::MoveAll(from, to)),
        6 => again().prop_map(Step::Again),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

fn again() -> impl Strategy<Value = Again> {
    let small = 0_u8..6;
    let (to, earlier) = (prop::option::of(small.clone()), 0_u8..30);
    prop_oneof![
        2 => (any::<u8>(), prop::bool::weighted(0.3))
            .prop_map(|(which, undo)| Again::Edit(which, undo)),
        2 => (small.clone(), small.clone())
            .prop_map(|(subscription, which)| Again::Import(subscription, which)),
        2 => (small.clone(), to, earlier)
            .prop_map(|(of, to, earlier)| Again::Redrive { of, to, earlier }),
        4 => (any::<u8>(), 1_u8..4).prop_map(|(which, limit)| Again::RedriveOn(which, limit)),
        2 => (small, 1_u8..40, any::<u8>())
            .prop_map(|(of, to, filter)| Again::Replay { of, to, filter }),
        4 => (any::<u8>(), 1_u8..12).prop_map(|(which, count)| Again::ReplayOn(which, count)),
        1 => any::<u8>().prop_map(Again::Stop),
    ]
}

/// Plays random histories to fresh stores of an implementation and to the model.
pub fn random_histories(new: impl Fn() -> Box<dyn Implementation>) {
    let is_long = std::env::var_os("POINTSMAN_LONG").is_some();
    let config = Config {
        cases: if is_long { 4_000 } else { 80 },
        failure_persistence: None,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&steps(), |steps| {
        paused(play(&*new(), steps));
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}
