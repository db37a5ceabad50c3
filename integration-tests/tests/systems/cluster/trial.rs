//! A trial: a cluster under load, one trouble after the other, and what was seen of it.
//!
//! `POINTSMAN_JURY_EVENTS` and `POINTSMAN_JURY_FAULTS` make it as long as one likes: so many events,
//! and each trouble so many times among them.

use std::fmt;
use std::time::Duration;

use pointsman_integration_tests::PATIENCE;
use pointsman_integration_tests::bus::signal;
use tokio::time::{Instant, sleep};

use super::engines::{Accident, Engine};
use super::jury::{Acknowledged, Jury, Sender};
use super::{Nodes, rules};

/// How long it may take until events are taken again once a standby was promoted.
const FAILED_OVER: Duration = Duration::from_secs(30);

/// How many events have to be taken between two troubles.
const BETWEEN: usize = 20;

/// What becomes of the node that runs the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It dies, and comes back.
    Kill,
    /// It dies, and comes back without its store.
    Empty,
    /// It does nothing for a while, and goes on.
    Pause,
    /// It is cut off from the engine, and must stop by itself.
    Cut,
    /// It is cut off from the last of the engine's servers alone, which is one of several engines, and
    /// must stop as well.
    Half,
    /// No other node can reach it, and it goes on with what it owns.
    Apart,
    /// It is asked to stop.
    Stop,
    /// It gives its shards to others, and gets some back.
    Drain,
}

/// Everything that can become of a node.
const ALL: &[Blow] = &[
    Blow::Kill,
    Blow::Empty,
    Blow::Pause,
    Blow::Cut,
    Blow::Apart,
    Blow::Stop,
    Blow::Drain,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Node(Blow),
    Engine(Accident),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(blow) => write!(f, "node: {blow:?}"),
            Self::Engine(accident) => write!(f, "engine: {accident:?}"),
        }
    }
}

/// How long a trial is.
struct Plan {
    events: usize,
    /// How often each trouble comes.
    times: usize,
    /// Whether somebody has asked for a long one, in which everything happens.
    is_long: bool,
}

impl Plan {
    /// What the environment asks for.
    fn read() -> Self {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            Some(
                text.parse()
                    .unwrap_or_else(|_| panic!("{name}={text} is no number")),
            )
        };
        let events = number("POINTSMAN_JURY_EVENTS");
        let times = number("POINTSMAN_JURY_FAULTS");
        let is_long = std::env::var_os("POINTSMAN_LONG").is_some();
        Self {
            events: events.unwrap_or(0),
            times: times.unwrap_or(if is_long { 20 } else { 1 }),
            is_long: is_long || events.is_some() || times.is_some(),
        }
    }

    /// Each sends a few events a second.
    fn subjects(&self) -> usize {
        (self.events / 2_000).clamp(8, 500)
    }

    /// How many events come before a trouble.
    fn before(&self, number: usize, troubles: usize) -> usize {
        self.events * (number + 1) / (troubles + 1)
    }
}

/// Holds a trial of this many nodes with so many shards over an engine, with everything that can become of the engine,
/// and these things that can become of a node; all of them in a long one.
pub async fn hold(engine: Engine, nodes: usize, shards: usize, blows: &[Blow]) {
    let plan = Plan::read();
    let others = ALL
        .iter()
        .filter(|blow| plan.is_long && !blows.contains(blow));
    let blows = blows.iter().chain(others);
    let accidents = engine.accidents().iter().copied().map(Trouble::Engine);
    let kinds: Vec<_> = blows.copied().map(Trouble::Node).chain(accidents).collect();
    let jury = Jury::start().await;
    let nodes = Nodes::start(engine, nodes, shards, &rules(&jury.url())).await;
    let sender = Sender::start(&nodes.urls(), plan.subjects());
    let mut trial = Trial {
        nodes,
        jury,
        sender,
    };
    let began = Instant::now();
    let mut troubles = Vec::new();
    let count = plan.times * kinds.len();
    for (number, kind) in kinds.iter().cycle().take(count).enumerate() {
        let enough = trial.sender.count() + BETWEEN;
        trial
            .takes(enough.max(plan.before(number, count)), PATIENCE)
            .await;
        troubles.push((*kind, Instant::now()));
        trial.befall(*kind).await;
    }
    trial.takes(plan.events, PATIENCE).await;
    let Trial {
        nodes,
        jury,
        sender,
    } = trial;
    let acknowledged = sender.stop().await;
    nodes.expect(&jury, &acknowledged).await;
    let took = began.elapsed();
    jury.judge();
    println!(
        "{} nodes with {} shards over {}: {} events in {took:.0?}, all of them delivered, in order, \
         by one owner at a time",
        nodes.members.len(),
        nodes.shards,
        nodes.engine.name(),
        acknowledged.len(),
    );
    let repeats = jury.repeats();
    for kind in kinds {
        println!("{}", seen(kind, &troubles, &acknowledged, &repeats));
    }
}

