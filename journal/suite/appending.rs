//! What an append stores and what it tells.

use futures::FutureExt;
use pointsman_schemas::Cursor;
use pointsman_schemas::Reject;

use super::*;
use crate::{DeadSelection, EventPage, EventsFrom, JournalError, SettleAnswer};

pub async fn appended_events_come_back_byte_for_byte(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let raw = Bytes::from_static(br#"{"n":12345678901234567890123,"a":1,"a":2}"#);
    let full = Event::builder("1", "urn:x", "com.example.t")
        .subject("süb")
        .time("2026-01-01T00:00:00.123456789+05:30")
        .datacontenttype("application/json; charset=utf-8")
        .attribute("dataschema", "schema.json".into())
        .attribute("text", "x".into())
        .attribute("number", pointsman_schemas::ExtensionValue::Integer(-7))
        .attribute("flag", pointsman_schemas::ExtensionValue::Boolean(true))
        .data(Data::json(raw).unwrap());
    let events = [
        full.build().unwrap(),
        Event::builder("2", "/s", "t").build().unwrap(),
        Event::builder("3", "/s", "t")
            .data(Data::text("text".into()))
            .build()
            .unwrap(),
        Event::builder("4", "/s", "t")
            .data(Data::binary(Bytes::from(vec![0_u8; 100_000])))
            .build()
            .unwrap(),
        Event::builder("5", "/s", "t")
            .data(Data::json(Bytes::from_static(b"null")).unwrap())
            .build()
            .unwrap(),
    ];
    let subscription = bench.subscribe(&["r"]).await[0];
    let one = |event: &Event| Entry {
        event: Arc::new(event.clone()),
        ..entry("x", &[subscription])
    };
    let sequences: Vec<_> = bench
        .append(events.iter().map(one).collect())
        .await
        .into_iter()
        .map(stored)
        .collect();
    assert!(sequences.is_sorted_by(|a, b| a < b) && sequences[0].0 >= 1);
    for reopened in [false, true] {
        for (sequence, event) in sequences.iter().zip(&events) {
            let kept = bench
                .journal
                .reader()
                .event(*sequence)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (&*kept.event, kept.sequence, kept.at),
                (event, *sequence, START),
                "reopened: {reopened}"
            );
            assert_eq!((kept.tenant, kept.origin), (name("default"), name("suite")));
        }
        let totals = bench.journal.reader().totals().await.unwrap();
        assert_eq!((totals.events, totals.last_sequence), (5, sequences[4].0));
        bench.reopen().await;
    }
    let leased = bench.lease(subscription, 9).await;
    assert_eq!(
        leased
            .iter()
            .map(|leased| (*leased.event).clone())
            .collect::<Vec<_>>(),
        events
    );
    assert!(
        bench
            .journal
            .reader()
            .event(Sequence(sequences[4].0 + 1))
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn events_are_read_page_by_page(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    assert_eq!(
        bench
            .journal
            .reader()
            .events(EventsFrom::Time(START), 9, usize::MAX)
            .await,
        Ok(EventPage::default())
    );
    assert_eq!(bench.journal.reader().last_event().await, Ok(None));
    let mut sequences = Vec::new();
    for minute in 0..5 {
        for _ in 0..2 {
            sequences.push(
                bench
                    .event_for(&format!("{minute}-{}", sequences.len()), &[])
                    .await
                    .0,
            );
        }
        tokio::time::advance(MINUTE).await;
    }
    bench.reopen().await;
    let reader = bench.journal.reader();
    assert_eq!(
        reader
            .last_event()
            .await
            .unwrap()
            .map(|stored| stored.sequence.0),
        sequences.last().copied()
    );
    let read = async |from, limit, bytes_max| {
        let EventPage {
            events,
            damaged,
            next,
        } = reader.events(from, limit, bytes_max).await.unwrap();
        assert_eq!(damaged, 0);
        assert!(
            events
                .iter()
                .all(|stored| stored.tenant == name("default") && stored.origin == name("suite"))
        );
        (
            events
                .iter()
                .map(|stored| stored.sequence.0)
                .collect::<Vec<_>>(),
            next.map(|next| next.0),
        )
    };
    let (start, behind) = (EventsFrom::Time(Timestamp(0)), |at: usize| {
        EventsFrom::After(Sequence(sequences[at]))
    });
    assert_eq!(read(start, 99, usize::MAX).await, (sequences.clone(), None));
    assert_eq!(
        read(start, 4, usize::MAX).await,
        (sequences[..4].to_vec(), Some(sequences[3]))
    );
    assert_eq!(
        read(behind(3), 6, usize::MAX).await,
        (sequences[4..].to_vec(), None)
    );
    assert_eq!(read(behind(9), 4, usize::MAX).await, (vec![], None));
    assert_eq!(
        read(behind(3), 6, 1).await,
        (vec![sequences[4]], Some(sequences[4])),
        "one at least"
    );
    for (since, first) in [
        (START, 0),
        (START.plus(MINUTE), 2),
        (START.plus(MINUTE * 3 / 2), 4),
        (START.plus(MINUTE * 4), 8),
        (START.plus(MINUTE * 5), 10),
    ] {
        assert_eq!(
            read(EventsFrom::Time(since), 99, usize::MAX).await,
            (sequences[first..].to_vec(), None),
            "{since}"
        );
    }
}

pub async fn an_append_is_all_or_nothing(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let known = bench.subscribe(&["r"]).await[0];
    let unknown = SubscriptionNumber(known.0 + 1);
    let append = Append {
        rejects: vec![Reject {
            raw: Bytes::from_static(b"?"),
            reason: "no".to_owned(),
        }],
        cursor: Some(Cursor {
            fingerprint: 1,
            position: Bytes::from_static(b"p"),
        }),
        ..append_of(vec![entry("a", &[known]), entry("b", &[unknown])])
    };
    assert!(matches!(
        bench.journal.append(append).await,
        Err(JournalError::NotFound(_))
    ));
    assert!(bench.lease(known, 1).await.is_empty());
    assert_eq!(bench.counts(known).await, Counts::default());
    assert_eq!(
        bench.journal.cursor(&name("default"), &name("suite")).await,
        Ok(None)
    );
    let totals = bench.journal.reader().totals().await.unwrap();
    assert_eq!((totals.events, totals.dead), (0, 0));
}

pub async fn duplicates_are_told_within_their_window_alone(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    let unique = |id: &str| Entry {
        deduplicate: Some(MINUTE),
        ..entry(id, &[subscription])
    };
    let appended = bench
        .append(vec![unique("a"), unique("a"), unique("b"), entry("a", &[])])
        .await;
    let a = stored(appended[0]);
    assert_eq!(appended[1], Appended::Duplicate(a));
    stored(appended[2]);
    stored(appended[3]);
    assert_eq!(bench.counts(subscription).await.created, 2);
    bench.reopen().await;
    tokio::time::advance(MINUTE / 2).await;
    assert_eq!(
        bench.append(vec![unique("a")]).await,
        [Appended::Duplicate(a)]
    );
    let other = Append {
        tenant: name("other"),
        ..append_of(vec![Entry {
            deduplicate: Some(MINUTE),
            ..entry("a", &[])
        }])
    };
    stored(bench.journal.append(other).await.unwrap()[0]);
    // Who sends by another source cannot take an identity from this one, neither before nor behind
    // it.
    let by = |origin, id| Append {
        origin: name(origin),
        ..append_of(vec![unique(id)])
    };
    let partner = stored(bench.journal.append(by("partner", "tick")).await.unwrap()[0]);
    let tick = stored(bench.append(vec![unique("tick")]).await[0]);
    for (origin, first) in [("partner", partner), ("suite", tick)] {
        assert_eq!(
            bench.journal.append(by(origin, "tick")).await,
            Ok(vec![Appended::Duplicate(first)])
        );
    }
    assert_eq!(
        bench
            .journal
            .append(by("partner", "a"))
            .await
            .map(|told| matches!(told[0], Appended::Stored(_))),
        Ok(true)
    );
    tokio::time::advance(MINUTE / 2).await;
    bench.implementation.upkeep().await;
    let again = bench.append(vec![unique("a")]).await;
    assert_ne!(stored(again[0]), a);
    assert_eq!(
        bench.append(vec![unique("a")]).await,
        [Appended::Duplicate(stored(again[0]))]
    );
    // The window is the asker's: a shorter one looks back less far.
    tokio::time::advance(MINUTE / 2).await;
    stored(
        bench
            .append(vec![Entry {
                deduplicate: Some(MINUTE / 4),
                ..entry("a", &[])
            }])
            .await[0],
    );
}

pub async fn cursors_are_kept_with_what_they_cover(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let cursor = |position: &'static str| {
        Some(Cursor {
            fingerprint: u64::MAX,
            position: Bytes::from_static(position.as_bytes()),
        })
    };
    for position in ["one", "two"] {
        bench
            .journal
            .append(Append {
                cursor: cursor(position),
                ..append_of(Vec::new())
            })
            .await
            .unwrap();
    }
    bench
        .journal
        .append(append_of(vec![entry("a", &[])]))
        .await
        .unwrap();
    bench
        .journal
        .append(Append {
            tenant: name("other"),
            cursor: cursor("x"),
            ..append_of(Vec::new())
        })
        .await
        .unwrap();
    bench.reopen().await;
    assert_eq!(
        bench.journal.cursor(&name("default"), &name("suite")).await,
        Ok(cursor("two"))
    );
    assert_eq!(
        bench.journal.cursor(&name("other"), &name("suite")).await,
        Ok(cursor("x"))
    );
    assert_eq!(
        bench.journal.cursor(&name("default"), &name("else")).await,
        Ok(None)
    );
}

pub async fn concurrent_appends_are_all_stored_once(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    let one = |id: u32| {
        bench.journal.append(append_of(vec![
            entry(&format!("a{id}"), &[subscription]),
            entry(&format!("b{id}"), &[]),
        ]))
    };
    let appended = futures::future::join_all((0..50).map(one)).await;
    let mut sequences: Vec<_> = appended
        .into_iter()
        .flat_map(|appended| appended.unwrap())
        .map(stored)
        .collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), 100);
    assert_eq!(bench.lease(subscription, 100).await.len(), 50);
}

