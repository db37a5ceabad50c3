//! An engine that keeps the cluster's log, or a part of it: opened, or only looked at.

use std::sync::Arc;
#[cfg(any(feature = "nats", feature = "postgres"))]
use std::time::Duration;

#[cfg(feature = "postgres")]
use pointsman_connectors::engine::PostgresEngine;
#[cfg(feature = "nats")]
use pointsman_connectors::nats::NatsEngine;
#[cfg(feature = "nats")]
use pointsman_log::nats::{self, NatsLog};
#[cfg(feature = "postgres")]
use pointsman_log::postgres::{self, PostgresLog};
use pointsman_log::{Cluster, Log, OpenError, Opened, Probed};

use crate::config::{Engine, StoreLog};

/// Opens what an engine keeps of a cluster.
pub(super) async fn open(
    engine: &Engine,
    cluster: Cluster,
    #[cfg_attr(
        not(any(feature = "nats", feature = "postgres")),
        expect(unused_variables)
    )]
    settings: &StoreLog,
    #[cfg_attr(not(feature = "nats"), expect(unused_variables))] name: &str,
) -> Result<Opened<Arc<dyn Log>>, OpenError> {
    match engine {
        #[cfg(feature = "postgres")]
        Engine::Postgres(engine) => {
            let options = of_postgres(engine, settings)?;
            PostgresLog::open(cluster, options).await.map(shared)
        }
        #[cfg(feature = "nats")]
        Engine::Nats(engine) => {
            let options = of_nats(engine, settings, name).await?;
            NatsLog::open(cluster, options).await.map(shared)
        }
        #[cfg(not(any(feature = "nats", feature = "postgres")))]
        Engine::LeftOut => Err(left_out(&cluster)),
    }
}

/// Looks whether it could be opened, and changes nothing.
pub(super) async fn probe(
    engine: &Engine,
    cluster: Cluster,
    #[cfg_attr(
        not(any(feature = "nats", feature = "postgres")),
        expect(unused_variables)
    )]
    settings: &StoreLog,
) -> Result<Probed, OpenError> {
    match engine {
        #[cfg(feature = "postgres")]
        Engine::Postgres(engine) => {
            PostgresLog::probe(cluster, of_postgres(engine, settings)?).await
        }
        #[cfg(feature = "nats")]
        Engine::Nats(engine) => {
            let options = of_nats(engine, settings, "check").await?;
            NatsLog::probe(cluster, options).await
        }
        #[cfg(not(any(feature = "nats", feature = "postgres")))]
        Engine::LeftOut => Err(left_out(&cluster)),
    }
}

#[cfg(not(any(feature = "nats", feature = "postgres")))]
fn left_out(cluster: &Cluster) -> OpenError {
    OpenError::Settings(format!("this build cannot open cluster {}", cluster.name()))
}

#[cfg(any(feature = "nats", feature = "postgres"))]
fn shared<L: Log>(opened: Opened<L>) -> Opened<Arc<dyn Log>> {
    Opened {
        log: Arc::new(opened.log),
        part: opened.part,
        is_used: opened.is_used,
        warnings: opened.warnings,
    }
}

/// How long a call to the engine may take: a node that cannot reach it has to notice long before
/// it must stop.
#[cfg(any(feature = "nats", feature = "postgres"))]
fn timeout(settings: &StoreLog) -> Duration {
    settings.takeover / 4
}

#[cfg(feature = "postgres")]
fn of_postgres(
    engine: &PostgresEngine,
    settings: &StoreLog,
) -> Result<postgres::Options, OpenError> {
    let resolved = engine.resolve();
    let (url, tls) = resolved.map_err(|error| OpenError::Settings(error.to_string()))?;
    Ok(postgres::Options {
        url: url.expose().to_owned(),
        tls,
        timeout: timeout(settings),
    })
}

#[cfg(feature = "nats")]
async fn of_nats(
    engine: &NatsEngine,
    settings: &StoreLog,
    name: &str,
) -> Result<nats::Options, OpenError> {
    // A server that hangs must be left for another one long before this node has to stop.
    let ping_every = settings.takeover / 10;
    let client = engine.connect(name, ping_every).await;
    Ok(nats::Options {
        client: client.map_err(|error| OpenError::Unavailable(error.to_string()))?,
        replicas: engine.replicas(),
        timeout: timeout(settings),
    })
}
