//! Messages that a broker has sent over one connection and that are not acknowledged, where nobody
//! can be asked for them again while it lasts.
//!
//! They are stored in any order. Some protocols want them acknowledged in the order in which they
//! came: then what is acknowledged is the front of the queue for as far as it is finished with. One
//! that could not be stored stays here and is handed over again.
//!
//! ```text
//!   held    [ 7 done ] [ 8 ] [ 9 done ] [ 10 ]      7 is acknowledged; 9 waits for 8, if it has to
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::{Acknowledgement, Verdict};

/// Past so many bytes nothing more is read.
const BYTES_MAX: usize = 32 << 20;

/// How long a message rests that could not be stored.
const FAILED_AGAIN: Duration = Duration::from_secs(1);

/// A message of a broker.
pub(crate) trait Unacknowledged: Send + Sync + 'static {
    /// What is sent to acknowledge it.
    type Ack: Send;

    /// Whether messages are acknowledged in the order in which they came.
    const IN_ORDER: bool;

    /// How much it holds.
    fn bytes(&self) -> usize;

    /// Whether the broker sends it again over the next connection, where this one ends before it is
    /// acknowledged.
    fn comes_again(&self) -> bool;

    /// What finishes with a message of which this is told, [`Verdict::Stored`] or
    /// [`Verdict::Rejected`]; none where the broker waits for nothing.
    fn acknowledge(&self, verdict: &Verdict) -> Option<Self::Ack>;
}

/// The messages of one connection. They go with it: the broker sends them again over the next.
pub(crate) struct InHand<M: Unacknowledged> {
    inner: Mutex<Inner<M>>,
    /// There is something to hand over, or never will be.
    arrived: Notify,
    /// There is something to acknowledge, or there is room again.
    changed: Notify,
}

struct Inner<M: Unacknowledged> {
    /// By their numbers, in the order in which they came.
    held: BTreeMap<u64, Held<M>>,
    next: u64,
    bytes: usize,
    /// What has not been handed over, and what is handed over again at a time.
    ready: VecDeque<Taken<M>>,
    again: BTreeMap<(Instant, u64), Arc<M>>,
    unwritten: Vec<M::Ack>,
    ended: Option<String>,
}

struct Held<M: Unacknowledged> {
    message: Arc<M>,
    /// What acknowledges it, once it is finished with.
    done: Option<Option<M::Ack>>,
}

/// A message that is handed over, and its number here.
pub(crate) type Taken<M> = (u64, Arc<M>);

impl<M: Unacknowledged> Default for InHand<M> {
    fn default() -> Self {
        let inner = Inner {
            held: BTreeMap::new(),
            next: 0,
            bytes: 0,
            ready: VecDeque::new(),
            again: BTreeMap::new(),
            unwritten: Vec::new(),
            ended: None,
        };
        Self {
            inner: Mutex::new(inner),
            arrived: Notify::new(),
            changed: Notify::new(),
        }
    }
}

impl<M: Unacknowledged> InHand<M> {
    /// Adds a message that came.
    pub(crate) fn push(&self, message: M) {
        let mut inner = self.inner.lock();
        inner.bytes += message.bytes();
        let (number, message) = (inner.next, Arc::new(message));
        inner.next += 1;
        let held = Held {
            message: Arc::clone(&message),
            done: None,
        };
        inner.held.insert(number, held);
        inner.ready.push_back((number, message));
        self.arrived.notify_one();
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inner.lock().held.len()
    }

    /// Whether there is room for another.
    pub(crate) fn has_room(&self, messages_max: usize) -> bool {
        let inner = self.inner.lock();
        inner.held.len() < messages_max && inner.bytes < BYTES_MAX
    }

