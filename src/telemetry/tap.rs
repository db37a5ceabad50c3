//! What passes, for whoever looks at it live: events as they are stored, attempts as they end.
//!
//! While nobody looks it costs one load of a number. It never slows the bus: of what passes a
//! listener gets no more than it asked for in a time, its queue is bounded, and what has no place
//! in either is left out and counted.

mod listening;
mod passing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use pointsman_journal::SubscriptionIdentity;
use pointsman_rules::Filter;
use pointsman_schemas::{Class, Event, Name};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::listening::Pace;
pub use self::listening::{Heard, Listening};
pub use self::passing::{Next, PassedAttempt, PassedEvent, Passing};

/// How many listen at once, at most: each costs what passes its part.
const LISTENERS_MAX: usize = 16;

/// What lies in a listener's queue at most.
const QUEUED_MAX: usize = 1_024;

/// Bytes of the events there, likewise; the one that crosses the bound may exceed it.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Which of what passes somebody wants to see. What is left empty is not asked for.
#[derive(Debug, Default)]
pub struct TapFilter {
    /// Events, attempts, or both where neither is said.
    pub only: Option<PassingKind>,
    pub tenant: Option<Name>,
    /// The source that the event came from.
    pub source: Option<Name>,
    /// A rule; of attempts alone.
    pub rule: Option<Name>,
    /// A target; of attempts alone.
    pub target: Option<Name>,
    /// The event's type; a `*` at its end stands for anything.
    pub event_type: Option<String>,
    /// Attempts that were not delivered.
    pub failed: bool,
    /// What must hold of the event.
    pub event: Option<Filter>,
}

/// The two kinds of what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassingKind {
    Events,
    Attempts,
}

/// An event as it passes, of which nothing has been copied.
#[derive(Clone, Copy, Debug)]
pub struct Glimpse<'a> {
    pub tenant: &'a Name,
    /// The source that it came from.
    pub origin: &'a Name,
    pub event: &'a Arc<Event>,
}

impl TapFilter {
    /// Whether an event is wanted, by what costs next to nothing to look at.
    fn wants_event(&self, of: Glimpse<'_>) -> bool {
        let of_attempts = self.rule.is_some() || self.target.is_some() || self.failed;
        self.only != Some(PassingKind::Attempts) && !of_attempts && self.wants(of)
    }

    /// Likewise an attempt.
    fn wants_attempt(&self, of: Glimpse<'_>, by: &SubscriptionIdentity, class: Class) -> bool {
        self.only != Some(PassingKind::Events)
            && is(self.rule.as_ref(), &by.rule)
            && is(self.target.as_ref(), &by.target)
            && !(self.failed && class == Class::Delivered)
            && self.wants(of)
    }

    fn wants(&self, of: Glimpse<'_>) -> bool {
        let event_type = of.event.ty();
        let is_type =
            self.event_type
                .as_ref()
                .is_none_or(|wanted| match wanted.strip_suffix('*') {
                    Some(start) => event_type.starts_with(start),
                    None => event_type == wanted,
                });
        is(self.tenant.as_ref(), of.tenant) && is(self.source.as_ref(), of.origin) && is_type
    }
}

fn is(wanted: Option<&Name>, name: &Name) -> bool {
    wanted.is_none_or(|wanted| wanted == name)
}

/// Who listens to what passes.
#[derive(Default)]
pub struct Tap {
    /// How many there are.
    open: AtomicUsize,
    listeners: RwLock<Vec<Arc<Listener>>>,
    closed: CancellationToken,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// Whether anybody listens.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// An event has been stored, or taken into a pipe; `passed` makes what is shown of it, once for
    /// each who gets it.
    pub fn event(&self, of: Glimpse<'_>, passed: impl Fn() -> PassedEvent) {
        for listener in &*self.listeners.read() {
            if listener.filter.wants_event(of) {
                listener.offer(of.event, || Passing::Event(passed()));
            }
        }
    }

    /// An attempt at a delivery of a subscription has come to this class, likewise.
    pub fn attempt(
        &self,
        of: Glimpse<'_>,
        (by, class): (&SubscriptionIdentity, Class),
        passed: impl Fn() -> PassedAttempt,
    ) {
        for listener in &*self.listeners.read() {
            if listener.filter.wants_attempt(of, by, class) {
                listener.offer(of.event, || Passing::Attempt(Box::new(passed())));
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn passes(&self, passed: &PassedEvent) {
        let of = Glimpse {
            tenant: &passed.tenant,
            origin: &passed.origin,
            event: &passed.event,
        };
        self.event(of, || passed.clone());
    }

    #[cfg(test)]
    pub(crate) fn tries(&self, passed: &PassedAttempt) {
        let by = &passed.subscription;
        let of = Glimpse {
            tenant: &by.tenant,
            origin: &passed.origin,
            event: &passed.event,
        };
        self.attempt(of, (by, passed.class), || passed.clone());
    }

    /// Listens from now on, to as many in a second as `rate` says; none where as many listen
    /// already as may.
    #[must_use]
    pub fn listen(self: &Arc<Self>, filter: TapFilter, rate: u32) -> Option<Listening> {
        let pace = Pace::new(rate, filter.event.is_some());
        let (queue, passing) = mpsc::channel(QUEUED_MAX);
        let listener = Arc::new(Listener {
            filter,
            queue,
            room: AtomicU32::new(pace.looked_at),
            queued_bytes: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
        });
        let mut listeners = self.listeners.write();
        if listeners.len() >= LISTENERS_MAX {
            return None;
        }
        listeners.push(Arc::clone(&listener));
        self.open.store(listeners.len(), Ordering::Relaxed);
        drop(listeners);
        let tap = Arc::clone(self);
        Some(Listening::new(tap, listener, passing, pace))
    }

    /// Ends it for all who listen.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn leave(&self, listener: &Arc<Listener>) {
        let mut listeners = self.listeners.write();
        listeners.retain(|one| !Arc::ptr_eq(one, listener));
        self.open.store(listeners.len(), Ordering::Relaxed);
    }
}

/// One who listens, as the bus sees him.
struct Listener {
    filter: TapFilter,
    queue: mpsc::Sender<Passing>,
    /// How many more he is handed in this window.
    room: AtomicU32,
    queued_bytes: AtomicUsize,
    left_out: AtomicU64,
}

impl Listener {
    /// Hands him what he wants, where there is room.
    fn offer(&self, event: &Event, passing: impl FnOnce() -> Passing) {
        let one_less = |room: u32| room.checked_sub(1);
        let room = &self.room;
        let has_room = room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok();
        let size = event.size_bytes();
        if has_room
            && self.queued_bytes.fetch_add(size, Ordering::Relaxed) <= QUEUED_BYTES_MAX
            && let Ok(place) = self.queue.try_reserve()
        {
            place.send(passing());
            return;
        }
        if has_room {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }
}
