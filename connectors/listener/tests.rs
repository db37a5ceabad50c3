//! A real listener, and callers who write to its socket what they please.

mod bodies;
mod slow;

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;

/// A listener that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) routes: Routes,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
    pub(crate) counts: Arc<ConnectionCounts>,
}

pub(crate) async fn serve(settings: ListenSettings, limits: Limits) -> Served {
    let settings = ListenSettings {
        address: "127.0.0.1:0".into(),
        ..settings
    };
    let listener = Listener::bind(&settings, limits).await.unwrap();
    let (address, routes, shutdown) = (
        listener.local_addr(),
        listener.routes(),
        CancellationToken::new(),
    );
    let counts = listener.counts();
    Served {
        address,
        routes,
        task: tokio::spawn(listener.serve(shutdown.clone())),
        shutdown,
        counts,
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and reads until the other side closes.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// Sends a whole request on a connection of its own.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        )
        .into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.raw(bytes).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.request("POST", path, headers, body).await
    }
}

/// All that came back on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) String);

impl Answer {
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Self(String::from_utf8(answer).unwrap())
    }

    pub(crate) fn status(&self) -> u16 {
        self.0
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next()?;
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// The problem document's own status and detail.
    pub(crate) fn problem(&self) -> (u64, String) {
        assert_eq!(
            self.header("content-type"),
            Some(Refusal::MEDIA_TYPE),
            "{self:?}"
        );
        let document: serde_json::Value = serde_json::from_str(self.body()).unwrap();
        assert!(document["title"].is_string() && document["type"] == "about:blank");
        (
            document["status"].as_u64().unwrap(),
            document["detail"].as_str().unwrap().to_owned(),
        )
    }
}

/// Answers with what it was sent, once `gate` lets it, and says in `begun` that it has begun.
#[derive(Debug)]
struct Echo {
    gate: Semaphore,
    begun: Semaphore,
    seen: Mutex<Vec<Bytes>>,
}

impl Handler for Echo {
    fn admit(&self, head: &http::request::Parts) -> Result<(), Refusal> {
        let refused = head.headers.contains_key("x-refuse");
        if refused {
            Err(Refusal::new(
                http::StatusCode::UNAUTHORIZED,
                "refused by its head",
            ))
        } else {
            Ok(())
        }
    }
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(async move {
            let Request {
                body, held: _held, ..
            } = request;
            self.begun.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            self.seen.lock().push(body.clone());
            Ok(Response::new(body.into()))
        })
    }
    fn consents_to(&self, origin: &str) -> bool {
        origin == "good.example"
    }
}

async fn echo(
    settings: ListenSettings,
    limits: Limits,
    gate: usize,
) -> (Served, Arc<Echo>, Attachment) {
    let served = serve(settings, limits).await;
    let echo = Arc::new(Echo {
        gate: Semaphore::new(gate),
        begun: Semaphore::new(0),
        seen: Mutex::default(),
    });
    let attachment = served
        .routes
        .attach("/e", "test", Arc::clone(&echo) as Arc<dyn Handler>)
        .unwrap();
    (served, echo, attachment)
}

fn small() -> ListenSettings {
    ListenSettings {
        max_body: pointsman_schemas::Size { bytes: 1_000 },
        ..ListenSettings::default()
    }
}

