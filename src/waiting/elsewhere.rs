//! Tasks whose shard is on another machine: no dispatcher here hears how they end. They are looked
//! at again and again, and nothing else is, while somebody waits for one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use pointsman_connectors::TaskStatus;
use pointsman_journal::{ANSWER_BYTES_MAX, AttemptEntry, Journal, TaskLife, TaskState};
use pointsman_schemas::DeliveryId;
use tokio::time::sleep;

use super::{Waiting, dead};

/// How soon a task is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tasks that are looked at side by side: each costs another machine a read.
const LOOKED_AT_ONCE: usize = 16;

impl Waiting {
    /// Tells whoever waits for a task that is elsewhere how it has ended. Never ends.
    pub async fn look_elsewhere(
        &self,
        journal: &dyn Journal,
        is_elsewhere: impl Fn(&DeliveryId) -> bool,
    ) {
        loop {
            let registered = self.registered.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                registered.await;
            }
            let reader = journal.reader();
            let lives = stream::iter(self.among(&is_elsewhere));
            let lives = lives.map(async |id| (id, reader.life(id).await));
            let mut lives = lives.buffer_unordered(LOOKED_AT_ONCE);
            while let Some((id, life)) = lives.next().await {
                match life {
                    Ok(Some(life)) => {
                        let is_alone = self.is_waited_for(&id).unwrap_or_default();
                        if let Some(status) = ended(&life, is_alone) {
                            self.tell((id, status));
                        }
                    }
                    // It has ended, and nothing is kept of that: nobody can tell how.
                    Ok(None) => drop(self.take(&id)),
                    // Its shard may be on its way to some machine.
                    Err(error) => tracing::debug!(%id, %error, "cannot look at a task elsewhere"),
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// How a task has ended, as its history has it; none while it goes on.
fn ended(life: &TaskLife, is_alone: bool) -> Option<TaskStatus> {
    if !life.state.is_terminal() {
        return None;
    }
    let last = life.history.iter().rev();
    let last = last.filter_map(|entry| entry.attempt.as_ref()).next();
    let tried = last.map_or(0, |last| last.number);
    let reason = life.dead.as_ref().map(|dead| dead.reason);
    let reason = reason.or_else(|| life.history.last()?.reason);
    let mut status = match (life.state, reason) {
        (TaskState::Succeeded, _) => TaskStatus {
            has_succeeded: true,
            ..TaskStatus::new(life.state.as_str(), tried)
        },
        (TaskState::Failed | TaskState::Expired, Some(reason)) => dead(reason, tried),
        (state, _) => TaskStatus::new(state.as_str(), tried),
    };
    if let Some(last) = last {
        status.code = last.code;
        status.message.clone_from(&last.message);
        if is_alone {
            answer(&mut status, last);
        }
    }
    Some(status)
}

/// What a target has answered, as far as the history has it: the beginning, as text.
fn answer(status: &mut TaskStatus, last: &AttemptEntry) {
    let is_text = !last.answer.contains(char::REPLACEMENT_CHARACTER);
    status.is_cut = !is_text || last.answer.len() >= ANSWER_BYTES_MAX;
    status.response = last.answer.clone().into();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
    use pointsman_journal::{
        Append, AttemptMade, DeadReason, Ending, Entry, Grant, MadeDelivery, NewDelivery, Record,
        Role, Settlement, Subscription, SubscriptionIdentity,
    };
    use pointsman_schemas::{Class, Event, Name, SubscriptionNumber, Timestamp};

    use super::*;
    use crate::waiting::Asked;

    const SECOND: Duration = Duration::from_secs(1);

    fn identity() -> SubscriptionIdentity {
        SubscriptionIdentity {
            tenant: Name::default_tenant(),
            rule: Name::new("r").unwrap(),
            role: Role::To,
            target: Name::new("t").unwrap(),
        }
    }

    /// A journal with so many tasks of one subscription.
    async fn journal(tasks: usize) -> (Arc<MemoryJournal>, SubscriptionNumber) {
        let clock = Arc::new(RuntimeClock::new(Timestamp(1_700_000_000_000_000)));
        let journal = MemoryJournal::new(clock, MemoryOptions::default());
        let wanted = Subscription {
            identity: identity(),
            renamed_from: None,
            backlog: None,
            start: None,
        };
        let number = journal.subscribe(vec![wanted]).await.unwrap()[0];
        let entry = |id: usize| Entry {
            event: Arc::new(Event::builder(id.to_string(), "/s", "t").build().unwrap()),
            deliveries: [NewDelivery::now(number)].into_iter().collect(),
            deduplicate: None,
            dead: None,
            terms: None,
        };
        let append = Append {
            tenant: Name::default_tenant(),
            origin: Name::ingress(),
            entries: (0..tasks).map(entry).collect(),
            rejects: Vec::new(),
            cursor: None,
            positions: Vec::new(),
        };
        journal.append(append).await.unwrap();
        (journal, number)
    }

    /// Settles the next task like this, and returns which it was.
    async fn settle(
        journal: &MemoryJournal,
        number: SubscriptionNumber,
        ending: Ending,
        record: Record,
    ) -> DeliveryId {
        let grant = Grant {
            subscription: number,
            count: 1,
            lease: SECOND * 60,
            bytes_max: usize::MAX,
            batching: None,
        };
        let leases = journal.lease(&[grant], usize::MAX).await.unwrap();
        let leased = &leases.leased[0];
        let settlement = Settlement {
            record,
            ..Settlement::new(leased.token, ending)
        };
        journal.settle(vec![settlement]).await.unwrap();
        leased.id
    }

    fn attempt(code: i32, answer: &str) -> Record {
        Record::Attempt(AttemptMade {
            began: Timestamp(1_700_000_000_000_000),
            ran: SECOND,
            called: None,
            class: Class::Delivered,
            code: Some(code),
            message: String::new(),
            answer: answer.to_owned(),
            wait: None,
        })
    }

    fn dead_letter() -> Ending {
        Ending::Dead {
            reason: DeadReason::Expired,
            last: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_task_elsewhere_is_told_soon_and_nobody_looks_while_nobody_waits() {
        let long = "x".repeat(ANSWER_BYTES_MAX);
        type Told<'t> = (&'static str, u32, Option<i32>, &'t str, bool);
        let cases: [(Ending, Record, Option<Told<'_>>); 6] = [
            (
                Ending::Delivered,
                attempt(201, "made"),
                Some(("succeeded", 1, Some(201), "made", false)),
            ),
            (
                Ending::Delivered,
                attempt(200, &long),
                Some(("succeeded", 1, Some(200), &long, true)),
            ),
            (
                Ending::Delivered,
                attempt(200, "\u{fffd}"),
                Some(("succeeded", 1, Some(200), "\u{fffd}", true)),
            ),
            (
                dead_letter(),
                Record::End,
                Some(("expired", 0, None, "", false)),
            ),
            (
                Ending::Stopped,
                Record::End,
                Some(("stopped", 0, None, "", false)),
            ),
            // Nobody knows how.
            (Ending::Delivered, Record::Nothing, None),
        ];
        let (journal, number) = journal(cases.len()).await;
        let pending = journal.reader().pending(number, None, 100).await.unwrap();
        let waiting = Arc::<Waiting>::default();
        let looks = Arc::<AtomicUsize>::default();
        let watching = {
            let (waiting, journal) = (Arc::clone(&waiting), Arc::clone(&journal));
            let looks = Arc::clone(&looks);
            tokio::spawn(async move {
                let is_elsewhere = |_: &DeliveryId| {
                    looks.fetch_add(1, Ordering::Relaxed);
                    true
                };
                waiting.look_elsewhere(&*journal, is_elsewhere).await;
            })
        };
        for ((ending, record, expect), one) in cases.into_iter().zip(pending) {
            sleep(SECOND * 10).await;
            let before = looks.load(Ordering::Relaxed);
            let asked = Asked::new(Some(Arc::clone(&waiting)));
            let delivery = MadeDelivery {
                id: one.id,
                subscription: identity(),
                is_dead: false,
            };
            asked.watch(0).made(one.id.sequence, vec![delivery]);
            let mut ends = asked.told(&[]).ends.unwrap();
            sleep(SECOND).await;
            assert!(ends.tasks.try_recv().is_err(), "it has not ended");
            assert_eq!(settle(&journal, number, ending, record).await, one.id);
            sleep(LOOK_AGAIN * 2).await;
            let told = ends.tasks.try_recv().ok();
            let told = told.as_ref().map(|(id, status)| {
                assert_eq!(*id, one.id);
                let answer = std::str::from_utf8(&status.response).unwrap();
                let (state, attempts) = (status.state, status.attempts);
                (state, attempts, status.code, answer, status.is_cut)
            });
            assert_eq!(told, expect);
            let looked = looks.load(Ordering::Relaxed) - before;
            assert!((5..30).contains(&looked), "{looked} times in a second");
            sleep(SECOND).await;
            let later = looks.load(Ordering::Relaxed);
            sleep(SECOND * 10).await;
            assert_eq!(looks.load(Ordering::Relaxed), later, "nobody waits");
        }
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_are_here_are_left_to_the_dispatcher() {
        let (journal, number) = journal(1).await;
        let id = settle(&journal, number, Ending::Delivered, attempt(200, "")).await;
        let waiting = Arc::<Waiting>::default();
        let asked = Asked::new(Some(Arc::clone(&waiting)));
        let delivery = MadeDelivery {
            id,
            subscription: identity(),
            is_dead: false,
        };
        asked.watch(0).made(id.sequence, vec![delivery]);
        let mut ends = asked.told(&[]).ends.unwrap();
        let looking = waiting.look_elsewhere(&*journal, |_| false);
        assert!(tokio::time::timeout(SECOND * 5, looking).await.is_err());
        assert!(ends.tasks.try_recv().is_err());
    }
}
