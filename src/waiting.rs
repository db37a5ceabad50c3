//! Callers who wait for the end of tasks.
//!
//! Nobody waits as a rule, and then this costs the dispatcher one look at a number. A task is
//! registered while it is being stored, before it can be leased, so that no end is missed. Its end
//! is told once it is durable: by the dispatcher, or by whoever has ended it without an attempt.
//! Waiting changes nothing about the task: whoever waits no longer, or is gone, is forgotten.

mod elsewhere;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;
use pointsman_connectors::{Ends, Made, MadeEvent, Task, TaskStatus};
use pointsman_journal::{
    Appended, DeadReason, Ending, MadeDelivery, Reader, TaskLife, TaskState, Watch,
};
use pointsman_schemas::{DeliveryId, Outcome, Sequence};
use tokio::sync::{Notify, mpsc};

/// How many tasks are waited for at once, over all callers: about 200 bytes each. Where more are
/// made for a caller, he does not wait.
const TASKS_MAX: usize = 64 * 1024;

type Sender = mpsc::UnboundedSender<(DeliveryId, TaskStatus)>;

/// Who waits for the end of which tasks.
#[derive(Debug, Default)]
pub struct Waiting {
    /// How many are waited for, to be looked at without the lock.
    count: AtomicUsize,
    tasks: Mutex<Registered>,
    /// Told when some have been registered, for whoever looks at those that are elsewhere.
    registered: Notify,
}

#[derive(Debug, Default)]
struct Registered {
    by_id: HashMap<DeliveryId, Waiter>,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiter {
    ends: Sender,
    /// How many tasks were made for its caller: one that is alone is answered with all that its
    /// target said.
    tasks: Arc<AtomicUsize>,
}

impl Waiting {
    /// Where somebody waits for this task, whether it is the only one of its caller. Nearly always
    /// none, at once.
    fn is_waited_for(&self, id: &DeliveryId) -> Option<bool> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let tasks = self.tasks.lock();
        let waiter = tasks.by_id.get(id)?;
        Some(waiter.tasks.load(Ordering::Relaxed) == 1)
    }

    /// How a delivery ends, where somebody waits for it and it does; to be [told](Waiting::tell)
    /// once that is durable.
    #[must_use]
    pub fn status_of(
        &self,
        id: &DeliveryId,
        ending: &Ending,
        tried: u32,
        outcome: Option<&Outcome>,
    ) -> Option<Box<(DeliveryId, TaskStatus)>> {
        let is_alone = self.is_waited_for(id)?;
        let status = match ending {
            Ending::Delivered => succeeded(tried, outcome),
            Ending::Dead { reason, last } => TaskStatus {
                code: last.as_ref().and_then(|last| last.code),
                message: last
                    .as_ref()
                    .map_or_else(String::new, |last| last.message.clone()),
                ..dead(*reason, tried)
            },
            Ending::Stopped => TaskStatus::new("stopped", tried),
            Ending::Retry { .. } | Ending::Released => return None,
        };
        let outcome = outcome.filter(|_| is_alone);
        let status = TaskStatus {
            response: outcome.map_or_else(Bytes::new, |outcome| outcome.response.clone()),
            response_type: outcome.and_then(|outcome| outcome.response_type.clone()),
            is_cut: outcome.is_some_and(|outcome| outcome.is_response_cut),
            ..status
        };
        Some(Box::new((*id, status)))
    }

    /// Tells whoever waits for a task how it has ended.
    pub fn tell(&self, ended: (DeliveryId, TaskStatus)) {
        if let Some(waiter) = self.take(&ended.0) {
            // A caller who waits no longer does not hear it.
            let _ = waiter.ends.send(ended);
        }
    }

