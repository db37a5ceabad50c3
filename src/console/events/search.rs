//! A search through the retained events from the newest back. The journal reads them forwards only,
//! so spans of time are read, each before the one that was read last and longer than that as long
//! as there is little in them. How much one search looks at is bounded: then it says where to go on.

use std::collections::VecDeque;
use std::time::Duration;

use pointsman_journal::{EventsFrom, JournalError, Reader, ShardNumber, StoredEvent};
use pointsman_rules::{Document, Filter, Scratch};
use pointsman_schemas::{Sequence, Timestamp};

use super::super::fields::Fields;

/// Events that are read at once, and their bytes.
const READ_AT_ONCE: usize = 1_000;
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Events that one search looks at.
const LOOKED_AT_MAX: usize = 20_000;

/// Of one span no more are read, for it to be made shorter where there are more in it.
const OF_A_SPAN_MAX: usize = 5_000;

/// The first span, the shortest, and how much longer the next one is.
const SPAN_FIRST: Duration = Duration::from_secs(1);
const SPAN_MIN: Duration = Duration::from_micros(1);
const LONGER: u32 = 8;

/// No event is older than the epoch of this program.
const OLDEST: Timestamp = Timestamp(1_577_836_800_000_000);

/// A place among the events: when it was stored, and which it is.
type Place = (Timestamp, Sequence);

/// What is looked for. What is empty is not asked for.
#[derive(Debug)]
pub(in crate::console) struct Wanted {
    event_type: String,
    source: String,
    subject: String,
    id: String,
    origin: String,
    tenant: String,
    since: Option<Timestamp>,
    filter: Option<Filter>,
    /// Before this place.
    before: Place,
}

impl Wanted {
    /// What the fields of a page say.
    ///
    /// # Errors
    /// What is wrong with one of them, in words.
    pub(in crate::console) fn of(asked: &Fields, now: Timestamp) -> Result<Self, String> {
        let text = |name: &str| asked.text(name).trim().to_owned();
        let pattern = asked.text("pattern");
        let filter = match pattern.is_empty() {
            true => None,
            false => Some(super::written_filter(pattern)?),
        };
        let until = moment(asked.text("until"))?;
        // What is stored while this is read is of the next search.
        let latest = until.unwrap_or(Timestamp(now.0.saturating_add(1_000_000)));
        let before = match asked.text("before").split_once('.') {
            None => (latest, Sequence(0)),
            Some((at, sequence)) => {
                let number = |text: &str| {
                    text.parse::<u64>()
                        .map_err(|_| "before is no place of a list".to_owned())
                };
                let at = i64::try_from(number(at)?).unwrap_or(i64::MAX);
                (Timestamp(at), Sequence(number(sequence)?))
            }
        };
        Ok(Self {
            event_type: text("type"),
            source: text("source"),
            subject: text("subject"),
            id: text("id"),
            origin: text("origin"),
            tenant: text("tenant"),
            since: moment(asked.text("since"))?,
            filter,
            before,
        })
    }

    fn admits(&self, one: &StoredEvent, scratch: &mut Scratch) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let is_type = match self.event_type.strip_suffix('*') {
            Some(start) => one.event.ty().starts_with(start),
            None => is(&self.event_type, one.event.ty()),
        };
        is_type
            && is(&self.source, one.event.source())
            && is(&self.subject, one.event.subject().unwrap_or_default())
            && is(&self.id, one.event.id())
            && is(&self.origin, one.origin.as_str())
            && is(&self.tenant, one.tenant.as_str())
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.holds(&Document::event(&one.event), scratch))
    }
}

fn moment(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let read: Result<jiff::Timestamp, _> = text.trim().parse();
    let read =
        read.map_err(|_| format!("{text:?} is no time; write it as 2026-01-31T09:30:00Z"))?;
    Ok(Some(Timestamp(read.as_microsecond())))
}

/// What a search has found.
#[derive(Debug, Default)]
pub(in crate::console) struct Found {
    /// The newest first.
    pub(in crate::console) events: Vec<StoredEvent>,
    /// Before which place to go on; none where there is nothing before it.
    pub(in crate::console) next: Option<String>,
    pub(in crate::console) looked_at: usize,
}

/// The newest events that are wanted, at most `limit`.
///
/// # Errors
/// [`JournalError::Io`].
pub(in crate::console) async fn search(
    reader: &dyn Reader,
    wanted: &Wanted,
    limit: usize,
) -> Result<Found, JournalError> {
    let (mut found, mut span) = (Found::default(), SPAN_FIRST);
    let oldest = wanted.since.unwrap_or(OLDEST);
    // What was stored at the same time as the last one of the page before is read again.
    let mut end = wanted.before.0.plus(SPAN_MIN);
    while end > oldest {
        let start = Timestamp(end.minus(span).0.max(oldest.0));
        let room = limit - found.events.len();
        let Some(read) = read(reader, wanted, (start, end), room).await? else {
            found.looked_at += OF_A_SPAN_MAX;
            span = (span / LONGER).max(SPAN_MIN);
            if found.looked_at >= LOOKED_AT_MAX {
                found.next = Some(place((end, Sequence(0))));
                return Ok(found);
            }
            continue;
        };
        found.looked_at += read.looked_at;
        found.events.extend(read.events.into_iter().rev());
        end = start;
        if found.events.len() >= limit {
            let last = found.events.last();
            found.next = last.map(|last| place((last.at, last.sequence)));
            return Ok(found);
        }
        if found.looked_at >= LOOKED_AT_MAX {
            found.next = Some(place((end, Sequence(0))));
            return Ok(found);
        }
        span = span.saturating_mul(LONGER);
    }
    Ok(found)
}

