//! The admin listener: health, metrics, and the API that the live commands and the console speak
//! to.
//!
//! It reads the journal and the [`Overview`] and changes nothing but through [`Journal`]'s own
//! operations. The console's pages ([`crate::console`]) are handed to it: it knows none of them.

pub(crate) mod api;
mod connections;
pub(crate) mod exposition;
mod guard;
pub mod overview;
pub(crate) mod refused;
pub(crate) mod routes;
mod sessions;
pub mod spare;
pub(crate) mod steer;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod view;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_connectors::listener::ConnectionCounts;
use pointsman_peer::Shards;
use pointsman_schemas::{Clock, Timestamp};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use guard::{AdminError, AdminSettings};
pub use overview::{Circuit, Overview, RuleStatus, SourceStatus, TargetStatus};

use self::api::Answers;
pub(crate) use self::guard::{ASSETS_PATH, Caller, FOR_EVER, Guard, LOGIN_PATH};
use crate::nodes::Nodes;
use crate::pipes::Pipes;
use crate::replay::Replays;
use crate::server;
use crate::telemetry::Tap;
use crate::telemetry::metrics::{Detail, Histograms};
use crate::versions::Versions;
use crate::waiting::Waiting;
use pointsman_journal::Journal;

/// How long changes may take after the stop that nobody waits for any more.
const CHANGES_WITHIN: Duration = Duration::from_secs(5);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the API shows and changes.
#[derive(Debug)]
pub struct Admin {
    /// Events, deliveries, dead letters.
    pub journal: Arc<dyn Journal>,
    /// What waits in pipes, and both together.
    pub pipes: Arc<Pipes>,
    /// Replays of events and of dead letters.
    pub replays: Arc<Replays>,
    /// Sources, rules, targets.
    pub overview: Arc<dyn Overview>,
    /// Callers who wait for the end of tasks.
    pub waiting: Arc<Waiting>,
    /// What the process counts.
    pub registry: Arc<Registry>,
    /// What is measured beside that.
    pub histograms: Histograms,
    /// What passes, live.
    pub tap: Arc<Tap>,
    /// Whether each source, subscription and target has numbers of its own.
    pub metrics: Detail,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// When the bus started.
    pub started: Timestamp,
    /// The nodes of the cluster; none where the bus runs on one machine.
    pub nodes: Option<Nodes>,
    /// The versions of the cluster's rules; none likewise.
    pub versions: Option<Arc<Versions>>,
    /// The shards that this node owns, which other nodes ask it about; none likewise.
    pub shards: Option<Arc<dyn Shards>>,
}

impl Admin {
    /// What is missing before events can be taken.
    fn missing(&self) -> Vec<String> {
        let trouble = self.journal.trouble().map(|trouble| trouble.to_string());
        trouble.into_iter().chain(self.overview.ready()).collect()
    }

    /// Why a change of the rule files is not in force, for a person; in a cluster also of those
    /// that another node has proposed.
    pub(crate) fn refused_change(&self) -> Option<String> {
        let versions = self.versions.as_ref();
        let refused = self.overview.refused_change();
        refused.or_else(|| versions.and_then(|versions| versions.refused_change()))
    }
}

/// The admin listener, bound and not yet served: what is wrong with its settings is known before
/// anything else starts.
#[derive(Debug)]
pub struct AdminListener {
    socket: TcpListener,
    address: SocketAddr,
    guard: Arc<Guard>,
    counts: Arc<ConnectionCounts>,
}

impl AdminListener {
    /// Binds the address.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn bind(settings: &AdminSettings) -> Result<Self, AdminError> {
        let given = settings.address.resolve().map_err(AdminError::Unresolved)?;
        let failed = |reason| AdminError::Bind {
            address: given.expose().to_owned(),
            reason,
        };
        // Looked up once, so that what is bound is what the guard was made for.
        let address = tokio::net::lookup_host(given.expose())
            .await
            .map_err(failed)?
            .next();
        let address = address.ok_or_else(|| failed(io::Error::other("it has no address")))?;
        let guard = Arc::new(Guard::new(address, settings)?);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self {
            address: socket.local_addr().map_err(failed)?,
            socket,
            guard,
            counts: Arc::default(),
        })
    }

    /// The address in use, its port chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts of its connections.
    #[must_use]
    pub fn counts(&self) -> Arc<ConnectionCounts> {
        Arc::clone(&self.counts)
    }

    /// What decides who is let in.
    pub(crate) fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Serves the API, and these pages beside it, until stopped, then answers what is in hand and
    /// returns.
    pub async fn serve(
        self,
        admin: Arc<Admin>,
        pages: axum::Router<Arc<Admin>>,
        stop: CancellationToken,
    ) {
        let answers = Answers::default();
        let (router, told) = (routes::router, answers.clone());
        self.serve_with(|guard| router(admin, guard, told, pages), stop)
            .await;
        answers.wait(CHANGES_WITHIN).await;
    }

    /// As [`AdminListener::serve`], for a node that does not run the bus.
    pub async fn serve_spare(self, joined: spare::Joined, stop: CancellationToken) {
        self.serve_with(|guard| spare::router(joined, guard), stop)
            .await;
    }

    async fn serve_with(
        self,
        router: impl FnOnce(Arc<Guard>) -> axum::Router,
        stop: CancellationToken,
    ) {
        let router = router(self.guard);
        server::serve(self.socket, router, &guard::OPEN_PATHS, self.counts, stop).await;
    }
}
