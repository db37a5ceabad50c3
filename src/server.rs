//! HTTP/1.1 over a bound socket, with the limits that `axum::serve` leaves out: a client that dribbles its headers, opens connections
//! without end or never goes away holds nothing for long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A request's head must be there within this time; also how long an idle connection is kept.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longer heads are answered with 431.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// How long requests in hand may take after the stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted, which is most often because descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until stopped, then answers what is in hand and returns; what is not done in time is cut off.
pub async fn serve(socket: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let draining = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX).max_buf_size(HEADER_BYTES_MAX);
    loop {
        let (stream, permit) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&socket, &permits) => accepted,
        };
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = draining.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(permit);
        });
    }
    drop(socket);
    if tokio::time::timeout(DRAIN_TIME_MAX, draining.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests that are not done in time are cut off");
    }
    connections.shutdown().await;
}

/// The next connection, with its permit. Cancel-safe.
async fn accept(socket: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a permit in the end.
    let permit = permits.clone().acquire_owned().await.ok();
    loop {
        match socket.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
