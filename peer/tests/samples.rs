//! One of every call and of every answer, with everything in it that can be.

use std::fmt::Debug;
use std::time::Duration;

use pointsman_journal::suite::{keyed, last};
use pointsman_journal::*;
use pointsman_schemas::{
    Class, Cursor, Data, DeliveryId, Epoch, Event, Name, PositionChange, PositionRow, Reject,
    Sequence, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::append::{Made, Sent, Told};
use crate::call::Call;
use crate::command::Command;
use crate::message::{read, write};
use crate::read::Read;

const ONE: SubscriptionNumber = SubscriptionNumber(1);
const AT: Timestamp = Timestamp(-5);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn id() -> DeliveryId {
    DeliveryId {
        epoch: Epoch(u64::MAX),
        sequence: Sequence(1 << 50),
        subscription: ONE,
        run: 300,
    }
}

fn replay_id() -> ReplayId {
    ReplayId::of(7).unwrap()
}

/// An event that has everything an event can have.
pub(super) fn full_event() -> Arc<Event> {
    let built = Event::builder("ü", "/s?a=b", "t")
        .subject("s")
        .time("2026-01-01T00:00:00+01:00")
        .attribute("number", (-7).into())
        .attribute("flag", true.into())
        .attribute("text", "ä".into())
        .attribute("dataschema", "schema.json".into())
        .data(Data::json(Bytes::from_static(br#"{"n":12345678901234567890123}"#)).unwrap())
        .build();
    Arc::new(built.unwrap())
}

fn full_entry() -> Entry {
    let dead = NewDead {
        subscription: ONE,
        order_key: Some(u64::MAX),
        reason: DeadReason::Exhausted,
        attempts: 3,
        last: Some(last(AT)),
        edited: Some(full_event()),
    };
    let guards = [
        Guards::Event,
        Guards::Task,
        Guards::Deliveries([ONE, ONE, ONE].into_iter().collect()),
    ];
    let key = |guards| Key {
        identity: Identity([1, u64::MAX]),
        window: Duration::new(3, 999_999_999),
        guards,
    };
    let terms = Terms {
        keys: guards.map(key).into(),
        watch: None,
        retention: Some(Retention {
            instead: Some(Duration::MAX),
            at_least: Duration::ZERO,
        }),
    };
    let delivery = NewDelivery {
        due: Some(AT),
        priority: Priority::HIGHEST,
        ..NewDelivery::now(ONE)
    };
    Entry {
        event: full_event(),
        deliveries: [delivery; 3].into_iter().collect(),
        deduplicate: Some(Duration::from_millis(5)),
        dead: Some(dead),
        terms: Some(Box::new(terms)),
    }
}

pub(super) fn sent() -> Sent {
    let reject = Reject {
        raw: Bytes::from_static(b"\xff"),
        reason: "no event".to_owned(),
    };
    let append = Append {
        rejects: vec![reject],
        ..append_of(vec![full_entry(), keyed("2", ONE, 9)])
    };
    let watched = vec![0, 300];
    Sent { append, watched }
}

fn dead_selection() -> DeadSelection {
    DeadSelection {
        ids: Some(vec![id()]),
        tenant: Some(name("tenant")),
        rule: Some(name("rule")),
        target: None,
        reason: Some(DeadReason::Skipped),
    }
}

fn subscription() -> Subscription {
    Subscription {
        renamed_from: Some(name("old")),
        backlog: Some(Backlog {
            max: 9,
            dead_when_full: true,
        }),
        start: Some(Start::Time(AT)),
        ..wanted("r")
    }
}

fn new_replay() -> NewReplay {
    NewReplay {
        kind: ReplayKind::Dead,
        subscription: Some(ONE),
        request: Bytes::from_static(b"{}"),
        after: Sequence(1),
        until: Sequence(2),
    }
}

pub(super) fn calls() -> Vec<Call> {
    let redrive = Redrive {
        selection: dead_selection(),
        to: Some(ONE),
        before: AT,
        after: Some(id()),
        limit: 9,
        replay: Some(replay_id()),
    };
    let step = ReplayStep {
        id: replay_id(),
        deliveries: vec![(Sequence(9), NewDelivery::now(ONE))],
        after: Sequence(9),
        seen: 4,
        then: AfterStep::HandOver,
    };
    let commands = vec![
        Command::Subscribe(vec![subscription()]),
        Command::LastSubscription,
        Command::Assign(vec![subscription(), wanted("s")]),
        Command::SetActivity(ONE, Activity::Gone),
        Command::Cursor(name("tenant"), name("source")),
        Command::Positions {
            tenant: name("tenant"),
            source: name("source"),
            after: Some(Bytes::from_static(b"key")),
            limit: usize::MAX,
        },
        Command::Cancel(vec![id(), id()]),
        Command::Skip(Vec::new()),
        Command::Suspend(vec![id()]),
        Command::Resume(vec![id()]),
        Command::Retry(vec![id()]),
        Command::CancelAll(ONE),
        Command::MoveAll(ONE, SubscriptionNumber(u32::MAX)),
        Command::Redrive(DeadSelection::default()),
        Command::EditDead(id(), Some(full_event())),
        Command::EditDead(id(), None),
        Command::RedriveSome(redrive),
        Command::BeginReplay(new_replay()),
        Command::BeginReplayAs(replay_id(), new_replay()),
        Command::Replay(step),
        Command::EndReplay(replay_id(), ReplayState::Failed, "why".to_owned()),
        Command::Purge(dead_selection()),
        Command::Note {
            tenant: name("tenant"),
            source: name("source"),
            changes: vec![PositionChange {
                key: Bytes::from_static(b"key"),
                value: Some(Bytes::from_static(b"value")),
            }],
        },
    ];
    let commands = commands.into_iter().map(Call::Command);
    let reads = reads().into_iter().map(Call::Read);
    let append = Call::Append(vec![sent(), sent()]);
    commands.chain(reads).chain([append]).collect()
}

fn reads() -> Vec<Read> {
    let ended = EndedSelection {
        subscriptions: Some(vec![ONE]),
        states: vec![TaskState::Purged],
        from: Some(AT),
        before: None,
        latest_first: true,
        event: Some(Sequence(1)),
    };
    let task = Lookup::TaskId {
        tenant: name("tenant"),
        id: "task".to_owned(),
    };
    let (subscription, limit) = (ONE, 9);
    vec![
        Read::Subscriptions,
        Read::Dead {
            selection: dead_selection(),
            after: Some(id()),
            limit,
        },
        Read::Pending {
            subscription,
            after: Some(Sequence(1)),
            limit,
        },
        Read::Blocked {
            subscription,
            after: Some(u64::MAX),
            limit,
        },
        Read::Life(id()),
        Read::Ended {
            selection: ended,
            after: Some(HistoryPlace::BEHIND_ALL),
            limit,
        },
        Read::Event(Sequence(1)),
        Read::LastEvent,
        Read::Events {
            from: EventsFrom::Time(AT),
            limit,
            bytes_max: usize::MAX,
        },
        Read::Keys(task),
        Read::Keys(Lookup::Key(Identity([1, 2]))),
        Read::Replays,
        Read::Totals,
        Read::PendingOf {
            event: Sequence(1),
            limit,
        },
    ]
}

/// An answer, as its bytes and as how it shows after it was read.
fn answer<T: Serialize + DeserializeOwned + Debug>(value: T) -> Bytes {
    let bytes = write(&Ok::<_, JournalError>(&value), 0).unwrap();
    let back: Result<T, JournalError> = read(&bytes).unwrap();
    assert_eq!(
        format!("{back:?}"),
        format!("{:?}", Ok::<_, JournalError>(value))
    );
    bytes
}

fn pending() -> Pending {
    Pending {
        id: id(),
        due: AT,
        since: AT,
        attempts: 1,
        last: Some(last(AT)),
        in_flight: true,
        suspended: false,
        order_key: Some(3),
        priority: Priority::HIGHEST,
    }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        id: id(),
        tenant: name("tenant"),
        origin: name("origin"),
        subscription: Some(wanted("r").identity),
        reason: DeadReason::Unreadable,
        message: "message".to_owned(),
        at: AT,
        attempts: 2,
        last: None,
        raw: Bytes::from_static(b"\xff"),
        edited: Some(full_event()),
    }
}

fn history_entry() -> HistoryEntry {
    HistoryEntry {
        place: HistoryPlace { row: 1, entry: 2 },
        id: id(),
        at: AT,
        state: TaskState::Failed,
        reason: Some(DeadReason::Hops),
        next: Some((AT, WaitReason::RetryAfter)),
        attempt: Some(AttemptEntry {
            number: 1,
            began: AT,
            waited: Duration::from_micros(1),
            ran: Duration::from_nanos(1),
            called: Some("POST http://x".into()),
            class: Class::Throttled,
            code: Some(-1),
            message: String::new(),
            answer: "busy".to_owned(),
        }),
    }
}

fn replay() -> Replay {
    Replay {
        id: replay_id(),
        kind: ReplayKind::Start,
        subscription: None,
        request: Bytes::new(),
        state: ReplayState::Stopped,
        message: "stopped".to_owned(),
        began: AT,
        ended: Some(AT),
        first: Sequence(1),
        after: Sequence(2),
        until: Sequence(3),
        marked_until: Sequence(4),
        hands_over: true,
        seen: 5,
        made: 6,
    }
}

fn stored_event() -> StoredEvent {
    StoredEvent {
        sequence: Sequence(1),
        tenant: name("tenant"),
        origin: name("origin"),
        at: AT,
        kept_until: Some(AT),
        event: full_event(),
    }
}

pub(super) fn answers() -> Vec<Bytes> {
    let made = MadeDelivery {
        id: id(),
        subscription: wanted("r").identity,
        is_dead: true,
    };
    let told = Told {
        place: 1,
        sequence: Sequence(5),
        made: vec![made],
    };
    let appended = vec![
        Appended::Stored(Sequence(1)),
        Appended::Reduced(Sequence(2), KnownKeys::default()),
        Appended::Taken(Sequence(3)),
        Appended::Duplicate(Sequence(4)),
    ];
    let made = Made {
        appended,
        told: vec![told],
    };
    let full = JournalError::Full("full".to_owned());
    let status = SubscriptionStatus {
        number: ONE,
        identity: wanted("r").identity,
        attached: true,
        activity: Activity::Suspended,
        counts: Counts {
            created: 3,
            ..Counts::default()
        },
        oldest_pending: Some(AT),
    };
    let cursor = Cursor {
        fingerprint: u64::MAX,
        position: Bytes::from_static(b"at"),
    };
    let row = PositionRow {
        key: Bytes::from_static(b"key"),
        value: Bytes::new(),
    };
    let blocked = BlockedPage {
        keys: vec![BlockedKey {
            head: pending(),
            behind: BEHIND_MAX,
        }],
        next: Some(1),
        looked_at: 2,
    };
    let life = TaskLife {
        state: TaskState::Stopping,
        pending: Some(pending()),
        dead: Some(dead_letter()),
        history: vec![history_entry()],
    };
    let ended = EndedPage {
        entries: vec![history_entry()],
        next: Some(HistoryPlace::BEHIND_ALL),
    };
    let events = EventPage {
        events: vec![stored_event()],
        damaged: 1,
        next: Some(Sequence(9)),
    };
    let remembered = RememberedKey {
        identity: Identity([3, 4]),
        sequence: Sequence(5),
        at: AT,
        until: AT,
        deliveries: vec![id()],
    };
    let totals = Totals {
        keys: 1,
        last_sequence: 2,
        ..Totals::default()
    };
    let redriven = Redriven {
        count: 1,
        next: Some(id()),
    };
    let replayed = Replayed {
        made: 1,
        room: 2,
        replay: replay(),
    };
    vec![
        answer(vec![Ok(made), Err(full)]),
        answer(vec![ONE]),
        answer(()),
        answer(u64::MAX),
        answer(Some(cursor)),
        answer(vec![row]),
        answer(vec![status]),
        answer(vec![dead_letter()]),
        answer(vec![pending()]),
        answer(blocked),
        answer(Some(life)),
        answer(ended),
        answer(Some(stored_event())),
        answer(events),
        answer(vec![remembered]),
        answer(vec![replay()]),
        answer(totals),
        answer(redriven),
        answer(replayed),
    ]
}
