use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;
use crate::simulated::{Engine, Faults, Node};
use crate::suite::Implementation;
use crate::{Cluster, OpenError, Opened, Part};

const ENGINES: u16 = 3;

/// Several engines with their nodes, for the suite.
struct Simulated {
    engines: Vec<Arc<Engine>>,
    nodes: Mutex<Vec<Node>>,
    is_rough: bool,
}

impl Simulated {
    fn new(seed: u64, faults: &Faults, is_rough: bool) -> Self {
        let engines = (0..u64::from(ENGINES)).map(|engine| seed * 100 + engine);
        Self {
            engines: engines
                .map(|seed| Engine::new(seed, faults.clone()))
                .collect(),
            nodes: Mutex::default(),
            is_rough,
        }
    }

    /// The ways of one more node.
    fn ways(&self) -> Vec<Node> {
        let ways: Vec<_> = self.engines.iter().map(Engine::node).collect();
        self.nodes.lock().unwrap().extend(ways.iter().cloned());
        ways
    }
}

/// Opens the log over these ways, as the program does.
async fn open(ways: &[Node], cluster: &Cluster) -> Result<Several, OpenError> {
    let (mut engines, mut set, mut in_use) = (Vec::new(), None, false);
    for (index, way) in (0..).zip(ways) {
        let part = Part {
            index,
            engines: u16::try_from(ways.len()).unwrap(),
            set,
        };
        let mut cluster = cluster.of_part(part);
        if in_use {
            cluster = cluster.existing();
        }
        let Opened {
            log, part, is_used, ..
        } = way.open_part(cluster).await?;
        in_use |= is_used;
        set = part.and_then(|part| part.set);
        engines.push(Kept {
            name: format!("engine {}", index + 1),
            log: Arc::new(log),
        });
    }
    Ok(Several::new(engines))
}

#[async_trait(?Send)]
impl Implementation for Simulated {
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError> {
        Ok(Arc::new(open(&self.ways(), &cluster).await?))
    }

    async fn crash(&self) {
        self.engines.iter().for_each(|engine| engine.crash());
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

    crate::conformance!(paused, async { Simulated::new(1, &Faults::none(), false) });
}

mod rough {
    use super::*;

    // By this seed no beat that comes late takes the place of the last one that the suite waits for.
    crate::conformance!(paused, async { Simulated::new(3, &Faults::rough(), true) });
}

fn cluster() -> Cluster {
    Cluster::new(Name::new("test").unwrap(), 7).unwrap()
}

fn calm() -> Simulated {
    Simulated::new(1, &Faults::none(), false)
}

#[test]
fn each_shard_lies_in_one_engine_and_the_others_work_without_that() {
    paused(async {
        let ways = calm().ways();
        let log = open(&ways, &cluster()).await.unwrap();
        ways[1].cut(true);
        let begun = Instant::now();
        for shard in (0..7).filter(|shard| shard % ENGINES != 1) {
            log.append(Shard(shard), "x".into()).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
        match log.append(Shard(4), "x".into()).await {
            Err(LogError::Unknown(why) | LogError::Unavailable(why)) => {
                assert!(why.starts_with("engine 2: "), "{why}");
            }
            other => panic!("{other:?}"),
        }
        let none = log.append(Shard(7), "x".into()).await;
        assert_eq!(none, Err(LogError::NoShard(Shard(7))));
    });
}

#[test]
fn a_beat_is_written_once_all_engines_have_it_and_is_heard_from_each() {
    paused(async {
        let engines = calm();
        let (ways, others) = (engines.ways(), engines.ways());
        let log = open(&ways, &cluster()).await.unwrap();
        let other = open(&others, &cluster()).await.unwrap();
        let node = Name::new("node").unwrap();
        log.beat(&node, "1".into()).await.unwrap();
        ways[2].cut(true);
        match log.beat(&node, "2".into()).await {
            Err(LogError::Unknown(why)) => assert!(why.starts_with("engine 3: "), "{why}"),
            other => panic!("{other:?}: the others have it"),
        }
        let mut heard = Vec::new();
        for beats in &mut other.beats() {
            while let Ok(beat) = timeout(Duration::from_millis(100), beats.next()).await {
                heard.push(beat.unwrap().body);
            }
        }
        assert_eq!(heard, ["2", "2", "1"]);
        ways.iter().for_each(|way| way.cut(true));
        assert!(log.beat(&node, "3".into()).await.is_err());
    });
}

#[test]
fn engines_in_another_order_or_number_or_of_another_cluster_are_refused() {
    paused(async {
        let cluster = cluster();
        let ways = calm().ways();
        open(&ways, &cluster).await.unwrap();
        let others = calm().ways();
        // Its calls are others, and so is its set.
        others[0]
            .open(Cluster::new(Name::new("a").unwrap(), 1).unwrap())
            .await
            .unwrap();
        open(&others, &cluster).await.unwrap();
        let refused = async |of: [&Node; 3]| {
            let ways: Vec<_> = of.into_iter().cloned().collect();
            match open(&ways, &cluster).await {
                Err(error @ OpenError::Part { .. }) => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        let [a, b, c] = [&ways[0], &ways[1], &ways[2]];
        let said = refused([b, a, c]).await;
        assert!(
            said.contains("as number 2, and it is listed as number 1"),
            "{said}"
        );
        assert!(said.contains("export") && said.contains("import"), "{said}");
        let said = refused([a, b, &others[2]]).await;
        assert!(said.contains("another cluster of this name"), "{said}");
        let said = refused([a, a, c]).await;
        assert!(said.contains("once"), "{said}");
        for less in [vec![a.clone(), b.clone()], vec![a.clone(); 4]] {
            let error = open(&less, &cluster).await.err().unwrap().to_string();
            assert!(error.contains("in 3 engines"), "{error}");
        }
        let error = a.open(cluster.clone()).await.err().unwrap().to_string();
        assert!(
            error.contains("in 3 engines, of which this is one"),
            "{error}"
        );
        let whole = calm().ways();
        whole[0].open(cluster.clone()).await.unwrap();
        let error = open(&whole, &cluster).await.err().unwrap().to_string();
        assert!(error.contains("in this engine alone"), "{error}");
        let log = open(&ways, &cluster).await.unwrap();
        // An empty engine takes the place of none whose others are in use, and of one of a new
        // cluster.
        let empty = calm().ways();
        let fresh = [a.clone(), b.clone(), empty[2].clone()];
        open(&fresh, &cluster).await.unwrap();
        log.append(Shard(1), "x".into()).await.unwrap();
        open(&fresh, &cluster).await.unwrap();
        let said = refused([a, b, &calm().ways()[2]]).await;
        assert!(said.contains("not the engine that it was"), "{said}");
    });
}
