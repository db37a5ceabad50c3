//! The log in PostgreSQL, with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests, which say what they expect bluntly"
)]

mod engine;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{one, run};
use futures::StreamExt;
use pointsman_log::postgres::{Options, PostgresLog};
use pointsman_log::suite::Implementation;
use pointsman_log::{
    Cluster, FollowError, Log, LogError, Next, OpenError, Opened, Place, Probed, Shard,
};
use pointsman_test_brokers::{Fault, PostgresServer, Proxy};
use tokio::sync::Mutex;
use tokio_postgres::NoTls;

/// Short, so that a test of what does not answer is as well.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Of the tests' own authority, which the connectors' tests have too.
const CA: &[u8] = include_bytes!("../../connectors/net/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../../connectors/net/tls/leaf.pem");
const KEY: &str = include_str!("../../connectors/net/tls/leaf.key");

struct Postgres {
    server: Mutex<PostgresServer>,
    proxy: Proxy,
}

impl Postgres {
    async fn start() -> Self {
        let server = PostgresServer::start("").await;
        Self {
            proxy: Proxy::start(server.port()),
            server: Mutex::new(server),
        }
    }
}

fn options(port: u16) -> Options {
    Options {
        url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        tls: None,
        timeout: TIMEOUT,
    }
}

#[async_trait(?Send)]
impl Implementation for Postgres {
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError> {
        let opened = PostgresLog::open(cluster, options(self.proxy.port())).await?;
        Ok(Arc::new(opened.log))
    }

    async fn crash(&self) {
        self.server.lock().await.restart().await;
    }

    fn cut(&self, cut: bool) {
        self.proxy.set(match cut {
            true => Fault::BlackHole,
            false => Fault::None,
        });
    }
}

pointsman_log::conformance!(run, Postgres::start());

/// Waits until something holds.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), holds).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

async fn open(server: &PostgresServer) -> Result<Opened<PostgresLog>, OpenError> {
    PostgresLog::open(one(), options(server.port())).await
}

async fn probe(server: &PostgresServer) -> Result<Probed, OpenError> {
    PostgresLog::probe(one(), options(server.port())).await
}

