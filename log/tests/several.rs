//! The log in several engines, with real servers: one in PostgreSQL, one in NATS JetStream.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests, which say what they expect bluntly"
)]

mod engine;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::{one, run};
use pointsman_log::nats::{self, NatsLog};
use pointsman_log::postgres::{self, PostgresLog};
use pointsman_log::several::{Kept, Several};
use pointsman_log::suite::Implementation;
use pointsman_log::{Cluster, Foreign, Log, OpenError, Part, Place, Shard};
use pointsman_schemas::Name;
use pointsman_test_brokers::{Fault, NatsRelease, NatsServer, PostgresServer, Proxy};
use tokio::sync::Mutex;

/// Short, so that a test of what does not answer is as well.
const TIMEOUT: Duration = Duration::from_secs(3);

struct Both {
    postgres: Mutex<PostgresServer>,
    nats: Mutex<NatsServer>,
    proxies: [Proxy; 2],
}

impl Both {
    async fn start() -> Self {
        let postgres = PostgresServer::start("").await;
        let nats = NatsServer::start(NatsRelease::Current).await;
        Self {
            proxies: [postgres.port(), nats.port()].map(Proxy::start),
            postgres: Mutex::new(postgres),
            nats: Mutex::new(nats),
        }
    }

    fn postgres(&self) -> postgres::Options {
        let port = self.proxies[0].port();
        postgres::Options {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            tls: None,
            timeout: TIMEOUT,
        }
    }

    async fn nats(&self) -> nats::Options {
        let client = async_nats::ConnectOptions::new()
            .ping_interval(Duration::from_secs(1))
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .connect(format!("nats://127.0.0.1:{}", self.proxies[1].port()))
            .await
            .unwrap();
        nats::Options {
            client,
            replicas: 1,
            timeout: TIMEOUT,
        }
    }
}

fn part(index: u16, engines: u16, set: Option<u64>) -> Part {
    Part {
        index,
        engines,
        set,
    }
}

#[async_trait(?Send)]
impl Implementation for Both {
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError> {
        let first = cluster.of_part(part(0, 2, None));
        let first = PostgresLog::open(first, self.postgres()).await?;
        let set = first.part.unwrap().set;
        let second = cluster.of_part(part(1, 2, set));
        let second = NatsLog::open(second, self.nats().await).await?;
        assert_eq!(second.part, Some(part(1, 2, set)));
        let logs: [Arc<dyn Log>; 2] = [Arc::new(first.log), Arc::new(second.log)];
        let named = ["postgres", "nats"]
            .into_iter()
            .map(str::to_owned)
            .zip(logs);
        let engines = named.map(|(name, log)| Kept { name, log }).collect();
        Ok(Arc::new(Several::new(engines)))
    }

    async fn crash(&self) {
        let (mut postgres, mut nats) = (self.postgres.lock().await, self.nats.lock().await);
        tokio::join!(postgres.restart(), nats.restart());
    }

    fn cut(&self, cut: bool) {
        for proxy in &self.proxies {
            proxy.set(match cut {
                true => Fault::BlackHole,
                false => Fault::None,
            });
        }
    }
}

pointsman_log::conformance!(run, Both::start());