    /// Tells whoever waits for one of the tasks that are meant that an operator has ended it. What
    /// has ended in another way is left to the dispatcher, which knows the answer.
    pub async fn look(&self, reader: &dyn Reader, is_meant: impl Fn(&DeliveryId) -> bool) {
        for id in self.among(is_meant) {
            match reader.life(id).await {
                Ok(life) => {
                    if let Some(status) = life.as_ref().and_then(ended_by_operator) {
                        self.tell((id, status));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot tell callers who wait that tasks were ended");
                    return;
                }
            }
        }
    }

    /// Those of the tasks that are meant that somebody waits for.
    fn among(&self, is_meant: impl Fn(&DeliveryId) -> bool) -> Vec<DeliveryId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let tasks = self.tasks.lock();
        tasks.by_id.keys().copied().filter(is_meant).collect()
    }

    /// Nobody waits from here on: whoever does hears that no more ends will come.
    pub fn close(&self) {
        let mut tasks = self.tasks.lock();
        tasks.is_closed = true;
        tasks.by_id.clear();
        self.count.store(0, Ordering::Release);
    }

    fn take(&self, id: &DeliveryId) -> Option<Waiter> {
        let mut tasks = self.tasks.lock();
        let waiter = tasks.by_id.remove(id);
        self.count.store(tasks.by_id.len(), Ordering::Release);
        waiter
    }

    /// Registers tasks, all or none; false where there is no room.
    fn register(&self, ids: &[DeliveryId], ends: &Sender, tasks: &Arc<AtomicUsize>) -> bool {
        let mut registered = self.tasks.lock();
        if registered.is_closed || registered.by_id.len() + ids.len() > TASKS_MAX {
            return false;
        }
        registered.by_id.extend(ids.iter().map(|id| {
            let (ends, tasks) = (ends.clone(), Arc::clone(tasks));
            (*id, Waiter { ends, tasks })
        }));
        self.count.store(registered.by_id.len(), Ordering::Release);
        self.registered.notify_one();
        true
    }
}

/// A delivery that its target took.
fn succeeded(tried: u32, outcome: Option<&Outcome>) -> TaskStatus {
    TaskStatus {
        code: outcome.and_then(|outcome| outcome.code),
        message: outcome.map_or_else(String::new, |outcome| outcome.message.clone()),
        has_succeeded: true,
        ..TaskStatus::new("succeeded", tried)
    }
}

/// A delivery that is a dead letter.
fn dead(reason: DeadReason, tried: u32) -> TaskStatus {
    let state = match reason {
        DeadReason::Expired => "expired",
        _ => "failed",
    };
    TaskStatus {
        reason: Some(reason.as_str()),
        ..TaskStatus::new(state, tried)
    }
}

/// How an operator has ended a task: as stopped, or as skipped. None where it goes on, or has ended
/// in another way.
fn ended_by_operator(life: &TaskLife) -> Option<TaskStatus> {
    if life.pending.is_some() {
        return None;
    }
    let attempts = life.history.iter().filter_map(|entry| {
        let attempt = entry.attempt.as_ref()?;
        Some(attempt.number)
    });
    let tried = attempts.max().unwrap_or(0);
    if life.state == TaskState::Stopped {
        return Some(TaskStatus::new("stopped", tried));
    }
    let is_skipped = life
        .history
        .iter()
        .any(|entry| entry.reason == Some(DeadReason::Skipped));
    is_skipped.then(|| dead(DeadReason::Skipped, tried))
}

/// What is made of a message whose caller asked for it, as the journal tells of it.
#[derive(Debug)]
pub struct Asked(Mutex<Collected>);

#[derive(Debug)]
struct Collected {
    /// Of each event that was stored: its index in the message, and what was made of it.
    events: Vec<(usize, Vec<MadeDelivery>)>,
    /// Where the caller waits.
    waits: Option<Waits>,
}

#[derive(Debug)]
struct Waits {
    sender: Sender,
    ends: mpsc::UnboundedReceiver<(DeliveryId, TaskStatus)>,
    tasks: Arc<AtomicUsize>,
    registration: Registration,
}

/// Tasks that a caller waits for: they are forgotten with it.
#[derive(Debug)]
struct Registration {
    waiting: Arc<Waiting>,
    ids: Vec<DeliveryId>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let mut tasks = self.waiting.tasks.lock();
        for id in &self.ids {
            tasks.by_id.remove(id);
        }
        self.waiting
            .count
            .store(tasks.by_id.len(), Ordering::Release);
    }
}