#[tokio::test]
async fn each_bad_request_has_its_own_status_and_a_problem_document() {
    let (served, echo, _attachment) = echo(small(), Limits::default(), 100).await;
    let large = format!(
        "POST /e HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "x".repeat(40 * 1024)
    );
    let many = format!(
        "POST /e HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(101)
    );
    let chunks = format!(
        "POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3)
    );
    let announced = format!(
        "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\nconnection: close\r\n\r\n{}",
        "x".repeat(1_001)
    );
    let table: &[(&str, u16, &str)] = &[
        ("POST /e HTTP/1.1\r\n\r\n", 400, "Host header is missing"),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n",
            400,
            "more than one Host",
        ),
        ("POST /e HTTP/1.1\r\nhost: x\n\r\n", 400, "LF alone"),
        ("POST /e HTTP/1.1\nhost: x\r\n\r\n", 400, "LF alone"),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
            "length of the body is not clear",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "length of the body is not clear",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
            400,
            "only Transfer-Encoding",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
            "chunks are malformed",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
            400,
            "chunks are malformed",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n",
            400,
            "not an HTTP/1.1 request",
        ),
        (
            "POST /e HTTP/1.1\r\nho st: x\r\n\r\n",
            400,
            "not an HTTP/1.1 request",
        ),
        (
            "POST  /e  HTTP/1.1\r\nhost: x\r\n\r\n",
            400,
            "not an HTTP/1.1 request",
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (
            "POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            404,
            "/events",
        ),
        (
            "GET /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            405,
            "POST",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\nx-refuse: 1\r\ncontent-length: 5000\r\n\r\n",
            401,
            "by its head",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ncontent-encoding: br\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
            415,
            "as it is",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
            415,
            "once",
        ),
        (
            "POST /e HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
            400,
            "pack it",
        ),
        (&announced, 413, "longer than 1000 bytes"),
        (&chunks, 413, "longer than 1000 bytes"),
        (&large, 431, "32 KiB"),
        (&many, 431, "100 headers"),
    ];
    for (given, status, detail) in table {
        let answer = served.raw(given).await;
        let given: String = given.chars().take(120).collect();
        let (told, text) = answer.problem();
        assert_eq!(
            (answer.status(), told),
            (*status, u64::from(*status)),
            "{given:?} {answer:?}"
        );
        assert!(text.contains(detail), "{given:?}: {text}");
        assert_eq!(
            answer.0.matches("HTTP/1.1").count(),
            1 + text.matches("HTTP/1.1").count(),
            "{given:?}: one answer, and no more"
        );
    }
    assert_eq!(
        served.request("PUT", "/e", &[], b"").await.header("allow"),
        Some("OPTIONS, POST")
    );
    assert!(
        echo.seen.lock().is_empty(),
        "nothing of it reached the handler"
    );
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_ends_at_a_bad_one() {
    let (served, _echo, _attachment) = echo(small(), Limits::default(), 100).await;
    let good = "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na\nb";
    let answer = served
        .raw(format!(
            "{good}{good}POST /e HTTP/1.1\nhost: x\r\n\r\n{good}"
        ))
        .await;
    let statuses: Vec<_> = answer
        .0
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answer.0[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "200", "400"]);
}

#[tokio::test]
async fn who_has_closed_the_sending_side_is_answered() {
    let (served, echo, _attachment) = echo(small(), Limits::default(), 0).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na")
        .await
        .unwrap();
    echo.begun.acquire().await.unwrap().forget();
    stream.shutdown().await.unwrap();
    // A request behind it: what the listener makes of the end has happened then.
    assert_eq!(served.post("/nowhere", &[], b"").await.status(), 404);
    echo.gate.add_permits(1);
    assert_eq!(Answer::read(&mut stream).await.status(), 200);
}

