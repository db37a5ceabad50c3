//! What a node answers while it does not run the bus.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pointsman_connectors::listener::ListenSettings;
use pointsman_schemas::Text;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::server;

/// Answered even where every connection is at work.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// What callers are told to wait before they ask again, in seconds.
const RETRY_AFTER: &str = "2";

const WHY: &str = "this node of the cluster is a spare and does not run the bus";

/// Answers on the addresses of a bus that its node does not run.
pub(super) struct SpareServers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl SpareServers {
    /// Serves both addresses, as far as they can be had: the bus will say what is wrong with one
    /// that cannot. The ingress says nothing where it is to speak TLS.
    pub(super) async fn start(listen: &ListenSettings, admin: &Text) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let ingress = listen.tls.is_none().then_some(&listen.address);
        for address in ingress.into_iter().chain([admin]) {
            let Ok(address) = address.resolve() else {
                continue;
            };
            match TcpListener::bind(address.expose()).await {
                Ok(socket) => drop(tasks.spawn(server::serve(
                    socket,
                    router(),
                    &PROBES,
                    Default::default(),
                    stop.clone(),
                ))),
                Err(error) => {
                    let address = address.expose();
                    tracing::warn!(address, %error, "a spare cannot answer here");
                }
            }
        }
        Self { stop, tasks }
    }

    /// Gives the addresses back.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn router() -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async || (StatusCode::SERVICE_UNAVAILABLE, format!("{WHY}\n"))),
        )
        .fallback(async || refuse())
}

fn refuse() -> Response {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": format!("{WHY}; ask the one that does, or again once it has taken over"),
    });
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::RETRY_AFTER, RETRY_AFTER),
    ];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        headers,
        problem.to_string(),
    )
        .into_response()
}
