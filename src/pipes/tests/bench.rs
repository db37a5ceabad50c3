//! A pipe over a journal in memory, with a scripted source and a mock target, in paused time.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_connectors::{
    Acknowledgement, Attempt, AttemptError, Batch, Delivery, Guarantee, Message, Source,
    SourceError, Verdict,
};
use pointsman_schemas::{
    Backoff, Class, Clock, Cursor, Event, Name, Outcome, PositionChange, SubscriptionNumber,
    Timestamp,
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

use super::super::{PipeIntake, Pipes};
use crate::dispatcher::policy::Policy;
use crate::dispatcher::testing::observer;
use crate::dispatcher::{Dispatcher, Handle, Options, Plan, Preparation, Route, Summary, Target};
use crate::intake::MessageReader;
use crate::router::{Router, testing};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::SourceMetrics;
use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_journal::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Hands over what it is sent.
struct Script {
    batches: mpsc::UnboundedReceiver<Result<Batch, SourceError>>,
    /// What it has in hand while it rests.
    in_hand: mpsc::UnboundedReceiver<Batch>,
    taken: Arc<AtomicUsize>,
}

#[async_trait]
impl Source for Script {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let next = self.batches.recv().await.unwrap_or(Err(SourceError::Ended));
        self.taken.fetch_add(1, Ordering::Relaxed);
        next
    }

    async fn rest(&mut self) -> Result<Batch, SourceError> {
        self.in_hand.recv().await.ok_or(SourceError::Ended)
    }
}

type Answer = dyn Fn(&Delivery) -> (Duration, Outcome) + Send + Sync;

pub(super) struct Bench {
    pub(super) inner: Arc<MemoryJournal>,
    pub(super) pipes: Arc<Pipes>,
    pub(super) clock: Arc<RuntimeClock>,
    pub(super) number: SubscriptionNumber,
    /// Of `on_failure`.
    pub(super) follower: SubscriptionNumber,
    /// The pipe, as long as it is in force.
    pub(super) router: Arc<ArcSwap<Router>>,
    pub(super) calls: Arc<Mutex<Vec<Delivery>>>,
    answer: Arc<Mutex<Arc<Answer>>>,
    /// What each message was told.
    pub(super) told: Arc<Mutex<BTreeMap<String, Verdict>>>,
    pub(super) metrics: SourceMetrics,
}

pub(super) struct Dispatching {
    stop: CancellationToken,
    task: JoinHandle<Summary>,
    _handle: Handle,
}

