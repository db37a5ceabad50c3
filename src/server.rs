//! An axum router behind the listener's own server: its framing guard, deadlines and bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use pointsman_connectors::listener::Limits;
use pointsman_connectors::listener::{self, ConnectionCounts, Serving, connections_max};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A request's head must be there within this time; also how long an idle connection is kept.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections served at once, and the part of the process's descriptors that they take at most.
const CONNECTIONS_MAX: usize = 256;
const DESCRIPTORS_PART: u64 = 4;

/// How long requests in hand may take after the stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Serves until stopped, then answers what is in hand and returns; what is not done in time is cut
/// off. `probes` are paths that are answered even where every connection is at work.
pub async fn serve(
    socket: TcpListener,
    router: Router,
    probes: &'static [&'static str],
    counts: Arc<ConnectionCounts>,
    stop: CancellationToken,
) {
    let limits = Limits {
        head_timeout: HEADER_TIME_MAX,
        idle_timeout: HEADER_TIME_MAX,
        drain_timeout: DRAIN_TIME_MAX,
        ..Limits::default()
    };
    let max_connections = connections_max(CONNECTIONS_MAX, DESCRIPTORS_PART);
    let serving = Serving {
        limits,
        max_connections,
        tls: None,
        probes,
        // A stream of events may go on for ever, so it ends with its reader.
        half_close: false,
        counts,
    };
    listener::serve(socket, TowerToHyperService::new(router), serving, stop).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;

    /// What is answered to these bytes until the server hangs up, and after how long.
    async fn exchange(bytes: &[u8]) -> (String, Duration) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "here"));
        let served = tokio::spawn(serve(socket, router, &[], Arc::default(), stop.clone()));
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
            assert!(
                !answer.contains("here") && (HEADER_TIME_MAX..HEADER_TIME_MAX * 2).contains(&took),
                "{took:?}: {answer}"
            );
        }
        let (answer, took) = exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            answer.ends_with("here") && (HEADER_TIME_MAX..HEADER_TIME_MAX * 2).contains(&took),
            "{took:?}: {answer}"
        );
    }

    #[tokio::test]
    async fn heads_that_two_readers_could_understand_in_two_ways_are_refused() {
        let long = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            "x".repeat(64 * 1024)
        );
        for (request, expect) in [
            (&*long, "431"),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "400",
            ),
            ("GET / HTTP/1.1\nHost: x\n\n", "400"),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", "400"),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400",
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400",
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "400",
            ),
            ("nonsense\r\n\r\n", "400"),
        ] {
            let (answer, _) = exchange(request.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {expect} "))
                    && answer.contains("application/problem+json"),
                "{answer}"
            );
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                1 + answer.matches("an HTTP/1.1 ").count(),
                "one answer: {answer}"
            );
        }
    }

    /// Asks on a connection of its own, until the server hangs up.
    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_are_answered_while_every_connection_is_at_work() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let slow = {
            let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
            async move || {
                begun.add_permits(1);
                gate.acquire().await.unwrap().forget();
                "slow"
            }
        };
        let router = Router::new()
            .route("/slow", get(slow))
            .route("/healthz", get(async || "well"))
            .route("/", get(async || "here"));
        let (counts, stop) = (Arc::<ConnectionCounts>::default(), CancellationToken::new());
        let served = tokio::spawn(serve(
            socket,
            router,
            &["/healthz"],
            Arc::clone(&counts),
            stop.clone(),
        ));
        let max = connections_max(CONNECTIONS_MAX, DESCRIPTORS_PART);
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..max {
            asked.spawn(ask(address, "/slow"));
        }
        begun
            .acquire_many(u32::try_from(max).unwrap())
            .await
            .unwrap()
            .forget();
        for _ in 0..3 {
            assert!(ask(address, "/healthz").await.ends_with("well"));
        }
        let refused = ask(address, "/").await;
        assert!(
            refused.starts_with("HTTP/1.1 503 ") && refused.contains("application/problem+json"),
            "{refused}"
        );
        gate.add_permits(max);
        assert!(
            asked
                .join_all()
                .await
                .iter()
                .all(|answer| answer.ends_with("slow")),
            "none of them was broken off"
        );
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        assert_eq!(
            (
                count(&counts.probes_past_bound),
                count(&counts.turned_away),
                count(&counts.gave_way)
            ),
            (3, 1, 0)
        );
        // And silent ones give way at once, to anybody.
        let mut silent = Vec::new();
        for _ in 0..max + 20 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address, "/").await.ends_with("here"));
        assert!(count(&counts.gave_way) >= 20);
        stop.cancel();
        served.await.unwrap();
    }
}
