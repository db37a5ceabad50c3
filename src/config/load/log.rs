//! `store.log`: which engines keep the log of a cluster, and what this node is in it.

mod engines;

use std::ops::RangeInclusive;
use std::time::Duration;

use pointsman_log::{Cluster, InvalidCluster};
use pointsman_schemas::Name;

use self::engines::engines_of;
use crate::config::StoreLog;
use crate::config::raw::{RawEngine, RawLog};
use crate::config::reader::Piece;

/// A shorter one would take a pause of the network for the end of a node.
const TAKEOVER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// Checks what `store.log` says; none where that makes no cluster, which has been reported.
pub(super) fn log_of(raw: RawLog, piece: Piece<'_>) -> Option<StoreLog> {
    let shards = raw.shards.unwrap_or_else(|| raw.shards());
    let RawLog {
        postgres,
        nats,
        engines: _,
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
    let engines = engines_of(RawEngine { postgres, nats }, piece, shards);
    Some(StoreLog {
        engines: engines?,
        cluster: made.ok()?,
        node,
        address,
        takeover,
        written: piece.source().to_owned(),
    })
}