/// What is said of a log that is taken for something else.
fn refused<T>(opened: Result<T, OpenError>) -> Foreign {
    match opened.map(|_| ()) {
        Err(OpenError::Part { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// Opens and looks at an engine as other parts of a cluster than the one that it keeps, 1 of 3 of a
/// set, or the whole.
async fn check_parts<O>(
    open: impl AsyncFn(Option<Part>) -> Result<O, OpenError>,
    is_whole: bool,
    set: u64,
) {
    let known = open((!is_whole).then(|| part(1, 3, Some(set)))).await;
    known.map(drop).unwrap();
    let wrong = match is_whole {
        true => vec![(Some(part(0, 2, None)), Foreign::Whole)],
        false => vec![
            (None, Foreign::OneOf(3)),
            (Some(part(1, 2, Some(set))), Foreign::Count(3, 2)),
            (Some(part(0, 3, None)), Foreign::Place(1, 0)),
            (Some(part(1, 3, Some(set + 1))), Foreign::Set),
        ],
    };
    for (wanted, why) in wrong {
        assert_eq!(refused(open(wanted).await), why);
    }
}

#[test]
fn an_engine_keeps_which_part_it_is_and_makes_no_shards_of_others() {
    run(async {
        let both = Both::start().await;
        let seven = Cluster::new(one().name().clone(), 7).unwrap();
        let of = |wanted: Option<Part>| match wanted {
            Some(part) => seven.of_part(part),
            None => seven.clone(),
        };
        let postgres = async |wanted| PostgresLog::open(of(wanted), both.postgres()).await;
        let nats = async |wanted| NatsLog::open(of(wanted), both.nats().await).await;
        let probe_postgres = async |wanted| PostgresLog::probe(of(wanted), both.postgres()).await;
        let probe_nats = async |wanted| NatsLog::probe(of(wanted), both.nats().await).await;
        let made = postgres(Some(part(1, 3, Some(5)))).await.unwrap();
        assert_eq!(made.part, Some(part(1, 3, Some(5))));
        assert_eq!(made.log.append(Shard(4), "x".into()).await, Ok(Place(1)));
        assert!(made.log.append(Shard(3), "x".into()).await.is_err());
        assert!(!made.is_used);
        let made = nats(Some(part(1, 3, Some(5)))).await.unwrap();
        assert!(!made.is_used);
        assert_eq!(made.part, Some(part(1, 3, Some(5))));
        assert_eq!(made.log.append(Shard(4), "x".into()).await, Ok(Place(1)));
        check_parts(&postgres, false, 5).await;
        check_parts(&nats, false, 5).await;
        check_parts(&probe_postgres, false, 5).await;
        check_parts(&probe_nats, false, 5).await;
        let probed = probe_postgres(Some(part(1, 3, None))).await.unwrap();
        assert_eq!(
            (probed.is_there, probed.part),
            (true, Some(part(1, 3, Some(5))))
        );
        let (client, connection) =
            tokio_postgres::connect(&both.postgres.lock().await.url(), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        // What is in use says so, and an engine without it is not made one.
        let used = postgres(Some(part(1, 3, Some(5)))).await.unwrap();
        assert!(used.is_used && probed.is_used);
        assert!(nats(Some(part(1, 3, Some(5)))).await.unwrap().is_used);
        let missing = || {
            let name = Name::new("missing").unwrap();
            let missing = Cluster::new(name, 7).unwrap();
            missing.of_part(part(1, 3, Some(5))).existing()
        };
        for _ in 0..2 {
            let opened = PostgresLog::open(missing(), both.postgres()).await;
            assert_eq!(refused(opened), Foreign::Missing);
            let opened = NatsLog::open(missing(), both.nats().await).await;
            assert_eq!(refused(opened), Foreign::Missing);
            let probed = PostgresLog::probe(missing(), both.postgres()).await;
            assert_eq!(refused(probed), Foreign::Missing);
            let probed = NatsLog::probe(missing(), both.nats().await).await;
            assert_eq!(refused(probed), Foreign::Missing);
        }
        let heads = "SELECT array_agg(shard ORDER BY shard) FROM pointsman_test.head";
        let heads: Vec<i32> = client.query_one(heads, &[]).await.unwrap().get(0);
        assert_eq!(heads, [1, 4]);
        let context = async_nats::jetstream::new(both.nats().await.client);
        for shard in 0..7 {
            let stream = context.get_stream(format!("PM_test_{shard}")).await;
            assert_eq!(stream.is_ok(), [1, 4].contains(&shard), "{shard}");
        }
    });
}

#[test]
fn the_log_of_one_engine_is_no_part_and_opens_as_before() {
    run(async {
        let both = Both::start().await;
        let of = |wanted: Option<Part>| match wanted {
            Some(part) => one().of_part(part),
            None => one(),
        };
        let postgres = async |wanted| PostgresLog::open(of(wanted), both.postgres()).await;
        let nats = async |wanted| NatsLog::open(of(wanted), both.nats().await).await;
        assert_eq!(postgres(None).await.unwrap().part, None);
        assert_eq!(nats(None).await.unwrap().part, None);
        check_parts(&postgres, true, 0).await;
        check_parts(&nats, true, 0).await;
    });
}
