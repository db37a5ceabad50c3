//! Both listeners against callers who write to their sockets what they please, or nothing at all.

use std::time::{Duration, Instant};

use pointsman_integration_tests::{Bus, Caller};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const RULES: &str = "targets:\n  out: { stdout: {} }\nrules:\n  all: { to: out }\n";

const BINARY: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
];

/// The host and port of a URL of the bus.
fn address(url: &str) -> String {
    url.trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap()
        .to_owned()
}

/// Opens connections and says the same on each.
async fn silent(address: &str, count: usize, say: &[u8]) -> Vec<TcpStream> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // One that had to give way already may not be written to.
        let _ = stream.write_all(say).await;
        open.push(stream);
    }
    open
}

/// The sum of a metric over what stands behind its name in the lines that hold `label`.
async fn metric(bus: &Bus, name: &str, label: &str) -> u64 {
    let (_, text) = Caller::new().get(&bus.admin_url("/metrics")).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn what_two_readers_could_understand_in_two_ways_is_refused_by_both() {
    let bus = Bus::start(RULES).await;
    let long = format!("x: {}\r\n\r\n", "x".repeat(40 * 1024));
    // What stands behind the request line, whose own end is CR LF but where the line says
    // otherwise.
    let table: [(&str, u16); 15] = [
        ("host: localhost\n\r\n", 400),
        ("host: localhost\r\nx: 1\n\r\n", 400),
        ("host: localhost\r\n\n", 400),
        (
            "host: localhost\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "host: localhost\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "host: localhost\r\ntransfer-encoding: identity\r\n\r\n",
            400,
        ),
        (
            "host: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "host: localhost\r\ntransfer-encoding: xchunked\r\ncontent-length: 5\r\n\r\nhello",
            400,
        ),
        (
            "host: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "host: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "host: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
        ),
        ("host: localhost\r\ncontent-length: +1\r\n\r\na", 400),
        ("host: localhost\r\n folded: x\r\n\r\n", 400),
        ("host: localhost\r\ncontent-length : 1\r\n\r\na", 400),
        (&long, 431),
    ];
    for (listener, line) in [
        (bus.url(""), "POST /events"),
        (bus.admin_url(""), "POST /api/v1/dead/redrive"),
        (bus.admin_url(""), "GET /healthz"),
    ] {
        let address = address(&listener);
        for (rest, status) in table {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            // A second request hides behind the first: nobody may see one there.
            let request = format!(
                "{line} HTTP/1.1\r\n{rest}GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
            );
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
                .await
                .expect("it hangs up")
                .unwrap_or_default();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let shown: String = rest.chars().take(80).collect();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{line} {shown:?}: {answer}"
            );
            assert!(
                answer.contains("application/problem+json") && !answer.contains("HTTP/1.1 2"),
                "{line} {shown:?}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let bus = Bus::start(RULES).await;
    let (ingress, admin) = (address(&bus.url("")), address(&bus.admin_url("")));
    let mut open = Vec::new();
    for (address, count, line) in [
        (&ingress, 520, "POST /events"),
        (&admin, 300, "GET /healthz"),
    ] {
        open.push(silent(address, count / 2, b"").await);
        open.push(
            silent(
                address,
                count / 2,
                format!("{line} HTTP/1.1\r\nhost: localh").as_bytes(),
            )
            .await,
        );
    }
    open.push(
        silent(
            &ingress,
            520,
            b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
        )
        .await,
    );
    let begin = Instant::now();
    let (status, _, _) = Caller::new()
        .call(
            http::Method::POST,
            &bus.url("/events"),
            &BINARY,
            "{\"a\":1}",
        )
        .await
        .unwrap();
    let (health, _) = Caller::new().get(&bus.admin_url("/healthz")).await.unwrap();
    assert_eq!((status, health), (202, 200));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    assert!(metric(&bus, "pointsman_listener_gave_way_total", "ingress").await >= 520);
    assert!(metric(&bus, "pointsman_listener_gave_way_total", "admin").await >= 40);
    assert!(metric(&bus, "pointsman_listener_connections", "ingress").await <= 512);
}

#[tokio::test]
async fn with_few_descriptors_probes_are_answered_and_the_log_stays_quiet() {
    let mut bus = Bus::prepare(RULES);
    bus.limit_descriptors(48);
    bus.spawn();
    bus.ready().await;
    let (ingress, admin) = (address(&bus.url("")), address(&bus.admin_url("")));
    let held = [
        silent(&ingress, 60, b"").await,
        silent(&admin, 60, b"").await,
        silent(&ingress, 60, b"POST /").await,
    ];
    let begin = Instant::now();
    for round in 0..20 {
        for path in ["/healthz", "/readyz"] {
            // Each on a connection of its own.
            let answered = timeout(
                Duration::from_secs(2),
                Caller::new().get(&bus.admin_url(path)),
            )
            .await;
            let (status, _) = answered
                .unwrap_or_else(|_| panic!("{path}, round {round}: {}", bus.log()))
                .unwrap();
            assert_eq!(status, 200, "{path}, round {round}");
        }
        let (status, _, _) = Caller::new()
            .call(http::Method::POST, &bus.url("/events"), &BINARY, "1")
            .await
            .unwrap();
        assert_eq!(status, 202, "round {round}");
    }
    let lines = bus
        .log()
        .lines()
        .filter(|line| line.contains("cannot take a connection"))
        .count() as u64;
    let windows = begin.elapsed().as_secs() / 10 + 2;
    assert!(lines <= 2 * windows, "{lines} lines: {}", bus.log());
    drop(held);
}
