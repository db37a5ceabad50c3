//! Stores of earlier formats as they lay on disk when those formats were new. Every later version
//! must read them.
//!
//! The files were written by [`write_the_fixture`]: run it by hand, with `POINTSMAN_FIXTURE` set to
//! a folder, when a new format needs one.

use bytes::Bytes;
use pointsman_schemas::{Class, Reject, Sequence, Timestamp};

use super::*;
use crate::suite::{append_of, delete, entry, last, rows, upsert};
use crate::{
    AfterStep, Append, AttemptMade, Counts, DeadReason, Ending, Entry, FollowUp, Guards, Identity,
    Key, LeaseToken, Lookup, NewDelivery, NewReplay, Record, ReplayId, ReplayKind, ReplayState,
    ReplayStep, Retention, Role, SettleAnswer, Start, SubscriptionIdentity, Terms, WaitReason,
};

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn wanted(rule: &str) -> Subscription {
    let identity = SubscriptionIdentity {
        tenant: name("default"),
        rule: name(rule),
        role: Role::To,
        target: name("target"),
    };
    Subscription {
        identity,
        renamed_from: None,
        backlog: None,
        start: None,
    }
}

/// How many rows of a position lie in a store that was filled.
pub(super) const POSITIONS: u8 = 8;

/// How many rows of the history.
pub(super) const HISTORY: usize = 5;

/// The events that were appended with a key.
pub(super) const KEYED: [&str; 3] = ["k1", "k2", "k3"];

/// How many events that are kept for a time of their own.
pub(super) const KEPT: usize = 2;

/// That they are kept so long.
fn kept() -> Terms {
    Terms {
        retention: Some(Retention {
            instead: Some(MINUTE * 60 * 48),
            ..Retention::default()
        }),
        ..Terms::default()
    }
}

/// The key with which such an event is appended; in the order of [`KEYED`] of another kind each.
/// And where it is looked for.
pub(super) fn remembered(id: &str) -> (Key, Lookup) {
    let (tenant, own) = (name("default"), name("suite"));
    let (identity, guards) = match id {
        "k1" => (Identity::of_source(&tenant, &own, "", id), Guards::Event),
        "k2" => (Identity::of_task(&tenant, &own, "", id), Guards::Task),
        _ => {
            let guarded = [SubscriptionNumber(2)].into_iter().collect();
            let identity = Identity::of_rule(&tenant, &name("keys"), id);
            (identity, Guards::Deliveries(guarded))
        }
    };
    let key = Key {
        identity,
        window: MINUTE * 60,
        guards,
    };
    (key, Lookup::Key(identity))
}

/// An attempt that is told of as much as can be.
pub(super) fn attempt(called: &str) -> AttemptMade {
    AttemptMade {
        began: START,
        ran: Duration::from_millis(20),
        called: Some(called.into()),
        class: Class::Delivered,
        code: Some(200),
        message: String::new(),
        answer: format!("the answer to {called}"),
        wait: Some(WaitReason::Backoff),
    }
}

