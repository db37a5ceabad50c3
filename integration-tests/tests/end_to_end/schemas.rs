//! Events whose data is not as the schema of their type says.

use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Bus, Caller, Sink, until};
use serde_json::{Value, json};
use tokio::process::Command;

const STRICT: &str = r#"{ "type": "object", "required": ["total"], "properties": { "total": { "type": "number" } } }"#;
const LOOSE: &str = r#"{ "properties": { "total": { "type": ["number", "string"] } } }"#;

fn rules(sink: &Sink) -> String {
    let inline = "{ properties: { total: { type: number } } }";
    format!(
        "schemas:\n  order.paid: {{ file: schemas/order.json }}\n  order.seen: {{ schema: {inline}, on_mismatch: mark }}\n  \
         order.sent: {{ schema: {inline}, on_mismatch: dead_letter }}\n  \
         com.pointsman.directory.object.created: {{ schema: {{ properties: {{ size: {{ maximum: 3 }} }} }} }}\n\
         sources: {{ inbox: {{ directory: {{ path: ./uploads, settle: 20ms }} }} }}\n\
         targets: {{ sink: {{ http: {{ url: \"{}\" }} }}, odd: {{ http: {{ url: \"{}\" }} }} }}\n\
         rules:\n  all: {{ to: sink }}\n  odd: {{ match: {{ schemaerror: [{{ exists: true }}] }}, to: odd }}\n",
        sink.url(),
        sink.url()
    )
}

/// Sends an event and returns the status, and what the answer says.
async fn send(bus: &Bus, id: &str, ty: &str, data: &str) -> (u16, Value) {
    let kind = match data {
        "" => None,
        "plain" => Some(("content-type", "text/plain")),
        _ => Some(("content-type", "application/json")),
    };
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/s"),
        ("ce-type", ty),
    ];
    let headers: Vec<_> = attributes.into_iter().chain(kind).collect();
    let sent = Caller::new()
        .call(
            http::Method::POST,
            &bus.url("/events"),
            &headers,
            data.to_owned(),
        )
        .await;
    let (status, _, body) = sent.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn run(bus: &Bus, arguments: &[&str]) {
    let admin = bus.admin_url("");
    let output = Command::new(binary())
        .args(arguments)
        .args(["--admin", &admin])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn what_does_not_fit_its_schema_is_refused_marked_or_a_dead_letter() {
    let sink = Sink::start().await;
    let mut bus = Bus::prepare(&rules(&sink));
    for folder in ["uploads", "schemas"] {
        std::fs::create_dir(bus.path(folder)).unwrap();
    }
    std::fs::write(bus.path("schemas/order.json"), STRICT).unwrap();
    bus.spawn();
    bus.ready().await;

    assert_eq!(
        send(&bus, "fits", "order.paid", r#"{"total":1}"#).await.0,
        202
    );
    for (data, told) in [
        (
            r#"{"total":"x"}"#,
            r#"/data/total: "x" is not of type "number""#,
        ),
        ("{}", r#"/data: "total" is a required property"#),
        ("plain", "not JSON"),
        ("", "no data"),
    ] {
        let (status, problem) = send(&bus, "refused", "order.paid", data).await;
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!((status, detail.contains(told)), (422, true), "{problem}");
        assert!(detail.contains("order.paid"), "{problem}");
    }
    let event = |id: &str, total: Value| json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "order.paid", "data": { "total": total } });
    let batch = json!([event("batch-0", 1.into()), event("batch-1", "x".into())]).to_string();
    let kind = [("content-type", "application/cloudevents-batch+json")];
    let sent = Caller::new()
        .call(http::Method::POST, &bus.url("/events"), &kind, batch)
        .await;
    let (status, _, body) = sent.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &problem["event"]), (422, &json!(1)), "{problem}");

    assert_eq!(
        send(&bus, "marked", "order.seen", r#"{"total":"x"}"#)
            .await
            .0,
        202
    );
    assert_eq!(
        send(&bus, "unmarked", "order.seen", r#"{"total":1}"#)
            .await
            .0,
        202
    );
    assert_eq!(
        send(&bus, "dead", "order.sent", r#"{"total":"x"}"#).await.0,
        202
    );
    // Nobody waits for what a folder brings.
    std::fs::write(bus.path("uploads/large.txt"), b"large").unwrap();
    until("both are dead letters", async || {
        bus.dead().await.len() == 2
    })
    .await;
    let dead = bus.dead().await;
    let of = |origin: &str| dead.iter().find(|one| one["origin"] == origin).unwrap();
    let message = |letter: &Value| letter["message"].as_str().unwrap().to_owned();
    assert!(message(of("ingress")).contains("/data/total"), "{dead:?}");
    assert!(message(of("inbox")).contains("/data/size: 5"), "{dead:?}");

    // One that is mended goes on.
    let mended = json!({ "specversion": "1.0", "id": "mended", "source": "/s", "type": "order.sent", "data": { "total": 2 } });
    std::fs::write(bus.path("mended.json"), mended.to_string()).unwrap();
    let (id, file) = (
        of("ingress")["id"].as_str().unwrap(),
        bus.path("mended.json"),
    );
    run(
        &bus,
        &["dead", "edit", id, "--file", file.to_str().unwrap()],
    )
    .await;
    run(&bus, &["dead", "redrive", id, "--to", "all"]).await;
    until("it has arrived", async || sink.ids().contains_key("mended")).await;

    // The schema's file is read again when it changes.
    std::fs::write(bus.path("schemas/order.json"), LOOSE).unwrap();
    until("the changed schema is in force", async || {
        send(&bus, "late", "order.paid", r#"{"total":"x"}"#).await.0 == 202
    })
    .await;
    until("all has arrived", async || sink.ids().contains_key("late")).await;
    let ids = sink.ids();
    let arrived = ["fits", "marked", "unmarked", "mended", "late"];
    assert_eq!(arrived.map(|id| ids.contains_key(id)), [true; 5], "{ids:?}");
    let others = ["refused", "batch-0", "batch-1", "dead"];
    assert_eq!(others.map(|id| ids.contains_key(id)), [false; 4], "{ids:?}");
    let received = sink.received();
    let odd = received
        .iter()
        .filter(|one| !one.header("ce-schemaerror").is_empty());
    let odd: Vec<_> = odd.map(|one| one.header("ce-id")).collect();
    assert_eq!(
        odd,
        ["marked", "marked"],
        "to all, and to the rule that looks for it"
    );

    let (_, metrics) = Caller::new().get(&bus.admin_url("/metrics")).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let counted = r#"pointsman_schema_mismatches_total{tenant="default",type="order.seen",outcome="marked"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}
