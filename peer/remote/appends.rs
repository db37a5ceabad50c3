//! The appends to a shard that another node owns: those that wait go together, in their order.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_journal::{Append, Appended, JournalError, Watch};
use tokio::sync::{mpsc, oneshot};
use tokio::task::unconstrained;
use tokio_util::task::AbortOnDropHandle;

use super::Line;
use crate::append::{Made, Sent, watches};
use crate::call::Call;

/// Entries that one call carries at most, unless one append has more.
const CALL_ENTRIES_MAX: usize = 256;

/// Bytes of events that one call carries at most, unless one append has more.
const CALL_BYTES_MAX: usize = 1024 * 1024;

/// Appends that wait to be sent; whoever comes next waits before handing over.
const APPENDS_WAITING_MAX: usize = 1024;

type Outcome = Result<Vec<Appended>, JournalError>;

/// An append that waits.
#[derive(Debug)]
struct Waiting {
    append: Append,
    answer: oneshot::Sender<Outcome>,
}

/// Hands appends to the task that sends them, which ends with this.
#[derive(Debug)]
pub(super) struct Appends {
    waiting: mpsc::Sender<Waiting>,
    line: Arc<Line>,
    _sender: AbortOnDropHandle<()>,
}

impl Appends {
    pub(super) fn new(line: Arc<Line>) -> Self {
        let (waiting, next) = mpsc::channel(APPENDS_WAITING_MAX);
        let sender = tokio::spawn(send_all(Arc::clone(&line), next));
        Self {
            waiting,
            line,
            _sender: AbortOnDropHandle::new(sender),
        }
    }

    /// Hands an append over, in the order of the calls, and waits for what came of it.
    pub(super) async fn append(&self, append: Append) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let handing = self.waiting.send(Waiting { append, answer });
        // Who calls for many at once would otherwise be made to wait with the later ones, which
        // then come in any order.
        let handed = unconstrained(handing).await;
        // Only where the runtime ends, or the task has panicked.
        let ended = || self.line.lost("nothing is sent any more");
        handed.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

async fn send_all(line: Arc<Line>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut next = waiting.recv().await;
    while let Some(first) = next.take() {
        let mut load = Load::of(&first.append);
        let mut together = vec![first];
        while let Ok(more) = waiting.try_recv() {
            if !load.takes(Load::of(&more.append)) {
                next = Some(more);
                break;
            }
            together.push(more);
        }
        send(&line, together, load).await;
        if next.is_none() {
            next = waiting.recv().await;
        }
    }
}

/// What a call carries.
#[derive(Clone, Copy, Debug)]
struct Load {
    entries: usize,
    bytes: usize,
}

impl Load {
    fn of(append: &Append) -> Self {
        let events = append.entries.iter().map(|entry| entry.event.size_bytes());
        let rejects = append.rejects.iter().map(|reject| reject.raw.len());
        Self {
            entries: append.entries.len() + append.rejects.len(),
            bytes: events.chain(rejects).sum(),
        }
    }

    /// Takes more onto it, unless that is too much.
    fn takes(&mut self, more: Self) -> bool {
        let sum = Self {
            entries: self.entries + more.entries,
            bytes: self.bytes.saturating_add(more.bytes),
        };
        let fits = sum.entries <= CALL_ENTRIES_MAX && sum.bytes <= CALL_BYTES_MAX;
        if fits {
            *self = sum;
        }
        fits
    }
}

/// What is known of an append that was sent.
struct Asked {
    entries: usize,
    watches: HashMap<u32, Arc<dyn Watch>>,
    answer: oneshot::Sender<Outcome>,
}

/// Sends appends in one call, and tells each what came of it.
async fn send(line: &Line, together: Vec<Waiting>, load: Load) {
    let (mut sent, mut asked) = (Vec::new(), Vec::new());
    for Waiting { append, answer } in together {
        let watches = watches(&append);
        let watched = watches.keys().copied().collect();
        asked.push(Asked {
            entries: append.entries.len(),
            watches,
            answer,
        });
        sent.push(Sent { append, watched });
    }
    let answered: Result<Vec<Result<Made, JournalError>>, _> =
        line.ask(&Call::Append(sent), load.bytes).await;
    let answered = answered.and_then(|made| {
        let fits = made.len() == asked.len();
        fits.then_some(made)
            .ok_or_else(|| line.unreadable("it is of other appends"))
    });
    match answered {
        Err(error) => {
            for one in asked {
                // Nobody may wait any more.
                let _ = one.answer.send(Err(error.clone()));
            }
        }
        Ok(made) => {
            for (one, made) in asked.into_iter().zip(made) {
                one.tell(line, made);
            }
        }
    }
}

impl Asked {
    fn tell(mut self, line: &Line, made: Result<Made, JournalError>) {
        let outcome = made.and_then(|Made { appended, told }| {
            if appended.len() != self.entries {
                return Err(line.unreadable("it is of another append"));
            }
            for one in told {
                if let Some(watch) = self.watches.remove(&one.place) {
                    watch.made(one.sequence, one.made);
                }
            }
            Ok(appended)
        });
        let _ = self.answer.send(outcome);
    }
}
