//! Rows of sources' positions.

use std::collections::BTreeMap;

use bytes::Bytes;
use pointsman_schemas::{PositionChange, PositionRow, SubscriptionNumber};

use super::{Bench, Bounds, Implementation, MINUTE, ROOMY, append_of, entry, name, wanted};
use crate::{Append, Appended, Backlog, Entry, Journal, JournalError, Subscription};

/// An upsert.
pub fn upsert(key: &[u8], value: &[u8]) -> PositionChange {
    PositionChange {
        key: Bytes::copy_from_slice(key),
        value: Some(Bytes::copy_from_slice(value)),
    }
}

/// A deletion.
pub fn delete(key: &[u8]) -> PositionChange {
    PositionChange {
        key: Bytes::copy_from_slice(key),
        value: None,
    }
}

/// An append that changes rows and nothing else.
pub fn changing(positions: Vec<PositionChange>) -> Append {
    Append {
        positions,
        ..append_of(Vec::new())
    }
}

/// Every row of a source's position, read in pages of so many.
pub async fn rows(
    journal: &dyn Journal,
    tenant: &str,
    source: &str,
    limit: usize,
) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    let mut after: Option<Bytes> = None;
    loop {
        let page = journal
            .positions(&name(tenant), &name(source), after.as_deref(), limit)
            .await
            .unwrap();
        let is_last = page.len() < limit;
        assert!(page.len() <= limit, "a page of {}", page.len());
        after = page.last().map(|row| row.key.clone());
        rows.extend(
            page.into_iter()
                .map(|PositionRow { key, value }| (key, value)),
        );
        if is_last {
            return rows;
        }
    }
}

async fn own_rows(bench: &Bench<'_>) -> Vec<(Bytes, Bytes)> {
    rows(&*bench.journal, "default", "suite", 1_000).await
}

fn row(key: &'static [u8], value: &'static [u8]) -> (Bytes, Bytes) {
    (Bytes::from_static(key), Bytes::from_static(value))
}

pub async fn rows_of_a_position_are_upserted_deleted_and_read_in_pages(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let mut expected = BTreeMap::new();
    // Any bytes, in any order; an empty key and an empty value too.
    let keys = (0..=255_u8)
        .rev()
        .map(|n| vec![n.wrapping_mul(37), b'/', n]);
    let keys = keys.chain([Vec::new(), b"a".to_vec(), b"a\0".to_vec(), vec![255; 5_000]]);
    let changes: Vec<_> = keys
        .map(|key| {
            let value = key.iter().rev().copied().collect::<Vec<_>>();
            let change = upsert(&key, &value);
            expected.insert(Bytes::from(key), Bytes::from(value));
            change
        })
        .collect();
    bench.journal.append(changing(changes)).await.unwrap();
    let all = |expected: &BTreeMap<Bytes, Bytes>| expected.clone().into_iter().collect::<Vec<_>>();
    for limit in [1, 7, 1_000] {
        let read = rows(&*bench.journal, "default", "suite", limit).await;
        assert_eq!(read, all(&expected), "in pages of {limit}");
    }
    // Of two changes of one row the later holds; deleting what is not there changes nothing.
    bench
        .journal
        .append(changing(vec![
            upsert(b"a", b"first"),
            upsert(b"a", b"second"),
            delete(b"a\0"),
            delete(b"never was"),
            delete(b"back"),
            upsert(b"back", b"again"),
            upsert(b"brief", b"here"),
            delete(b"brief"),
        ]))
        .await
        .unwrap();
    expected.extend([row(b"a", b"second"), row(b"back", b"again")]);
    expected.remove(&b"a\0"[..]);
    assert_eq!(own_rows(&bench).await, all(&expected));
    bench.reopen().await;
    assert_eq!(own_rows(&bench).await, all(&expected));
    let deleted = expected.keys().map(|key| delete(key)).collect();
    bench.journal.append(changing(deleted)).await.unwrap();
    bench.reopen().await;
    assert_eq!(own_rows(&bench).await, []);
}

pub async fn rows_of_a_position_change_with_their_append_or_not_at_all(
    implementation: &dyn Implementation,
) {
    let bench = Bench::new(implementation).await;
    let known = bench.subscribe(&["r"]).await[0];
    let unique = |id: &str| Entry {
        deduplicate: Some(MINUTE),
        ..entry(id, &[known])
    };
    let with = |entries, value| Append {
        positions: vec![upsert(b"k", value)],
        ..append_of(entries)
    };
    bench
        .journal
        .append(with(vec![unique("1")], b"one"))
        .await
        .unwrap();
    assert_eq!(own_rows(&bench).await, [row(b"k", b"one")]);
    let unknown = SubscriptionNumber(known.0 + 1);
    let refused = bench
        .journal
        .append(with(vec![entry("2", &[unknown])], b"two"))
        .await;
    assert!(
        matches!(refused, Err(JournalError::NotFound(_))),
        "{refused:?}"
    );
    let full = Subscription {
        backlog: Some(Backlog {
            max: 1,
            dead_when_full: false,
        }),
        ..wanted("r")
    };
    bench.journal.subscribe(vec![full]).await.unwrap();
    let refused = bench
        .journal
        .append(with(vec![entry("3", &[known])], b"three"))
        .await;
    assert_eq!(refused, Err(JournalError::Backlog(known)));
    assert_eq!(own_rows(&bench).await, [row(b"k", b"one")]);
    // A duplicate adds nothing, and its append is one like any other.
    let twice = bench.journal.append(with(vec![unique("1")], b"four")).await;
    assert!(
        matches!(twice.as_deref(), Ok([Appended::Duplicate(_)])),
        "{twice:?}"
    );
    assert_eq!(own_rows(&bench).await, [row(b"k", b"four")]);
}

pub async fn rows_of_a_position_are_of_one_tenant_and_source(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let places = [
        ("default", "suite"),
        ("default", "other"),
        ("suite", "default"),
    ];
    let with = |(tenant, source): (&str, &str), changes| Append {
        tenant: name(tenant),
        origin: name(source),
        ..changing(changes)
    };
    for (number, place) in (b'0'..).zip(places) {
        let append = with(place, vec![upsert(b"k", &[number]), upsert(&[number], b"")]);
        bench.journal.append(append).await.unwrap();
    }
    bench
        .journal
        .append(with(places[1], vec![delete(b"k")]))
        .await
        .unwrap();
    let read = async |(tenant, source)| rows(&*bench.journal, tenant, source, 1).await;
    assert_eq!(read(places[0]).await, [row(b"0", b""), row(b"k", b"0")]);
    assert_eq!(read(places[1]).await, [row(b"1", b"")]);
    assert_eq!(read(places[2]).await, [row(b"2", b""), row(b"k", b"2")]);
    assert_eq!(read(("other", "suite")).await, []);
}

pub async fn rows_of_a_position_count_against_the_bound(implementation: &dyn Implementation) {
    let bounds = Bounds {
        bytes_max: 4 << 20,
        ..ROOMY
    };
    let bench = Bench::bounded(implementation, bounds).await;
    let large = vec![7; 8 << 20];
    for change in [upsert(b"k", &large), upsert(&large, b"v")] {
        let refused = bench.journal.append(changing(vec![change])).await;
        assert!(matches!(refused, Err(JournalError::Full(_))), "{refused:?}");
    }
    assert_eq!(own_rows(&bench).await, []);
    bench
        .journal
        .append(changing(vec![upsert(b"k", b"v"), delete(&large)]))
        .await
        .unwrap();
    assert_eq!(own_rows(&bench).await, [row(b"k", b"v")]);
}