/// Fills a store with some of everything.
pub(super) async fn fill(journal: &DiskJournal) {
    let numbers = journal
        .subscribe(["blocks", "keys", "gone", "ended"].map(wanted).into())
        .await
        .unwrap();
    let [blocks, keys, gone, ended] = [numbers[0], numbers[1], numbers[2], numbers[3]];
    let cursor = Cursor {
        fingerprint: 7,
        position: Bytes::from_static(b"here"),
    };
    let reject = Reject {
        raw: Bytes::from_static(b"\xff"),
        reason: "it is no JSON".to_owned(),
    };
    let unique = |id: &str| Entry {
        deduplicate: Some(MINUTE * 60),
        ..entry(id, &[blocks])
    };
    let batch = Append {
        cursor: Some(cursor),
        rejects: vec![reject],
        positions: (0..POSITIONS)
            .map(|n| upsert(format!("folder/{n}").as_bytes(), &[n; 20]))
            .collect(),
        ..append_of((1..=8).map(|id| unique(&id.to_string())).collect())
    };
    journal.append(batch).await.unwrap();
    let keyed = |id: &str| {
        let delivery = NewDelivery {
            order_key: Some(u64::MAX),
            ..NewDelivery::now(keys)
        };
        let (key, _) = remembered(id);
        let terms = Terms {
            keys: vec![key],
            retention: kept().retention.filter(|_| id == "k2"),
            watch: None,
        };
        Entry {
            deliveries: [delivery, NewDelivery::now(ended)].into_iter().collect(),
            terms: Some(Box::new(terms)),
            ..entry(id, &[])
        }
    };
    let unmatched = Entry {
        terms: Some(Box::new(kept())),
        ..entry("unmatched", &[])
    };
    journal
        .append(append_of(vec![
            keyed("k1"),
            keyed("k2"),
            keyed("k3"),
            unmatched,
        ]))
        .await
        .unwrap();
    let lease = async |subscription, count| {
        journal
            .lease(
                &[Grant {
                    subscription,
                    count,
                    lease: MINUTE,
                    bytes_max: usize::MAX,
                    batching: None,
                }],
                usize::MAX,
            )
            .await
            .unwrap()
            .leased
    };
    let settle = async |token: LeaseToken, ending: Ending, follow_ups: Vec<FollowUp>| {
        assert_eq!(
            journal
                .settle(vec![Settlement {
                    follow_ups,
                    record: Record::Attempt(attempt("POST http://f/one")),
                    ..Settlement::new(token, ending)
                }])
                .await,
            Ok(vec![SettleAnswer::Settled])
        );
    };
    let leased = lease(blocks, 4).await;
    settle(
        leased[0].token,
        Ending::Delivered,
        vec![FollowUp::Original(NewDelivery::now(gone))],
    )
    .await;
    settle(
        leased[1].token,
        Ending::Retry {
            at: START.plus(MINUTE),
            failure: true,
            batch_max: None,
            last: last(START),
        },
        vec![],
    )
    .await;
    settle(
        leased[2].token,
        Ending::Dead {
            reason: DeadReason::Exhausted,
            last: Some(last(START)),
        },
        vec![],
    )
    .await;
    settle(
        lease(keys, 1).await[0].token,
        Ending::Retry {
            at: START.plus(MINUTE),
            failure: false,
            batch_max: None,
            last: last(START),
        },
        vec![],
    )
    .await;
    // Those that end alike share a row.
    let many = lease(ended, 3).await;
    let settlements = many.iter().zip(["one", "two", "three"]);
    let settlements = settlements.map(|(leased, path)| Settlement {
        record: Record::Attempt(attempt(&format!("PUT http://f/{path}"))),
        ..Settlement::new(leased.token, Ending::Delivered)
    });
    let answers = journal.settle(settlements.collect()).await;
    assert_eq!(answers, Ok(vec![SettleAnswer::Settled; 3]));
    journal.set_activity(gone, Activity::Gone).await.unwrap();
    journal
        .subscribe(vec![wanted("blocks"), wanted("keys")])
        .await
        .unwrap();
}

/// What the replays were asked for that [`fill_more`] begins: the first runs on, the second has
/// ended.
pub(super) const REPLAYS: [&str; 2] = ["what runs on", "what has ended"];

/// Adds what stores of earlier formats had not: an edited dead letter, replays, and a subscription
/// that began with one.
pub(super) async fn fill_more(journal: &DiskJournal) {
    let reader = journal.reader();
    let dead = reader.dead(&DeadSelection::default(), None, 9).await;
    let letter = dead.unwrap()[0].id;
    let mended = suite::event("mended");
    journal.edit_dead(letter, Some(mended)).await.unwrap();
    let late = Subscription {
        start: Some(Start::Earliest),
        ..wanted("late")
    };
    let all = vec![wanted("blocks"), wanted("keys"), late];
    let blocks = journal.subscribe(all).await.unwrap()[0];
    for request in REPLAYS {
        let new = NewReplay {
            kind: ReplayKind::Events,
            subscription: Some(blocks),
            request: Bytes::from(request),
            after: Sequence(0),
            until: Sequence(12),
        };
        let id = journal.begin_replay(new).await.unwrap().id;
        if request == REPLAYS[1] {
            let (state, why) = (ReplayState::Stopped, "it was enough");
            journal.end_replay(id, state, why).await.unwrap();
        } else {
            let step = step(id, blocks, Sequence(1), AfterStep::More);
            assert_eq!(journal.replay(step).await.unwrap().made, 1);
        }
    }
}

/// A step of a replay that looks at one event, which it takes.
pub(super) fn step(
    id: ReplayId,
    subscription: SubscriptionNumber,
    event: Sequence,
    then: AfterStep,
) -> ReplayStep {
    ReplayStep {
        id,
        deliveries: vec![(event, NewDelivery::now(subscription))],
        after: event,
        seen: 1,
        then,
    }
}

