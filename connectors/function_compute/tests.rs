//! Against a stand-in that checks the signature by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use pointsman_test_brokers::{Asked, StandIn, Told};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{TargetService, TargetSettings};

const KEYS: (&str, &str) = ("test-id", "test-secret");

/// A function `f` with the alias `prod`.
struct Function {
    server: StandIn,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Answers that stand ready.
    ready: Arc<Mutex<VecDeque<Told>>>,
}

fn error(status: u16, code: &str) -> Told {
    let body = json!({ "Code": code, "Message": "said by the stand-in", "RequestId": "1" });
    Told::new(status, body.to_string()).header("x-fc-error-type", "FcCommonError")
}

/// Whether a request is signed as the documentation says, and covers what it has to.
fn is_signed(asked: &Asked) -> bool {
    let authorization = asked.header("authorization");
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(name)?;
        rest.split(',').next()
    };
    let (Some(id), Some(names), Some(signature)) = (
        part("Credential="),
        part("SignedHeaders="),
        part("Signature="),
    ) else {
        return false;
    };
    let must = [
        "host",
        "x-acs-action",
        "x-acs-content-sha256",
        "x-acs-date",
        "x-acs-signature-nonce",
        "x-acs-version",
    ];
    let names: Vec<_> = names.split(';').collect();
    let is_sorted = names.is_sorted();
    if id != KEYS.0 || !is_sorted || !must.iter().all(|name| names.contains(name)) {
        return false;
    }
    let content = hex::encode(Sha256::digest(&asked.body));
    let headers: String = names
        .iter()
        .map(|name| format!("{name}:{}\n", asked.header(name)))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{content}",
        asked.method,
        asked.path(),
        asked.query(),
        names.join(";")
    );
    let text = format!(
        "ACS3-HMAC-SHA256\n{}",
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(KEYS.1.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes()) == signature
        && asked.header("x-acs-content-sha256") == content
}

