//! Several deliveries in one call.

use pointsman_schemas::Data;

use super::*;

/// An attempt at a batch of the events of these ids, each with a task of its own.
fn batch(ids: &[&str]) -> Attempt {
    let mut batch = attempt(ids, 0);
    for (index, delivery) in batch.deliveries.iter_mut().enumerate() {
        delivery.id.sequence.0 = 1 + index as u64;
        delivery.attempt = 1 + index as u32;
    }
    Attempt {
        is_batch: true,
        ..batch
    }
}

fn tasks(attempt: &Attempt) -> Vec<String> {
    let ids = attempt.deliveries.iter().map(|one| one.id.to_string());
    ids.collect()
}

async fn outcomes(settings: Value, attempt: Attempt) -> Vec<Outcome> {
    let service = target(settings).open(context()).await.unwrap();
    service.oneshot(attempt).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_one_call_in_which_each_event_names_its_task() {
    let function = Function::answering(|| response(204, &[], "")).await;
    for mode in ["binary", "structured"] {
        let attempt = batch(&["a", "b", "c"]);
        let settings = json!({ "url": function.url(), "mode": mode });
        let told = outcomes(settings, attempt.clone()).await;
        assert_eq!(
            told,
            [Outcome {
                code: Some(204),
                ..Outcome::delivered()
            }]
        );
        let call = function.call();
        let header = |name: &str| {
            call.headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        assert_eq!(
            [
                "content-type",
                "pointsman-batch",
                "pointsman-attempt",
                "pointsman-rule"
            ]
            .map(header),
            [
                Some("application/cloudevents-batch+json"),
                Some("3"),
                Some("3"),
                Some("rule")
            ]
        );
        assert_eq!(
            [
                "pointsman-task",
                "idempotency-key",
                "pointsman-tasks",
                "ce-id"
            ]
            .map(header),
            [None; 4],
            "these speak of one task, or are too long"
        );
        let events = decode(call.headers(), call.body().clone(), 9)
            .unwrap()
            .events;
        for ((event, task), number) in events.iter().zip(tasks(&attempt)).zip(1..) {
            let value = |name| event.attribute(name).unwrap();
            assert_eq!(
                (value("pointsmantask"), value("pointsmanattempt")),
                (
                    pointsman_schemas::AttributeValue::String(&task),
                    pointsman_schemas::AttributeValue::Integer(number)
                )
            );
        }
        assert_eq!(
            events.iter().map(Event::id).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
    }
    assert_eq!(function.calls.lock().len(), 2);
}

#[tokio::test]
async fn with_mode_data_a_batch_is_an_array_and_a_header_names_the_tasks() {
    let function = Function::answering(|| response(200, &[], "ok")).await;
    let mut attempt = batch(&["json", "text", "bytes", "none", "marked"]);
    let data = [
        Some(Data::json(Bytes::from_static(br#"{"n":12345678901234567890123}"#)).unwrap()),
        Some(Data::text("a \"b\"".into())),
        Some(Data::binary(Bytes::from_static(&[0xff, 0]))),
        None,
        Some(Data::json(Bytes::from_static(b"\xEF\xBB\xBF[1]")).unwrap()),
    ];
    for (delivery, data) in attempt.deliveries.iter_mut().zip(data) {
        let mut builder = Event::builder("e", "/s", "t");
        // Of a batch that another bus has sent on.
        builder = builder.attribute(
            "pointsmantask",
            pointsman_schemas::ExtensionValue::Boolean(true),
        );
        if let Some(data) = data {
            builder = builder.data(data);
        }
        delivery.event = Arc::new(builder.build().unwrap());
    }
    let settings = json!({ "url": function.url(), "mode": "data", "headers": { "X-A": "b" } });
    let told = outcomes(settings, attempt.clone()).await;
    assert_eq!((told.len(), told[0].class), (1, Class::Delivered));
    let call = function.call();
    assert_eq!(
        call.body().as_ref(),
        br#"[{"n":12345678901234567890123},"a \"b\"","/wA=",null,[1]]"#
    );
    assert_eq!(call.headers()["content-type"], "application/json");
    assert_eq!(call.headers()["pointsman-tasks"], tasks(&attempt).join(","));
    assert_eq!(call.headers()["x-a"], "b");
    outcomes(json!({ "url": function.url() }), attempt.clone()).await;
    let call = function.call();
    let events = decode(call.headers(), call.body().clone(), 9)
        .unwrap()
        .events;
    assert_eq!(
        events[0].attribute("pointsmantask"),
        Some(pointsman_schemas::AttributeValue::String(
            &tasks(&attempt)[0]
        )),
        "its own task, and once"
    );
}

#[tokio::test]
async fn what_a_function_names_has_failed_and_what_it_names_wrongly_fails_the_batch() {
    let attempt = batch(&["a", "b", "c"]);
    let ids = tasks(&attempt);
    let [a, c] = [&ids[0], &ids[2]];
    let names = |items: Value| json!({ "batchItemFailures": items }).to_string();
    let item = |id: &str| json!({ "itemIdentifier": id });
    let long = "x".repeat(2_000);
    // The answer's body, and who has failed; none where the whole batch has.
    let table: Vec<(String, Option<&[usize]>)> = vec![
        (String::new(), Some(&[])),
        ("ok".into(), Some(&[])),
        ("<html>{".into(), Some(&[])),
        ("null".into(), Some(&[])),
        ("[]".into(), Some(&[])),
        ("{}".into(), Some(&[])),
        (r#"{"a":{"batchItemFailures":[{}]}}"#.into(), Some(&[])),
        (names(json!([])), Some(&[])),
        (names(json!(null)), Some(&[])),
        (names(json!([item(a)])), Some(&[0])),
        (names(json!([item(c), item(a), item(c)])), Some(&[0, 2])),
        (
            names(json!([{ "itemIdentifier": c, "why": [1] }])),
            Some(&[2]),
        ),
        (format!(" \n{}", names(json!([item(a)]))), Some(&[0])),
        (format!("\u{feff}{}", names(json!([item(a)]))), Some(&[0])),
        (
            names(json!(ids.iter().map(|id| item(id)).collect::<Vec<_>>())),
            Some(&[0, 1, 2]),
        ),
        (names(json!([item("nobody")])), None),
        (names(json!([item(a), item(&format!("0{a}"))])), None),
        (names(json!([item("")])), None),
        (names(json!([item(&long)])), None),
        (names(json!([{ "itemIdentifier": null }])), None),
        (names(json!([{ "itemIdentifier": 1 }])), None),
        (names(json!([{ "id": a }])), None),
        (names(json!([a])), None),
        (names(json!([null])), None),
        (names(json!({ "0": item(a) })), None),
        (names(json!("all")), None),
        (names(json!(true)), None),
        (
            r#"{"batchItemFailures":[],"batchItemFailures":[]}"#.into(),
            None,
        ),
        (r#"{"batchItemFailures":["#.into(), None),
        (r#"{"ok":true} and more"#.into(), None),
    ];
    for (body, expect) in table {
        let answer = body.clone();
        let function = Function::answering(move || {
            response(200, &[("content-type", "application/json")], answer.clone())
        })
        .await;
        let told = outcomes(json!({ "url": function.url() }), attempt.clone()).await;
        match expect {
            Some([]) => {
                assert_eq!((told.len(), told[0].class), (1, Class::Delivered), "{body}");
            }
            Some(failed) => {
                let classes: Vec<_> = told.iter().map(|outcome| outcome.class).collect();
                let expect = (0..3).map(|index| match failed.contains(&index) {
                    true => Class::Failed,
                    false => Class::Delivered,
                });
                assert_eq!(classes, expect.collect::<Vec<_>>(), "{body}");
                assert!(
                    told[failed[0]].message.contains("batchItemFailures"),
                    "{told:?}"
                );
            }
            None => {
                assert_eq!((told.len(), told[0].class), (1, Class::Failed), "{body}");
                let message = &told[0].message;
                assert!(
                    message.contains("batch") && message.len() < 300,
                    "{message}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_status_that_is_no_success_holds_for_the_whole_batch() {
    for (status, class) in [
        (400, Class::Rejected),
        (500, Class::Failed),
        (429, Class::Throttled),
    ] {
        let attempt = batch(&["a", "b"]);
        let named = json!({ "batchItemFailures": [{ "itemIdentifier": tasks(&attempt)[0] }] });
        let function = Function::answering(move || response(status, &[], named.to_string())).await;
        let told = outcomes(json!({ "url": function.url() }), attempt).await;
        assert_eq!((told.len(), told[0].class), (1, class));
    }
}

#[tokio::test]
async fn an_answer_names_a_thousand_tasks_and_one_that_breaks_off_fails_the_batch() {
    let ids: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let attempt = batch(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let items: Vec<Value> = tasks(&attempt)
        .iter()
        .map(|task| json!({ "itemIdentifier": task, "why": "w".repeat(60) }))
        .collect();
    let named = json!({ "batchItemFailures": items }).to_string();
    assert!(named.len() > 64 * 1024);
    let length = named.len();
    let answer = named.clone();
    let function = Function::answering(move || response(200, &[], answer.clone())).await;
    let told = outcomes(json!({ "url": function.url() }), attempt.clone()).await;
    assert_eq!(told.len(), 1_000);
    assert!(told.iter().all(|outcome| outcome.class == Class::Failed));
    let kept: usize = told
        .iter()
        .map(|outcome| outcome.response.len())
        .max()
        .unwrap();
    assert_eq!(kept, 4 * 1024, "of each");
    for (body, class) in [
        (&named[..length / 2], Class::Failed),
        ("", Class::Failed),
        ("<html>", Class::Delivered),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let (url, _server) = raw(Some(head.into_bytes())).await;
        let told = outcomes(json!({ "url": url }), batch(&["a", "b"])).await;
        assert_eq!((told.len(), told[0].class), (1, class), "{body:.20}");
    }
}

#[tokio::test]
async fn an_event_in_the_answer_to_a_batch_goes_back_onto_the_bus() {
    let function = Function::answering(|| {
        let event =
            r#"{"specversion":"1.0","id":"1","source":"/f","type":"t","batchItemFailures":1}"#;
        response(
            200,
            &[("content-type", "application/cloudevents+json")],
            event,
        )
    })
    .await;
    let told = outcomes(json!({ "url": function.url() }), batch(&["a", "b"])).await;
    assert_eq!((told.len(), told[0].class), (1, Class::Delivered));
    assert_eq!(
        told[0]
            .replies
            .as_ref()
            .map(|replies| replies.unreadable.len()),
        Some(1)
    );
}

#[tokio::test]
async fn a_signed_batch_is_a_message_of_its_own_and_the_same_one_when_it_is_the_same() {
    let function = Function::answering(|| response(204, &[], "")).await;
    let secret = format!(
        "whsec_{}",
        base64::engine::general_purpose::STANDARD.encode([7; 32])
    );
    let id = async |attempt: Attempt| {
        let auth = json!({ "signature": { "secret": secret } });
        outcomes(json!({ "url": function.url(), "auth": auth }), attempt).await;
        function.call().headers()["webhook-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let both = batch(&["a", "b"]);
    let first = id(both.clone()).await;
    assert_eq!(first, id(both.clone()).await);
    let mut again = both.clone();
    again.deliveries[1].attempt += 1;
    assert_ne!(first, id(again).await, "tried anew");
    assert_ne!(first, id(batch(&["a"])).await, "less of it");
}

#[test]
fn what_an_event_decides_is_no_part_of_a_batch() {
    for (settings, expect) in [
        (json!({ "url": "http://h/" }), None),
        (json!({ "url": "http://h/<$.id>" }), Some("url")),
        (
            json!({ "url": "http://h/", "headers": { "A": "<$.id>" } }),
            Some("headers.A"),
        ),
        (
            json!({ "url": "http://h/", "method": "GET" }),
            Some("method"),
        ),
    ] {
        let refused = target(settings).refuses_batches();
        let place =
            refused.map(|problem| problem.to_string().split(':').next().unwrap().to_owned());
        assert_eq!(place.as_deref(), expect);
    }
}
