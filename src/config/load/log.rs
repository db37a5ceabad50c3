//! `store.log`: which engine keeps the log of a cluster, and what this node is in it.

use std::ops::RangeInclusive;
use std::time::Duration;

use pointsman_log::{Cluster, InvalidCluster};
use pointsman_schemas::Name;

use crate::config::raw::RawLog;
use crate::config::reader::Piece;
use crate::config::{Engine, StoreLog};

/// A shorter one would take a pause of the network for the end of a node.
const TAKEOVER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// Checks what `store.log` says; none where that makes no cluster, which has been reported.
pub(super) fn log_of(raw: RawLog, piece: Piece<'_>) -> Option<StoreLog> {
    let shards = raw.shards.unwrap_or_else(|| raw.shards());
    let RawLog {
        postgres,
        nats,
        cluster,
        shards: _,
        node,
        address,
        takeover,
    } = raw;
    let takeover = takeover.map_or(Duration::from_secs(10), |takeover| takeover.0);
    if let (Some(at), false) = (piece.get("takeover"), TAKEOVER.contains(&takeover)) {
        at.report("this is not between 1s and 5m", "write 10s");
    }
    let cluster = cluster.as_deref().unwrap_or("default");
    let short = "write a short name, of a-z, 0-9 and -";
    let made = Name::new(cluster)
        .map_err(|error| ("cluster", error.to_string(), short))
        .and_then(|name| {
            let made = Cluster::new(name, shards);
            made.map_err(|error| match &error {
                InvalidCluster::Name(_) => ("cluster", error.to_string(), short),
                InvalidCluster::Shards(_) => ("shards", error.to_string(), "write 16"),
            })
        });
    if let Err((key, error, help)) = &made
        && let Some(at) = piece.get(key)
    {
        at.report(error, *help);
    }
    if let (Some(at), Some(Err(error))) = (
        piece.get("node"),
        node.as_ref().and_then(|node| node.literal()).map(Name::new),
    ) {
        at.report(error.to_string(), "write a short name, of a-z, 0-9 and -");
    }
    let engine = match (postgres, nats) {
        (Some(_), Some(_)) => {
            piece.report_key(
                "one engine keeps the log, and these are two",
                "keep postgres or nats",
            );
            None
        }
        (Some(postgres), None) => self::postgres(postgres, piece),
        (None, Some(nats)) => self::nats(nats, piece),
        (None, None) => {
            let is_whole = piece.is_whole();
            if is_whole {
                piece.report_key(
                    "it does not say what keeps the log",
                    "write postgres: { url: … } or nats: { url: … }",
                );
            }
            None
        }
    };
    Some(StoreLog {
        engine: engine?,
        cluster: made.ok()?,
        node,
        address,
        takeover,
        written: piece.source().to_owned(),
    })
}

#[cfg(feature = "postgres")]
fn postgres(
    engine: pointsman_connectors::engine::PostgresEngine,
    piece: Piece<'_>,
) -> Option<Engine> {
    piece.get("postgres")?.report_check(engine.check());
    Some(Engine::Postgres(engine))
}

#[cfg(feature = "nats")]
fn nats(engine: pointsman_connectors::nats::NatsEngine, piece: Piece<'_>) -> Option<Engine> {
    piece.get("nats")?.report_check(engine.check());
    Some(Engine::Nats(engine))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: serde_json::Value, piece: Piece<'_>) -> Option<Engine> {
    left_out(piece, "postgres")
}

#[cfg(not(feature = "nats"))]
fn nats(_: serde_json::Value, piece: Piece<'_>) -> Option<Engine> {
    left_out(piece, "nats")
}

#[cfg(not(all(feature = "nats", feature = "postgres")))]
fn left_out(piece: Piece<'_>, engine: &str) -> Option<Engine> {
    piece.get(engine)?.report_key(
        format!("this build leaves out {engine}"),
        format!("build it with the cargo feature `{engine}`"),
    );
    None
}