/// One event of a message whose caller asked.
#[derive(Debug)]
struct AskedEvent {
    asked: Arc<Asked>,
    index: usize,
}

impl Watch for AskedEvent {
    fn made(&self, _sequence: Sequence, made: Vec<MadeDelivery>) {
        self.asked.collect(self.index, made);
    }
}

impl Asked {
    /// Of a caller who waits for the ends where `waiting` is given.
    #[must_use]
    pub fn new(waiting: Option<Arc<Waiting>>) -> Arc<Self> {
        let waits = waiting.map(|waiting| {
            let (sender, ends) = mpsc::unbounded_channel();
            let (tasks, ids) = (Arc::default(), Vec::new());
            let registration = Registration { waiting, ids };
            Waits {
                sender,
                ends,
                tasks,
                registration,
            }
        });
        let events = Vec::new();
        Arc::new(Self(Mutex::new(Collected { events, waits })))
    }

    /// Who is to be told of the event at this place in the message.
    #[must_use]
    pub fn watch(self: &Arc<Self>, index: usize) -> Arc<dyn Watch> {
        let asked = Arc::clone(self);
        Arc::new(AskedEvent { asked, index })
    }

    fn collect(&self, index: usize, made: Vec<MadeDelivery>) {
        let mut collected = self.0.lock();
        if let Some(waits) = &mut collected.waits {
            waits.tasks.fetch_add(made.len(), Ordering::Relaxed);
            let pending = made.iter().filter(|one| !one.is_dead).map(|one| one.id);
            let ids: Vec<DeliveryId> = pending.collect();
            let waiting = &waits.registration.waiting;
            if waiting.register(&ids, &waits.sender, &waits.tasks) {
                waits.registration.ids.extend(ids);
            } else {
                collected.waits = None;
            }
        }
        collected.events.push((index, made));
    }

    /// What the caller is told, from what the journal has answered of each event.
    #[must_use]
    pub fn told(&self, appended: &[Appended]) -> Made {
        let mut collected = self.0.lock();
        let mut events: Vec<MadeEvent> = appended.iter().map(event).collect();
        for (index, made) in collected.events.drain(..) {
            if let Some(event) = events.get_mut(index) {
                event.tasks = made.into_iter().map(task).collect();
            }
        }
        let ends = collected.waits.take().map(|waits| Ends {
            tasks: waits.ends,
            registered: Box::new(waits.registration),
        });
        Made {
            events,
            is_taken: false,
            ends,
        }
    }
}

fn event(appended: &Appended) -> MadeEvent {
    let (sequence, duplicate) = match *appended {
        Appended::Stored(sequence) | Appended::Reduced(sequence, _) => (sequence, false),
        Appended::Duplicate(sequence) | Appended::Taken(sequence) => (sequence, true),
    };
    MadeEvent {
        sequence,
        duplicate,
        tasks: Vec::new(),
    }
}

