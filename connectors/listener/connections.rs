//! The open connections of a listener, and which of them gives way where there are too many.
//!
//! ```text
//!  Waiting ──head──▶ Reading ──body──▶ Working ──answer──▶ Answering ──flush──▶ Waiting
//!     └─────────────────┴──── gives way where room is needed ────▶ Leaving
//! ```
//!
//! Whoever says nothing, says it slowly or has nothing more to say costs others nothing: at the
//! bound the connection that has waited longest for a head gives way, then the one that has waited
//! longest for a body. A request that is whole is never broken off: from then on it may have been
//! stored.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a listener counts of its connections since it was bound.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    /// How many are open now.
    pub open: AtomicU64,
    /// Those that gave way to others because they were idle or slow.
    pub gave_way: AtomicU64,
    /// Requests to probe paths that were answered past the bound.
    pub probes_past_bound: AtomicU64,
    /// Other requests past the bound, which were turned away.
    pub turned_away: AtomicU64,
    /// Times that no connection could be accepted, which is a lack of descriptors most of the time.
    pub accept_errors: AtomicU64,
}

/// Where a connection stands in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// No request yet, part of a head, or nothing since the last answer.
    Waiting,
    /// A head, and not yet all of its body.
    Reading,
    /// A whole request that is not answered.
    Working,
    /// An answer that is not on its way yet.
    Answering,
    /// Gives way, and ends in a moment.
    Leaving,
}

/// One connection, shared between those who talk on it and those who may want it to end.
#[derive(Debug)]
pub(super) struct Line {
    /// The state, and since when where it is one in which the connection may give way.
    place: Mutex<(State, Instant)>,
    /// True where it was let in past the bound, for a probe.
    pub(super) past_bound: bool,
    /// True where all of the body has come that belongs to the last head.
    has_all: AtomicBool,
    /// [`FINISH`] or [`LEAVE`], once it is to end.
    told: AtomicU8,
    waker: AtomicWaker,
    /// Whether somebody asks if the caller is still there, and whether he is not.
    watched: AtomicBool,
    gone: AtomicBool,
    room: Arc<Room>,
}

/// What a connection is told: to end when its request is answered, or at once.
const FINISH: u8 = 1;
const LEAVE: u8 = 2;

/// How the accept loop hears that there may be room.
#[derive(Debug, Default)]
struct Room {
    changed: Notify,
    /// True while somebody waits: else nobody needs to be told.
    wanted: AtomicBool,
}

impl Room {
    fn tell(&self) {
        if self.wanted.load(Ordering::Acquire) {
            self.changed.notify_one();
        }
    }
}

impl Line {
    /// A head has come; `whole` says that there is no body to wait for. False where the connection
    /// gives way: then nothing may be done.
    pub(super) fn began(&self, whole: bool) -> bool {
        self.enter(if whole {
            State::Working
        } else {
            State::Reading
        })
    }

    /// The body has come. False as of [`Line::began`].
    pub(super) fn read(&self) -> bool {
        self.enter(State::Working)
    }

    /// There is an answer.
    pub(super) fn answered(&self) {
        self.enter(State::Answering);
    }

    /// True where a service's answer is being written.
    pub(super) fn is_answering(&self) -> bool {
        self.place.lock().0 == State::Answering
    }

    /// Everything that was to be written is.
    pub(super) fn flushed(&self) {
        let mut place = self.place.lock();
        if place.0 == State::Answering {
            *place = (State::Waiting, Instant::now());
            drop(place);
            self.room.tell();
        }
    }

    /// Says of what has been read from the socket whether a body in it is whole.
    pub(super) fn came(&self, has_all: bool) {
        self.has_all.store(has_all, Ordering::Relaxed);
    }

    /// Whether nothing of the body is still to come.
    pub(super) fn has_all(&self) -> bool {
        self.has_all.load(Ordering::Relaxed)
    }

    /// Has the socket looked at whenever the connection is: is the caller still there?
    pub(super) fn watch(&self) {
        self.watched.store(true, Ordering::Relaxed);
    }