fn answer(asked: &Asked) -> Told {
    if !is_signed(asked) {
        return error(403, "SignatureDoesNotMatch");
    }
    if !asked.path().starts_with("/2023-03-30/functions/f") {
        return error(404, "FunctionNotFound");
    }
    match (asked.method.as_str(), asked.header("x-fc-invocation-type")) {
        ("GET", _) => Told::new(200, r#"{"functionName":"f"}"#),
        ("POST", "Sync") => Told::new(200, "done").header("content-type", "text/plain"),
        ("POST", "Async") => Told::new(202, ""),
        _ => error(400, "InvalidArgument"),
    }
}

impl Function {
    async fn start() -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let ready = Arc::<Mutex<VecDeque<Told>>>::default();
        let (noted, next) = (Arc::clone(&asked), Arc::clone(&ready));
        let server = StandIn::start(move |asked| {
            let told = next.lock().pop_front().unwrap_or_else(|| answer(&asked));
            if told.status < 300 {
                noted.lock().push(asked);
            }
            async move { told }
        })
        .await;
        Self {
            server,
            asked,
            ready,
        }
    }

    fn settings(&self, more: Value) -> Value {
        let mut settings = json!({
            "function": "f",
            "endpoint": self.server.url(),
            "credentials": { "access_key": KEYS.0, "secret_key": KEYS.1 },
        });
        let all = settings.as_object_mut().unwrap();
        for (key, value) in more.as_object().unwrap() {
            if value.is_null() {
                all.remove(key);
            } else {
                all.insert(key.clone(), value.clone());
            }
        }
        settings
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

struct Fixture {
    function: Function,
    silent: Silent,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "function-compute";

    fn settings(&self) -> Value {
        self.function.settings(json!({ "qualifier": "prod" }))
    }

    async fn received(&self) -> Vec<Received> {
        let received = |asked: &Asked| Received {
            id: event_of(asked)["id"].as_str().unwrap().to_owned(),
            texts: Vec::new(),
            trace: None,
        };
        self.function.asked().iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let endpoint = json!({ "endpoint": format!("http://{}", self.silent.address()) });
        Some(self.function.settings(endpoint))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.function.settings(more);
        vec![
            (with(json!({ "function": "" })), "function"),
            (
                with(json!({ "function": "acs:fc:cn-hangzhou:1:functions/f" })),
                "function",
            ),
            (with(json!({ "qualifier": "a b" })), "qualifier"),
            (with(json!({ "endpoint": "h" })), "endpoint"),
            (with(json!({ "endpoint": null })), "region"),
            (with(json!({ "region": "cn-hangzhou" })), "region"),
            (
                with(json!({ "endpoint": null, "region": "Hangzhou" })),
                "region",
            ),
            (
                with(json!({ "credentials": { "access_key": "", "secret_key": "s" } })),
                "credentials.access_key",
            ),
        ]
    }
}

fn event_of(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap()
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        function: Function::start().await,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("function-compute", settings).unwrap()
}

async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

async fn invoke(service: &TargetService) -> Outcome {
    let outcomes = service.clone().oneshot(attempt(&["1"], 0)).await.unwrap();
    outcomes.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_synchronous_call_brings_what_the_function_returns() {
    let function = Function::start().await;
    let settings = function.settings(json!({ "qualifier": "prod" }));
    let outcome = invoke(&service(&settings).await).await;
    assert_eq!((outcome.class, outcome.code), (Class::Delivered, Some(200)));
    assert_eq!(outcome.response, Bytes::from_static(b"done"));
    assert_eq!(outcome.response_type.as_deref(), Some("text/plain"));
    assert_eq!(outcome.replies, None);
    let asked = function.asked().remove(0);
    assert_eq!(
        asked.target,
        "/2023-03-30/functions/f/invocations?qualifier=prod"
    );
    assert_eq!(asked.header("x-fc-invocation-type"), "Sync");
    assert_eq!(asked.header("x-fc-async-task-id"), "");
    assert_eq!(asked.header("content-type"), "application/cloudevents+json");
    assert_eq!(event_of(&asked)["pointsmantask"], "0000000000000001-2-3-0");
    assert_eq!(event_of(&asked)["pointsmanattempt"], "1");

    // A CloudEvent in it goes back onto the bus.
    let whole = r#"{"specversion":"1.0","id":"7","source":"/f","type":"done"}"#;
    for (body, events, unreadable) in [(whole, 1, 0), (r#"{"specversion":"1.0"}"#, 0, 1)] {
        function.ready.lock().push_back(Told::new(200, body));
        let outcome = invoke(&service(&settings).await).await;
        assert_eq!(outcome.class, Class::Delivered);
        let replies = outcome.replies.unwrap();
        assert_eq!(
            (replies.events.len(), replies.unreadable.len()),
            (events, unreadable),
            "{body}"
        );
    }
}

#[tokio::test]
async fn an_asynchronous_call_has_the_id_of_the_delivery_and_is_taken_once() {
    let function = Function::start().await;
    let settings = function.settings(json!({ "invocation": "async", "mode": "data" }));
    let service = service(&settings).await;
    assert_eq!(invoke(&service).await.class, Class::Delivered);
    let asked = function.asked().remove(0);
    assert_eq!(asked.target, "/2023-03-30/functions/f/invocations");
    assert_eq!(asked.header("x-fc-invocation-type"), "Async");
    assert_eq!(
        asked.header("x-fc-async-task-id"),
        "task-0000000000000001-2-3-0"
    );
    assert_eq!(asked.header("content-type"), "application/octet-stream");
    let data = crate::suite::event("1");
    assert_eq!(&asked.body[..], &data.data().unwrap().bytes()[..]);
    // What an attempt has handed over whose answer was lost.
    let twice = error(409, "AsyncTaskAlreadyExists");
    function.ready.lock().push_back(twice.clone());
    let outcome = invoke(&service).await;
    assert_eq!((outcome.class, outcome.code), (Class::Delivered, Some(409)));
    // Of a synchronous call it means something else.
    function.ready.lock().push_back(twice);
    let sync = self::service(&function.settings(json!({}))).await;
    assert_eq!(invoke(&sync).await.class, Class::Failed);
}

#[tokio::test]
async fn an_outcome_says_what_follows() {
    let function = Function::start().await;
    let ready = service(&function.settings(json!({}))).await;
    let failed = |status, kind: &str| {
        let body = json!({ "errorMessage": "oops", "errorType": "Exception" });
        Told::new(status, body.to_string()).header("x-fc-error-type", kind)
    };
    for (told, class, message) in [
        (
            failed(200, "UnhandledInvocationError"),
            Class::Failed,
            "the function failed: UnhandledInvocationError: Exception: oops",
        ),
        // Whatever the status: it is the function's.
        (
            failed(429, "HandledInvocationError"),
            Class::Failed,
            "the function failed: HandledInvocationError: Exception: oops",
        ),
        (
            error(429, "ConcurrencyLimitExceeded"),
            Class::Throttled,
            "Function Compute answered 429 Too Many Requests: ConcurrencyLimitExceeded: said by \
             the stand-in",
        ),
        (error(503, "ServiceUnavailable"), Class::Throttled, ""),
        (error(500, "InternalServerError"), Class::Failed, ""),
        (error(502, "BadGateway"), Class::Unavailable, ""),
        (error(403, "AccessDenied"), Class::Refused, ""),
        (error(404, "FunctionNotFound"), Class::Unavailable, ""),
        (error(400, "EntityTooLarge"), Class::Rejected, ""),
        (error(413, "PayloadTooLarge"), Class::Rejected, ""),
        (
            error(500, "InternalServerError").header("retry-after", "7"),
            Class::Throttled,
            "",
        ),
    ] {
        let waits = told.headers.iter().any(|(name, _)| name == "retry-after");
        function.ready.lock().push_back(told.clone());
        let outcome = invoke(&ready).await;
        assert_eq!(outcome.class, class, "{told:?}: {outcome:?}");
        assert!(outcome.message.starts_with(message), "{outcome:?}");
        let wait = waits.then(|| Duration::from_secs(7));
        assert_eq!(outcome.retry_after, wait, "{told:?}");
    }
    let wrong = json!({ "credentials": { "access_key": KEYS.0, "secret_key": "wrong" } });
    for (more, class) in [
        (wrong, Class::Refused),
        (json!({ "function": "g" }), Class::Unavailable),
        (
            json!({ "endpoint": "http://127.0.0.1:1" }),
            Class::Unavailable,
        ),
    ] {
        let service = service(&function.settings(more.clone())).await;
        let outcome = invoke(&service).await;
        assert_eq!(outcome.class, class, "{more}: {outcome:?}");
    }
}

#[tokio::test]
async fn temporary_keys_are_shown_and_signed() {
    let function = Function::start().await;
    let keys = json!({ "access_key": KEYS.0, "secret_key": KEYS.1, "security_token": "t+/=" });
    let service = service(&function.settings(json!({ "credentials": keys }))).await;
    assert_eq!(invoke(&service).await.class, Class::Delivered);
    let asked = function.asked().remove(0);
    assert_eq!(asked.header("x-acs-security-token"), "t+/=");
    assert!(
        asked
            .header("authorization")
            .contains(";x-acs-security-token;")
    );
}

#[tokio::test]
async fn what_a_probe_tells() {
    let function = Function::start().await;
    let told = parsed(&function.settings(json!({}))).probe().await.unwrap();
    assert_eq!(told, "the function f is there; it was not called");
    for (more, expect) in [
        (
            json!({ "function": "g" }),
            "function: there is no function g",
        ),
        (
            json!({ "credentials": { "access_key": KEYS.0, "secret_key": "wrong" } }),
            "credentials: the credentials may not look at the function f",
        ),
        (
            json!({ "endpoint": "http://127.0.0.1:1" }),
            "endpoint: cannot reach Function Compute: ",
        ),
    ] {
        let problem = parsed(&function.settings(more)).probe().await.unwrap_err();
        let told = problem.0.to_string();
        assert!(told.starts_with(expect), "{told}");
    }
    function.ready.lock().push_back(Told::new(404, "<html>"));
    let problem = parsed(&function.settings(json!({})))
        .probe()
        .await
        .unwrap_err();
    let told = problem.0.to_string();
    assert!(
        told.starts_with("endpoint: what answers there is not"),
        "{told}"
    );
}