fn task(made: MadeDelivery) -> Task {
    Task {
        id: made.id,
        rule: made.subscription.rule,
        target: made.subscription.target,
        status: made.is_dead.then(|| dead(DeadReason::Backlog, 0)),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_journal::{Role, SubscriptionIdentity};
    use pointsman_schemas::{Class, Epoch, Name, SubscriptionNumber};

    use super::*;

    fn id(sequence: u64) -> DeliveryId {
        DeliveryId {
            epoch: Epoch(1),
            sequence: Sequence(sequence),
            subscription: SubscriptionNumber(1),
            run: 0,
        }
    }

    fn delivery(sequence: u64, is_dead: bool) -> MadeDelivery {
        let name = |text| Name::new(text).unwrap();
        MadeDelivery {
            id: id(sequence),
            subscription: SubscriptionIdentity {
                tenant: Name::default_tenant(),
                rule: name("r"),
                role: Role::To,
                target: name("t"),
            },
            is_dead,
        }
    }

    fn answered(body: &'static str) -> Outcome {
        Outcome {
            code: Some(201),
            response: body.into(),
            ..Outcome::new(Class::Delivered, "")
        }
    }

    fn ends(waiting: &Waiting, id: DeliveryId, ending: &Ending) -> bool {
        let status = waiting.status_of(&id, ending, 1, Some(&answered("body")));
        status.map(|ended| waiting.tell(*ended)).is_some()
    }

    #[test]
    fn an_end_is_told_once_to_whoever_waits_and_to_nobody_else() {
        let waiting = Arc::<Waiting>::default();
        let asked = Asked::new(Some(Arc::clone(&waiting)));
        asked.watch(0).made(Sequence(1), vec![delivery(1, false)]);
        let retry = Ending::Released;
        assert!(!ends(&waiting, id(1), &retry), "it has not ended");
        assert!(!ends(&waiting, id(2), &Ending::Delivered), "another's");
        let made = asked.told(&[Appended::Stored(Sequence(1))]);
        let mut told = made.ends.unwrap();
        assert!(ends(&waiting, id(1), &Ending::Delivered));
        let (ended, status) = told.tasks.try_recv().unwrap();
        assert_eq!((ended, status.code), (id(1), Some(201)));
        assert_eq!(&status.response[..], b"body");
        assert!(!ends(&waiting, id(1), &Ending::Delivered), "nobody waits");
    }

    #[test]
    fn of_several_tasks_no_answer_is_kept_and_one_that_is_dead_at_once_is_not_waited_for() {
        let waiting = Arc::<Waiting>::default();
        let asked = Asked::new(Some(Arc::clone(&waiting)));
        asked.watch(1).made(Sequence(2), vec![delivery(2, true)]);
        asked.watch(0).made(Sequence(1), vec![delivery(1, false)]);
        let appended = [1, 2].map(|sequence| Appended::Stored(Sequence(sequence)));
        let mut made = asked.told(&appended);
        let states = made.events.iter().map(|event| {
            let status = event.tasks[0].status.as_ref();
            status.map(|status| (status.state, status.reason))
        });
        let states: Vec<_> = states.collect();
        assert_eq!(states, [None, Some(("failed", Some("backlog")))]);
        assert!(ends(&waiting, id(1), &Ending::Delivered));
        let (_, status) = made.ends.as_mut().unwrap().tasks.try_recv().unwrap();
        assert!(status.response.is_empty());
    }

    #[test]
    fn who_is_gone_is_forgotten_and_nobody_waits_once_the_bus_stops() {
        let waiting = Arc::<Waiting>::default();
        let asks = |sequence| {
            let asked = Asked::new(Some(Arc::clone(&waiting)));
            let made = vec![delivery(sequence, false)];
            asked.watch(0).made(Sequence(sequence), made);
            asked
        };
        let count = || waiting.count.load(Ordering::Acquire);
        let (unanswered, gone, waits) = (asks(1), asks(2), asks(3));
        assert_eq!(count(), 3);
        drop(unanswered);
        drop(gone.told(&[Appended::Stored(Sequence(2))]));
        assert_eq!(count(), 1);
        let mut told = waits.told(&[Appended::Stored(Sequence(3))]).ends.unwrap();
        waiting.close();
        assert!(told.tasks.blocking_recv().is_none(), "no more ends come");
        let late = asks(4).told(&[Appended::Stored(Sequence(4))]);
        assert!(late.ends.is_none());
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_caller_of_more_tasks_than_there_is_room_for_does_not_wait() {
        let waiting = Arc::<Waiting>::default();
        let asked = Asked::new(Some(Arc::clone(&waiting)));
        let many = (0..=TASKS_MAX as u64).map(|sequence| delivery(sequence, false));
        asked.watch(0).made(Sequence(1), vec![delivery(9, false)]);
        asked.watch(1).made(Sequence(2), many.collect());
        assert!(asked.told(&[]).ends.is_none());
        assert_eq!(waiting.count.load(Ordering::Acquire), 0);
    }
}
