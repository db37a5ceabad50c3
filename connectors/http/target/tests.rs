//! The target against servers that answer as they are told.

mod batch;
mod broken;
mod secrets;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use pointsman_schemas::http::{decode, encode_binary, encode_structured};
use pointsman_schemas::{Class, Event, Outcome};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use super::*;
use crate::Attempt;
use crate::net::tls::fixtures::acceptor;
use crate::suite::{Received, TargetFixture, attempt, context, event, targets};

type Call = Request<Bytes>;
type Answering = Arc<dyn Fn(Call) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

/// A function behind a real server, which remembers how it was called.
struct Function {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    connections: watch::Receiver<usize>,
    _server: JoinSet<()>,
}

impl Function {
    async fn new(
        answer: impl Fn(Call) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (open, connections) = watch::channel(0);
        let (answer, remembered): (Answering, _) = (Arc::new(answer), Arc::clone(&calls));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.send_modify(|open| *open += 1);
                let (answer, calls) = (Arc::clone(&answer), Arc::clone(&remembered));
                let service =
                    hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (answer, calls) = (Arc::clone(&answer), Arc::clone(&calls));
                        async move {
                            let (parts, body) = request.into_parts();
                            let call = Request::from_parts(
                                parts,
                                body.collect().await.unwrap().to_bytes(),
                            );
                            calls.lock().push(call.clone());
                            Ok::<_, Infallible>(answer(call).await)
                        }
                    });
                let closed = open.clone();
                served.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    closed.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            address,
            calls,
            connections,
            _server: server,
        }
    }

    /// One that always answers the same.
    async fn answering(
        response: impl Fn() -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |_| Box::pin(std::future::ready(response()))).await
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn call(&self) -> Call {
        self.calls.lock().last().unwrap().clone()
    }
}

fn target(settings: Value) -> HttpTarget {
    serde_json::from_value(settings).unwrap()
}

async fn run_with(target: &HttpTarget, attempt: Attempt) -> Outcome {
    let mut outcomes = target
        .open(context())
        .await
        .unwrap()
        .oneshot(attempt)
        .await
        .unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

async fn run(url: &str) -> Outcome {
    run_with(&target(json!({ "url": url })), attempt(&["1"], 0)).await
}

fn response(
    status: u16,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

/// A server that reads a request's head and then sends exactly these bytes, or nothing for ever
/// where there are none.
async fn raw(answer: Option<Vec<u8>>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n")
                && stream.read_buf(&mut head).await.unwrap_or(0) > 0
            {}
            match &answer {
                Some(answer) => drop(stream.write_all(answer).await),
                None => held.push(stream),
            }
        }
    });
    (url, server)
}

struct Fixture(Function, Function);

impl TargetFixture for Fixture {
    const KIND: &'static str = "http";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        json!({ "url": format!("{}/<$.id>", self.0.url()), "headers": { "X-Constant": "x", "X-First": "<$.id>", "X-Second": "a<$.id>" } })
    }

    async fn received(&self) -> Vec<Received> {
        // The second text is not a URL's, so the URL is made of the first.
        let text = |call: &Call, name: &str| call.headers()[name].to_str().unwrap().to_owned();
        let received = |call: &Call| Received {
            id: text(call, "ce-id"),
            trace: Some(text(call, "traceparent")),
            texts: vec![
                call.uri().path().trim_start_matches('/').to_owned(),
                text(call, "x-first"),
                text(call, "x-second"),
            ],
        };
        self.0.calls.lock().iter().map(received).collect()
    }

    async fn open(&self, settings: &dyn TargetSettings) -> TargetService {
        // The suite's texts are no URLs; what fills in a template would have put them behind the
        // address.
        let (service, url) = (settings.open(context()).await.unwrap(), self.0.url());
        BoxCloneSyncService::new(service.map_request(move |mut attempt: Attempt| {
            for delivery in &mut attempt.deliveries {
                if let Some(text) = delivery.texts.first_mut() {
                    *text = format!("{url}/{text}");
                }
            }
            attempt
        }))
    }

    fn stalling(&self) -> Option<Value> {
        Some(json!({ "url": self.1.url() }))
    }

    async fn begun(&self) {
        self.1
            .connections
            .clone()
            .wait_for(|open| *open == 1)
            .await
            .unwrap();
    }

    async fn abandoned(&self) {
        self.1
            .connections
            .clone()
            .wait_for(|open| *open == 0)
            .await
            .unwrap();
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let header = |name: &str| json!({ "url": "http://h", "headers": { (name): "x" } });
        vec![
            (json!({ "url": "h:80" }), "url"),
            (json!({ "url": "http://u:p@h" }), "url"),
            (
                json!({ "url": "http://h", "headers": { "X": "a\nb" } }),
                "headers.X",
            ),
            (header("a b"), "headers.a b"),
            (header("Host"), "headers.Host"),
            (header("Content-Length"), "headers.Content-Length"),
            (header("Content-Type"), "headers.Content-Type"),
            (header("ce-id"), "headers.ce-id"),
            (header("Pointsman-Task"), "headers.Pointsman-Task"),
            (
                json!({ "url": "http://h", "auth": { "header": { "name": "a b", "value": "x" } } }),
                "auth.header.name",
            ),
            (
                json!({ "url": "http://h", "auth": { "signature": { "secret": "short" } } }),
                "auth.signature.secret",
            ),
            (
                json!({ "url": "http://h", "auth": { "bearer": "Bearer hunter2" } }),
                "auth.bearer",
            ),
            (
                json!({ "url": "http://h", "auth": { "bearer": " bearer\thunter2" } }),
                "auth.bearer",
            ),
            (
                json!({ "url": "http://h", "auth": { "oauth2": { "token_url": "x", "client_id": "a", "client_secret": "b" } } }),
                "auth.oauth2.token_url",
            ),
        ]
    }
}