    /// Whether that is to be found out.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// The caller sends nothing more.
    pub(super) fn left(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Since when nothing has been asked; none while something is.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let (state, since) = *self.place.lock();
        (state == State::Waiting).then_some(since)
    }

    /// Ends once it is to give way. For the one task of the connection: each look costs two atomic
    /// operations, where a token that all connections share would cost locks.
    pub(super) async fn leaves(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.told.load(Ordering::Acquire) >= LEAVE {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Ends once it is to take no further request. Only to be waited for within the task that waits
    /// for [`Line::leaves`], which wakes for both.
    pub(super) async fn finishes(&self) {
        poll_fn(|_| {
            if self.told.load(Ordering::Acquire) >= FINISH {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::AcqRel);
        self.waker.wake();
    }

    fn enter(&self, state: State) -> bool {
        let mut place = self.place.lock();
        if place.0 == State::Leaving {
            return false;
        }
        // Nobody asks since when a request has been whole.
        let since = if state == State::Reading {
            Instant::now()
        } else {
            place.1
        };
        *place = (state, since);
        drop(place);
        if state == State::Reading {
            self.room.tell();
        }
        true
    }

    /// Where it stands among those that may give way: the least first.
    fn rank(&self) -> Option<(State, Instant)> {
        let place = *self.place.lock();
        matches!(place.0, State::Waiting | State::Reading).then_some(place)
    }

    /// Makes it give way, unless its request has become whole in the meantime.
    fn give_way(&self) -> bool {
        let mut place = self.place.lock();
        let may = matches!(place.0, State::Waiting | State::Reading);
        if may {
            place.0 = State::Leaving;
            self.tell(LEAVE);
        }
        may
    }

    fn is_leaving(&self) -> bool {
        self.place.lock().0 == State::Leaving
    }
}

#[derive(Debug, Default)]
struct Table {
    lines: BTreeMap<u64, Arc<Line>>,
    next: u64,
}

/// All connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    table: Mutex<Table>,
    room: Arc<Room>,
    counts: Arc<ConnectionCounts>,
}

/// A connection's place among all; dropping it says that it has ended.
#[derive(Debug)]
pub(super) struct Open {
    id: u64,
    pub(super) line: Arc<Line>,
    all: Arc<Connections>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.table.lock().lines.remove(&self.id);
        self.all.counts.open.fetch_sub(1, Ordering::Relaxed);
        self.all.room.tell();
    }
}

impl Connections {
    pub(super) fn new(max: usize, counts: Arc<ConnectionCounts>) -> Arc<Self> {
        Arc::new(Self {
            max,
            table: Mutex::default(),
            room: Arc::default(),
            counts,
        })
    }

    /// A place for one more: at once, or once another has given way or ended. Up to `past_bound`
    /// places more are given where none can give way. Safe to cancel; one caller at a time.
    pub(super) async fn place(self: &Arc<Self>, past_bound: usize) -> Open {
        self.room.wanted.store(true, Ordering::Release);
        loop {
            // What changes from here on leaves a permit behind, so no change between the look and
            // the wait is missed.
            if let Some(open) = self.try_place(past_bound) {
                self.room.wanted.store(false, Ordering::Release);
                return open;
            }
            self.room.changed.notified().await;
        }
    }

    fn try_place(self: &Arc<Self>, past_bound: usize) -> Option<Open> {
        let mut table = self.table.lock();
        let open = table.lines.len();
        if open < self.max {
            return Some(self.insert(&mut table, false));
        }
        let leaving = table
            .lines
            .values()
            .filter(|line| line.is_leaving())
            .count();
        // One that leaves is gone in a moment, and so is the reason to ask another.
        if open - leaving < self.max
            || self.one_gives_way(&table)
            || open >= self.max.saturating_add(past_bound)
        {
            return None;
        }
        Some(self.insert(&mut table, true))
    }

    /// A place past the bound, whatever the number: for a connection on the descriptor that is kept
    /// for probes.
    pub(super) fn place_on_spare(self: &Arc<Self>) -> Open {
        self.insert(&mut self.table.lock(), true)
    }

    fn insert(self: &Arc<Self>, table: &mut Table, past_bound: bool) -> Open {
        let place = Mutex::new((State::Waiting, Instant::now()));
        let (has_all, told, waker, room) = (
            AtomicBool::new(false),
            AtomicU8::new(0),
            AtomicWaker::new(),
            Arc::clone(&self.room),
        );
        let line = Arc::new(Line {
            place,
            past_bound,
            has_all,
            told,
            waker,
            watched: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            room,
        });
        let id = table.next;
        table.next += 1;
        table.lines.insert(id, Arc::clone(&line));
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        Open {
            id,
            line,
            all: Arc::clone(self),
        }
    }

    /// Has every connection end when its request is answered.
    pub(super) fn finish(&self) {
        self.table
            .lock()
            .lines
            .values()
            .for_each(|line| line.tell(FINISH));
    }

    /// Makes the one give way that has waited longest; false where all are at work.
    pub(super) fn make_room(&self) -> bool {
        self.one_gives_way(&self.table.lock())
    }

    fn one_gives_way(&self, table: &Table) -> bool {
        let mut waiting: Vec<_> = table
            .lines
            .values()
            .filter_map(|line| Some((line.rank()?, line)))
            .collect();
        while let Some(oldest) =
            (0..waiting.len()).min_by_key(|index| waiting.get(*index).map(|(rank, _)| *rank))
        {
            let (_, line) = waiting.swap_remove(oldest);
            if line.give_way() {
                self.counts.gave_way.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn connections(max: usize) -> Arc<Connections> {
        Connections::new(max, Arc::default())
    }

    fn place(all: &Arc<Connections>, past_bound: usize) -> Option<Open> {
        all.place(past_bound).now_or_never()
    }

    async fn tick() {
        tokio::time::advance(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_gives_way_then_the_slowest_body_and_a_whole_request_never() {
        let all = connections(4);
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(place(&all, 0).unwrap());
            tick().await;
        }
        let lines: Vec<_> = open.iter().map(|open| Arc::clone(&open.line)).collect();
        assert!(lines[0].began(false) && lines[1].began(true));
        // The third has waited longest for a head; while it leaves, nobody else has to.
        assert!(place(&all, 0).is_none() && place(&all, 0).is_none());
        let left: Vec<_> = lines.iter().map(|line| line.is_leaving()).collect();
        assert_eq!(left, [false, false, true, false]);
        assert!(!lines[2].began(true), "too late: nothing may be done on it");
        drop(open.remove(2));
        open.push(place(&all, 0).unwrap());
        assert!(open[3].line.began(true));
        // Then the fourth, then the first, whose body is not there; and nobody else.
        assert!(place(&all, 0).is_none() && lines[3].is_leaving());
        drop(open.remove(2));
        open.push(place(&all, 0).unwrap());
        assert!(open[3].line.began(true) && place(&all, 0).is_none() && lines[0].is_leaving());
        assert!(!lines[0].read());
        drop(open.remove(0));
        open.push(place(&all, 0).unwrap());
        assert!(open[3].line.began(true) && place(&all, 0).is_none());
        assert!(open.iter().all(|open| !open.line.is_leaving()));
        assert_eq!(
            (
                all.counts.open.load(Ordering::Relaxed),
                all.counts.gave_way.load(Ordering::Relaxed)
            ),
            (4, 3)
        );
        // Past the bound there is a place for a probe, while all are at work.
        let probe = place(&all, 1).unwrap();
        assert!(probe.line.past_bound && place(&all, 1).is_none());
        assert!(probe.line.is_leaving(), "a silent one gives way there too");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_told_of_an_end_and_of_an_answer_that_is_out() {
        let all = connections(1);
        let first = place(&all, 0).unwrap();
        assert!(first.line.began(false) && first.line.read());
        let waiting = tokio::spawn({
            let all = Arc::clone(&all);
            async move { all.place(0).await }
        });
        tokio::task::yield_now().await;
        first.line.answered();
        tokio::task::yield_now().await;
        assert!(!first.line.is_leaving(), "its answer is not out yet");
        first.line.flushed();
        first.line.leaves().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(!waiting.await.unwrap().line.past_bound);
        assert_eq!(all.counts.open.load(Ordering::Relaxed), 0);
    }
}
