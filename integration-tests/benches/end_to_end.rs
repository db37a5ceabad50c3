//! Ingest, sync, match, push, counted at the sink, against a forwarder that stores nothing and
//! pushes with the same client: `cargo bench -p pointsman-integration-tests --bench end_to_end`.
//!
//! Sink, forwarder and bus are processes of their own; the generator, the events and the number of
//! connections are the same.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_integration_tests::load::{Amount, binary_request, median, run};
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::free_port;

const ROUNDS: usize = 5;
const EVENTS: u64 = 60_000;
const CONNECTIONS: usize = 128;

/// Serves HTTP/1.1 until the process is killed.
async fn serve<F, R>(port: u16, function: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port is free");
    loop {
        let (stream, _) = listener
            .accept()
            .await
            .expect("connections can be accepted");
        stream.set_nodelay(true).expect("a socket takes options");
        let function = function.clone();
        let service = service_fn(move |request| {
            let answer = function(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// Counts what is posted and tells the count to whoever gets it.
async fn sink(port: u16) {
    let count = Arc::new(AtomicU64::new(0));
    serve(port, move |request| {
        let count = Arc::clone(&count);
        async move {
            if request.method() == http::Method::GET {
                return answer(StatusCode::OK, count.load(Ordering::Relaxed).to_string());
            }
            if request.into_body().collect().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            answer(StatusCode::NO_CONTENT, "")
        }
    })
    .await;
}

/// Pushes what is posted to the sink, and answers when the sink has.
async fn forward(port: u16, sink: String) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    serve(port, move |request| {
        let (client, sink) = (client.clone(), sink.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let Ok(body) = body.collect().await else {
                return answer(StatusCode::BAD_REQUEST, "");
            };
            parts.uri = sink.parse().expect("the sink has a URL");
            parts.headers.remove(http::header::HOST);
            match client
                .request(Request::from_parts(parts, Full::new(body.to_bytes())))
                .await
            {
                Ok(_) => answer(StatusCode::ACCEPTED, ""),
                Err(_) => answer(StatusCode::BAD_GATEWAY, ""),
            }
        }
    })
    .await;
}

struct Process(Child);

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let own = std::env::current_exe().expect("a benchmark knows its own path");
        Self(
            Command::new(own)
                .args(arguments)
                .stdin(Stdio::null())
                .spawn()
                .expect("it can be started"),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends the events and tells how many per second reached the sink, the last one included.
async fn measure(address: &str, sink: &str) -> f64 {
    let caller = Caller::new();
    let counted = async || -> u64 {
        let (_, body) = caller.get(sink).await.expect("the sink answers");
        String::from_utf8_lossy(&body)
            .parse()
            .expect("the sink tells a number")
    };
    let before = counted().await;
    let begin = Instant::now();
    let sent = run(
        address,
        &binary_request(address, "order.paid", 1_024),
        CONNECTIONS,
        Amount::Requests(EVENTS),
    )
    .await;
    assert_eq!(sent.answered, EVENTS, "{address} did not take everything");
    until("everything is at the sink", async || {
        counted().await - before >= EVENTS
    })
    .await;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 52 bits"
    )]
    let events = EVENTS as f64;
    events / begin.elapsed().as_secs_f64()
}

fn rules(sink: &str, count: usize) -> String {
    let mut text = format!(
        "targets:\n  sink: {{ http: {{ url: \"{sink}\" }} }}\nrules:\n  orders:\n    match: {{ type: [order.paid] }}\n    to: sink\n"
    );
    for number in 1..count {
        let _ = writeln!(
            text,
            "  other-{number}:\n    match: {{ type: [other.{number}], data: {{ customer: [{{ prefix: c-{number} }}] }} }}\n    to: sink"
        );
    }
    text
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let role = arguments.first().map(String::as_str);
    let port = || {
        arguments
            .get(1)
            .and_then(|port| port.parse().ok())
            .expect("a port")
    };
    match role {
        Some("sink") => return sink(port()).await,
        Some("forward") => {
            return forward(port(), arguments.get(2).cloned().expect("the sink's URL")).await;
        }
        _ => {}
    }
    let (sink_port, forward_port) = (free_port(), free_port());
    let sink = format!("http://127.0.0.1:{sink_port}/");
    let forwarder = format!("127.0.0.1:{forward_port}");
    let _sink = Process::start(&["sink", &sink_port.to_string()]);
    let _forward = Process::start(&["forward", &forward_port.to_string(), &sink]);
    until("the sink listens", async || {
        Caller::new().get(&sink).await.is_ok()
    })
    .await;
    until("the forwarder listens", async || {
        tokio::net::TcpStream::connect(&forwarder).await.is_ok()
    })
    .await;

    for count in [1, 1_000] {
        let bus = Bus::start(&rules(&sink, count)).await;
        let pointsman = bus.url("").trim_start_matches("http://").to_owned();
        let (mut plain, mut kept, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let (forwarded, routed) = (
                measure(&forwarder, &sink).await,
                measure(&pointsman, &sink).await,
            );
            // The first round warms up.
            if round > 0 {
                plain.push(forwarded);
                kept.push(routed);
                ratios.push(routed / forwarded);
            }
        }
        println!(
            "end to end, {count} rules of which one matches: forwarder without a store {:.0}/s, pointsman {:.0}/s, ratio {:.2}",
            median(plain),
            median(kept),
            median(ratios)
        );
    }
}
