//! Everything that the bus counts, as OpenMetrics: for whoever scrapes it, and for the export by
//! OTLP, which so has the same.

use std::fmt;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use super::Admin;
use super::connections::Connections;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::{JournalSnapshot, ShardLoads};

/// Reads everything. Where the journal cannot be read, it says so and still has the rest.
///
/// # Errors
/// Those of the encoder.
pub(crate) async fn take(admin: &Admin) -> Result<Exposition, fmt::Error> {
    let own_lanes = admin.overview.lanes().into_keys().collect();
    // What other nodes own they count themselves.
    let (reader, now) = (admin.pipes.reader_here(), admin.clock.now());
    let quotas = admin.overview.quotas();
    let snapshot = JournalSnapshot::take(&*reader, now, admin.metrics, own_lanes, quotas).await;
    if let Ok(snapshot) = &snapshot {
        admin.overview.forget_others(&snapshot.subscriptions);
    }
    let mut shards = Registry::default();
    if let (Some(own), Some(nodes)) = (&admin.shards, &admin.nodes) {
        let loads = ShardLoads::take(&**own, nodes.0.shards()).await;
        shards.register_collector(Box::new(loads));
    }
    let mut own = Exposition::default();
    encode_registry(&mut own.process, &admin.registry)?;
    admin.histograms.write(&mut own.process)?;
    let connections = Connections::registry(&*admin.overview, admin.metrics);
    encode_registry(&mut own.process, &connections)?;
    encode_registry(&mut own.store, &shards)?;
    encode_registry(&mut own.store, &JournalSnapshot::registry(snapshot))?;
    Ok(own)
}