pub async fn what_was_handed_over_happens_though_nobody_waits(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    let dropped = bench
        .journal
        .append(append_of(vec![entry("a", &[subscription])]))
        .now_or_never();
    drop(dropped);
    bench.event_for("b", &[subscription]).await;
    let leased = bench.lease(subscription, 2).await;
    assert_eq!(ids(&leased), ["a", "b"]);
    let settle = |leased: &Leased| Settlement::new(leased.token, Ending::Delivered);
    drop(
        bench
            .journal
            .settle(vec![settle(&leased[0])])
            .now_or_never(),
    );
    assert_eq!(
        bench.journal.settle(vec![settle(&leased[1])]).await,
        Ok(vec![SettleAnswer::Settled])
    );
    assert_eq!(bench.counts(subscription).await.delivered, 2);
}

pub async fn nothing_happens_after_the_close(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    bench.journal.close().await;
    bench.journal.close().await;
    assert_eq!(
        bench.journal.append(append_of(Vec::new())).await,
        Err(JournalError::Closed)
    );
    assert!(matches!(
        bench.journal.lease(&[], 0).await,
        Err(JournalError::Closed)
    ));
    assert_eq!(
        bench.journal.settle(Vec::new()).await,
        Err(JournalError::Closed)
    );
    assert_eq!(
        bench.journal.purge(&DeadSelection::default()).await,
        Err(JournalError::Closed)
    );
    assert_eq!(bench.journal.trouble(), Some(JournalError::Closed));
}
