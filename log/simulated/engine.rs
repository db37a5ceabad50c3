//! The simulated engine: carries calls out, late, twice or never.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Node;
use super::faults::{Fate, Faults, random, within};
use super::state::State;
use crate::{LogError, Place, Shard};

/// An engine in memory that many nodes share.
pub struct Engine {
    seed: u64,
    faults: Faults,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// The calls under way, which go on without their callers.
    calls: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("seed", &self.seed).finish()
    }
}

impl Engine {
    /// An engine without any cluster.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            seed,
            faults,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            calls: Mutex::default(),
        })
    }

    /// One more node's way to it.
    #[must_use]
    pub fn node(self: &Arc<Self>) -> Node {
        let mut state = self.state.lock();
        state.nodes += 1;
        Node {
            engine: Arc::clone(self),
            number: state.nodes,
        }
    }

    /// Crashes and is back at once: the calls that have not been carried out never are, and nobody
    /// is answered who waits. What is stored stays.
    pub fn crash(&self) {
        self.state.lock().crashes += 1;
    }

    /// Has it do nothing for a time.
    pub fn stall(&self, time: Duration) {
        let mut state = self.state.lock();
        let until = Instant::now() + time;
        state.stalled_until = state.stalled_until.max(Some(until));
    }

    pub(super) fn cut(&self, node: u64, cut: bool) {
        let mut state = self.state.lock();
        if cut {
            state.cut.insert(node);
        } else {
            state.cut.remove(&node);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Tells of every change of what is stored, and of who can see it.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reads the state as it is; nothing for a node that is cut off.
    pub(super) fn look<T>(&self, node: u64, read: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.state.lock();
        (!state.cut.contains(&node)).then(|| read(&mut state))
    }

    /// How long a record takes to a node.
    pub(super) fn lag(&self, node: u64, shard: Shard, place: Place) -> Duration {
        let of = [node, u64::from(shard.0) + 1, place.0];
        within(&self.faults.lag, &mut random(self.seed, of))
    }

    /// Carries a change out for a node, and answers; or does not.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        node: u64,
        change: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, LogError> {
        let until = Instant::now() + self.faults.timeout;
        let (fate, crashes, is_cut) = {
            let mut state = self.state.lock();
            state.calls += 1;
            let fate = self
                .faults
                .draw(&mut random(self.seed, [state.calls, 0, 0]));
            (fate, state.crashes, state.cut.contains(&node))
        };
        if is_cut && !fate.is_sent_though_cut {
            sleep_until(until).await;
            return Err(LogError::Unavailable("no way to the engine".to_owned()));
        }
        if let Some(stall) = fate.stall {
            self.stall(stall);
        }
        let (answer, answered) = oneshot::channel();
        let way = Way {
            engine: Arc::downgrade(self),
            node,
            crashes,
            fate,
        };
        self.spawn(async move {
            if let Some(done) = way.there_and_back(change).await {
                // The caller may have given up.
                let _ = answer.send(done);
            }
        });
        match timeout_at(until, answered).await {
            Ok(Ok(done)) => Ok(done),
            _ => {
                // That there will be no answer shows by its not coming.
                sleep_until(until).await;
                Err(LogError::Unknown("no answer in time".to_owned()))
            }
        }
    }

    fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut calls = self.calls.lock();
        while calls.try_join_next().is_some() {}
        calls.spawn(call);
    }
}

/// One call on its way to the engine and back.
struct Way {
    engine: Weak<Engine>,
    node: u64,
    /// How often the engine had crashed when it set out.
    crashes: u64,
    fate: Fate,
}

impl Way {
    async fn there_and_back<T>(self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        sleep(self.fate.there).await;
        while let Some(until) = self.stalled()? {
            sleep_until(until).await;
        }
        let done = {
            let engine = self.engine.upgrade()?;
            let mut state = engine.state.lock();
            if self.fate.is_lost || self.is_broken_off(&state) {
                return None;
            }
            let done = change(&mut state);
            drop(state);
            engine.changed.send_replace(());
            done
        };
        sleep(self.fate.back).await;
        let engine = self.engine.upgrade()?;
        let is_answered = !self.fate.is_unanswered && !self.is_broken_off(&engine.state.lock());
        is_answered.then_some(done)
    }

    /// Until when the engine does nothing; the outer `None` where there is no engine any more.
    fn stalled(&self) -> Option<Option<Instant>> {
        let engine = self.engine.upgrade()?;
        let until = engine.state.lock().stalled_until;
        Some(until.filter(|until| *until > Instant::now()))
    }

    fn is_broken_off(&self, state: &State) -> bool {
        state.crashes != self.crashes || state.cut.contains(&self.node)
    }
}
