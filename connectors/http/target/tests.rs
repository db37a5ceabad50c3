mod batch;

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

    fn settings(&self) -> Value {
        json!({ "url": format!("{}/<$.id>", self.0.url()), "headers": { "X-Constant": "x", "X-First": "<$.id>", "X-Second": "a<$.id>" } })
    }

    async fn received(&self) -> Vec<Received> {
        // The second text is not a URL's, so the URL is made of the first.
        let text = |call: &Call, name: &str| call.headers()[name].to_str().unwrap().to_owned();
        let received = |call: &Call| Received {
            id: text(call, "ce-id"),
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
async fn what_breaks_before_a_connection_is_unavailable_and_after_it_failed() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = run(&format!("http://{unused}/")).await;
    assert_eq!(refused.class, Class::Unavailable);
    assert!(
        refused
            .message
            .contains(&format!("cannot connect to {unused}: Connection refused")),
        "{}",
        refused.message
    );
    let unknown = run("http://no-such-host.invalid/").await;
    assert_eq!(unknown.class, Class::Unavailable);
    assert!(
        unknown.message.contains("no-such-host.invalid"),
        "{}",
        unknown.message
    );

    for broken in [
        "",
        "HTTP/1.1 200",
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ] {
        let (url, _server) = raw(Some(broken.into())).await;
        let outcome = run(&url).await;
        assert_eq!(outcome.class, Class::Failed, "{broken:?}: {outcome:?}");
        assert!(
            outcome
                .message
                .starts_with("the connection broke before an answer came: "),
            "{}",
            outcome.message
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls = format!("https://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        std::future::pending().await
    };
    let outcome =
        tokio::select! { outcome = run(&no_tls) => outcome, () = server => unreachable!() };
    assert_eq!(
        outcome.class,
        Class::Unavailable,
        "no TLS is no connection: {outcome:?}"
    );

    let endless = [
        b"HTTP/1.1 500 No\r\n".as_slice(),
        b"X: y\r\n".repeat(100_000).as_slice(),
    ]
    .concat();
    let (url, _server) = raw(Some(endless)).await;
    assert_eq!(run(&url).await.class, Class::Failed);
}

#[tokio::test]
async fn a_status_stands_though_its_body_breaks_off_or_is_endless() {
    let cases: [(&str, Vec<u8>, Class); 3] = [
        (
            "broken off",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(),
            Class::Delivered,
        ),
        (
            "broken off",
            b"HTTP/1.1 400 No\r\nContent-Length: 10\r\n\r\nhalf".to_vec(),
            Class::Rejected,
        ),
        (
            "long",
            [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 1 << 20]].concat(),
            Class::Delivered,
        ),
    ];
    for (what, answer, class) in cases {
        let (url, _server) = raw(Some(answer)).await;
        let outcome = run(&url).await;
        assert_eq!(outcome.class, class, "{what}");
        let expect = if what == "long" {
            pointsman_schemas::outcome::RESPONSE_BYTES_MAX
        } else {
            4
        };
        assert_eq!(outcome.response.len(), expect);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_make_a_failure_of_a_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1]).await.unwrap() > 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    };
    let mut short = attempt(&["1"], 0);
    short.timeout = Duration::from_secs(2);
    let target = target(json!({ "url": url }));
    let outcome = tokio::select! { outcome = run_with(&target, short) => outcome, () = server => unreachable!() };
    assert_eq!(
        (outcome.class, &outcome.response[..]),
        (Class::Delivered, &b"half"[..]),
        "{outcome:?}"
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

/// A token endpoint that counts its tokens, and a function that takes only some of them.
async fn with_tokens(
    expires_in: u64,
    takes: impl Fn(&str) -> u16 + Send + Sync + 'static,
) -> (Function, Function, HttpTarget) {
    let issued = Arc::new(Mutex::new(0));
    let endpoint = Function::answering(move || {
        *issued.lock() += 1;
        response(
            200,
            &[],
            format!(
                r#"{{"access_token":"token-{}","token_type":"bearer","expires_in":{expires_in}}}"#,
                issued.lock()
            ),
        )
    })
    .await;
    let function = Function::new(move |call| {
        let status = takes(
            call.headers()["authorization"]
                .to_str()
                .unwrap()
                .trim_start_matches("Bearer "),
        );
        Box::pin(std::future::ready(response(status, &[], "")))
    })
    .await;
    let auth = json!({ "oauth2": { "token_url": endpoint.url(), "client_id": "a b", "client_secret": "c:d", "scopes": ["x", "y"], "audience": "z" } });
    let target = target(json!({ "url": function.url(), "auth": auth }));
    (endpoint, function, target)
}

#[tokio::test]
async fn a_token_is_asked_for_once_kept_and_replaced_when_it_is_refused() {
    let (endpoint, function, target) =
        with_tokens(3_600, |token| if token == "token-1" { 401 } else { 204 }).await;
    let service = target.open(context()).await.unwrap();
    let call = || service.clone().oneshot(attempt(&["1"], 0));
    assert_eq!(
        call().await.unwrap()[0].class,
        Class::Refused,
        "a fresh token that is refused is refused"
    );
    for _ in 0..3 {
        assert_eq!(
            call().await.unwrap()[0].class,
            Class::Delivered,
            "an old one is replaced"
        );
    }
    assert_eq!(
        (endpoint.calls.lock().len(), function.calls.lock().len()),
        (2, 5)
    );
    let asked = endpoint.call();
    assert_eq!(asked.headers()["authorization"], "Basic YStiOmMlM0Fk");
    assert_eq!(
        asked.body(),
        "grant_type=client_credentials&scope=x+y&audience=z"
    );
}

#[tokio::test]
async fn concurrent_attempts_share_one_token_and_an_expired_one_is_not_used() {
    let (endpoint, _function, target) = with_tokens(3_600, |_| 204).await;
    let service = target.open(context()).await.unwrap();
    futures::future::join_all((0..16).map(|_| service.clone().oneshot(attempt(&["1"], 0)))).await;
    assert_eq!(endpoint.calls.lock().len(), 1);

    let (endpoint, _function, target) = with_tokens(0, |_| 204).await;
    let service = target.open(context()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            service.clone().oneshot(attempt(&["1"], 0)).await.unwrap()[0].class,
            Class::Delivered
        );
    }
    assert_eq!(endpoint.calls.lock().len(), 3);
}

#[tokio::test]
async fn no_token_means_refused_or_unavailable_and_never_a_used_up_attempt() {
    for (status, body, class) in [
        (400, "", Class::Refused),
        (401, "", Class::Refused),
        (429, "", Class::Throttled),
        (500, "", Class::Unavailable),
        (200, "no json", Class::Unavailable),
        (200, r#"{"access_token":""}"#, Class::Unavailable),
        (200, r#"{"access_token":"a\nb"}"#, Class::Unavailable),
    ] {
        let endpoint = Function::answering(move || response(status, &[], body)).await;
        let auth = json!({ "oauth2": { "token_url": endpoint.url(), "client_id": "a", "client_secret": "b", "credentials": "body" } });
        let outcome = run_with(
            &target(json!({ "url": "http://127.0.0.1:1/", "auth": auth })),
            attempt(&["1"], 0),
        )
        .await;
        assert_eq!(
            (outcome.class, outcome.message.starts_with("no token: ")),
            (class, true),
            "{status}: {outcome:?}"
        );
        assert_eq!(
            endpoint.call().body(),
            "grant_type=client_credentials&client_id=a&client_secret=b"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_hangs_is_unavailable() {
    let (endpoint, _server) = raw(None).await;
    let auth =
        json!({ "oauth2": { "token_url": endpoint, "client_id": "a", "client_secret": "b" } });
    let outcome = run_with(
        &target(json!({ "url": "http://127.0.0.1:1/", "auth": auth })),
        attempt(&["1"], 0),
    )
    .await;
    assert_eq!(
        (outcome.class, outcome.message.as_str()),
        (
            Class::Unavailable,
            "no token: the token endpoint took longer than 10 s"
        )
    );
}

#[tokio::test]
async fn secrets_are_not_shown_and_missing_ones_told_when_it_opens() {
    let settings = json!({ "url": "http://h", "headers": { "X": "hunter2" }, "auth": { "bearer": "hunter2" } });
    assert!(!format!("{:?}", target(settings)).contains("hunter2"));
    let whole = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(whole.path(), "Bearer hunter2").unwrap();
    for (auth, path) in [
        (
            json!({ "bearer": { "env": "POINTSMAN_NO_SUCH_VARIABLE" } }),
            "auth.bearer: ",
        ),
        (
            json!({ "basic": { "username": "a", "password": { "file": "/no/such/file" } } }),
            "auth.basic.password: ",
        ),
        (json!({ "bearer": "a\nb" }), "auth.bearer: "),
        (
            json!({ "bearer": { "file": whole.path() } }),
            "auth.bearer: the file ",
        ),
    ] {
        let target = target(json!({ "url": "http://h", "auth": auth }));
        assert_eq!(target.check(), []);
        let error = target.open(context()).await.err().unwrap().to_string();
        assert!(error.starts_with(path), "{error}");
    }
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
async fn what_was_never_sent_is_unavailable_whatever_the_timeout() {
    // A server that takes no more connections answers no SYN; one that says nothing leaves the
    // handshake hanging.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let full_address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_secs(1), TcpStream::connect(full_address)).await
    {
        waiting.push(stream);
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for url in [
        format!("http://{full_address}/"),
        format!("https://{}/", silent.local_addr().unwrap()),
    ] {
        let mut short = attempt(&["1"], 0);
        short.timeout = Duration::from_secs(4);
        let start = tokio::time::Instant::now();
        let outcome = run_with(&target(json!({ "url": url, "insecure": true })), short).await;
        assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
    }
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

/// A server that answers the first request of each connection and does as it is told with the
/// second.
async fn answers_once(
    then: impl Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let then = Arc::new(then);
        let mut served = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let then = Arc::clone(&then);
            served.spawn(async move {
                for turn in 0..2 {
                    let mut head = Vec::new();
                    while !head.ends_with(b"}") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    if turn == 0 {
                        stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .await
                            .unwrap();
                    }
                }
                then(stream).await;
            });
        }
    });
    (url, server)
}

#[tokio::test]
async fn a_kept_connection_that_breaks_before_an_answer_is_unavailable() {
    for (said, expect) in [("", Class::Unavailable), ("HTTP/1.1 200", Class::Failed)] {
        let (url, _server) = answers_once(move |mut stream| {
            Box::pin(async move {
                stream.write_all(said.as_bytes()).await.unwrap();
                // Whoever reads it has to see what was said before the end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            })
        })
        .await;
        let service = target(json!({ "url": url })).open(context()).await.unwrap();
        let mut classes = Vec::new();
        for _ in 0..2 {
            classes.push(
                service
                    .clone()
                    .oneshot(attempt(&["1"], 0))
                    .await
                    .unwrap()
                    .remove(0)
                    .class,
            );
        }
        assert_eq!(classes, [Class::Delivered, expect], "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_on_which_an_attempt_timed_out_is_not_used_again() {
    let (url, _server) = answers_once(|stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    })
    .await;
    let service = target(json!({ "url": url })).open(context()).await.unwrap();
    let call = || service.clone().oneshot(attempt(&["1"], 0));
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
    assert!(timeout(Duration::from_millis(300), call()).await.is_err());
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
}

/// A server that speaks HTTP/2 over TLS and does with the streams of each connection, counted from
/// 0, as it is told.
async fn with_streams(
    answer: impl Fn(usize, usize) -> Stream2 + Send + Sync + 'static,
) -> (HttpTarget, JoinSet<()>) {
    let acceptor = acceptor(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings =
        json!({ "url": format!("https://{}/", listener.local_addr().unwrap()), "insecure": true });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let answer = Arc::new(answer);
        let (mut served, mut connections) = (JoinSet::new(), 0..);
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer, number) = (
                acceptor.clone(),
                Arc::clone(&answer),
                connections.next().unwrap(),
            );
            served.spawn(async move {
                let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap())
                    .await
                    .unwrap();
                let (mut streams, mut silent) = (0.., Vec::new());
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    match answer(number, streams.next().unwrap()) {
                        Stream2::Answers => {
                            drop(respond.send_response(Response::new(()), true).unwrap())
                        }
                        Stream2::Refuses => respond.send_reset(h2::Reason::REFUSED_STREAM),
                        Stream2::Resets => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                        Stream2::Silent => silent.push(respond),
                    }
                }
            });
        }
    });
    (target(settings), server)
}

/// What a server does with a stream.
#[derive(Clone, Copy)]
enum Stream2 {
    Answers,
    Refuses,
    Resets,
    Silent,
}

#[tokio::test]
async fn a_stream_that_was_refused_is_unavailable_and_one_that_broke_is_failed() {
    for (ends, expect) in [
        (Stream2::Refuses, Class::Unavailable),
        (Stream2::Resets, Class::Failed),
    ] {
        let (target, _server) =
            with_streams(move |_, stream| if stream == 1 { ends } else { Stream2::Answers }).await;
        let service = target.open(context()).await.unwrap();
        let call = async || {
            service
                .clone()
                .oneshot(attempt(&["1"], 0))
                .await
                .unwrap()
                .remove(0)
                .class
        };
        assert_eq!(
            [call().await, call().await, call().await],
            [Class::Delivered, expect, Class::Delivered]
        );
    }
}

#[tokio::test]
async fn a_connection_of_many_streams_is_not_used_again_once_one_has_timed_out() {
    let (target, _server) = with_streams(|connection, stream| {
        if connection == 0 && stream > 0 {
            Stream2::Silent
        } else {
            Stream2::Answers
        }
    })
    .await;
    let service = target.open(context()).await.unwrap();
    let call = || service.clone().oneshot(attempt(&["1"], 0));
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
    assert!(timeout(Duration::from_millis(300), call()).await.is_err());
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
}

/// The parts of HTTP/2 that the tests below need, frame by frame (RFC 9113, sections 4.1 and 6).
mod frames {
    use super::*;

    pub(super) const STREAM_MAX: u32 = u32::MAX >> 1;

    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// `:status: 200` with nothing behind it: entry 8 of the static table, END_STREAM and
    /// END_HEADERS.
    pub(super) fn answer(stream: u32) -> Vec<u8> {
        frame(HEADERS, 0x5, stream, &[0x88])
    }

    pub(super) fn go_away(last: u32, reason: h2::Reason) -> Vec<u8> {
        frame(
            GOAWAY,
            0,
            0,
            &[last.to_be_bytes(), u32::from(reason).to_be_bytes()].concat(),
        )
    }

    /// Reads up to the next stream that begins; none at the end. What the connection itself needs
    /// is answered meanwhile.
    pub(super) async fn next_stream(
        connection: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    ) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            connection.read_exact(&mut payload).await.ok()?;
            match (head[3], head[4] & ACK) {
                (HEADERS, _) => {
                    return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
                }
                (SETTINGS, 0) => connection
                    .write_all(&frame(SETTINGS, ACK, 0, &[]))
                    .await
                    .ok()?,
                (PING, 0) => connection
                    .write_all(&frame(PING, ACK, 0, &payload))
                    .await
                    .ok()?,
                _ => {}
            }
        }
    }
}

/// A server that answers one call on its first connection, waits for three more at once, says
/// `last` and closes; on later connections it answers.
async fn that_goes_away(last: Vec<u8>) -> (HttpTarget, JoinSet<()>) {
    let acceptor = acceptor(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings =
        json!({ "url": format!("https://{}/", listener.local_addr().unwrap()), "insecure": true });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = acceptor.accept(stream).await.unwrap();
            connection
                .write_all(&frames::frame(4, 0, 0, &[]))
                .await
                .unwrap();
            let mut preface = [0; 24];
            connection.read_exact(&mut preface).await.unwrap();
            let mut count = 0;
            while let Some(stream) = frames::next_stream(&mut connection).await {
                count += 1;
                if !is_first || count == 1 {
                    connection.write_all(&frames::answer(stream)).await.unwrap();
                } else if count == 4 {
                    connection.write_all(&last).await.unwrap();
                    break;
                }
            }
            let _ = connection.shutdown().await;
            is_first = false;
        }
    });
    (target(settings), server)
}

