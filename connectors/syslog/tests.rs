//! Messages over the sockets of this machine.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Clock, Event};
use pointsman_test_brokers::free_port;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::source::BATCH_MESSAGES_MAX;
use crate::net::tls::ClientTls;
use crate::suite::{SetClock, SourceFixture, begin, bodies, parse_source, sources, take, with};
use crate::{Arrival, Link, Source};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// The authority's certificate, the server's and its key.
fn certificates() -> [Value; 3] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls");
    ["ca.pem", "leaf.pem", "leaf.key"].map(|file| json!({ "file": folder.join(file) }))
}

struct Fixture {
    port: u16,
    sent: usize,
}

impl Fixture {
    fn new() -> Self {
        Self {
            port: free_port(),
            sent: 0,
        }
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "syslog";

    fn settings(&self) -> Value {
        json!({ "tcp": format!("127.0.0.1:{}", self.port) })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SetClock::at("2026-11-30T08:00:00Z"))
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.sent..self.sent + count;
        self.sent += count;
        let all: Vec<_> = numbers.map(|number| format!("message {number}")).collect();
        let lines: String = all
            .iter()
            .map(|one| format!("<13>1 - h a - - - {one}\n"))
            .collect();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(lines.as_bytes()).await.unwrap();
        all
    }

    fn identity(&self, event: &Event) -> String {
        data(event)["message"].as_str().unwrap().to_owned()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let of = |more: Value| with(self.settings(), more);
        let tls = |address| json!({ "address": address, "certificate": "c", "key": "k" });
        vec![
            (json!({}), ""),
            (of(json!({ "tcp": "601" })), "tcp"),
            (of(json!({ "udp": "localhost" })), "udp"),
            (of(json!({ "tls": tls("6514") })), "tls.address"),
            (of(json!({ "max_message": "100B" })), "max_message"),
            (of(json!({ "max_message": "2MiB" })), "max_message"),
            (of(json!({ "max_connections": 0 })), "max_connections"),
            (of(json!({ "timezone": "Europe/Berlim" })), "timezone"),
        ]
    }
}

fn data(event: &Event) -> Value {
    serde_json::from_slice(event.data().unwrap().bytes()).unwrap()
}

fn parsed(bodies: &[String]) -> Vec<Value> {
    let all = bodies.iter();
    all.map(|body| serde_json::from_str(body).unwrap())
        .collect()
}