/// Runs statements as somebody who uses PostgreSQL by hand does, each by itself.
async fn sql(server: &PostgresServer, statements: &[&str]) {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    for statement in statements {
        let done = client.batch_execute(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Refused, with these words in what is said.
fn assert_refused<T>(opened: Result<T, OpenError>, words: &str) {
    match opened {
        Err(OpenError::Refused(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{:?} is not refused for {words}", other.map(|_| ())),
    }
}

#[test]
fn what_would_lose_records_is_refused() {
    run(async {
        let mut server = PostgresServer::start("fsync = off").await;
        assert_refused(open(&server).await, "fsync");
        assert_refused(probe(&server).await, "fsync");
        server.write_configuration("");
        server.restart().await;
        let per_user = "ALTER ROLE postgres SET synchronous_commit = off";
        sql(&server, &[per_user]).await;
        assert_refused(open(&server).await, "synchronous_commit");
        sql(&server, &["ALTER ROLE postgres RESET synchronous_commit"]).await;
        // Nothing was made so far, and a look makes nothing.
        let opened = {
            assert!(!probe(&server).await.unwrap().is_there);
            assert!(!probe(&server).await.unwrap().is_there);
            open(&server).await.unwrap()
        };
        let probed = probe(&server).await.unwrap();
        assert_eq!(
            (probed.is_there, probed.warnings),
            (true, opened.warnings.clone())
        );
        assert_eq!(opened.warnings.len(), 1);
        assert!(
            opened.warnings[0].contains("synchronous_standby_names"),
            "{:?}",
            opened.warnings
        );
        sql(&server, &["ALTER TABLE pointsman_test.log SET UNLOGGED"]).await;
        assert_refused(open(&server).await, "pointsman_test\".log is unlogged");
        assert_refused(probe(&server).await, "pointsman_test\".log is unlogged");
    });
}

#[test]
fn who_may_make_no_schema_can_be_given_one() {
    run(async {
        let server = PostgresServer::start("").await;
        sql(&server, &["CREATE ROLE app LOGIN PASSWORD 'hunter2'"]).await;
        let mut options = options(server.port());
        options.url = options.url.replace("postgres@", "app:hunter2@");
        let opened = PostgresLog::open(one(), options.clone()).await;
        assert_refused(opened, "permission denied");
        let probe = async || PostgresLog::probe(one(), options.clone()).await;
        assert_refused(probe().await, "may not make the schema \"pointsman_test\"");
        sql(&server, &["CREATE SCHEMA pointsman_test AUTHORIZATION app"]).await;
        assert!(!probe().await.unwrap().is_there);
        let log = PostgresLog::open(one(), options).await.unwrap().log;
        assert_eq!(log.append(Shard(0), "x".into()).await, Ok(Place(1)));
    });
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    run(async {
        let server = PostgresServer::start("").await;
        sql(&server, &["ALTER ROLE postgres PASSWORD 'secret'"]).await;
        let rules = "host all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
        server.reload();
        let open = async |password: &str| {
            let mut options = options(server.port());
            options.url = options
                .url
                .replace("postgres@", &format!("postgres:{password}@"));
            PostgresLog::open(one(), options).await
        };
        until("the password is asked for", async || {
            open("hunter2").await.is_err()
        })
        .await;
        let refused = open("hunter2").await.map(|_| ());
        assert!(!format!("{refused:?}").contains("hunter2"));
        assert_refused(open("hunter2").await, "password authentication failed");
        open("secret").await.unwrap();
    });
}

#[test]
fn with_tls_the_server_is_verified_and_the_password_bound_to_it() {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    run(async {
        let server = PostgresServer::start("").await;
        sql(&server, &["ALTER ROLE postgres PASSWORD 'secret'"]).await;
        let write = |name: &str, text: &str| {
            std::fs::write(server.data().join(name), text).unwrap();
        };
        write("server.crt", CERTIFICATE);
        write("server.key", KEY);
        server.protect("server.key");
        write(
            "pg_hba.conf",
            "hostssl all all 127.0.0.1/32 scram-sha-256\n",
        );
        server.write_configuration("ssl = on");
        server.reload();
        let open = async |trusted: Option<&[u8]>, url: &str| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut roots = rustls::RootCertStore::empty();
            if let Some(ca) = trusted {
                roots
                    .add(CertificateDer::from_pem_slice(ca).unwrap())
                    .unwrap();
            }
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let options = Options {
                url: format!(
                    "postgres://postgres:secret@127.0.0.1:{}/postgres?{url}",
                    server.port()
                ),
                tls: Some(config),
                timeout: TIMEOUT,
            };
            PostgresLog::open(one(), options).await
        };
        let bound = "sslmode=require&channel_binding=require";
        until("it speaks TLS", async || {
            open(Some(CA), bound).await.is_ok()
        })
        .await;
        let log = open(Some(CA), bound).await.unwrap().log;
        log.append(Shard(0), "x".into()).await.unwrap();
        let untrusted = open(None, "sslmode=require").await.map(|_| ());
        let told = format!("{untrusted:?}");
        assert!(
            matches!(untrusted, Err(OpenError::Unavailable(_))) && told.contains("certificate"),
            "{told}"
        );
        assert!(open(Some(CA), "sslmode=disable").await.is_err());
    });
}

#[test]
fn what_is_behind_a_trim_mark_is_removed_in_the_end() {
    run(async {
        let server = PostgresServer::start("").await;
        let log = open(&server).await.unwrap().log;
        // More than one statement removes.
        sql(
            &server,
            &[
                "INSERT INTO pointsman_test.log SELECT 0, place, '' FROM generate_series(1, 2500) place",
                "UPDATE pointsman_test.head SET last = 2500",
            ],
        )
        .await;
        log.trim(Shard(0), Place(2401)).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let left = "SELECT count(*), min(place) FROM pointsman_test.log";
        let row = client.query_one(left, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (100, 2401));
    });
}

#[test]
fn a_lost_record_is_told_and_not_read_over() {
    run(async {
        let server = PostgresServer::start("").await;
        let log = open(&server).await.unwrap().log;
        for _ in 0..5 {
            log.append(Shard(0), "x".into()).await.unwrap();
        }
        let mut follower = log.follow(Shard(0), Place::START);
        assert!(matches!(
            follower.next().await,
            Some(Ok(Next::Record { .. }))
        ));
        sql(&server, &["DELETE FROM pointsman_test.log WHERE place = 4"]).await;
        let mut later = log.follow(Shard(0), Place(1));
        for place in [2, 3] {
            let read = later.next().await;
            let is = matches!(&read, Some(Ok(Next::Record { place: at, .. })) if at.0 == place);
            assert!(is, "{read:?}");
        }
        let place = Place(4);
        let shard = Shard(0);
        assert_eq!(
            later.next().await,
            Some(Err(FollowError::Lost { shard, place }))
        );
        assert_eq!(later.next().await, None);
    });
}

#[test]
fn a_full_disk_or_a_taken_right_is_refused_and_passes() {
    run(async {
        let server = PostgresServer::start("").await;
        sql(&server, &["CREATE ROLE app LOGIN"]).await;
        sql(&server, &["CREATE SCHEMA pointsman_test AUTHORIZATION app"]).await;
        let mut options = options(server.port());
        options.url = options.url.replace("postgres@", "app@");
        let log = PostgresLog::open(one(), options).await.unwrap().log;
        log.append(Shard(0), "x".into()).await.unwrap();
        // Its owner could give it back to himself.
        sql(
            &server,
            &["ALTER TABLE pointsman_test.log OWNER TO postgres"],
        )
        .await;
        let refused = log.append(Shard(0), "x".into()).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
        sql(&server, &["ALTER TABLE pointsman_test.log OWNER TO app"]).await;
        // Nothing has come of the one that was refused.
        assert_eq!(log.append(Shard(0), "y".into()).await, Ok(Place(2)));
    });
}

/// A server whose commits wait for a standby.
async fn pair() -> (PostgresServer, PostgresServer) {
    let primary = PostgresServer::start("").await;
    let standby = primary.standby("second").await;
    primary.write_configuration("synchronous_standby_names = 'second'");
    primary.reload();
    until("the standby is synchronous", async || {
        open(&primary).await.unwrap().warnings.is_empty()
    })
    .await;
    (primary, standby)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_standby_takes_over() {
    run(async {
        let (mut primary, standby) = pair().await;
        assert_refused(open(&standby).await, "standby");
        let ports = (primary.port(), standby.port());
        let options = Options {
            url: format!(
                "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
                ports.0, ports.1
            ),
            tls: None,
            timeout: TIMEOUT,
        };
        let log = PostgresLog::open(one(), options).await.unwrap().log;
        let mut follower = log.follow(Shard(0), Place::START);
        let mut acknowledged = Vec::new();
        for number in 0..200 {
            let body = Bytes::from(format!("{number}"));
            if number == 100 {
                primary.kill();
                standby.promote();
            }
            let place = loop {
                if let Ok(place) = log.append(Shard(0), body.clone()).await {
                    break place;
                }
            };
            acknowledged.push((place, body));
        }
        let mut read = Vec::new();
        while read.len() < usize::try_from(acknowledged[199].0.0).unwrap() {
            match follower.next().await {
                Some(Ok(Next::Record { place, body })) => read.push((place, body)),
                other => panic!("{other:?}"),
            }
        }
        for record in acknowledged {
            assert!(read.contains(&record), "{record:?} is lost");
        }
    });
}

#[test]
fn a_primary_that_says_nothing_any_more_does_not_keep_the_standby_from_being_found() {
    run(async {
        let (primary, standby) = pair().await;
        let proxy = Proxy::start(primary.port());
        let mut options = options(proxy.port());
        options.url = format!(
            "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
            proxy.port(),
            standby.port()
        );
        let log = PostgresLog::open(one(), options).await.unwrap().log;
        log.append(Shard(0), "before".into()).await.unwrap();
        proxy.set(Fault::BlackHole);
        standby.promote();
        until("the standby takes appends", async || {
            log.append(Shard(0), "after".into()).await.is_ok()
        })
        .await;
    });
}

#[test]
fn what_the_standby_may_not_have_is_not_acknowledged() {
    run(async {
        let (primary, mut standby) = pair().await;
        let log = Arc::new(open(&primary).await.unwrap().log);
        log.append(Shard(0), "both have it".into()).await.unwrap();
        standby.kill();
        // Nobody answers, and the reader is not given it.
        let waiting = log.append(Shard(0), "one has it".into()).await;
        assert!(waiting.is_err_and(|error| error.is_unknown()));
        let mut follower = log.follow(Shard(0), Place(1));
        let nothing = tokio::time::timeout(Duration::from_millis(300), follower.next());
        assert!(nothing.await.is_err());
        standby.restart().await;
        let body = Bytes::from_static(b"one has it");
        let place = Place(2);
        assert_eq!(
            follower.next().await,
            Some(Ok(Next::Record { place, body }))
        );
        // Somebody ends the wait by hand, which makes the commit succeed without the standby.
        until("appends are acknowledged again", async || {
            log.append(Shard(0), "again".into()).await.is_ok()
        })
        .await;
        standby.kill();
        let cancelled = {
            let log = Arc::clone(&log);
            tokio::spawn(async move { log.append(Shard(0), "cancelled".into()).await })
        };
        until("the commit waits", async || {
            let (client, connection) = tokio_postgres::connect(&primary.url(), NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            let waiting =
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            !client.query(waiting, &[]).await.unwrap().is_empty()
        })
        .await;
        let told = cancelled.await.unwrap();
        assert!(
            matches!(&told, Err(LogError::Unknown(why)) if why.contains("standby")),
            "{told:?}"
        );
    });
}

#[test]
fn nodes_that_append_to_all_shards_at_once_wait_for_each_other_in_one_order() {
    run(async {
        const SHARDS: u16 = 8;
        const EACH: u64 = 40;
        let server = PostgresServer::start("").await;
        let cluster = || Cluster::new(one().name().clone(), SHARDS).unwrap();
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let opened = PostgresLog::open(cluster(), options(server.port())).await;
            nodes.push(opened.unwrap().log);
        }
        let appends = |shard| {
            let nodes = &nodes;
            let each = nodes.iter().map(move |node| async move {
                for _ in 0..EACH {
                    // Nothing stands in a circle, which PostgreSQL would break by refusing one.
                    node.append(Shard(shard), vec![7; 900].into())
                        .await
                        .unwrap();
                }
            });
            futures::future::join_all(each)
        };
        futures::future::join_all((0..SHARDS).map(appends)).await;
        for shard in 0..SHARDS {
            let last = nodes[0].append(Shard(shard), "last".into()).await.unwrap();
            assert_eq!(last, Place(3 * EACH + 1), "of shard {shard}");
        }
    });
}

#[test]
fn a_shard_that_is_gone_is_told_to_its_own_callers_alone() {
    run(async {
        let server = PostgresServer::start("").await;
        let cluster = Cluster::new(one().name().clone(), 3).unwrap();
        let opened = PostgresLog::open(cluster, options(server.port())).await;
        let log = opened.unwrap().log;
        sql(
            &server,
            &["DELETE FROM pointsman_test.head WHERE shard = 1"],
        )
        .await;
        // The second one of the statements takes what waits for the first.
        let appends = (0..12).map(|number| log.append(Shard(number % 3), "x".into()));
        for (number, appended) in futures::future::join_all(appends).await.iter().enumerate() {
            match number % 3 {
                1 => assert!(
                    matches!(appended, Err(LogError::Refused(why)) if why.contains("head of shard 1"))
                ),
                _ => assert!(appended.is_ok(), "{number}: {appended:?}"),
            }
        }
    });
}
