//! The log on three NATS servers, of which the one that leads is killed.

use std::sync::Arc;

use async_nats::jetstream;
use async_trait::async_trait;
use pointsman_log::nats::NatsLog;
use pointsman_log::suite::Implementation;
use pointsman_log::{Cluster, Log, OpenError};
use pointsman_test_brokers::{Fault, NatsCluster, Proxy};
use tokio::sync::Mutex;

use crate::engine::run;
use crate::options;

struct Replicated {
    servers: Mutex<NatsCluster>,
    proxies: [Proxy; 3],
}

impl Replicated {
    async fn start() -> Self {
        let servers = NatsCluster::start().await;
        Self {
            proxies: servers.ports().map(Proxy::start),
            servers: Mutex::new(servers),
        }
    }
}

/// The number of the server that leads the stream of the first shard.
async fn leader(servers: &NatsCluster) -> usize {
    let context = jetstream::new(options(&servers.ports()).await.client);
    loop {
        let stream = context.get_stream("PM_test_0").await;
        let cluster = stream.ok().and_then(|s| s.cached_info().cluster.clone());
        if let Some(leader) = cluster.and_then(|cluster| cluster.leader) {
            return leader.strip_prefix("nats-").unwrap().parse().unwrap();
        }
    }
}

#[async_trait(?Send)]
impl Implementation for Replicated {
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError> {
        let mut options = options(&self.proxies.each_ref().map(Proxy::port)).await;
        options.replicas = 3;
        // A stream that several nodes ask for at once answers only one of them in time, and so does
        // one that has no leader yet.
        loop {
            match NatsLog::open(cluster.clone(), options.clone()).await {
                Err(OpenError::Unavailable(_)) => {}
                opened => return Ok(Arc::new(opened?.log)),
            }
        }
    }

    /// Of the server that leads, which has the log go on without it.
    async fn crash(&self) {
        let mut servers = self.servers.lock().await;
        let leader = leader(&servers).await;
        servers.restart(leader).await;
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

pointsman_log::conformance!(run, Replicated::start());