#[tokio::test]
async fn conforms() {
    let takes = Function::answering(|| response(202, &[], "")).await;
    let stalls = Function::new(|_| Box::pin(std::future::pending())).await;
    targets(&Fixture(takes, stalls)).await;
}

#[tokio::test]
async fn an_event_is_written_in_three_modes_with_the_headers_of_the_task() {
    let function = Function::answering(|| response(204, &[], "")).await;
    let sent = async |settings: Value| {
        let mut settings = settings;
        settings["url"] = function.url().into();
        assert_eq!(
            run_with(&target(settings), attempt(&["1"], 0)).await.class,
            Class::Delivered
        );
        function.call()
    };
    let binary = sent(json!({})).await;
    assert_eq!(binary.method(), "POST");
    assert_eq!(
        decode(binary.headers(), binary.body().clone(), 1)
            .unwrap()
            .events,
        [event("1")]
    );
    for (name, value) in [
        ("pointsman-task", "0000000000000001-2-3-0"),
        ("idempotency-key", "0000000000000001-2-3-0"),
        ("pointsman-attempt", "1"),
        ("pointsman-rule", "rule"),
        ("pointsman-deadline", "2027-01-15T08:00:00Z"),
        (
            "user-agent",
            concat!("pointsman/", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        assert_eq!(binary.headers()[name], value);
    }
    let structured =
        sent(json!({ "mode": "structured", "method": "PUT", "headers": { "User-Agent": "me" } }))
            .await;
    assert_eq!(
        (
            structured.method().as_str(),
            &structured.headers()["user-agent"]
        ),
        ("PUT", &"me".parse().unwrap())
    );
    assert_eq!(&encode_structured(&event("1")).1, structured.body());
    let data = sent(json!({ "mode": "data" })).await;
    assert_eq!(data.body(), event("1").data().unwrap().bytes());
    assert_eq!(data.headers()["content-type"], "application/json");
    assert!(
        data.headers()
            .keys()
            .all(|name| !name.as_str().starts_with("ce-"))
    );
    let retyped = sent(json!({ "mode": "data", "headers": { "Content-Type": "text/x" } })).await;
    assert_eq!(
        retyped
            .headers()
            .get_all("content-type")
            .iter()
            .collect::<Vec<_>>(),
        ["text/x"]
    );
    let get = sent(json!({ "method": "GET" })).await;
    assert_eq!(
        (get.body().len(), &get.headers()["ce-id"]),
        (0, &"1".parse().unwrap())
    );
    assert!(!get.headers().contains_key("content-type"));
}

#[tokio::test]
async fn callers_show_who_they_are() {
    let function = Function::answering(|| response(204, &[], "")).await;
    let sent = async |auth: Value| {
        let settings = json!({ "url": function.url(), "auth": auth });
        assert_eq!(
            run_with(&target(settings), attempt(&["1"], 0)).await.class,
            Class::Delivered
        );
        function.call()
    };
    assert_eq!(
        sent(json!({ "bearer": "t" })).await.headers()["authorization"],
        "Bearer t"
    );
    let basic =
        sent(json!({ "basic": { "username": "Aladdin", "password": "open sesame" } })).await;
    assert_eq!(
        basic.headers()["authorization"],
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    let header = sent(json!({ "header": { "name": "X-Api-Key", "value": "k" } })).await;
    assert_eq!(header.headers()["x-api-key"], "k");

    let secret = format!(
        "whsec_{}",
        base64::engine::general_purpose::STANDARD.encode([7; 32])
    );
    let signed = sent(json!({ "signature": { "secret": secret } })).await;
    let text = |name: &str| signed.headers()[name].to_str().unwrap();
    let mut mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(&[7; 32]).unwrap();
    hmac::Mac::update(
        &mut mac,
        format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).as_bytes(),
    );
    hmac::Mac::update(&mut mac, signed.body());
    let expect =
        base64::engine::general_purpose::STANDARD.encode(hmac::Mac::finalize(mac).into_bytes());
    assert_eq!(text("webhook-signature"), format!("v1,{expect}"));
    assert_eq!(text("webhook-id"), text("pointsman-task"));
}

#[tokio::test]
async fn the_answer_decides_what_follows() {
    for (status, headers, class, wait, message) in [
        (200, &[("retry-after", "5")][..], Class::Delivered, None, ""),
        (
            500,
            &[("retry-after", "2")],
            Class::Throttled,
            Some(2),
            "answered 500 Internal Server Error",
        ),
        (
            429,
            &[],
            Class::Throttled,
            None,
            "answered 429 Too Many Requests",
        ),
        (
            410,
            &[("retry-after", "2")],
            Class::Gone,
            Some(2),
            "answered 410 Gone",
        ),
        (
            302,
            &[("location", "/x")],
            Class::Rejected,
            None,
            "answered 302 Found; redirects are not followed, this one leads to /x",
        ),
        (
            307,
            &[(
                "location",
                "https://user:hunter2@h/x?signature=hunter2#hunter2",
            )],
            Class::Rejected,
            None,
            "answered 307 Temporary Redirect; redirects are not followed, this one leads to https://h/x?…",
        ),
        (418, &[], Class::Rejected, None, "answered 418 I'm a teapot"),
    ] {
        let function = Function::answering(move || response(status, headers, "why")).await;
        let outcome = run(&function.url()).await;
        assert_eq!(
            (outcome.class, outcome.code, outcome.message.as_str()),
            (class, Some(status.into()), message)
        );
        assert_eq!(
            (outcome.retry_after, &outcome.response[..]),
            (wait.map(Duration::from_secs), &b"why"[..])
        );
        assert_eq!(function.calls.lock().len(), 1, "asked once");
    }
}

#[tokio::test]
async fn an_event_in_the_answer_goes_back_onto_the_bus() {
    let reply = Event::builder("r", "/function", "t").build().unwrap();
    let (structured, body) = encode_structured(&event("r"));
    let structured = structured["content-type"].to_str().unwrap().to_owned();
    let whole = move |given: &(HeaderMap, Bytes)| {
        let mut response = response(200, &[], given.1.clone());
        response.headers_mut().extend(given.0.clone());
        response
    };
    let binary = encode_binary(&event("r"));
    let bare = encode_binary(&reply);
    let no_id = [
        ("ce-specversion", "1.0"),
        ("ce-type", "t"),
        ("ce-source", "s"),
    ];
    let cases = [
        (whole(&binary), Some(event("r")), ""),
        (whole(&bare), Some(reply), ""),
        (
            response(200, &[("content-type", &structured)], body.clone()),
            Some(event("r")),
            "",
        ),
        (
            response(200, &[("content-type", "application/json")], body.clone()),
            None,
            "",
        ),
        (
            response(200, &[("content-type", &structured)], ""),
            None,
            "",
        ),
        (
            response(500, &[("content-type", &structured)], body.clone()),
            None,
            "answered 500 Internal Server Error",
        ),
        (
            response(200, &no_id, ""),
            None,
            "the answer announces a CloudEvent, but the required attribute \"id\" is missing",
        ),
        (
            response(200, &[("content-type", &structured)], vec![b' '; 70_000]),
            None,
            "the answer announces a CloudEvent, but it is longer than 65536 bytes",
        ),
    ];
    for (response, expect, message) in cases {
        let function = Function::answering(move || response.clone()).await;
        let outcome = run(&function.url()).await;
        let replies = outcome.replies.unwrap_or_default();
        assert_eq!(
            (replies.events.first(), outcome.message.as_str()),
            (expect.as_ref(), message)
        );
        let is_told = outcome.class == Class::Delivered && !message.is_empty();
        assert_eq!(replies.unreadable.len(), usize::from(is_told), "{message}");
        assert!(outcome.response.len() <= pointsman_schemas::outcome::RESPONSE_BYTES_MAX);
    }
}

#[tokio::test]
async fn of_a_batch_in_the_answer_what_can_be_read_goes_on() {
    let batch = "application/cloudevents-batch+json; charset=utf-8";
    let good = |id: &str| String::from_utf8(encode_structured(&event(id)).1.to_vec()).unwrap();
    let (a, b) = (good("a"), good("b"));
    for (body, ids, raws) in [
        (format!("[{a},{b}]"), &["a", "b"][..], &[][..]),
        (" [ ] ".to_owned(), &[], &[]),
        (
            format!("[{a}, {{\"id\":\"x\"}} ,{b}]"),
            &["a", "b"],
            &["{\"id\":\"x\"}"],
        ),
        (format!("[{a},null,[1],{b}]"), &["a", "b"], &["null", "[1]"]),
        (
            format!("[{a},{{\"specversion\":"),
            &["a"],
            &["{\"specversion\":"],
        ),
        (format!("[{a}] x"), &["a"], &[" x"]),
        ("{}".to_owned(), &[], &["{}"]),
    ] {
        let answer = response(200, &[("content-type", batch)], body.clone());
        let function = Function::answering(move || answer.clone()).await;
        let outcome = run(&function.url()).await;
        let replies = outcome.replies.unwrap();
        let found: Vec<_> = replies.events.iter().map(|event| event.id()).collect();
        let unreadable: Vec<_> = replies
            .unreadable
            .iter()
            .map(|one| std::str::from_utf8(&one.raw).unwrap())
            .collect();
        assert_eq!(
            (outcome.class, found.as_slice(), unreadable.as_slice()),
            (Class::Delivered, ids, raws),
            "{body}"
        );
    }
    // What is cut off is as far as it was read; the whole events before it go on.
    let long = format!("[{a},{b},\"{}", "x".repeat(70_000));
    let answer = response(200, &[("content-type", batch)], long);
    let function = Function::answering(move || answer.clone()).await;
    let outcome = run(&function.url()).await;
    let replies = outcome.replies.unwrap();
    assert_eq!((replies.events.len(), replies.unreadable.len()), (2, 1));
    assert_eq!(
        replies.unreadable[0].reason,
        "it is longer than 65536 bytes"
    );
}

#[tokio::test]
async fn inner_addresses_are_called_only_where_that_is_allowed() {
    let function = Function::answering(|| response(204, &[], "")).await;
    let guarded = TargetContext {
        allow_private_addresses: false,
        ..context()
    };
    let port = function.address.port();

    let literal = target(json!({ "url": format!("http://2130706433:{port}/") }))
        .open(guarded.clone())
        .await;
    assert!(
        literal
            .err()
            .unwrap()
            .to_string()
            .contains("127.0.0.1 is loopback")
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let never_called = listener.local_addr().unwrap().port();
    let named = target(json!({ "url": format!("http://localhost:{never_called}/") }))
        .open(guarded.clone())
        .await
        .unwrap();
    let outcome = &named.oneshot(attempt(&["1"], 0)).await.unwrap()[0];
    assert_eq!(outcome.class, Class::Rejected);
    assert!(
        outcome.message.contains("is loopback"),
        "{}",
        outcome.message
    );
    assert!(
        listener
            .accept()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "it is not even dialled"
    );

    let templated = target(json!({ "url": "http://<$.data.host>/" }))
        .open(guarded)
        .await
        .unwrap();
    for host in [
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "１２７.０.０.１",
    ] {
        let mut attempt = attempt(&["1"], 1);
        attempt.deliveries[0].texts = vec![format!("http://{host}:{port}/")];
        let outcome = templated.clone().oneshot(attempt).await.unwrap().remove(0);
        assert_eq!(outcome.class, Class::Rejected, "{host}: {outcome:?}");
    }
    let tokens = json!({ "oauth2": { "token_url": "http://169.254.169.254/", "client_id": "a", "client_secret": "b" } });
    let error = target(json!({ "url": "http://example.com", "auth": tokens }))
        .open(TargetContext {
            allow_private_addresses: false,
            ..context()
        })
        .await;
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .starts_with("auth.oauth2.token_url: the address 169.254.169.254 is link-local")
    );
    assert_eq!(function.calls.lock().len(), 0);
}

/// A server that speaks TLS under a certificate of the tests' own authority, and HTTP/2 where it is
/// asked to.
async fn with_tls() -> (u16, JoinSet<()>) {
    let acceptor = acceptor(&[b"h2", b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let service =
                hyper::service::service_fn(async |request: Request<hyper::body::Incoming>| {
                    Ok::<_, Infallible>(response(200, &[], format!("{:?}", request.version())))
                });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    (port, server)
}

#[tokio::test]
async fn tls_is_checked_and_speaks_http_2() {
    let (port, _server) = with_tls().await;
    let ca = crate::net::tls::fixtures::ca();
    let call = async |host: &str, tls: Value| {
        let mut settings = json!({ "url": format!("https://{host}:{port}/") });
        settings
            .as_object_mut()
            .unwrap()
            .extend(tls.as_object().unwrap().clone());
        run_with(&target(settings), attempt(&["1"], 0)).await
    };
    for host in ["localhost", "127.0.0.1"] {
        let trusted = call(host, json!({ "ca": { "file": ca } })).await;
        assert_eq!(
            (trusted.class, &trusted.response[..]),
            (Class::Delivered, &b"HTTP/2.0"[..]),
            "{trusted:?}"
        );
    }
    assert_eq!(
        call("localhost", json!({ "insecure": true })).await.class,
        Class::Delivered
    );
    let unknown = call("localhost", json!({})).await;
    assert_eq!(unknown.class, Class::Unavailable);
    assert!(
        unknown.message.contains("UnknownIssuer"),
        "{}",
        unknown.message
    );
    for (settings, at) in [
        (
            json!({ "certificate": "x" }),
            "certificate: a certificate needs its key",
        ),
        (json!({ "key": "x" }), "key: a key needs its certificate"),
        (
            json!({ "ca": "x", "insecure": true }),
            "insecure: with insecure any certificate is taken",
        ),
    ] {
        let mut all = json!({ "url": "https://h/" });
        all.as_object_mut()
            .unwrap()
            .extend(settings.as_object().unwrap().clone());
        let problems = target(all).check();
        assert!(
            problems.len() == 1 && problems[0].to_string().starts_with(at),
            "{problems:?}"
        );
    }
}

#[tokio::test]
async fn a_host_that_an_event_decides_needs_leave_for_inner_addresses() {
    let function = Function::answering(|| response(204, &[], "")).await;
    let port = function.address.port();
    let call = async |settings: Value, url: String| {
        let mut attempt = attempt(&["1"], 1);
        attempt.deliveries[0].texts = vec![url];
        run_with(&target(settings), attempt).await
    };
    let free = json!({ "url": "http://<$.data.host>/" });
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let outcome = call(free.clone(), format!("http://{host}:{port}/")).await;
        assert_eq!(outcome.class, Class::Rejected, "{host}: {outcome:?}");
        assert!(
            outcome.message.contains("allow_private_addresses"),
            "{}",
            outcome.message
        );
    }
    assert_eq!(function.calls.lock().len(), 0);
    let allowed = json!({ "url": "http://<$.data.host>/", "allow_private_addresses": true });
    assert_eq!(
        call(allowed, format!("http://localhost:{port}/"))
            .await
            .class,
        Class::Delivered
    );
    // Of a host that is written out an event only decides the rest.
    for url in [
        "http://127.0.0.1:<$.data.port>/".to_owned(),
        format!("http://localhost:{port}/<$.data.path>"),
    ] {
        assert_eq!(
            call(json!({ "url": url }), format!("http://127.0.0.1:{port}/x"))
                .await
                .class,
            Class::Delivered
        );
    }
    let idle =
        target(json!({ "url": "http://127.0.0.1/", "allow_private_addresses": true })).check();
    assert!(
        idle[0]
            .to_string()
            .starts_with("allow_private_addresses: no event decides the host"),
        "{idle:?}"
    );
}

#[tokio::test]
async fn an_answer_may_have_many_headers() {
    for count in [99, 101, 600] {
        let function = Function::answering(move || {
            let mut response = response(200, &[], "ok");
            for index in 0..count {
                response.headers_mut().insert(
                    HeaderName::try_from(format!("x-{index}")).unwrap(),
                    HeaderValue::from_static("1"),
                );
            }
            response
        })
        .await;
        let outcome = run(&function.url()).await;
        assert_eq!(
            (outcome.class, &outcome.response[..]),
            (Class::Delivered, &b"ok"[..]),
            "{count}: {outcome:?}"
        );
    }
}