fn place((at, sequence): Place) -> String {
    format!("{}.{}", at.0, sequence.0)
}

/// What one span holds of what is wanted.
struct Read {
    /// The last ones, the oldest first.
    events: VecDeque<StoredEvent>,
    looked_at: usize,
}

/// Reads a span of time. None where there is more in it than may be read and it can be shorter.
async fn read(
    reader: &dyn Reader,
    wanted: &Wanted,
    (start, end): (Timestamp, Timestamp),
    limit: usize,
) -> Result<Option<Read>, JournalError> {
    let mut read = Read {
        events: VecDeque::new(),
        looked_at: 0,
    };
    let (mut from, mut scratch) = (EventsFrom::Time(start), Scratch::default());
    loop {
        let page = reader.events(from, READ_AT_ONCE, READ_BYTES_MAX).await?;
        let mut next = page.next;
        for one in page.events {
            // Of this shard of a cluster that was all. On one machine there is no other.
            if one.at >= end {
                next = Some(ShardNumber::of(one.sequence).last());
                break;
            }
            // Where the clock was once set back.
            if one.at < start {
                continue;
            }
            read.looked_at += 1;
            if (one.at, one.sequence) < wanted.before && wanted.admits(&one, &mut scratch) {
                read.events.push_back(one);
            }
        }
        // Shards are read one after the other.
        let all = read.events.make_contiguous();
        all.sort_by_key(|one| (one.at, one.sequence));
        let too_many = read.events.len().saturating_sub(limit);
        read.events.drain(..too_many);
        match next {
            Some(next) => from = EventsFrom::AfterSince(next, start),
            None => return Ok(Some(read)),
        }
        if read.looked_at >= OF_A_SPAN_MAX && end.0 - start.0 > 1 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
    use pointsman_journal::{Append, Entry, Journal};
    use pointsman_schemas::{Clock, Event};

    use super::*;
    use crate::admin::testing::name;

    #[tokio::test(start_paused = true)]
    async fn pages_go_back_and_miss_nothing() {
        let clock = Arc::new(RuntimeClock::new(Timestamp(OLDEST.0 + 1_000_000_000_000)));
        let journal = MemoryJournal::new(clock.clone(), MemoryOptions::default());
        // Many at once, then few, then a long time with none.
        let mut expect = Vec::new();
        for (count, wait) in [(130, 0), (1, 1), (1, 3_600), (70, 7_200), (1, 5)] {
            let entry = |index: usize| Entry {
                event: Arc::new(
                    Event::builder(
                        format!("{index}"),
                        "/s",
                        if index.is_multiple_of(3) {
                            "third"
                        } else {
                            "other"
                        },
                    )
                    .build()
                    .unwrap(),
                ),
                deliveries: Default::default(),
                deduplicate: None,
                dead: None,
                terms: None,
            };
            let first = expect.len();
            let append = Append {
                tenant: name("default"),
                origin: name("orders"),
                entries: (first..first + count).map(entry).collect(),
                rejects: Vec::new(),
                cursor: None,
                positions: Vec::new(),
            };
            journal.append(append).await.unwrap();
            expect.extend(first..first + count);
            tokio::time::advance(Duration::from_secs(wait)).await;
        }
        expect.reverse();
        let ids = async |query: &str| {
            let (mut seen, mut fields) = (Vec::new(), Fields::of(query.as_bytes()));
            loop {
                let wanted = Wanted::of(&fields, clock.now()).unwrap();
                let found = search(&*journal.reader(), &wanted, 50).await.unwrap();
                assert!(found.events.len() <= 50);
                seen.extend(
                    found
                        .events
                        .iter()
                        .map(|one| one.event.id().parse::<usize>().unwrap()),
                );
                match found.next {
                    Some(next) => fields = fields.with("before", Some(&next)),
                    None => return seen,
                }
            }
        };
        assert_eq!(ids("").await, expect);
        let third: Vec<usize> = expect
            .iter()
            .copied()
            .filter(|id| id.is_multiple_of(3))
            .collect();
        assert_eq!(ids("type=third").await, third);
        assert_eq!(ids("type=th*").await, third);
        assert_eq!(ids("pattern={type: [third]}&origin=orders").await, third);
        assert_eq!(ids("id=7").await, [7]);
        assert_eq!(ids("tenant=nobody").await, [0; 0]);
        let since = Timestamp(clock.now().0 - 10_000_000).to_string();
        assert_eq!(ids(&format!("since={since}")).await, [202]);
        for wrong in [
            "since=yesterday",
            "pattern={type: third}",
            "pattern=[",
            "before=1.x",
        ] {
            assert!(
                Wanted::of(&Fields::of(wrong.as_bytes()), clock.now()).is_err(),
                "{wrong}"
            );
        }
    }
}
