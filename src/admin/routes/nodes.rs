//! The nodes of a cluster: who they are, which shards they own, and having one own nothing.

use std::sync::Arc;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::admin::Admin;
use crate::admin::api::{Answer, Api, Nothing};
use crate::admin::refused::Refused;
use crate::admin::view::Page;
use crate::nodes::{NodeView, Nodes, ShardView};

pub(super) fn register(api: Api) -> Api {
    api.read(
        "/nodes",
        "listNodes",
        "The nodes of the cluster; none of a bus that runs on one machine",
        nodes,
    )
    .change(
        "/nodes/drain",
        "drainNode",
        "Have the node that answers own nothing while another one can",
        drain,
    )
    .read(
        "/shards",
        "listShards",
        "The shards of the cluster's log, and who owns them",
        shards,
    )
}

/// Whether to drain.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct DrainRequest {
    /// False ends it.
    #[serde(default = "yes")]
    pub(in crate::admin) draining: bool,
}

fn yes() -> bool {
    true
}

async fn nodes(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<NodeView>> {
    let nodes = admin.nodes.as_ref().map(Nodes::nodes);
    Ok(Page::whole(nodes.unwrap_or_default()))
}

async fn shards(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<Page<ShardView>> {
    let shards = admin.nodes.as_ref().map(Nodes::shards);
    Ok(Page::whole(shards.unwrap_or_default()))
}

async fn drain(admin: Arc<Admin>, (): (), request: DrainRequest) -> Answer<NodeView> {
    let nodes = admin.nodes.as_ref().ok_or_else(|| {
        Refused::new(
            StatusCode::CONFLICT,
            "this bus runs on one machine: no other node could go on with what it has",
        )
    })?;
    Ok(nodes.drain(request.draining))
}
