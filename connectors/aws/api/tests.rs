//! Signatures, against a server that checks them, and what answers mean.

use std::time::Duration;

use http::Response;
use pointsman_test_brokers::ObjectStore;

use super::*;
use crate::aws::KeyPair;

fn keys(secret: &str) -> KeyPair {
    let keys = serde_json::json!({ "access_key": "test", "secret_key": secret });
    serde_json::from_value(keys).unwrap()
}

async fn status(endpoint: &str, secret: &str, path: &str) -> u16 {
    let keys = keys(secret);
    let service = Service {
        name: "s3",
        access: Access {
            endpoint: None,
            region: None,
            credentials: Some(&keys),
        },
        region: None,
        endpoint: Some(endpoint.to_owned()),
    };
    let api = Api::open(service, Reach::anywhere()).await.unwrap();
    let deadlines = Deadlines::new(tokio::time::Instant::now(), Duration::from_secs(60));
    let request = Request::get("/").body(Bytes::new()).unwrap();
    let (head, _) = api.call(path, request, deadlines).await.unwrap();
    head.status.as_u16()
}

#[tokio::test]
async fn a_server_that_checks_signatures_takes_them() {
    let server = ObjectStore::seaweedfs().await;
    let endpoint = server.endpoint();
    assert_eq!(status(&endpoint, "test", "/").await, 200);
    // That there is no such bucket is said to whoever is known.
    assert_eq!(
        status(&endpoint, "test", "/none?list-type=2&prefix=a%2Fb").await,
        404
    );
    assert_eq!(status(&endpoint, "wrong", "/").await, 403);
}

#[test]
fn the_service_is_where_its_region_is() {
    assert_eq!(domain("eu-west-1"), "amazonaws.com");
    assert_eq!(domain("cn-north-1"), "amazonaws.com.cn");
}

fn refusal(status: u16, headers: &[(&str, &str)], body: &str) -> Refusal {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let (head, ()) = response.body(()).unwrap().into_parts();
    Refusal::of(&head, body.as_bytes())
}

#[test]
fn what_an_answer_means() {
    for (status, body, class, told) in [
        (
            400,
            r#"{"__type":"com.amazon.coral.service#ThrottlingException","message":"slow"}"#,
            Class::Throttled,
            "400 ThrottlingException slow",
        ),
        (
            400,
            r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow"}"#,
            Class::Throttled,
            "400 RequestThrottled slow",
        ),
        (
            429,
            r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","message":"busy"}"#,
            Class::Throttled,
            "429 busy (ReservedFunctionConcurrentInvocationLimitExceeded)",
        ),
        (503, "", Class::Throttled, "503"),
        (
            403,
            r#"{"__type":"AccessDeniedException","Message":"no"}"#,
            Class::Refused,
            "403 AccessDeniedException no",
        ),
        (
            400,
            r#"{"__type":"AccessDenied"}"#,
            Class::Refused,
            "400 AccessDenied",
        ),
        (
            400,
            r#"{"__type":"ExpiredTokenException"}"#,
            Class::Refused,
            "400 ExpiredTokenException",
        ),
        (
            400,
            r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}"#,
            Class::Unavailable,
            "400 QueueDoesNotExist",
        ),
        (
            400,
            r#"{"__type":"KmsDisabled"}"#,
            Class::Unavailable,
            "400 KmsDisabled",
        ),
        (
            400,
            r#"{"__type":"KmsThrottled"}"#,
            Class::Throttled,
            "400 KmsThrottled",
        ),
        (
            400,
            r#"{"__type":"KmsAccessDenied"}"#,
            Class::Refused,
            "400 KmsAccessDenied",
        ),
        (
            400,
            r#"{"__type":"InvalidMessageContents","message":"no"}"#,
            Class::Rejected,
            "400 InvalidMessageContents no",
        ),
        (413, "<html>", Class::Rejected, "413"),
        (
            500,
            r#"{"__type":"InternalFailure"}"#,
            Class::Failed,
            "500 InternalFailure",
        ),
        (502, "", Class::Unavailable, "502"),
    ] {
        let refusal = refusal(status, &[], body);
        assert_eq!(refusal.class(), class, "{status} {body}");
        assert_eq!(refusal.to_string(), told);
        assert_eq!(refusal.outcome("x").code, Some(i32::from(status)));
    }
    let waits = refusal(500, &[("retry-after", "7")], "").outcome("x");
    assert_eq!(
        (waits.class, waits.retry_after),
        (Class::Throttled, Some(Duration::from_secs(7)))
    );
    let of_header = [(
        "x-amzn-errortype",
        "ResourceNotFoundException:http://docs.example/",
    )];
    let of_header = refusal(404, &of_header, "{}");
    assert_eq!(of_header.code, "ResourceNotFoundException");
    let of_header = [("x-amzn-errortype", "com.amazonaws.sqs#QueueDoesNotExist")];
    assert_eq!(refusal(400, &of_header, "{}").class(), Class::Unavailable);
    for (code, is_senders, class) in [
        ("InternalError", false, Class::Failed),
        ("ServiceUnavailable", false, Class::Throttled),
        ("InvalidMessageContents", true, Class::Rejected),
        ("AccessDenied", true, Class::Refused),
    ] {
        assert_eq!(
            Refusal::of_entry(code, "", is_senders).class(),
            class,
            "{code}"
        );
    }
}
