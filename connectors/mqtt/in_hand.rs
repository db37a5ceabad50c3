//! Messages that the broker has sent and that are not acknowledged.
//!
//! MQTT wants them acknowledged in the order in which they came (section 4.6 of both versions),
//! while they are stored in any order: what is acknowledged is the front of the queue for as far as
//! it is finished with. There is no way to refuse a message for now: one that could not be stored
//! stays here and is handed over again.
//!
//! ```text
//!   held    [ 7 done ] [ 8 ] [ 9 done ] [ 10 ]      7 is acknowledged, 9 waits for 8
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::packet::{Outgoing, Publish, Qos};
use crate::{Acknowledgement, Verdict};

/// Past so many bytes nothing more is read.
const BYTES_MAX: usize = 32 << 20;

/// How long a message rests that could not be stored.
const FAILED_AGAIN: Duration = Duration::from_secs(1);

/// The messages of one connection. They go with it: the broker sends them again over the next.
#[derive(Default)]
pub(super) struct InHand {
    inner: Mutex<Inner>,
    /// There is something to hand over, or never will be.
    arrived: Notify,
    /// There is something to acknowledge, or there is room again.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// In the order in which they came; the first has the number `first`.
    held: VecDeque<Held>,
    first: u64,
    bytes: usize,
    /// What has not been handed over, and what is handed over again at a time.
    ready: VecDeque<Taken>,
    again: BTreeMap<(Instant, u64), Arc<Publish>>,
    unwritten: Vec<Ack>,
    ended: Option<String>,
}

struct Held {
    ack: Option<Ack>,
    bytes: usize,
    is_done: bool,
}

/// A message that is handed over, and its number here.
pub(super) type Taken = (u64, Arc<Publish>);

/// What finishes with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    AtLeastOnce(u16),
    ExactlyOnce(u16),
}

impl Ack {
    pub(super) fn packet(self) -> Outgoing<'static> {
        match self {
            Self::AtLeastOnce(id) => Outgoing::Acknowledge(id),
            Self::ExactlyOnce(id) => Outgoing::Received(id),
        }
    }
}

impl InHand {
    /// Adds a message that came.
    pub(super) fn push(&self, publish: Publish) {
        let mut inner = self.inner.lock();
        let bytes = publish.topic.len() + publish.payload.len();
        inner.bytes += bytes;
        let number = inner.first + inner.held.len() as u64;
        inner.held.push_back(Held {
            ack: match publish.qos {
                Qos::AtMostOnce => None,
                Qos::AtLeastOnce => Some(Ack::AtLeastOnce(publish.id)),
                Qos::ExactlyOnce => Some(Ack::ExactlyOnce(publish.id)),
            },
            bytes,
            is_done: false,
        });
        inner.ready.push_back((number, Arc::new(publish)));
        self.arrived.notify_one();
    }

    /// Whether there is room for another.
    pub(super) fn has_room(&self, messages_max: usize) -> bool {
        let inner = self.inner.lock();
        inner.held.len() < messages_max && inner.bytes < BYTES_MAX
    }

    /// Nothing will come any more. What the broker sends again over the next connection is not
    /// handed over here.
    pub(super) fn end(&self, why: String) {
        let mut inner = self.inner.lock();
        let is_last = |publish: &Publish| publish.qos == Qos::AtMostOnce;
        inner.ready.retain(|(_, publish)| is_last(publish));
        inner.again.retain(|_, publish| is_last(publish));
        inner.ended = Some(why);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Why nothing will come any more.
    pub(super) fn ended(&self) -> Option<String> {
        self.inner.lock().ended.clone()
    }

    /// What is to be handed over now.
    pub(super) fn take(&self, messages_max: usize) -> Vec<Taken> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        let now = Instant::now();
        while taken.len() < messages_max
            && let Some(entry) = inner.again.first_entry()
            && entry.key().0 <= now
        {
            let ((_, number), publish) = entry.remove_entry();
            taken.push((number, publish));
        }
        let count = inner.ready.len().min(messages_max - taken.len());
        taken.extend(inner.ready.drain(..count));
        taken
    }

