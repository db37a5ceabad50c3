//! Against canned answers, since moto does not fail as Lambda does, and moto for what it has.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use pointsman_schemas::{Class, Data, Event, Outcome};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::suite::moto::{keys, moto, post, query, unique};
use crate::suite::{
    Canned, Received, Reply, Silent, TargetFixture, attempt, context, parse, targets,
};
use crate::{Attempt, TargetService};

const PATH: &str = "/2015-03-31/functions/f/invocations";

/// A server that answers nothing in particular, and one that never answers.
struct Fixture {
    server: Canned,
    silent: Silent,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "lambda";

    fn settings(&self) -> Value {
        json!({ "function": "f", "endpoint": self.server.endpoint(), "credentials": keys() })
    }

    async fn received(&self) -> Vec<Received> {
        let bodies = self.server.asked(PATH).into_iter();
        let received = |body: Value| Received {
            id: body["id"].as_str().unwrap().to_owned(),
            texts: Vec::new(),
            trace: None,
        };
        bodies.map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let nobody = format!("http://{}", self.silent.address());
        Some(json!({ "function": "f", "endpoint": nobody, "credentials": keys() }))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "function": "" }), "function"),
            (
                json!({ "function": "https://x.lambda-url.eu-west-1.on.aws/" }),
                "function",
            ),
            (
                json!({ "function": "arn:aws:sns:eu-west-1:123456789012:f" }),
                "function",
            ),
            (json!({ "function": "f", "qualifier": "" }), "qualifier"),
            (json!({ "function": "f", "endpoint": "h" }), "endpoint"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        server: Canned::start(|_, _| (200, "null")).await,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

async fn at(server: &Canned, more: Value) -> TargetService {
    let mut settings = json!({
        "function": "f", "endpoint": server.endpoint(), "credentials": keys(),
    });
    let fields = settings.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let settings = parse("lambda", &settings).unwrap();
    settings.open(context()).await.unwrap()
}

async fn invoke(service: &TargetService, attempt: Attempt) -> Outcome {
    let mut outcomes = service.clone().oneshot(attempt).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

async fn answered<R: Into<Reply> + Clone + Send + Sync + 'static>(reply: R) -> Outcome {
    let server = Canned::start(move |_, _| reply.clone()).await;
    invoke(&at(&server, json!({})).await, attempt(&["1"], 0)).await
}

#[tokio::test]
async fn what_a_function_is_given() {
    let server = Canned::start(|_, _| (202, "")).await;
    let attempt = || {
        let mut attempt = attempt(&["1"], 0);
        let event = Event::builder("1", "/s", "t").data(Data::text("a \"b\"".into()));
        attempt.deliveries[0].event = Arc::new(event.build().unwrap());
        attempt
    };
    let task = attempt().deliveries[0].id.to_string();
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function:f";
    let whole = json!({ "function": arn, "qualifier": "$LATEST", "invocation": "event" });
    for more in [whole, json!({ "mode": "data" })] {
        let outcome = invoke(&at(&server, more).await, attempt()).await;
        assert_eq!(
            (outcome.class, outcome.code),
            (Class::Delivered, Some(202)),
            "{outcome:?}"
        );
    }
    let requests = server.requests();
    let arn = "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af";
    let line = format!("POST /2015-03-31/functions/{arn}/invocations?Qualifier=%24LATEST HTTP/1.1");
    assert_eq!(requests[0].line.trim_end(), line);
    assert_eq!(requests[0].headers["x-amz-invocation-type"], "Event");
    assert!(requests[0].headers["authorization"].contains("/eu-west-1/lambda/aws4_request"));
    let body = &requests[0].body;
    assert_eq!(
        (
            &body["data"],
            &body["pointsmantask"],
            &body["pointsmanattempt"]
        ),
        (&json!("a \"b\""), &json!(task), &json!(1))
    );
    assert_eq!(
        requests[1].headers["x-amz-invocation-type"],
        "RequestResponse"
    );
    assert_eq!(requests[1].body, "a \"b\"");
    let context = BASE64_STANDARD
        .decode(&requests[1].headers["x-amz-client-context"])
        .unwrap();
    let context: Value = serde_json::from_slice(&context).unwrap();
    let expect = json!({
        "pointsman-task": task, "pointsman-attempt": "1", "pointsman-rule": "rule",
    });
    assert_eq!(context["custom"], expect);
}

#[tokio::test]
async fn what_a_function_returns_is_the_answer() {
    let outcome =
        answered(Reply::from((200, r#"{"a":1}"#)).header("content-type", "application/json")).await;
    assert_eq!((outcome.class, outcome.code), (Class::Delivered, Some(200)));
    assert_eq!(outcome.response, Bytes::from_static(b"{\"a\":1}"));
    assert_eq!(outcome.response_type.as_deref(), Some("application/json"));
    assert_eq!(outcome.replies, None);

    let event = r#" {"specversion":"1.0","id":"2","source":"/f","type":"done"}"#;
    let replies = answered((200, event)).await.replies.unwrap();
    assert_eq!((replies.events.len(), replies.events[0].id()), (1, "2"));
    let outcome = answered((200, r#"{"specversion":"1.0","id":"2"}"#)).await;
    assert_eq!(outcome.class, Class::Delivered);
    assert_eq!(outcome.replies.unwrap().unreadable.len(), 1);
    assert!(
        outcome.message.contains("announces a CloudEvent"),
        "{}",
        outcome.message
    );
    for plain in [
        r#"["specversion"]"#,
        r#""specversion""#,
        r#"{"a":{"specversion":"1.0"}}"#,
        "",
    ] {
        assert_eq!(answered((200, plain)).await.replies, None, "{plain}");
    }
    let long = format!(
        "{}{}\"}}",
        r#"{"specversion":"1.0","id":""#,
        "x".repeat(100_000)
    );
    let outcome = answered((200, long)).await;
    assert!(outcome.is_response_cut);
    assert_eq!(outcome.replies.unwrap().unreadable.len(), 1);
}

#[tokio::test]
async fn a_function_that_fails_is_told_from_lambda_that_does() {
    let error = r#"{"errorType":"ValueError","errorMessage":"no such order"}"#;
    for kind in ["Handled", "Unhandled"] {
        let reply = Reply::from((200, error)).header("x-amz-function-error", kind);
        let outcome = answered(reply).await;
        assert_eq!(outcome.class, Class::Failed);
        let expect = format!("the function has failed ({kind}): ValueError: no such order");
        assert_eq!(outcome.message, expect);
        assert_eq!(outcome.response, Bytes::from_static(error.as_bytes()));
    }
    for (status, code, class) in [
        (429, "TooManyRequestsException", Class::Throttled),
        (502, "EC2ThrottledException", Class::Throttled),
        (503, "ServiceUnavailableException", Class::Throttled),
        (502, "ENILimitReachedException", Class::Unavailable),
        (502, "KMSDisabledException", Class::Unavailable),
        (502, "KMSAccessDeniedException", Class::Refused),
        (409, "ResourceConflictException", Class::Unavailable),
        (404, "ResourceNotFoundException", Class::Unavailable),
        (403, "AccessDeniedException", Class::Refused),
        (413, "RequestTooLargeException", Class::Rejected),
        (400, "InvalidRequestContentException", Class::Rejected),
        (500, "ServiceException", Class::Failed),
    ] {
        let reply = Reply::from((status, r#"{"Type":"User","message":"so it is"}"#));
        let outcome = answered(reply.header("x-amzn-errortype", code)).await;
        assert_eq!(outcome.class, class, "{code}: {outcome:?}");
        assert_eq!(
            outcome.message,
            format!("cannot invoke f: {status} {code} so it is")
        );
    }
    let reply = Reply::from((
        429,
        r#"{"Reason":"CallerRateLimitExceeded","message":"Rate exceeded"}"#,
    ));
    let outcome = answered(reply.header("retry-after", "3")).await;
    assert_eq!(outcome.retry_after, Some(Duration::from_secs(3)));
    assert!(
        outcome.message.contains("CallerRateLimitExceeded"),
        "{}",
        outcome.message
    );
}

#[tokio::test]
async fn what_a_probe_tells() {
    let told = async |endpoint: &str| {
        let settings = json!({ "function": "f", "endpoint": endpoint, "credentials": keys() });
        let told = parse("lambda", &settings).unwrap().probe().await;
        told.map_err(|error| error.0.to_string())
    };
    let there = Canned::start(|_, _| (204, "")).await;
    assert!(
        told(there.endpoint())
            .await
            .unwrap()
            .contains("may be invoked")
    );
    assert_eq!(
        there.requests()[0].headers["x-amz-invocation-type"],
        "DryRun"
    );
    for (code, expect) in [
        (
            "ResourceNotFoundException",
            "function: there is no function f",
        ),
        (
            "AccessDeniedException",
            "credentials: the credentials may not use the function f",
        ),
        (
            "UnrecognizedClientException",
            "credentials: Lambda does not accept the credentials",
        ),
    ] {
        let reply = Reply::from((404, "{}")).header("x-amzn-errortype", code);
        let server = Canned::start(move |_, _| reply.clone()).await;
        let told = told(server.endpoint()).await.unwrap_err();
        assert!(told.starts_with(expect), "{told}");
    }
}

/// A file in the ZIP format with nothing in it.
const EMPTY_ZIP: &str = "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==";

#[tokio::test]
async fn a_function_at_moto_returns_what_it_is_given() {
    // Without containers, of which there are none here.
    post(
        "lambda",
        "/moto-api/config",
        json!({ "lambda": { "use_docker": false } }),
    )
    .await;
    let name = unique("function");
    let role = [("RoleName", &*name), ("AssumeRolePolicyDocument", "{}")];
    let role = query("iam", "CreateRole", "2010-05-08", &role).await;
    let role = role
        .find("CreateRoleResult")
        .and_then(|result| result.find("Role"));
    let made = json!({
        "FunctionName": name, "Runtime": "python3.12", "Handler": "f.f",
        "Role": role.unwrap().text_of("Arn").unwrap(), "Code": { "ZipFile": EMPTY_ZIP },
    });
    post("lambda", "/2015-03-31/functions", made).await;
    let settings = json!({
        "function": name, "endpoint": moto().await.endpoint(), "credentials": keys(),
    });
    let settings = parse("lambda", &settings).unwrap();
    assert!(settings.probe().await.unwrap().contains("may be invoked"));
    let service = settings.open(context()).await.unwrap();
    let outcome = invoke(&service, attempt(&["1"], 0)).await;
    assert_eq!(outcome.class, Class::Delivered, "{outcome:?}");
    let replies = outcome.replies.unwrap();
    assert_eq!(replies.events[0].id(), "1");
    assert!(replies.events[0].attribute("pointsmantask").is_some());
}