    /// Nothing will come any more. What the broker sends again over the next connection is not
    /// handed over here.
    pub(crate) fn end(&self, why: String) {
        let mut inner = self.inner.lock();
        inner.ready.retain(|(_, message)| !message.comes_again());
        inner.again.retain(|_, message| !message.comes_again());
        inner.ended = Some(why);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Why nothing will come any more.
    pub(crate) fn ended(&self) -> Option<String> {
        self.inner.lock().ended.clone()
    }

    /// What is to be handed over now.
    pub(crate) fn take(&self, messages_max: usize) -> Vec<Taken<M>> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        let now = Instant::now();
        while taken.len() < messages_max
            && let Some(entry) = inner.again.first_entry()
            && entry.key().0 <= now
        {
            let ((_, number), message) = entry.remove_entry();
            taken.push((number, message));
        }
        let count = inner.ready.len().min(messages_max - taken.len());
        taken.extend(inner.ready.drain(..count));
        taken
    }

    /// Waits until there may be something to hand over, or nothing ever will be.
    pub(crate) async fn arrived(&self) {
        let due = {
            let inner = self.inner.lock();
            inner.again.keys().next().map(|(due, _)| *due)
        };
        tokio::select! {
            () = self.arrived.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }

    /// What is to be acknowledged now, in order.
    pub(crate) fn unwritten(&self) -> Vec<M::Ack> {
        std::mem::take(&mut self.inner.lock().unwritten)
    }

    /// Waits until something is to be acknowledged, or there is room again.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is not finished with, and will not be: of what is told of it from now on nobody hears.
    #[cfg(feature = "amqp")]
    pub(crate) fn give_up(&self) -> Vec<Arc<M>> {
        let held = std::mem::take(&mut self.inner.lock().held);
        let unfinished = held.into_values().filter(|held| held.done.is_none());
        unfinished.map(|held| held.message).collect()
    }

    /// The acknowledgement of a message that is handed over.
    pub(crate) fn acknowledgement(self: &Arc<Self>, taken: Taken<M>) -> Acknowledgement {
        let handed = Handed {
            in_hand: Arc::clone(self),
            taken: Some(taken),
        };
        Acknowledgement::io(move |verdict| async move { handed.settle(&verdict) })
    }

    fn settle(&self, (number, message): &Taken<M>, verdict: &Verdict) {
        let mut inner = self.inner.lock();
        let Inner {
            held,
            bytes,
            unwritten,
            ..
        } = &mut *inner;
        if let Some(settled) = held.get_mut(number) {
            settled.done = Some(message.acknowledge(verdict));
            if !M::IN_ORDER {
                *bytes -= message.bytes();
                let settled = held.remove(number);
                unwritten.extend(settled.and_then(|settled| settled.done).flatten());
            }
        }
        while let Some(front) = held.first_entry()
            && front.get().done.is_some()
        {
            let front = front.remove();
            *bytes -= front.message.bytes();
            unwritten.extend(front.done.flatten());
        }
        drop(inner);
        self.changed.notify_one();
    }

    fn give_back(&self, (number, message): Taken<M>, after: Duration) {
        let due = Instant::now() + after;
        self.inner.lock().again.insert((due, number), message);
        self.arrived.notify_one();
    }
}

/// A message that has been handed over. One whose acknowledgement is dropped is handed over again.
struct Handed<M: Unacknowledged> {
    in_hand: Arc<InHand<M>>,
    taken: Option<Taken<M>>,
}

impl<M: Unacknowledged> Handed<M> {
    fn settle(mut self, verdict: &Verdict) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        match verdict {
            Verdict::Stored | Verdict::Rejected { .. } => self.in_hand.settle(&taken, verdict),
            Verdict::Later(after) => self.in_hand.give_back(taken, *after),
            Verdict::Failed => self.in_hand.give_back(taken, FAILED_AGAIN),
        }
    }
}

