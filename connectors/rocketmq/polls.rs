//! Which broker a call for messages asks. A call waits at one of them, so that at each there is one
//! as long as there are enough calls.

use std::sync::Arc;

use parking_lot::Mutex;

use super::proto::MessageQueue;

/// The brokers that have a topic.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<Vec<Place>>);

#[derive(Debug)]
struct Place {
    queue: MessageQueue,
    under_way: usize,
    /// The ids of calls whose answer was lost. Asked again with the same one, the broker hands out
    /// again what it has handed out of a FIFO topic, and does not wait until its time is over.
    lost: Vec<String>,
}

fn broker(queue: &MessageQueue) -> &str {
    queue.broker.as_ref().map_or("", |broker| &broker.name)
}

impl Polls {
    /// Takes up where the topic is now.
    pub(super) fn renew(&self, queues: impl IntoIterator<Item = MessageQueue>) {
        let mut places = self.0.lock();
        let mut former = std::mem::take(&mut *places);
        for queue in queues {
            // Of a FIFO topic each queue stands there; a broker chooses among them by itself.
            if places
                .iter()
                .any(|place| broker(&place.queue) == broker(&queue))
            {
                continue;
            }
            let same = |place: &Place| broker(&place.queue) == broker(&queue);
            let (under_way, lost) = match former.iter().position(same) {
                Some(index) => {
                    let place = former.swap_remove(index);
                    (place.under_way, place.lost)
                }
                None => (0, Vec::new()),
            };
            places.push(Place {
                queue,
                under_way,
                lost,
            });
        }
    }

    /// How many brokers there are.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Begins a call at the broker with the fewest; none where no broker is known.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Poll> {
        let mut places = self.0.lock();
        let least = places.iter().map(|place| place.under_way).min()?;
        let index = places.iter().position(|place| place.under_way == least)?;
        let mut place = places.remove(index);
        place.under_way += 1;
        let (attempt, queue) = (place.lost.pop(), place.queue.clone());
        // Of several that have as few, it is its turn last.
        places.push(place);
        Some(Poll {
            polls: Arc::clone(self),
            queue,
            attempt: attempt.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
            is_answered: false,
        })
    }
}

/// A call under way. Dropped without an answer, its id is used again.
#[derive(Debug)]
pub(super) struct Poll {
    polls: Arc<Polls>,
    pub(super) queue: MessageQueue,
    pub(super) attempt: String,
    is_answered: bool,
}

impl Poll {
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let mut places = self.polls.0.lock();
        let same = |place: &&mut Place| broker(&place.queue) == broker(&self.queue);
        let Some(place) = places.iter_mut().find(same) else {
            return;
        };
        place.under_way = place.under_way.saturating_sub(1);
        if !self.is_answered {
            place.lost.push(std::mem::take(&mut self.attempt));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::Broker;
    use super::*;

    fn queue(broker: &str, id: i32) -> MessageQueue {
        MessageQueue {
            id,
            broker: Some(Broker {
                name: broker.to_owned(),
                ..Broker::default()
            }),
            ..MessageQueue::default()
        }
    }

    #[test]
    fn calls_spread_over_brokers_and_one_that_was_lost_is_made_again() {
        let polls = Arc::new(Polls::default());
        assert!(polls.begin().is_none());
        polls.renew([queue("a", 0), queue("a", 1), queue("b", 0)]);
        assert_eq!(polls.count(), 2);
        let mut first = polls.begin().unwrap();
        let second = polls.begin().unwrap();
        let at = [broker(&first.queue), broker(&second.queue)];
        assert_eq!(at, ["a", "b"]);
        let lost = second.attempt.clone();
        drop(second);
        first.answered();
        polls.renew([queue("b", 0), queue("a", 0)]);
        let third = polls.begin().unwrap();
        assert_eq!((broker(&third.queue), &third.attempt), ("b", &lost));
        let answered = first.attempt.clone();
        drop(first);
        assert_ne!(polls.begin().unwrap().attempt, answered);
        polls.renew([]);
        drop(third);
        assert!(polls.begin().is_none());
    }
}