    /// Waits until there may be something to hand over, or nothing ever will be.
    pub(super) async fn arrived(&self) {
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
    pub(super) fn unwritten(&self) -> Vec<Ack> {
        std::mem::take(&mut self.inner.lock().unwritten)
    }

    /// Waits until something is to be acknowledged, or there is room again.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The acknowledgement of a message that is handed over.
    pub(super) fn acknowledgement(self: &Arc<Self>, (number, publish): Taken) -> Acknowledgement {
        let handed = Handed {
            in_hand: Arc::clone(self),
            taken: Some((number, publish)),
        };
        Acknowledgement::io(move |verdict| async move { handed.settle(verdict) })
    }

    fn settle(&self, number: u64) {
        let mut inner = self.inner.lock();
        let Inner {
            held,
            first,
            bytes,
            unwritten,
            ..
        } = &mut *inner;
        let index = usize::try_from(number - *first).ok();
        if let Some(settled) = index.and_then(|index| held.get_mut(index)) {
            settled.is_done = true;
        }
        while let Some(front) = held.pop_front_if(|front| front.is_done) {
            *first += 1;
            *bytes -= front.bytes;
            unwritten.extend(front.ack);
        }
        drop(inner);
        self.changed.notify_one();
    }

    fn give_back(&self, (number, publish): Taken, after: Duration) {
        let due = Instant::now() + after;
        self.inner.lock().again.insert((due, number), publish);
        self.arrived.notify_one();
    }
}

/// A message that has been handed over. One whose acknowledgement is dropped is handed over again.
struct Handed {
    in_hand: Arc<InHand>,
    taken: Option<Taken>,
}

impl Handed {
    fn settle(mut self, verdict: Verdict) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        match verdict {
            // Nobody but us would keep it: MQTT has no dead letters.
            Verdict::Stored | Verdict::Rejected { .. } => self.in_hand.settle(taken.0),
            Verdict::Later(after) => self.in_hand.give_back(taken, after),
            Verdict::Failed => self.in_hand.give_back(taken, FAILED_AGAIN),
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.in_hand.give_back(taken, FAILED_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mqtt::packet::Properties;

    fn publish(qos: Qos, id: u16) -> Publish {
        Publish {
            qos,
            retain: false,
            again: false,
            id,
            topic: Bytes::from_static(b"t"),
            properties: Properties::default(),
            payload: Bytes::new(),
            unreadable: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn acknowledgements_go_out_in_the_order_in_which_messages_came() {
        let in_hand = Arc::new(InHand::default());
        for (qos, id) in [
            (Qos::AtLeastOnce, 9),
            (Qos::ExactlyOnce, 3),
            (Qos::AtMostOnce, 0),
            (Qos::AtLeastOnce, 4),
        ] {
            in_hand.push(publish(qos, id));
        }
        assert!(in_hand.has_room(5) && !in_hand.has_room(4));
        let taken = in_hand.take(100);
        let ids: Vec<_> = taken.iter().map(|(_, publish)| publish.id).collect();
        assert_eq!(ids, [9, 3, 0, 4]);
        let mut acknowledgements = taken
            .into_iter()
            .map(|taken| in_hand.acknowledgement(taken));
        let [first, second, third, fourth] = [(); 4].map(|()| acknowledgements.next().unwrap());

        fourth.send(Verdict::Stored).await;
        third.send(Verdict::Stored).await;
        assert_eq!(in_hand.unwritten(), [], "the first is not finished with");
        first.send(Verdict::Stored).await;
        assert_eq!(in_hand.unwritten(), [Ack::AtLeastOnce(9)]);
        assert!(in_hand.has_room(4), "and makes room");

        // One that could not be stored comes again in its time, and holds up those behind it.
        second.send(Verdict::Later(Duration::from_secs(7))).await;
        assert_eq!(in_hand.take(100), []);
        let asked = Instant::now();
        in_hand.arrived().await;
        in_hand.arrived().await;
        assert_eq!(asked.elapsed(), Duration::from_secs(7));
        let again = in_hand.take(100).remove(0);
        assert_eq!(again.1.id, 3);
        // Nobody says anything of it.
        drop(in_hand.acknowledgement(again));
        in_hand.arrived().await;
        in_hand.arrived().await;
        let again = in_hand.take(100).remove(0);
        in_hand.acknowledgement(again).send(Verdict::Stored).await;
        let rest = [Ack::ExactlyOnce(3), Ack::AtLeastOnce(4)];
        assert_eq!(in_hand.unwritten(), rest);

        // What the broker would send again is left to it.
        in_hand.push(publish(Qos::AtLeastOnce, 5));
        in_hand.push(publish(Qos::AtMostOnce, 0));
        in_hand.end("it broke".to_owned());
        let left = in_hand.take(100);
        assert_eq!((left.len(), left[0].1.id), (1, 0));
    }
}