/// All that can be seen of a store, as text, one line per thing.
pub(super) async fn everything(reader: &dyn Reader) -> Vec<String> {
    let mut seen = Vec::new();
    let totals = reader.totals().await;
    let last = totals
        .as_ref()
        .map_or(64, |totals| totals.last_sequence.min(64));
    for sequence in 1..=last {
        match reader.event(Sequence(sequence)).await {
            Ok(None) => {}
            other => seen.push(format!("event {sequence} {other:?}")),
        }
    }
    for status in reader.subscriptions().await.unwrap_or_default() {
        seen.push(format!("{status:?}"));
        for pending in reader
            .pending(status.number, None, 100)
            .await
            .unwrap_or_default()
        {
            seen.push(format!("{pending:?}"));
        }
    }
    for letter in reader
        .dead(&DeadSelection::default(), None, 100)
        .await
        .unwrap_or_default()
    {
        seen.push(format!("{letter:?}"));
    }
    if let Ok(totals) = totals {
        seen.push(format!(
            "{:?}",
            (
                totals.events,
                totals.dead,
                totals.rejects,
                totals.quarantined
            )
        ));
    }
    seen
}

#[test]
fn write_the_fixture() {
    let Some(directory) = std::env::var_os("POINTSMAN_FIXTURE") else {
        return;
    };
    suite::paused(async {
        let journal = open(Path::new(&directory)).unwrap();
        fill(&journal).await;
        journal.upkeep().await;
        journal.close().await;
    });
}

/// Opens a copy of a stored fixture.
fn open_fixture(name: &str) -> (TempDir, Arc<DiskJournal>) {
    let directory = TempDir::new().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    copy(&fixtures.join(name), directory.path());
    let journal = open(directory.path()).unwrap();
    assert_eq!(journal.warnings(), &[] as &[String]);
    (directory, journal)
}

