//! What a node of a cluster answers until it runs the bus.

use axum::Router;
use axum::body::Body;
use pointsman_connectors::listener::{ListenSettings, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::spare::{Joined, elsewhere};
use crate::admin::{AdminListener, AdminSettings};
use crate::config::Config;
use crate::server;

/// Answers on the addresses of a bus that its node does not run yet.
pub(super) struct SpareServers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl SpareServers {
    /// Serves both addresses, as far as they can be had: the bus will say what is wrong with one
    /// that cannot. The ingress says nothing where it is to speak TLS.
    pub(super) async fn start(config: &Config, joined: Joined) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        if config.listen.tls.is_none()
            && let Some(socket) = bind(&config.listen).await
        {
            let router =
                Router::new().fallback(async || Response::from(elsewhere()).map(Body::new));
            let serving = server::serve(socket, router, &[], Default::default(), stop.clone());
            tasks.spawn(serving);
        }
        let settings = AdminSettings {
            address: config.admin.address.clone(),
            auth: config.admin.auth.clone(),
            viewers: config.admin.viewers.clone(),
        };
        match AdminListener::bind(&settings).await {
            Ok(listener) => drop(tasks.spawn(listener.serve_spare(joined, stop.clone()))),
            Err(error) => tracing::warn!(%error, "nobody answers for the admin API yet"),
        }
        Self { stop, tasks }
    }

    /// Gives the addresses back.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn bind(listen: &ListenSettings) -> Option<TcpListener> {
    let address = listen.address.resolve().ok()?;
    let address = address.expose();
    let bound = TcpListener::bind(address).await;
    let told = bound.inspect_err(|error| {
        tracing::warn!(address, %error, "nobody answers here yet");
    });
    told.ok()
}
