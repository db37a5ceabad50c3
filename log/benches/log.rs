//! What a log costs: `cargo bench -p pointsman-log --bench log`.
//!
//! Writers, each with a shard of its own, append records of 64 entries of 300 bytes for a few
//! seconds, while one node follows all shards. Printed are appends and entries each second, and the CPU time of
//! the engine for each entry. Figures of two runs do not compare: each stands beside the first line,
//! one writer in PostgreSQL, of the same run.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says why and ends"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use pointsman_log::{Cluster, Log, Next, Place, Shard, nats, postgres};
use pointsman_schemas::Name;
use pointsman_test_brokers::{NatsRelease, NatsServer, PostgresServer};

const ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 300;
const TIME: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was measured.
#[derive(Clone, Copy)]
struct Measured {
    appends_per_second: f64,
    micros_per_entry: f64,
}

fn cluster(writers: u16) -> Cluster {
    let name = Name::new(&format!("writers-{writers}")).unwrap();
    Cluster::new(name, writers).unwrap()
}

/// Appends with as many writers as there are shards, and reads all of it at the same time.
async fn measure(log: Arc<dyn Log>, writers: u16, cpu: impl Fn() -> Duration) -> Measured {
    let body = Bytes::from_iter((0..ENTRIES * ENTRY_BYTES).map(|_| rand::random::<u8>()));
    let (used, begin) = (cpu(), Instant::now());
    let writing = (0..writers).map(|shard| {
        let (log, body) = (Arc::clone(&log), body.clone());
        tokio::spawn(async move {
            let mut last = Place::START;
            while begin.elapsed() < TIME {
                last = log.append(Shard(shard), body.clone()).await.unwrap();
            }
            let mut follower = log.follow(Shard(shard), Place(last.0 - 1));
            assert!(matches!(
                follower.next().await,
                Some(Ok(Next::Record { .. }))
            ));
            last.0
        })
    });
    let writing: Vec<_> = writing.collect();
    let following = (0..writers).map(|shard| {
        let mut follower = log.follow(Shard(shard), Place::START);
        tokio::spawn(async move { while let Some(Ok(_)) = follower.next().await {} })
    });
    let following: Vec<_> = following.collect();
    let mut appends = 0;
    for writer in writing {
        appends += writer.await.unwrap();
    }
    let (elapsed, used) = (begin.elapsed(), cpu() - used);
    for follower in following {
        follower.abort();
    }
    let appends = appends as f64;
    Measured {
        appends_per_second: appends / elapsed.as_secs_f64(),
        micros_per_entry: used.as_secs_f64() * 1e6 / (appends * ENTRIES as f64),
    }
}

fn print(what: &str, measured: Measured, baseline: Measured) {
    println!(
        "{what:<34} {:>7.0} appends/s ({:>5.2} ×) {:>9.0} entries/s {:>6.2} µs of engine CPU/entry ({:>4.2} ×)",
        measured.appends_per_second,
        measured.appends_per_second / baseline.appends_per_second,
        measured.appends_per_second * ENTRIES as f64,
        measured.micros_per_entry,
        measured.micros_per_entry / baseline.micros_per_entry,
    );
}

async fn open_postgres(server: &PostgresServer, writers: u16) -> Arc<dyn Log> {
    let options = postgres::Options {
        url: server.url(),
        tls: None,
        timeout: TIMEOUT,
    };
    let opened = postgres::PostgresLog::open(cluster(writers), options).await;
    Arc::new(opened.unwrap().log)
}

async fn open_nats(server: &NatsServer, writers: u16) -> Arc<dyn Log> {
    let options = nats::Options {
        client: async_nats::connect(server.url()).await.unwrap(),
        replicas: 1,
        timeout: TIMEOUT,
    };
    let opened = nats::NatsLog::open(cluster(writers), options).await;
    Arc::new(opened.unwrap().log)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let server = PostgresServer::start("").await;
    let cpu = || server.cpu();
    let baseline = measure(open_postgres(&server, 1).await, 1, cpu).await;
    print("PostgreSQL, 1 writer", baseline, baseline);
    let many = measure(open_postgres(&server, 8).await, 8, cpu).await;
    print("PostgreSQL, 8 writers", many, baseline);

    let standby = server.standby("second").await;
    server.write_configuration("synchronous_standby_names = 'second'");
    server.reload();
    let both = || server.cpu() + standby.cpu();
    let pair = measure(open_postgres(&server, 7).await, 7, both).await;
    print("PostgreSQL and a standby, 7 writers", pair, baseline);
    drop((standby, server));

    let server = NatsServer::start(NatsRelease::Current).await;
    let cpu = || server.process().cpu();
    let one = measure(open_nats(&server, 1).await, 1, cpu).await;
    print("JetStream R1 unsynced, 1 writer", one, baseline);
    let many = measure(open_nats(&server, 8).await, 8, cpu).await;
    print("JetStream R1 unsynced, 8 writers", many, baseline);
}