async fn opened(settings: &Value) -> (Box<dyn Source>, Link) {
    begin(parse_source("syslog", settings).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn it_conforms() {
    sources(&mut Fixture::new()).await;
}

#[tokio::test]
async fn a_message_is_an_event() {
    let port = free_port();
    let settings = json!({ "udp": format!("127.0.0.1:{port}"), "max_message": "480B" });
    let (mut source, _) = opened(&settings).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let long = format!("<13>1 - - - - - - {}", "x".repeat(500));
    for message in [
        &b"<165>1 2003-10-11T22:14:15.003+02:00 mymachine evntslog 12 ID47 [a@1 iut=\"3\"] \xef\xbb\xbfhello\n"[..],
        b"<34>no head\0",
        b"<34>\xff",
        b"\n",
        long.as_bytes(),
    ] {
        socket.send_to(message, ("127.0.0.1", port)).await.unwrap();
    }
    let taken = take(&mut *source, 4).await;
    let Some(Arrival::Event(first)) = taken[0].arrivals.first() else {
        panic!("no event: {taken:?}");
    };
    assert_eq!(
        [
            first.ty(),
            first.source(),
            first.subject().unwrap(),
            first.time().unwrap()
        ],
        [
            "com.pointsman.syslog.message",
            "/syslog/orders",
            "mymachine/evntslog",
            "2003-10-11T20:14:15.003Z"
        ],
    );
    let from = json!({ "peer": "127.0.0.1", "transport": "udp" });
    let auth = json!({ "format": "unknown", "facility": "auth", "facility_code": 4, "severity": "crit", "severity_code": 2 });
    let all = parsed(&bodies(&taken));
    for (found, expect) in all.iter().zip([
        json!({
            "format": "rfc5424", "facility": "local4", "facility_code": 20, "severity": "notice", "severity_code": 5,
            "hostname": "mymachine", "app_name": "evntslog", "procid": "12", "msgid": "ID47",
            "structured_data": { "a@1": { "iut": "3" } }, "message": "hello",
        }),
        with(auth.clone(), json!({ "message": "no head" })),
        with(auth, json!({ "message": "\u{fffd}", "raw_base64": "PDM0Pv8=" })),
    ]) {
        assert_eq!(*found, with(expect, from.clone()));
    }
    assert_eq!(
        (
            &all[3]["truncated"],
            all[3]["message"].as_str().unwrap().len()
        ),
        (&json!(true), 480 - "<13>1 - - - - - - ".len())
    );
}

/// `logger` of util-linux, which every Debian has.
#[tokio::test]
async fn programs_of_others_are_understood() {
    let (udp, tcp) = (free_port(), free_port());
    let settings = json!({ "udp": format!("127.0.0.1:{udp}"), "tcp": format!("127.0.0.1:{tcp}") });
    let (mut source, _) = opened(&settings).await;
    let element = ["--sd-id", "a@1", "--sd-param", "k=\"v\""];
    for (port, arguments, format) in [
        (udp, &["--udp", "--rfc3164"][..], "rfc3164"),
        (udp, &["--udp", "--rfc5424"], "rfc5424"),
        (tcp, &["--tcp", "--rfc5424", "--octet-count"], "rfc5424"),
        (tcp, &["--tcp", "--rfc3164"], "rfc3164"),
    ] {
        let mut logger = Command::new("logger");
        logger.args(["--server", "127.0.0.1", "--port", &port.to_string()]);
        logger.args([
            "--tag",
            "program",
            "--id=12",
            "--priority",
            "local0.warning",
        ]);
        logger.args(arguments);
        if format == "rfc5424" {
            logger.args(element);
        }
        let sent = logger.arg("it is what it is").output().unwrap();
        assert!(sent.status.success(), "{sent:?}");
        let found = &parsed(&bodies(&take(&mut *source, 1).await))[0];
        let part = |name: &str| found[name].clone();
        assert_eq!(
            [
                "format", "facility", "severity", "app_name", "procid", "message"
            ]
            .map(part),
            [
                format,
                "local0",
                "warning",
                "program",
                "12",
                "it is what it is"
            ],
            "{arguments:?}: {found}"
        );
        assert!(found["hostname"].is_string(), "{found}");
        let element = &found["structured_data"]["a@1"]["k"];
        assert_eq!(*element == "v", format == "rfc5424", "{found}");
    }
}

#[tokio::test]
async fn senders_over_tls_are_asked_for_their_certificates() {
    let port = free_port();
    let [ca, certificate, key] = certificates();
    let tls =
        json!({ "address": format!("127.0.0.1:{port}"), "certificate": certificate, "key": key });
    let send = async |shows_certificate: bool| {
        let text = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        let (ca, certificate, key) = (text(&ca), text(&certificate), text(&key));
        let files = ClientTls {
            ca: Some(&ca),
            certificate: Some(&certificate).filter(|_| shows_certificate),
            key: Some(&key).filter(|_| shows_certificate),
            ..ClientTls::default()
        };
        let connector = TlsConnector::from(Arc::new(files.config().unwrap()));
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await?;
        stream.write_all(b"19 <13>1 - - - - - - a").await?;
        stream.shutdown().await?;
        // A refusal comes behind the handshake.
        match stream.read(&mut [0; 1]).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    };
    {
        let (mut source, _) = opened(&json!({ "tls": tls })).await;
        let (sent, taken) = tokio::join!(send(false), take(&mut *source, 1));
        assert!(sent.is_ok(), "{sent:?}");
        assert_eq!(parsed(&bodies(&taken))[0]["transport"], "tls");
    }
    let strict = with(tls, json!({ "clients": ca }));
    let (mut source, _) = opened(&json!({ "tls": strict })).await;
    let send = async {
        assert!(send(false).await.is_err(), "it shows none");
        send(true).await.unwrap();
    };
    let ((), taken) = tokio::join!(send, take(&mut *source, 1));
    assert_eq!(taken.len(), 1);
}

#[tokio::test]
async fn what_is_not_asked_for_waits_with_its_sender_or_is_counted() {
    const MESSAGE_BYTES: usize = 1_000;
    let (udp, tcp) = (free_port(), free_port());
    let settings = json!({ "udp": format!("127.0.0.1:{udp}"), "tcp": format!("127.0.0.1:{tcp}") });
    let (mut source, link) = opened(&settings).await;
    let mut message = "<13>1 - - - - - - ".to_owned();
    message.push_str(&"x".repeat(MESSAGE_BYTES - message.len() - 1));
    message.push('\n');

    // A stream: the sender has to wait, and nothing is lost.
    let mut stream = TcpStream::connect(("127.0.0.1", tcp)).await.unwrap();
    let mut sent = 0;
    let filling = async {
        loop {
            sent += stream.write(message.as_bytes()).await.unwrap();
        }
    };
    let _ = timeout(Duration::from_secs(1), filling).await;
    let whole = sent.div_ceil(MESSAGE_BYTES);
    let rest = &message.as_bytes()[MESSAGE_BYTES - (whole * MESSAGE_BYTES - sent)..];
    let send_rest = async {
        stream.write_all(rest).await.unwrap();
    };
    let ((), taken) = tokio::join!(send_rest, take(&mut *source, whole));
    assert_eq!(taken.len(), whole);

    // Datagrams: what the kernel has no room for is counted.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut count = 0_usize;
    for _ in 0..30_000 {
        socket
            .send_to(message.as_bytes(), ("127.0.0.1", udp))
            .await
            .unwrap();
        count += 1;
    }
    let mut taken = 0;
    let until = Instant::now() + LONG;
    while taken + usize::try_from(link.status().skipped).unwrap() < count {
        assert!(
            Instant::now() < until,
            "{taken} and {}",
            link.status().skipped
        );
        match timeout(Duration::from_millis(100), source.next()).await {
            Ok(batch) => taken += batch.unwrap().messages.len(),
            Err(_elapsed) => sleep(Duration::from_millis(100)).await,
        }
    }
    assert!(
        link.status().skipped > 0,
        "the queue is longer than all of them"
    );
    assert_eq!(
        taken + usize::try_from(link.status().skipped).unwrap(),
        count
    );
}

#[tokio::test]
async fn what_is_on_its_way_at_the_end_is_taken() {
    let port = free_port();
    let (mut source, _) = opened(&json!({ "tcp": format!("127.0.0.1:{port}") })).await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"<13>1 - - - - - - a\n").await.unwrap();
    take(&mut *source, 1).await;
    stream
        .write_all(b"<13>1 - - - - - - b\n<13>1 - - - - - - c")
        .await
        .unwrap();
    drop(stream);
    let mut messages = Vec::new();
    while let Some(batch) = source.finish().await {
        messages.extend(batch.messages);
    }
    let texts: Vec<_> = parsed(&bodies(&messages));
    assert_eq!([&texts[0]["message"], &texts[1]["message"]], ["b", "c"]);
}

#[tokio::test]
async fn no_more_senders_are_connected_than_may_be() {
    let port = free_port();
    let settings = json!({ "tcp": format!("127.0.0.1:{port}"), "max_connections": 1 });
    let (mut source, _) = opened(&settings).await;
    let mut first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    first.write_all(b"<13>1 - - - - - - a\n").await.unwrap();
    take(&mut *source, 1).await;
    let mut second = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    second.write_all(b"<13>1 - - - - - - b\n").await.unwrap();
    let early = timeout(Duration::from_millis(200), source.next()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    let taken = take(&mut *source, 1).await;
    assert_eq!(parsed(&bodies(&taken))[0]["message"], "b");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = format!("127.0.0.1:{}", free_port());
    let [ca, certificate, key] = certificates();
    let tls = |certificate: &Value| json!({ "tls": { "address": free, "certificate": certificate, "key": key, "clients": ca } });
    for (settings, expect) in [
        (json!({ "udp": free, "tcp": taken }), "is free, tcp"),
        (
            json!({ "tcp": "192.0.2.1:5514" }),
            "tcp: cannot listen on 192.0.2.1:5514",
        ),
        (tls(&certificate), "is free"),
        (tls(&json!("none")), "tls: the certificate and the key"),
        (json!({ "tcp": { "env": "NO_SUCH_VARIABLE" } }), "tcp: "),
    ] {
        let probed = parse_source("syslog", &settings).unwrap().probe().await;
        let probed = probed.unwrap_or_else(|error| error.0.to_string());
        assert!(probed.contains(expect), "{settings}: {probed}");
    }
}
