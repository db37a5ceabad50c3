//! What comes in by HTTP, well formed and not.

use pointsman_integration_tests::{Bus, Caller, Sink, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn rules(sink: &Sink) -> String {
    format!(
        "targets:\n  function:\n    http: {{ url: \"{}\", mode: structured }}\nrules:\n  orders:\n    match: {{ type: [{{ prefix: order. }}] }}\n    to: function\n",
        sink.url()
    )
}

#[tokio::test]
async fn each_of_the_three_modes_is_taken_and_matched() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink)).await;
    let caller = Caller::new();
    let url = bus.url("/events");
    let event = |id: &str, ty: &str| json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": ty, "data": { "total": 5 } });

    assert_eq!(
        caller
            .event(
                &url,
                "binary",
                "order.paid",
                r#"{"n":12345678901234567890123}"#
            )
            .await
            .unwrap(),
        202
    );
    let structured = [(
        "content-type",
        "application/cloudevents+json; charset=UTF-8",
    )];
    assert_eq!(
        caller
            .call(
                http::Method::POST,
                &url,
                &structured,
                event("structured", "order.paid").to_string()
            )
            .await
            .unwrap()
            .0,
        202
    );
    let batch = json!([
        event("batch-1", "order.paid"),
        event("other", "invoice.sent"),
        event("batch-2", "order.sent")
    ])
    .to_string();
    assert_eq!(
        caller
            .call(
                http::Method::POST,
                &url,
                &[("content-type", "application/cloudevents-batch+json")],
                batch
            )
            .await
            .unwrap()
            .0,
        202
    );

    until("the four that match have arrived", async || {
        sink.received().len() == 4
    })
    .await;
    let bodies: Vec<Value> = sink
        .received()
        .iter()
        .map(|one| serde_json::from_slice(&one.body).unwrap())
        .collect();
    let mut ids: Vec<&str> = bodies
        .iter()
        .map(|body| body["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["batch-1", "batch-2", "binary", "structured"]);
    // A number that no 64 bits hold is carried digit by digit.
    assert!(
        sink.received()
            .iter()
            .any(|one| String::from_utf8_lossy(&one.body).contains("12345678901234567890123"))
    );
    let totals = bus.api("/api/v1/status").await;
    assert_eq!(totals["totals"]["events"], 5, "{totals}");
}

#[tokio::test]
async fn what_is_no_event_gets_its_own_status_and_a_problem_document() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink)).await;
    let caller = Caller::new();
    let url = bus.url("/events");
    let json_type = [("content-type", "application/cloudevents+json")];
    let deep = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"order.x","data":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, Headers<'_>, String, u16)] = &[
        ("malformed JSON", &json_type, "{".to_owned(), 400),
        (
            "no id",
            &json_type,
            r#"{"specversion":"1.0","source":"/s","type":"t"}"#.to_owned(),
            400,
        ),
        ("too deep", &json_type, deep, 400),
        (
            "oversized",
            &json_type,
            format!(r#"{{"data":"{}"}}"#, "x".repeat(1 << 20)),
            413,
        ),
        (
            "no event at all",
            &[("content-type", "text/plain")],
            "hello".to_owned(),
            415,
        ),
        (
            "an unknown encoding",
            &[("content-type", "application/cloudevents+xml")],
            "<event/>".to_owned(),
            415,
        ),
        (
            "binary without type",
            &[
                ("ce-specversion", "1.0"),
                ("ce-id", "1"),
                ("ce-source", "/s"),
            ],
            String::new(),
            400,
        ),
    ];
    for (what, headers, body, expected) in cases {
        // A connection may be closed after a refusal; the next call is not to meet that.
        let (status, headers, body) = Caller::new()
            .call(http::Method::POST, &url, headers, body.clone())
            .await
            .unwrap();
        assert_eq!(status, *expected, "{what}");
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "{what}"
        );
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], *expected, "{what}: {problem}");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.len() > 10),
            "{what}: {problem}"
        );
    }
    let (status, headers, _) = caller.call(http::Method::GET, &url, &[], "").await.unwrap();
    assert_eq!(status, 405);
    assert!(headers["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(
        caller
            .event(&bus.url("/nowhere"), "1", "t", "")
            .await
            .unwrap(),
        404
    );

    // Nothing of all that was stored, and the bus goes on.
    assert_eq!(
        caller
            .event(&url, "good", "order.paid", "{}")
            .await
            .unwrap(),
        202
    );
    until("the good one has arrived", async || {
        sink.received().len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_truncated_request_is_not_an_event() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink)).await;
    let address = bus
        .url("/")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = "POST /events HTTP/1.1\r\nhost: x\r\nce-specversion: 1.0\r\nce-id: cut\r\nce-source: /s\r\nce-type: order.x\r\ncontent-length: 100\r\n\r\n{\"half\":";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.contains(" 202 "), "{answer}");
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "good", "order.paid", "{}")
            .await
            .unwrap(),
        202
    );
    until("the good one has arrived", async || {
        sink.received().len() == 1
    })
    .await;
    assert_eq!(bus.api("/api/v1/status").await["totals"]["events"], 1);
}