#[tokio::test]
async fn what_a_server_says_it_has_not_looked_at_when_it_goes_away_uses_up_no_attempt() {
    use frames::{STREAM_MAX, answer, go_away};
    use h2::Reason;
    // The streams of the three calls are 3, 5 and 7. How many are delivered, unavailable and
    // failed.
    for (last, expect) in [
        // The usual end of a server that is restarted: what it has begun it answers.
        (
            [go_away(3, Reason::NO_ERROR), answer(3)].concat(),
            (1, 2, 0),
        ),
        // In two steps, as RFC 9113 recommends in section 6.8.
        (
            [
                go_away(STREAM_MAX, Reason::NO_ERROR),
                answer(3),
                go_away(3, Reason::NO_ERROR),
            ]
            .concat(),
            (1, 2, 0),
        ),
        ([go_away(0, Reason::ENHANCE_YOUR_CALM)].concat(), (0, 3, 0)),
        // What it says it has begun, or may have begun, and does not answer: the function may have
        // run.
        (go_away(7, Reason::NO_ERROR), (0, 0, 3)),
        (go_away(7, Reason::INTERNAL_ERROR), (0, 0, 3)),
        (go_away(STREAM_MAX, Reason::NO_ERROR), (0, 0, 3)),
        (go_away(5, Reason::NO_ERROR), (0, 1, 2)),
        (
            [
                go_away(STREAM_MAX, Reason::NO_ERROR),
                go_away(5, Reason::NO_ERROR),
                answer(5),
            ]
            .concat(),
            (1, 1, 1),
        ),
        // The connection is none that had been closed already.
        (answer(5), (1, 0, 2)),
        (Vec::new(), (0, 3, 0)),
    ] {
        let (target, _server) = that_goes_away(last.clone()).await;
        let service = target.open(context()).await.unwrap();
        let call = || {
            let service = service.clone();
            async move { service.oneshot(attempt(&["1"], 0)).await.unwrap().remove(0) }
        };
        assert_eq!(call().await.class, Class::Delivered);
        let outcomes = timeout(
            Duration::from_secs(60),
            futures::future::join_all([call(), call(), call()]),
        )
        .await
        .unwrap();
        let count = |class| {
            outcomes
                .iter()
                .filter(|outcome| outcome.class == class)
                .count()
        };
        assert_eq!(
            (
                count(Class::Delivered),
                count(Class::Unavailable),
                count(Class::Failed)
            ),
            expect,
            "{last:?}: {outcomes:?}"
        );
        assert_eq!(call().await.class, Class::Delivered, "by a new connection");
    }
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tok");
    std::fs::write(&file, "old\n").unwrap();
    let function = Function::new(|call| {
        let status = if call.headers()["authorization"] == "Bearer new" {
            204
        } else {
            401
        };
        Box::pin(std::future::ready(response(status, &[], "")))
    })
    .await;
    let service = target(json!({ "url": function.url(), "auth": { "bearer": { "file": file } } }))
        .open(context())
        .await
        .unwrap();
    let call = async || {
        service
            .clone()
            .oneshot(attempt(&["1"], 0))
            .await
            .unwrap()
            .remove(0)
            .class
    };
    assert_eq!(call().await, Class::Refused);
    // As a secret's mount is changed: by another file in its place, of the same size.
    std::fs::write(folder.path().join("next"), "new\n").unwrap();
    std::fs::rename(folder.path().join("next"), &file).unwrap();
    assert_eq!(call().await, Class::Delivered);
    // Where it cannot be read the target goes on.
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(call().await, Class::Delivered);
}