struct Trial {
    nodes: Nodes,
    jury: Jury,
    sender: Sender,
}

impl Trial {
    /// Waits until so many events have been taken in all, for this long without another one.
    async fn takes(&self, events: usize, patience: Duration) {
        let (mut before, mut since) = (0, Instant::now());
        while self.sender.count() < events {
            let now = self.sender.count();
            if now > before {
                (before, since) = (now, Instant::now());
            }
            let is_stuck = since.elapsed() > patience;
            assert!(
                !is_stuck,
                "nothing is taken any more:\n{}",
                self.nodes.logs()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Has something happen, and everything be well again.
    async fn befall(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Node(blow) => self.strike(blow).await,
            Trouble::Engine(accident) => {
                self.nodes.engine.meet(accident).await;
                let before = self.sender.count();
                let patience = match accident {
                    Accident::FailOver => FAILED_OVER,
                    _ => PATIENCE,
                };
                self.takes(before + BETWEEN, patience).await;
                self.nodes.engine.mend().await;
            }
        }
        self.jury.thaw();
    }

    async fn strike(&mut self, blow: Blow) {
        let owner = self.nodes.owner().await;
        if matches!(blow, Blow::Kill | Blow::Empty | Blow::Pause) {
            self.jury.freeze(owner);
        }
        let bus = &mut self.nodes.members[owner].bus;
        match blow {
            Blow::Kill | Blow::Empty => bus.kill(),
            Blow::Pause => signal(bus.pid(), "STOP"),
            Blow::Cut => self.nodes.members[owner].cut(true),
            Blow::Half => self.nodes.members[owner].cut_last(true),
            Blow::Stop => drop(bus.terminate().await),
            Blow::Drain => drop(self.nodes.members[owner].drain(true).await),
            Blow::Apart => return self.part(owner).await,
        }
        self.nodes.next_owner(owner).await;
        let member = &mut self.nodes.members[owner];
        match blow {
            Blow::Empty => {
                std::fs::remove_dir_all(member.bus.path("store")).unwrap();
                member.bus.spawn();
            }
            Blow::Kill | Blow::Stop => member.bus.spawn(),
            Blow::Pause => signal(member.bus.pid(), "CONT"),
            Blow::Cut => member.cut(false),
            Blow::Half => member.cut_last(false),
            Blow::Drain => drop(member.drain(false).await),
            Blow::Apart => unreachable!("no other node owns its shards"),
        }
        self.nodes.spared(owner).await;
    }

    /// Keeps other nodes from reaching one: what they cannot pass on to it, its sender brings again
    /// to the next one.
    async fn part(&self, owner: usize) {
        let member = &self.nodes.members[owner];
        member.shut(true);
        let before = self.sender.count();
        self.takes(before + BETWEEN, PATIENCE).await;
        member.shut(false);
    }
}

/// What was seen of all troubles of a kind, each from its beginning to that of the next.
fn seen(
    kind: Trouble,
    troubles: &[(Trouble, Instant)],
    acknowledged: &[Acknowledged],
    repeats: &[Instant],
) -> String {
    let after = |at: &Instant| {
        troubles
            .partition_point(|(_, began)| began <= at)
            .checked_sub(1)
    };
    let is_of = |at: &Instant| after(at).is_some_and(|number| troubles[number].0 == kind);
    let times = troubles.iter().filter(|(of, _)| *of == kind).count();
    let repeats = repeats.iter().filter(|at| is_of(at)).count();
    let waits = acknowledged
        .iter()
        .filter(|one| is_of(&one.at))
        .map(|one| one.waited);
    format!(
        "  {kind}: {times} times; {:.1} attempts again each; longest wait for an acknowledgement \
         {:.1?}",
        repeats as f64 / times as f64,
        waits.max().unwrap_or_default(),
    )
}
