//! Reads for all followers of a log, with one statement for all of them at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, mpsc::OwnedPermit};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::pool::Pool;
use super::session::Session;
use crate::{Cluster, FollowError, Follower, Next, Place, Shard};

/// The pause between two looks. Followers gather what they take for longer than that.
const PAUSE: Duration = Duration::from_millis(50);

/// The pause once nothing has come for so long: an idle cluster costs the engine little.
const PAUSE_IDLE: Duration = Duration::from_millis(200);
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// A page ends once it is larger than this, or has so many records.
const PAGE_BYTES: usize = 1 << 20;
const PAGE_RECORDS: usize = 256;

/// How many pages a follower has read ahead.
const PAGES: usize = 4;

type Page = Result<Vec<Next>, FollowError>;

/// What reads for the followers of one log.
pub(super) struct Reader {
    followers: UnboundedSender<Followed>,
    /// A follower has taken a page.
    taken: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// A follower, as the reader knows it.
struct Followed {
    shard: Shard,
    after: Place,
    pages: Sender<Page>,
}

impl Reader {
    pub(super) fn start(
        cluster: Cluster,
        schema: &str,
        pool: Pool,
        timeout: Duration,
    ) -> Arc<Self> {
        let (followers, new) = mpsc::unbounded_channel();
        let taken = Arc::new(Notify::new());
        let reading = Reading {
            statement: statement(schema),
            cluster,
            pool,
            timeout,
            new,
            followers: Vec::new(),
            taken: Arc::clone(&taken),
        };
        Arc::new(Self {
            followers,
            taken,
            _task: AbortOnDropHandle::new(tokio::spawn(reading.run())),
        })
    }

