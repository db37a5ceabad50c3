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

/// Heads well past this are answered with 431.
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    /// What is answered to these bytes until the server hangs up, and after how long.
    async fn exchange(bytes: &[u8]) -> (String, Duration) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(socket, Router::new().route("/", get(async || "here")), stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Reset counts as hung up: the server does not read on what it has refused.
        let _ = stream.read_to_end(&mut answer).await;
        let took = began.elapsed();
        stop.cancel();
        served.await.unwrap();
        (String::from_utf8(answer).unwrap(), took)
    }

    #[tokio::test(start_paused = true)]
    async fn who_dribbles_or_idles_is_hung_up_on() {
        for dribbled in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n"] {
            let (answer, took) = exchange(dribbled).await;
            assert!(!answer.contains("here") && (HEADER_TIME_MAX..HEADER_TIME_MAX * 2).contains(&took), "{took:?}: {answer}");
        }
        let (answer, took) = exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.ends_with("here") && (HEADER_TIME_MAX..HEADER_TIME_MAX * 2).contains(&took), "{took:?}: {answer}");
    }

    #[tokio::test]
    async fn heads_that_are_too_long_or_broken_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX * 2));
        for (request, expect) in [
            (&*long, "HTTP/1.1 431 "),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400 "),
            ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
        ] {
            let (answer, _) = exchange(request.as_bytes()).await;
            assert!(answer.starts_with(expect), "{answer}");
        }
    }
}