impl<M: Unacknowledged> Drop for Handed<M> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.in_hand.give_back(taken, FAILED_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with its number, and whether it comes again; of those that are acknowledged in the
    /// order in which they came, or of others.
    struct Numbered<const IN_ORDER: bool>(u16, bool);

    impl<const IN_ORDER: bool> Unacknowledged for Numbered<IN_ORDER> {
        type Ack = (u16, bool);
        const IN_ORDER: bool = IN_ORDER;

        fn bytes(&self) -> usize {
            1
        }

        fn comes_again(&self) -> bool {
            self.1
        }

        fn acknowledge(&self, verdict: &Verdict) -> Option<(u16, bool)> {
            self.1.then_some((self.0, *verdict == Verdict::Stored))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn acknowledgements_go_out_in_the_order_in_which_messages_came() {
        let in_hand = Arc::new(InHand::<Numbered<true>>::default());
        for (id, comes_again) in [(9, true), (3, true), (0, false), (4, true)] {
            in_hand.push(Numbered(id, comes_again));
        }
        assert!(in_hand.has_room(5) && !in_hand.has_room(4));
        let taken = in_hand.take(100);
        let ids: Vec<_> = taken.iter().map(|(_, message)| message.0).collect();
        assert_eq!(ids, [9, 3, 0, 4]);
        let mut acknowledgements = taken
            .into_iter()
            .map(|taken| in_hand.acknowledgement(taken));
        let [first, second, third, fourth] = [(); 4].map(|()| acknowledgements.next().unwrap());

        fourth.send(Verdict::Stored).await;
        third.send(Verdict::Stored).await;
        assert_eq!(in_hand.unwritten(), [], "the first is not finished with");
        first.send(Verdict::Stored).await;
        assert_eq!(in_hand.unwritten(), [(9, true)]);
        assert!(in_hand.has_room(4), "and makes room");

        // One that could not be stored comes again in its time, and holds up those behind it.
        second.send(Verdict::Later(Duration::from_secs(7))).await;
        assert!(in_hand.take(100).is_empty());
        let asked = Instant::now();
        in_hand.arrived().await;
        in_hand.arrived().await;
        assert_eq!(asked.elapsed(), Duration::from_secs(7));
        let again = in_hand.take(100).remove(0);
        assert_eq!(again.1.0, 3);
        // Nobody says anything of it.
        drop(in_hand.acknowledgement(again));
        in_hand.arrived().await;
        in_hand.arrived().await;
        let again = in_hand.take(100).remove(0);
        in_hand.acknowledgement(again).send(Verdict::Stored).await;
        assert_eq!(in_hand.unwritten(), [(3, true), (4, true)]);

        // What the broker would send again is left to it.
        in_hand.push(Numbered(5, true));
        in_hand.push(Numbered(0, false));
        in_hand.end("it broke".to_owned());
        let left = in_hand.take(100);
        assert_eq!((left.len(), left[0].1.0), (1, 0));
    }

    #[cfg(feature = "amqp")]
    #[tokio::test]
    async fn where_the_order_does_not_matter_nothing_waits_for_what_came_before_it() {
        let in_hand = Arc::new(InHand::<Numbered<false>>::default());
        for id in 0..4 {
            in_hand.push(Numbered(id, true));
        }
        let mut taken = in_hand.take(3);
        let refused = Verdict::Rejected {
            reason: "why".to_owned(),
            event: None,
        };
        for verdict in [Verdict::Stored, refused] {
            let last = taken.pop().unwrap();
            in_hand.acknowledgement(last).send(verdict).await;
        }
        assert_eq!(in_hand.unwritten(), [(2, true), (1, false)]);
        assert_eq!(in_hand.count(), 2);
        assert!(in_hand.has_room(3) && !in_hand.has_room(2));
        let first = in_hand.acknowledgement(taken.remove(0));
        let left = in_hand.give_up();
        assert_eq!(left.iter().map(|left| left.0).collect::<Vec<_>>(), [0, 3]);
        first.send(Verdict::Stored).await;
        assert_eq!(in_hand.unwritten(), [], "nobody hears of it");
    }
}
