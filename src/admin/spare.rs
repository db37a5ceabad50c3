//! What the admin listener of a node answers until it runs the bus, which takes that the cluster's
//! log can be read and its first shard has an owner: how it stands, who the other nodes are, and
//! what it counts of them.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use http::HeaderMap;
use pointsman_connectors::listener::Refusal;
use pointsman_peer::not_owned;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::api::{Answer, read_body};
use super::guard::{Guard, guard};
use super::refused::Refused;
use super::routes::{BODY_BYTES_MAX, DrainRequest, OPENMETRICS, peers};
use super::view::Page;
use crate::nodes::{NodeView, Nodes, ShardView};

/// Why it does nothing else.
const WHY: &str = "this node of the cluster does not run the bus yet";

/// What callers are told to wait before they ask again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The nodes, from when this one has joined them.
pub type Joined = Arc<OnceLock<Nodes>>;

pub(super) fn router(joined: Joined, own: Arc<Guard>) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "alive" }))))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/drain", post(drain))
        .route("/api/v1/shards", get(shards))
        .route(peers::PATH, post(async || peers::answer(not_owned())))
        .fallback(async || Refused(elsewhere()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(own, guard))
        .with_state(joined)
}

/// What is answered in the place of what only the bus can.
#[must_use]
pub fn elsewhere() -> Refusal {
    let ask = "ask another one, or again in a moment";
    refusal(format!("{WHY}; {ask}"))
}

fn refusal(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
}

fn known(joined: &Joined) -> Answer<&Nodes> {
    let unknown = || Refused(refusal("this node has not joined the cluster yet"));
    joined.get().ok_or_else(unknown)
}

async fn ready(State(joined): State<Joined>) -> Refused {
    let mut refusal = refusal(WHY);
    let trouble = joined.get().and_then(|nodes| nodes.0.pulse().rules.trouble);
    let rules = |why| format!("it cannot work with the rules of the cluster: {why}");
    refusal.missing = trouble.map(rules).into_iter().collect();
    Refused(refusal)
}

async fn nodes(State(joined): State<Joined>) -> Answer<Json<Page<NodeView>>> {
    Ok(Json(Page::whole(known(&joined)?.nodes())))
}

async fn shards(State(joined): State<Joined>) -> Answer<Json<Page<ShardView>>> {
    Ok(Json(Page::whole(known(&joined)?.shards())))
}

async fn drain(
    State(joined): State<Joined>,
    headers: HeaderMap,
    request: Bytes,
) -> Answer<Json<NodeView>> {
    let request: DrainRequest = read_body(&headers, &request)?;
    Ok(Json(known(&joined)?.drain(request.draining)))
}

async fn metrics(State(joined): State<Joined>) -> Answer<Response> {
    let mut registry = Registry::default();
    if let Some(nodes) = joined.get() {
        registry.register_collector(Box::new(nodes.clone()));
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| {
        let what = "cannot write the metrics";
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, what)
    })?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use pointsman_schemas::Text;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::admin::{AdminListener, AdminSettings};
    use crate::commands::client::Client;

    const KEY: &str = "a-key-of-the-operator-7";

    #[tokio::test]
    async fn a_node_without_a_bus_says_so_and_keeps_the_rest_to_who_has_a_key() {
        let settings = AdminSettings {
            address: "127.0.0.1:0".into(),
            auth: vec![Text::from(KEY)],
            viewers: Vec::new(),
        };
        let listener = AdminListener::bind(&settings).await.unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let serving = tokio::spawn(listener.serve_spare(Joined::default(), stop.clone()));
        let ask = async |method: Method, path: &str, key: Option<&str>| {
            let client = Client::new(format!("http://{address}{path}").parse().unwrap(), None);
            let key = key.map(|key| format!("Bearer {key}").parse().unwrap());
            let headers = key
                .map(|key| (header::AUTHORIZATION, key))
                .into_iter()
                .collect();
            let answer = client
                .unwrap()
                .send(method, headers, Bytes::new())
                .await
                .unwrap();
            let retry = answer.headers.contains_key(header::RETRY_AFTER);
            (answer.status.as_u16(), retry)
        };
        for (method, path, expect) in [
            (Method::GET, "/healthz", (200, false)),
            (Method::GET, "/readyz", (503, true)),
        ] {
            assert_eq!(ask(method, path, None).await, expect, "{path}");
        }
        for (method, path, expect) in [
            (Method::GET, "/metrics", (200, false)),
            // It has not joined the others yet.
            (Method::GET, "/api/v1/nodes", (503, true)),
            (Method::GET, "/api/v1/shards", (503, true)),
            (Method::POST, "/api/v1/nodes/drain", (503, true)),
            (Method::GET, "/api/v1/subscriptions", (503, true)),
        ] {
            let without = ask(method.clone(), path, None).await;
            assert_eq!(without.0, 401, "{path} without a key");
            assert_eq!(ask(method, path, Some(KEY)).await, expect, "{path}");
        }
        stop.cancel();
        serving.await.unwrap();
    }
}
