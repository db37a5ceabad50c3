//! What keeps the log, and what can become of it.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream;
use pointsman_integration_tests::power::Power;
use pointsman_integration_tests::until;
use pointsman_test_brokers::{NatsCluster, NatsRelease, NatsServer, PostgresPair, PostgresServer};
use tokio::time::sleep;

/// For how long an engine is away: more than any node may act without it.
const AWAY: Duration = Duration::from_secs(4);

/// What keeps the log.
pub enum Engine {
    /// One server, on a disk that forgets what was not synced when its power is cut.
    Postgres(PostgresServer, Power),
    /// A primary with a synchronous standby.
    Pair(PostgresPair),
    Nats(NatsServer),
    /// Three servers, of which each has all.
    Three(NatsCluster),
    /// One server of each kind, with a part of the shards each.
    Both {
        postgres: PostgresServer,
        power: Power,
        nats: NatsServer,
    },
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// All servers die, and come back.
    Crash,
    /// The power of its machine is cut, and comes back.
    PowerCut,
    /// The primary dies, and the standby takes its place.
    FailOver,
    /// The server dies that leads the log's stream, and comes back.
    LeaderCrash,
    /// A server dies that does not.
    FollowerCrash,
    /// The server that leads does nothing for a while.
    LeaderPause,
    /// PostgreSQL dies, of several engines, and is back once no node acts any more.
    PostgresAway,
    /// NATS dies likewise, and is back at once.
    NatsCrash,
}

impl Engine {
    pub async fn postgres() -> Self {
        let mut server = PostgresServer::start("").await;
        let power = Power::over(&server.data());
        server.set_environment(power.environment(true));
        server.restart().await;
        Self::Postgres(server, power)
    }

    pub async fn pair() -> Self {
        Self::Pair(PostgresPair::start().await)
    }

    pub async fn nats() -> Self {
        Self::Nats(nats_server().await)
    }

    pub async fn both() -> Self {
        let Self::Postgres(postgres, power) = Self::postgres().await else {
            unreachable!("it was started");
        };
        Self::Both {
            postgres,
            power,
            nats: nats_server().await,
        }
    }

