//! What whoever listens costs the bus at full load: `cargo bench -p pointsman-integration-tests
//! --bench tap`.
//!
//! One bus, one rule, a function on loopback. Rounds with and without somebody who listens take
//! turns; ratios are those of pairs of one round. Nobody listens in two turns of each: by what these
//! differ, others may too.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

#[expect(dead_code, reason = "there is no forwarder here")]
#[path = "end_to_end/servers.rs"]
mod servers;

#[path = "end_to_end/rounds.rs"]
mod rounds;

use pointsman_integration_tests::Bus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use self::rounds::{Measured, turns};

/// Who listens: what is asked for, and whether it is read.
const LISTENERS: [(&str, &str, bool); 6] = [
    ("nobody", "", true),
    ("nobody, once more", "", true),
    ("for a type that does not come", "?type=other", true),
    (
        "for events that a pattern never takes",
        "?pattern=%7B%22data%22%3A%7B%22total%22%3A%5B1%5D%7D%7D",
        true,
    ),
    ("to everything, 1,000 a second", "?rate=1000", true),
    ("to everything, and reads nothing", "?rate=10000", false),
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port] = arguments.as_slice()
        && role == "sink"
    {
        return servers::sink(port.parse().expect("a port")).await;
    }
    let (_process, sink) = rounds::sink().await;
    let bus = Bus::start(&rounds::rules(&sink)).await;
    let mut measured = LISTENERS.map(|(name, ..)| (name, Measured::default()));
    for round in 0..=rounds::rounds(LISTENERS.len()) {
        for turn in turns(round, LISTENERS.len()) {
            let ((_, query, reads), (_, measured)) = (LISTENERS[turn], &mut measured[turn]);
            let listener = listen(&bus, query, reads).await;
            measured.measure(round, &bus, &sink).await;
            listener.abort();
        }
    }
    rounds::print("who listens", &measured);
}

/// Listens until it is aborted; nobody does where nothing is asked for.
async fn listen(bus: &Bus, query: &str, reads: bool) -> JoinHandle<()> {
    if query.is_empty() {
        return tokio::spawn(async {});
    }
    let address = bus.admin_url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("the bus listens");
    let request = format!("GET /api/v1/tap{query} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("the bus reads");
    let mut buffer = vec![0; 64 * 1024];
    let read = stream.read(&mut buffer).await.expect("the bus answers");
    assert!(
        buffer
            .get(..read)
            .is_some_and(|head| head.starts_with(b"HTTP/1.1 200")),
        "the bus refuses"
    );
    tokio::spawn(async move {
        while !reads || stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            if !reads {
                std::future::pending::<()>().await;
            }
        }
    })
}