impl Dispatching {
    pub(super) async fn stop(self) -> Summary {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

pub(super) struct Taking {
    pub(super) batches: mpsc::UnboundedSender<Result<Batch, SourceError>>,
    pub(super) hand: mpsc::UnboundedSender<Batch>,
    pub(super) taken: Arc<AtomicUsize>,
    pub(super) stop: CancellationToken,
    pub(super) abandon: CancellationToken,
    pub(super) task: JoinHandle<(PipeIntake, Result<(), SourceError>)>,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::bounded(u64::MAX).await
    }

    pub(super) async fn bounded(bytes_max: u64) -> Self {
        let clock = Arc::new(RuntimeClock::new(Timestamp(1_700_000_000_000_000)));
        let options = MemoryOptions {
            bytes_max,
            ..MemoryOptions::default()
        };
        let inner = MemoryJournal::new(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let pipes = Pipes::new(
            Arc::clone(&inner) as Arc<dyn Journal>,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let wanted = [Role::To, Role::OnFailure].map(|role| {
            let identity = SubscriptionIdentity {
                tenant: Name::default_tenant(),
                rule: name("pipe"),
                role,
                target: name("t"),
            };
            Subscription {
                identity,
                renamed_from: None,
                backlog: None,
                start: None,
            }
        });
        let numbers = pipes.subscribe(wanted.to_vec()).await.unwrap();
        Self {
            inner,
            pipes,
            clock,
            number: numbers[0],
            follower: numbers[1],
            router: testing::shared(vec![testing::pipe(&name("source"), numbers[0])]),
            calls: Arc::default(),
            answer: Arc::new(Mutex::new(Arc::new(|_: &Delivery| {
                (Duration::from_millis(1), Outcome::delivered())
            }))),
            told: Arc::default(),
            metrics: Metrics::new(&mut Registry::default(), Timestamp(0))
                .source(&Name::default_tenant(), &name("source")),
        }
    }

    /// What the target does from now on.
    pub(super) fn answers(
        &self,
        answer: impl Fn(&Delivery) -> (Duration, Outcome) + Send + Sync + 'static,
    ) {
        *self.answer.lock() = Arc::new(answer);
    }

    /// The target answers each event's attempts with these classes, one after the other, the last
    /// for ever.
    pub(super) fn classes(&self, classes: &'static [Class]) {
        self.answers(|delivery| {
            let class = classes[(delivery.attempt as usize - 1).min(classes.len() - 1)];
            (Duration::from_millis(1), Outcome::new(class, "as told"))
        });
    }

    /// Starts a dispatcher; nothing goes out of the follow-ups' subscription.
    pub(super) fn dispatch(&self, on_failure: bool) -> Dispatching {
        let (calls, answer) = (Arc::clone(&self.calls), Arc::clone(&self.answer));
        let service = tower::service_fn(move |mut attempt: Attempt| {
            let (calls, answer) = (Arc::clone(&calls), Arc::clone(&answer.lock()));
            async move {
                let delivery = attempt.deliveries.pop().unwrap();
                calls.lock().push(delivery.clone());
                let (took, outcome) = answer(&delivery);
                tokio::time::sleep(took).await;
                Ok::<_, AttemptError>(vec![outcome])
            }
        });
        let target = Target {
            tenant: Name::default_tenant(),
            name: name("t"),
            service: BoxCloneSyncService::new(service),
            concurrency_max: NonZeroUsize::new(64).unwrap(),
            rate: None,
            fingerprint: 0,
        };
        let follow = crate::dispatcher::FollowUpRoute {
            subscription: self.follower,
            send: crate::dispatcher::FollowUpPayload::Original,
        };
        let identity = SubscriptionIdentity {
            tenant: Name::default_tenant(),
            rule: name("pipe"),
            role: Role::To,
            target: name("t"),
        };
        let route = Route {
            quotas: [None; 2],
            observer: observer(&identity),
            identity,
            is_templated: false,
            target: 0,
            policy: Policy::new(
                SECOND * 30,
                MINUTE * 60 * 24,
                4,
                Backoff::new(SECOND, SECOND * 300),
            )
            .unwrap(),
            batch: None,
            priority: Priority::USUAL,
            preparation: Preparation::default(),
            recording: crate::dispatcher::Recording::default(),
            on_success: None,
            on_failure: on_failure.then_some(follow),
        };
        let plan = Plan {
            quotas: Vec::new(),
            targets: vec![target],
            routes: vec![(self.number, Arc::new(route))],
        };
        let (dispatcher, handle) = Dispatcher::new(
            Arc::clone(&self.inner) as Arc<dyn Journal>,
            Arc::clone(&self.pipes),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            testing::matcher(&self.router),
            plan,
            Options {
                seed: 1,
                ..Options::default()
            },
        );
        let stop = CancellationToken::new();
        Dispatching {
            task: tokio::spawn(dispatcher.run(stop.clone(), SECOND * 20)),
            stop,
            _handle: handle,
        }
    }

    /// Starts an intake.
    pub(super) fn take(&self) -> Taking {
        let abandon = CancellationToken::new();
        let intake = PipeIntake::new(
            Arc::clone(&self.pipes),
            MessageReader::new(
                Name::default_tenant(),
                name("source"),
                testing::matcher(&self.router),
                self.metrics.clone(),
            ),
            Guarantee::AtLeastOnce,
            abandon.clone(),
        );
        self.go_on(intake, abandon)
    }

    fn go_on(&self, mut intake: PipeIntake, abandon: CancellationToken) -> Taking {
        let ((sender, batches), (hand, in_hand)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (taken, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (mut source, token) = (
            Script {
                batches,
                in_hand,
                taken: Arc::clone(&taken),
            },
            stop.clone(),
        );
        let task = tokio::spawn(async move {
            let ended = intake.run(&mut source, &token).await;
            (intake, ended)
        });
        Taking {
            batches: sender,
            hand,
            taken,
            stop,
            abandon,
            task,
        }
    }

    /// Starts the intake of a source that has ended again, with the source opened anew.
    pub(super) async fn again(&self, ended: Taking) -> Taking {
        let (intake, _) = ended.task.await.unwrap();
        self.go_on(intake, ended.abandon)
    }

    /// A message of events, named by the first; what it is told is noted.
    pub(super) fn message(&self, events: &[Event]) -> Message {
        let (id, told) = (events[0].id().to_string(), Arc::clone(&self.told));
        let acknowledgement = Acknowledgement::io(move |verdict| async move {
            assert_eq!(
                told.lock().insert(id, verdict),
                None,
                "a message was told twice"
            );
        });
        let arrivals = events
            .iter()
            .map(|event| pointsman_connectors::Arrival::Event(Arc::new(event.clone())));
        Message {
            arrivals: arrivals.collect(),
            rejects: Vec::new(),
            acknowledgement,
            positions: Vec::new(),
        }
    }

    /// The same, of which the source should be told within this time.
    pub(super) fn message_until(&self, events: &[Event], within: Duration) -> Message {
        let Message {
            arrivals,
            rejects,
            acknowledgement,
            positions,
        } = self.message(events);
        Message {
            arrivals,
            rejects,
            acknowledgement: acknowledgement.with_deadline(tokio::time::Instant::now() + within),
            positions,
        }
    }

    pub(super) fn until(&self, ids: &[&str], within: Duration) -> Batch {
        Batch {
            messages: ids
                .iter()
                .map(|id| self.message_until(&[event(id)], within))
                .collect(),
            cursor: None,
        }
    }

    pub(super) fn batch(&self, ids: &[&str]) -> Batch {
        Batch {
            messages: ids.iter().map(|id| self.message(&[event(id)])).collect(),
            cursor: None,
        }
    }

    /// What a message was told by now.
    pub(super) fn told(&self, id: &str) -> Option<Verdict> {
        self.told.lock().get(id).cloned()
    }

    pub(super) fn attempts(&self) -> Vec<String> {
        self.calls
            .lock()
            .iter()
            .map(|call| call.event.id().to_string())
            .collect()
    }

    /// The pipe's counters; the law holds for them, and for what the journal beneath counts by
    /// itself.
    pub(super) async fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for reader in [self.inner.reader(), self.pipes.reader()] {
            let statuses = reader.subscriptions().await.unwrap();
            counts = statuses
                .into_iter()
                .find(|status| status.number == self.number)
                .unwrap()
                .counts;
            let c = counts;
            assert_eq!(
                c.created,
                c.delivered
                    + c.dead
                    + c.redriven
                    + c.purged
                    + c.cancelled
                    + c.quarantined
                    + c.pending,
                "{c:?}"
            );
        }
        counts
    }

    pub(super) async fn dead(&self) -> Vec<DeadLetter> {
        self.pipes
            .reader()
            .dead(&DeadSelection::default(), None, 1_000)
            .await
            .unwrap()
    }

    pub(super) async fn cursor(&self) -> Option<Bytes> {
        self.inner
            .cursor(&Name::default_tenant(), &name("source"))
            .await
            .unwrap()
            .map(|cursor| cursor.position)
    }

    /// The keys of the rows that are stored of the source's position.
    pub(super) async fn positions(&self) -> Vec<Bytes> {
        let (tenant, source) = (Name::default_tenant(), name("source"));
        let rows = self.inner.positions(&tenant, &source, None, 10_000).await;
        rows.unwrap().into_iter().map(|row| row.key).collect()
    }
}

/// Rows of a position with these keys.
pub(super) fn rows(keys: &[&str]) -> Vec<PositionChange> {
    let change = |key: &&str| PositionChange {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Bytes::new()),
    };
    keys.iter().map(change).collect()
}

impl Taking {
    pub(super) fn send(&self, batch: Batch) {
        self.batches.send(Ok(batch)).unwrap();
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().1.unwrap();
    }
}

pub(super) fn event(id: &str) -> Event {
    Event::builder(id, "/s", "t").build().unwrap()
}

pub(super) fn keyed(id: &str, subject: &'static str) -> Event {
    Event::builder(id, "/s", "t")
        .subject(subject)
        .build()
        .unwrap()
}

/// A batch of one event that nobody is told of, and its cursor.
pub(super) fn vouched(id: &'static str) -> Batch {
    let cursor = Cursor {
        fingerprint: 1,
        position: Bytes::from_static(id.as_bytes()),
    };
    Batch {
        messages: vec![Message::event(event(id), Acknowledgement::None)],
        cursor: Some(cursor),
    }
}