    pub async fn three() -> Self {
        Self::Three(NatsCluster::start().await)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres(..) => "PostgreSQL",
            Self::Pair(_) => "PostgreSQL with a standby",
            Self::Nats(_) => "nats-server",
            Self::Three(_) => "three nats-servers",
            Self::Both { .. } => "PostgreSQL and nats-server",
        }
    }

    pub fn accidents(&self) -> &'static [Accident] {
        match self {
            Self::Postgres(..) => &[Accident::Crash, Accident::PowerCut],
            Self::Nats(_) => &[Accident::Crash],
            Self::Pair(_) => &[Accident::FailOver, Accident::Crash],
            Self::Three(_) => &[
                Accident::LeaderCrash,
                Accident::FollowerCrash,
                Accident::LeaderPause,
                Accident::Crash,
            ],
            Self::Both { .. } => &[
                Accident::PostgresAway,
                Accident::NatsCrash,
                Accident::PowerCut,
            ],
        }
    }

    pub fn ports(&self) -> Vec<u16> {
        match self {
            Self::Postgres(server, _) => vec![server.port()],
            Self::Pair(pair) => pair.ports().into(),
            Self::Nats(server) => vec![server.port()],
            Self::Three(servers) => servers.ports().into(),
            Self::Both { postgres, nats, .. } => vec![postgres.port(), nats.port()],
        }
    }

    /// `store.log` for a node that reaches it by these ports.
    pub fn settings(&self, ports: &[u16]) -> String {
        if let (Self::Both { .. }, [postgres, nats]) = (self, ports) {
            return format!(
                "engines: [{{ postgres: {{ url: \"postgres://postgres@127.0.0.1:{postgres}/postgres\" }} }}, \
                 {{ nats: {{ url: \"nats://127.0.0.1:{nats}\", replicas: 1 }} }}]"
            );
        }
        let hosts = |before: &str, between: &str| {
            let hosts = ports.iter().map(|port| format!("{before}127.0.0.1:{port}"));
            hosts.collect::<Vec<_>>().join(between)
        };
        match self {
            Self::Postgres(..) | Self::Pair(_) => {
                let hosts = hosts("", ",");
                format!("postgres: {{ url: \"postgres://postgres@{hosts}/postgres\" }}")
            }
            Self::Nats(_) => format!("nats: {{ url: \"{}\", replicas: 1 }}", hosts("nats://", "")),
            Self::Three(_) => {
                format!(
                    "nats: {{ url: [\"{}\"], replicas: 3 }}",
                    hosts("nats://", "\", \"")
                )
            }
            Self::Both { .. } => unreachable!("it has two servers"),
        }
    }

    /// Has it meet with an accident. Whatever has to be mended by hand is so by
    /// [`Engine::mend`], and nothing waits for it.
    pub async fn meet(&mut self, accident: Accident) {
        match (self, accident) {
            (Self::Postgres(server, _), Accident::Crash) => server.restart().await,
            (Self::Postgres(server, power), Accident::PowerCut) => {
                server.kill();
                assert_ne!(power.cut(), 0, "every write was synced");
                server.restart().await;
            }
            (Self::Nats(server), Accident::Crash) => server.restart().await,
            (Self::Pair(pair), Accident::Crash) => pair.restart().await,
            (Self::Pair(pair), Accident::FailOver) => pair.fail_over(),
            (Self::Three(servers), Accident::Crash) => servers.restart_all().await,
            (Self::Three(servers), Accident::LeaderCrash) => {
                let leader = leader(servers).await;
                servers.kill(leader);
            }
            (Self::Three(servers), Accident::FollowerCrash) => {
                let leader = leader(servers).await;
                servers.kill((leader + 1) % 3);
            }
            (Self::Three(servers), Accident::LeaderPause) => {
                let leader = leader(servers).await;
                servers.pause(leader);
            }
            (Self::Both { postgres, .. }, Accident::PostgresAway) => {
                postgres.kill();
                sleep(AWAY).await;
                postgres.restart().await;
            }
            (Self::Both { nats, .. }, Accident::NatsCrash) => nats.restart().await,
            (
                Self::Both {
                    postgres, power, ..
                },
                Accident::PowerCut,
            ) => {
                postgres.kill();
                assert_ne!(power.cut(), 0, "every write was synced");
                postgres.restart().await;
            }
            (engine, accident) => panic!("{} has no {accident:?}", engine.name()),
        }
    }

    /// Has everything as it was, but for who leads.
    pub async fn mend(&mut self) {
        match self {
            Self::Postgres(..) | Self::Nats(_) | Self::Both { .. } => {}
            Self::Pair(pair) => pair.mend().await,
            Self::Three(servers) => servers.mend().await,
        }
    }
}

/// A server that syncs whatever it acknowledges.
async fn nats_server() -> NatsServer {
    let settings = |folder: PathBuf| {
        let folder = folder.join("store");
        format!("jetstream {{ store_dir: {folder:?}, sync_interval: always }}\n")
    };
    NatsServer::start_prepared(NatsRelease::Current, settings).await
}

/// The number of the server that leads the log's stream.
async fn leader(servers: &NatsCluster) -> usize {
    let client = async_nats::connect(&servers.urls()[..]).await.unwrap();
    let context = jetstream::new(client);
    let mut leader = None;
    until("the stream has a leader", async || {
        let stream = context.get_stream("PM_default_0").await;
        let cluster = stream
            .ok()
            .and_then(|stream| stream.cached_info().cluster.clone());
        leader = cluster.and_then(|cluster| cluster.leader);
        leader.is_some()
    })
    .await;
    let leader = leader.unwrap();
    leader.strip_prefix("nats-").unwrap().parse().unwrap()
}