    /// Follows a shard that is there.
    pub(super) fn follow(self: &Arc<Self>, shard: Shard, after: Place) -> Follower {
        let (pages, from) = mpsc::channel(PAGES);
        let followed = Followed {
            shard,
            after,
            pages,
        };
        // Where the reader has ended, the stream says so.
        let _ = self.followers.send(followed);
        let following = Following {
            reader: Arc::clone(self),
            shard,
            from,
            page: VecDeque::new(),
            is_over: false,
        };
        stream::unfold(following, async |mut following| {
            let next = following.next().await?;
            Some((next, following))
        })
        .boxed()
    }
}

/// A follower, as its stream knows it.
struct Following {
    reader: Arc<Reader>,
    shard: Shard,
    from: Receiver<Page>,
    page: VecDeque<Next>,
    is_over: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Result<Next, FollowError>> {
        loop {
            if let Some(next) = self.page.pop_front() {
                return Some(Ok(next));
            }
            if self.is_over {
                return None;
            }
            match self.from.recv().await {
                Some(Ok(page)) => {
                    self.page = page.into();
                    self.reader.taken.notify_one();
                }
                Some(Err(error)) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
                None => {
                    self.is_over = true;
                    return Some(Err(FollowError::Ended(self.shard)));
                }
            }
        }
    }
}

/// The pages of all followers that have something to be told. What is trimmed and not yet removed
/// is not read, and of bodies no more than the page that they belong to.
fn statement(schema: &str) -> String {
    format!(
        "SELECT f.number, h.first, h.last, r.place, r.body \
         FROM unnest($1::int4[], $2::int4[], $3::int8[]) AS f (number, shard, after) \
         JOIN {schema}.head h ON h.shard = f.shard \
         LEFT JOIN LATERAL (SELECT sized.place, sized.body FROM (\
             SELECT page.place, page.body, \
                 sum(octet_length(page.body)) OVER (ORDER BY page.place) - octet_length(page.body) AS before \
             FROM (SELECT l.place, l.body FROM {schema}.log l \
                 WHERE l.shard = f.shard AND l.place > greatest(f.after, h.first - 1) \
                 ORDER BY l.place LIMIT {PAGE_RECORDS}) page) sized \
             WHERE sized.before < {PAGE_BYTES}) r ON true \
         WHERE h.last <> f.after OR h.first > f.after + 1 \
         ORDER BY f.number, r.place"
    )
}

/// One row of the answer.
struct Row {
    follower: usize,
    first: Place,
    last: Place,
    record: Option<(Place, Bytes)>,
}

impl Row {
    fn of(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let place = |place: i64| Place(u64::try_from(place).unwrap_or_default());
        let (number, first, last): (i32, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let at: Option<i64> = row.try_get(3)?;
        let body: Option<&[u8]> = row.try_get(4)?;
        Ok(Self {
            follower: usize::try_from(number).unwrap_or(usize::MAX),
            first: place(first),
            last: place(last),
            record: at
                .zip(body)
                .map(|(at, body)| (place(at), Bytes::copy_from_slice(body))),
        })
    }
}

/// What a look has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    /// Everything that there was.
    All,
    /// There is more, to be read at once.
    More,
}

struct Reading {
    statement: String,
    cluster: Cluster,
    pool: Pool,
    timeout: Duration,
    new: UnboundedReceiver<Followed>,
    followers: Vec<Followed>,
    taken: Arc<Notify>,
}

impl Reading {
    async fn run(mut self) {
        let mut came = Instant::now();
        loop {
            while let Ok(followed) = self.new.try_recv() {
                self.followers.push(followed);
                came = Instant::now();
            }
            self.followers
                .retain(|followed| !followed.pages.is_closed());
            if self.followers.is_empty() {
                match self.new.recv().await {
                    Some(followed) => self.followers.push(followed),
                    // The log and all of its followers are gone.
                    None => return,
                }
            }
            let ready = self.ready();
            let has_room = ready.len() == self.followers.len();
            match self.look(ready).await {
                Found::More => continue,
                Found::All => came = Instant::now(),
                Found::Nothing => {}
            }
            let pause = match came.elapsed() < IDLE_AFTER {
                true => PAUSE,
                false => PAUSE_IDLE,
            };
            tokio::select! {
                // Somebody who had enough goes on reading.
                () = self.taken.notified(), if !has_room => {}
                Some(followed) = self.new.recv() => {
                    self.followers.push(followed);
                    came = Instant::now();
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// Reads a page for everybody who has room for one.
    async fn look(&mut self, ready: Vec<(usize, OwnedPermit<Page>)>) -> Found {
        if ready.is_empty() {
            return Found::Nothing;
        }
        let numbers: Vec<i32> = (0..).take(ready.len()).collect();
        let of = |index: &usize| self.followers.get(*index);
        let followers = || ready.iter().filter_map(|(index, _)| of(index));
        let shards: Vec<i32> = followers().map(|of| i32::from(of.shard.0)).collect();
        let afters: Vec<i64> = followers()
            .map(|of| i64::try_from(of.after.0).unwrap_or(i64::MAX - 1))
            .collect();
        let look = async |session: &Session| {
            let statement = session.prepared(&self.statement).await?;
            let rows = session
                .client()
                .query(&statement, &[&numbers, &shards, &afters])
                .await?;
            rows.iter().map(Row::of).collect::<Result<Vec<_>, _>>()
        };
        let rows = match self.pool.run(Instant::now() + self.timeout, look).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, cluster = %self.cluster.name(), "the log cannot be read");
                return Found::Nothing;
            }
        };
        self.hand_out(ready, rows)
    }

    /// The followers that have room for a page, with that room.
    fn ready(&self) -> Vec<(usize, OwnedPermit<Page>)> {
        let followers = self.followers.iter().enumerate();
        followers
            .filter_map(|(index, followed)| {
                let room = followed.pages.clone().try_reserve_owned().ok()?;
                Some((index, room))
            })
            .collect()
    }

    fn hand_out(&mut self, ready: Vec<(usize, OwnedPermit<Page>)>, rows: Vec<Row>) -> Found {
        let mut found = Found::Nothing;
        let mut rows = rows.into_iter().peekable();
        for (number, (index, room)) in ready.into_iter().enumerate() {
            let mut own = Vec::new();
            while let Some(row) = rows.next_if(|row| row.follower == number) {
                own.push(row);
            }
            let Some(followed) = self.followers.get_mut(index).filter(|_| !own.is_empty()) else {
                continue;
            };
            let last = own.first().map(|row| row.last);
            let page = followed.page(own);
            let is_whole = page.is_err() || last.is_none_or(|last| last <= followed.after);
            found = found.max(if is_whole { Found::All } else { Found::More });
            if page.is_err() {
                // Closed, so that nothing is read for it any more.
                followed.pages = mpsc::channel(1).0;
            }
            room.send(page);
        }
        found
    }
}

impl Followed {
    /// Makes a page of the rows for this follower, of which there is one at least. All of them are
    /// of one snapshot: whatever is between `first` and `last` has to be there.
    fn page(&mut self, rows: Vec<Row>) -> Page {
        let shard = self.shard;
        let mut page = Vec::with_capacity(rows.len());
        for Row {
            first,
            last,
            record,
            ..
        } in rows
        {
            if self.after > last {
                let after = self.after;
                return Err(FollowError::Ahead { shard, after, last });
            }
            if self.after.next() < first {
                self.after = Place(first.0 - 1);
                page.push(Next::Trimmed { first });
            }
            let expected = self.after.next();
            match record {
                Some((place, body)) if place == expected => {
                    self.after = place;
                    page.push(Next::Record { place, body });
                }
                None if expected > last => {}
                _ if page.is_empty() => {
                    return Err(FollowError::Lost {
                        shard,
                        place: expected,
                    });
                }
                // What is whole is read first; the next look finds the gap again.
                _ => break,
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(first: u64, last: u64, place: Option<u64>) -> Row {
        Row {
            follower: 0,
            first: Place(first),
            last: Place(last),
            record: place.map(|place| (Place(place), "x".into())),
        }
    }

    /// What a follower behind a place makes of these rows, as places; `trimmed` as negative ones.
    fn check(after: u64, rows: Vec<Row>, expect: Result<Vec<i64>, FollowError>) {
        let mut followed = Followed {
            shard: Shard(3),
            after: Place(after),
            pages: mpsc::channel(1).0,
        };
        let page = followed.page(rows).map(|page| {
            let places = page.into_iter().map(|next| match next {
                Next::Record { place, .. } => i64::try_from(place.0).unwrap(),
                Next::Trimmed { first } => -i64::try_from(first.0).unwrap(),
            });
            places.collect()
        });
        assert_eq!(page, expect);
    }

    #[test]
    fn a_gap_is_never_read_over() {
        let rows = |places: &[u64]| places.iter().map(|place| row(3, 9, Some(*place))).collect();
        let lost = |place| FollowError::Lost {
            shard: Shard(3),
            place: Place(place),
        };
        check(2, rows(&[3, 4, 5]), Ok(vec![3, 4, 5]));
        check(1, rows(&[3, 4]), Ok(vec![-3, 3, 4]));
        check(2, rows(&[3, 5]), Ok(vec![3]));
        check(3, rows(&[5]), Err(lost(4)));
        check(3, vec![row(3, 9, None)], Err(lost(4)));
        check(3, vec![row(10, 9, None)], Ok(vec![-10]));
        check(9, vec![row(10, 9, None)], Ok(vec![]));
        check(
            10,
            vec![row(3, 9, None)],
            Err(FollowError::Ahead {
                shard: Shard(3),
                after: Place(10),
                last: Place(9),
            }),
        );
    }
}