#[tokio::test]
async fn what_is_past_the_bytes_in_hand_is_refused_and_let_in_when_they_are_back() {
    let limits = Limits {
        in_flight_bytes: 0,
        ..Limits::default()
    };
    // The bound is raised to one request of the largest size.
    let (served, echo, _attachment) = echo(small(), limits, 0).await;
    let first = tokio::spawn({
        let mut stream = served.connect().await;
        async move {
            stream.write_all(b"POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\na").await.unwrap();
            Answer::read(&mut stream).await
        }
    });
    echo.begun.acquire().await.unwrap().forget();
    for body in [&b"b"[..], &[b'b'; 1_000]] {
        let answer = served.post("/e", &[], body).await;
        assert_eq!(
            (answer.problem().0, answer.header("retry-after")),
            (429, Some("1"))
        );
    }
    echo.gate.add_permits(2);
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(served.post("/e", &[], &[b'b'; 1_000]).await.status(), 200);
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_flight() {
    let (mut served, echo, _attachment) = echo(small(), Limits::default(), 0).await;
    let mut stream = served.connect().await;
    let idle = served.connect().await;
    stream
        .write_all(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na")
        .await
        .unwrap();
    echo.begun.acquire().await.unwrap().forget();
    served.shutdown.cancel();
    echo.gate.add_permits(1);
    let answer = Answer::read(&mut stream).await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (200, Some("close"))
    );
    drop(idle);
    (&mut served.task).await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let limits = Limits {
        drain_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (mut served, echo, _attachment) = echo(small(), limits, 0).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na")
        .await
        .unwrap();
    echo.begun.acquire().await.unwrap().forget();
    served.shutdown.cancel();
    (&mut served.task).await.unwrap();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn consent_is_given_by_header_and_only_to_whom_it_is_meant_for() {
    let (served, _echo, _attachment) = echo(small(), Limits::default(), 0).await;
    let table = [
        (
            vec![
                ("WebHook-Request-Origin", "good.example"),
                ("WebHook-Request-Rate", "120"),
            ],
            Some("good.example"),
            Some("120"),
        ),
        (
            vec![("WebHook-Request-Origin", "good.example")],
            Some("good.example"),
            Some("*"),
        ),
        (
            vec![
                ("WebHook-Request-Origin", "good.example"),
                ("WebHook-Request-Rate", "fast"),
            ],
            Some("good.example"),
            Some("*"),
        ),
        (vec![("WebHook-Request-Origin", "bad.example")], None, None),
        (vec![], None, None),
    ];
    for (headers, origin, rate) in table {
        let answer = served.request("OPTIONS", "/e", &headers, b"").await;
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (200, Some("OPTIONS, POST"))
        );
        assert_eq!(
            (
                answer.header("webhook-allowed-origin"),
                answer.header("webhook-allowed-rate")
            ),
            (origin, rate)
        );
    }
}

const CERTIFICATE: &str = include_str!("tests/certificate.pem");
const KEY: &str = include_str!("tests/key.pem");

#[tokio::test]
async fn tls_is_served() {
    let tls = Some(TlsSettings {
        certificate: CERTIFICATE.into(),
        key: KEY.into(),
    });
    let (served, _echo, _attachment) =
        echo(ListenSettings { tls, ..small() }, Limits::default(), 1).await;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let client = TlsConnector::from(Arc::new(
        client.with_root_certificates(roots).with_no_client_auth(),
    ));
    let mut stream = client
        .connect(
            ServerName::try_from("localhost").unwrap(),
            served.connect().await,
        )
        .await
        .unwrap();
    stream
        .write_all(
            b"POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
        )
        .await
        .unwrap();
    assert_eq!(Answer::read(&mut stream).await.body(), "a");
}

#[tokio::test]
async fn what_cannot_be_bound_is_told_with_its_place() {
    let told = |settings: ListenSettings| async move {
        Listener::bind(&settings, Limits::default())
            .await
            .unwrap_err()
            .to_string()
    };
    let taken = serve(small(), Limits::default()).await;
    let address = taken.address.to_string();
    assert!(
        told(ListenSettings::at(address.as_str().into()))
            .await
            .starts_with("address: cannot listen on 127.0.0.1:")
    );
    let tls = |certificate: &str, key: Text| {
        Some(TlsSettings {
            certificate: certificate.into(),
            key,
        })
    };
    let at = || ListenSettings::at("127.0.0.1:0".into());
    assert!(
        told(ListenSettings {
            tls: tls(CERTIFICATE, Text::File("/nowhere".into())),
            ..at()
        })
        .await
        .starts_with("tls.key: cannot read")
    );
    let mistaken = told(ListenSettings {
        tls: tls("secret", "secret".into()),
        ..at()
    })
    .await;
    assert!(
        mistaken.starts_with("tls: ") && !mistaken.contains("secret"),
        "{mistaken}"
    );
}