/// What every store says that [`fill`] filled in an earlier format.
async fn check_filled(journal: &DiskJournal) {
    let reader = journal.reader();
    let totals = reader.totals().await.unwrap();
    assert_eq!(
        (
            totals.events,
            totals.dead,
            totals.rejects,
            totals.quarantined
        ),
        (12, 2, 1, 0)
    );
    let statuses = reader.subscriptions().await.unwrap();
    let counts: Vec<_> = statuses
        .iter()
        .map(|status| {
            (
                status.identity.rule.to_string(),
                status.attached,
                status.activity,
                status.counts,
            )
        })
        .collect();
    let some = Counts::default();
    let expected = [
        (
            "blocks".to_owned(),
            true,
            Activity::Active,
            Counts {
                created: 8,
                delivered: 1,
                dead: 1,
                pending: 6,
                retrying: 1,
                ..some
            },
        ),
        (
            "keys".to_owned(),
            true,
            Activity::Active,
            Counts {
                created: 3,
                pending: 3,
                retrying: 1,
                ..some
            },
        ),
        (
            "gone".to_owned(),
            false,
            Activity::Gone,
            Counts {
                created: 1,
                pending: 1,
                ..some
            },
        ),
    ];
    assert_eq!(counts, expected);
    let cursor = journal
        .cursor(&name("default"), &name("suite"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (cursor.fingerprint, &cursor.position[..]),
        (7, &b"here"[..])
    );
}

/// Opens a stored fixture that [`fill`] filled: it is read in full, also when it is opened again,
/// and an earlier version refuses it from then on.
async fn check_upgrade(fixture: &str, positions: usize) {
    let (directory, journal) = open_fixture(fixture);
    check_filled(&journal).await;
    let kept = rows(&*journal, "default", "suite", 9).await;
    assert_eq!(kept.len(), positions);
    let before = everything(&*journal.reader()).await;
    let id = journal.id();
    journal.close().await;
    drop(journal);
    // Nothing was stored, and the format is the new one.
    let connection = schema::connect(directory.path(), Purpose::Look).unwrap();
    let format = "SELECT user_version FROM pragma_user_version";
    let format: i32 = connection.query_row(format, [], |row| row.get(0)).unwrap();
    assert_eq!(format, schema::FORMAT);
    drop(connection);
    let journal = open(directory.path()).unwrap();
    assert_eq!((journal.warnings(), journal.id()), (&[] as &[String], id));
    assert_eq!(everything(&*journal.reader()).await, before);
    let changed = Append {
        positions: vec![upsert(b"a", b"1"), upsert(b"b", b"2"), delete(b"a")],
        ..append_of(vec![])
    };
    journal.append(changed).await.unwrap();
    journal.close().await;
    drop(journal);
    let journal = open(directory.path()).unwrap();
    assert_eq!(journal.warnings(), &[] as &[String]);
    let now = rows(&*journal, "default", "suite", 9).await;
    assert_eq!(now.len(), positions + 1);
    assert_eq!(now[0], (Bytes::from_static(b"b"), Bytes::from_static(b"2")));
    assert_eq!(now[1..], kept);
    assert_eq!(everything(&*journal.reader()).await, before);
    journal.close().await;
}

#[test]
fn a_store_of_format_2_is_read_in_full_and_keeps_positions_from_then_on() {
    suite::paused(check_upgrade("v2", 0));
}

#[test]
fn a_store_of_format_3_is_read_in_full() {
    suite::paused(check_upgrade("v3", usize::from(POSITIONS)));
}

#[test]
fn a_store_of_format_4_is_read_in_full() {
    suite::paused(async {
        check_upgrade("v4", usize::from(POSITIONS)).await;
        let (_directory, journal) = open_fixture("v4");
        for id in KEYED {
            let keys = journal.reader().keys(remembered(id).1).await.unwrap();
            assert_eq!(keys.len(), 1, "{id}");
        }
        // Retention begins with what is there.
        tokio::time::advance(DiskOptions::default().retention).await;
        assert_eq!(journal.cancel_all(SubscriptionNumber(1)).await, Ok(6));
        journal.upkeep().await;
        let left = journal.reader().totals().await.unwrap().events;
        assert_eq!(left, 5, "what is dead, or waits elsewhere");
    });
}

#[test]
fn a_store_of_format_1_is_read_in_full() {
    suite::paused(async {
        let (_directory, journal) = open_fixture("v1");
        check_filled(&journal).await;
        let reader = journal.reader();
        let statuses = reader.subscriptions().await.unwrap();
        let pending = reader.pending(statuses[0].number, None, 99).await.unwrap();
        let shown: Vec<_> = pending
            .iter()
            .map(|pending| (pending.id.sequence.0, pending.attempts, pending.due))
            .collect();
        let later = START.plus(MINUTE);
        assert_eq!(
            shown,
            [
                (2, 1, later),
                (4, 0, START),
                (5, 0, START),
                (6, 0, START),
                (7, 0, START),
                (8, 0, START)
            ]
        );
        assert_eq!(pending[0].last, Some(last(START)));
        let dead = reader
            .dead(&DeadSelection::default(), None, 9)
            .await
            .unwrap();
        assert_eq!(
            (dead[0].reason, dead[0].attempts, &dead[0].last),
            (DeadReason::Exhausted, 1, &Some(last(START)))
        );
        assert_eq!(
            (dead[1].reason, &dead[1].raw[..]),
            (DeadReason::Unreadable, &b"\xff"[..])
        );
        let twin = || {
            append_of(vec![Entry {
                deduplicate: Some(MINUTE * 60),
                ..entry("1", &[])
            }])
        };
        assert_eq!(
            journal.append(twin()).await,
            Ok(vec![Appended::Duplicate(Sequence(1))])
        );
        // It was remembered without the source that it came in by, which the event itself still
        // tells.
        let foreign = journal
            .append(Append {
                origin: name("ingress"),
                ..twin()
            })
            .await
            .unwrap();
        assert!(matches!(foreign[..], [Appended::Stored(_)]), "{foreign:?}");
        tokio::time::advance(MINUTE).await;
        let grants = [statuses[0].number, statuses[1].number].map(|subscription| Grant {
            subscription,
            count: 9,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: None,
        });
        let leased = journal.lease(&grants, usize::MAX).await.unwrap().leased;
        let ids: Vec<_> = leased
            .iter()
            .map(|leased| leased.event.id().to_string())
            .collect();
        assert_eq!(ids, ["4", "5", "6", "7", "8", "2", "k1"]);
        assert_eq!(*leased[0].event, *suite::event("4"));
        let journal_id = journal.id().0;
        let shown = |number: usize| leased[number].id.to_string();
        assert_eq!(
            (shown(0), shown(6)),
            (
                format!("{journal_id:016x}-4-1-0"),
                format!("{journal_id:016x}-a-2-0")
            ),
            "as it was shown then"
        );
        // What is made from now on has an epoch of its own, also a new run of an old event.
        let chosen = DeadSelection {
            reason: Some(DeadReason::Exhausted),
            ..DeadSelection::default()
        };
        assert_eq!(journal.redrive(&chosen).await, Ok(1));
        let redriven = journal.lease(&grants, usize::MAX).await.unwrap().leased;
        assert_eq!(redriven[0].id.sequence, dead[0].id.sequence);
        assert!(
            redriven[0].id.epoch.0 != journal_id && redriven[0].id.run > 0,
            "{}",
            redriven[0].id
        );
        assert_eq!(
            reader.event(Sequence(1)).await.unwrap().unwrap().at,
            Timestamp(START.0)
        );
        journal.close().await;
    });
}
