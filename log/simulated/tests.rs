use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::*;
use crate::suite::Implementation;

/// An engine with its nodes, for the suite.
struct Simulated {
    engine: Arc<Engine>,
    nodes: Mutex<Vec<Node>>,
    is_rough: bool,
}

impl Simulated {
    fn new(seed: u64, faults: Faults, is_rough: bool) -> Self {
        Self {
            engine: Engine::new(seed, faults),
            nodes: Mutex::default(),
            is_rough,
        }
    }
}

#[async_trait(?Send)]
impl Implementation for Simulated {
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError> {
        let node = self.engine.node();
        self.nodes.lock().unwrap().push(node.clone());
        Ok(Arc::new(node.open(cluster).await?))
    }

    async fn crash(&self) {
        self.engine.crash();
    }

    fn cut(&self, cut: bool) {
        for node in &*self.nodes.lock().unwrap() {
            node.cut(cut);
        }
    }

    fn is_rough(&self) -> bool {
        self.is_rough
    }
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

mod calm {
    use super::*;

    crate::conformance!(paused, async { Simulated::new(1, Faults::none(), false) });
}

mod rough {
    use super::*;

    crate::conformance!(paused, async { Simulated::new(2, Faults::rough(), true) });
}

fn one() -> Cluster {
    Cluster::new(Name::new("test").unwrap(), 1).unwrap()
}

/// What happens to ten writers, each with when it happened.
fn history(seed: u64) -> Vec<(Duration, String)> {
    paused(async {
        let engine = Engine::new(seed, Faults::rough());
        let begin = Instant::now();
        let log = loop {
            if let Ok(log) = engine.node().open(one()).await {
                break log;
            }
        };
        let happened = Mutex::new(Vec::new());
        let tell = |what| happened.lock().unwrap().push((begin.elapsed(), what));
        let writers = join_all((0..10).map(async |writer| {
            for number in 0..10 {
                let body = Bytes::from(format!("{writer}/{number}"));
                let done = log.append(Shard(0), body).await;
                tell(format!("{writer}/{number}: {done:?}"));
            }
        }));
        let mut follower = engine.node().open(one()).await.map_or_else(
            |_| log.follow(Shard(0), Place::START),
            |log| log.follow(Shard(0), Place::START),
        );
        let following = async {
            while let Ok(Some(next)) = timeout(Duration::from_secs(60), follower.next()).await {
                tell(format!("{next:?}"));
            }
        };
        tokio::join!(writers, following);
        happened.into_inner().unwrap()
    })
}

#[test]
fn a_seed_makes_one_history() {
    let first = history(7);
    assert_eq!(first, history(7));
    assert_ne!(first, history(8));
    for what in ["Ok", "Unknown", "Record"] {
        assert!(
            first.iter().any(|(_, told)| told.contains(what)),
            "no {what} in {first:?}"
        );
    }
}

#[test]
fn an_append_without_an_answer_happens_never_or_at_once_or_late() {
    let outcomes = |faults: Faults| {
        paused(async move {
            let log = Engine::new(1, Faults::none()).node().open(one()).await;
            let calm = log.unwrap();
            let engine = Engine::new(1, faults);
            let node = SimulatedLog {
                node: engine.node(),
                ..calm
            };
            let told = node.append(Shard(0), "x".into()).await;
            assert!(told.is_err_and(|error| error.is_unknown()));
            let mut follower = node.follow(Shard(0), Place::START);
            let at_once = timeout(Duration::from_millis(50), follower.next()).await;
            match at_once {
                Ok(_) => "at once",
                Err(_) => match timeout(Duration::from_secs(60), follower.next()).await {
                    Ok(_) => "late",
                    Err(_) => "never",
                },
            }
        })
    };
    let none = Faults::none;
    assert_eq!(
        outcomes(Faults {
            lost: 1.0,
            ..none()
        }),
        "never"
    );
    let unanswered = Faults {
        unanswered: 1.0,
        ..none()
    };
    assert_eq!(outcomes(unanswered), "at once");
    let late = Faults {
        late: 1.0,
        lateness: Duration::from_secs(9)..Duration::from_secs(10),
        ..none()
    };
    assert_eq!(outcomes(late), "late");
}

#[test]
fn a_stalled_engine_does_nothing_until_it_is_over() {
    paused(async {
        let engine = Engine::new(1, Faults::none());
        let log = engine.node().open(one()).await.unwrap();
        let begin = Instant::now();
        engine.stall(Duration::from_secs(3));
        log.append(Shard(0), "x".into()).await.unwrap();
        assert!(begin.elapsed() > Duration::from_secs(3));
    });
}
