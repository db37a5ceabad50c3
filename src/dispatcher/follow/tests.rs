use std::time::Duration;

use pointsman_journal::{DeadReason, LeaseOwner, LeaseToken};
use pointsman_schemas::{Class, Data, SubscriptionNumber};

use super::*;
use crate::dispatcher::testing::{event, id, no_replies, policy, route};

fn leased(event: Event) -> Leased {
    let (tenant, origin) = (Name::default_tenant(), Name::ingress());
    let since = Timestamp(0);
    Leased {
        token: LeaseToken::new(LeaseOwner::Disk, 1),
        id: id(),
        event: Arc::new(event),
        tenant,
        replay: None,
        origin,
        attempts: 2,
        failures: 2,
        since,
        begins_call: true,
        fence: None,
    }
}

fn followed(leased: &Leased, ending: &Ending, outcome: Option<&mut Outcome>) -> Vec<FollowUp> {
    let follow = Some(FollowUpRoute {
        subscription: SubscriptionNumber(7),
        send: FollowUpPayload::Report,
    });
    let route = Route {
        on_success: follow,
        on_failure: follow,
        ..route("thumbnails", 0, policy())
    };
    follow_ups(
        &route,
        leased,
        ending,
        outcome,
        &mut no_replies(),
        Timestamp(0).plus(Duration::from_secs(1)),
    )
}

fn appended(mut follow_ups: Vec<FollowUp>) -> (Name, Entry) {
    match (follow_ups.pop(), follow_ups.pop()) {
        (Some(FollowUp::Append { origin, entry }), None) => (origin, entry),
        other => panic!("{other:?}"),
    }
}

fn json_event(data: &str, hops: i32) -> Event {
    let data = Data::json(Bytes::copy_from_slice(data.as_bytes())).unwrap();
    Event::builder("e1", "/s", "t")
        .data(data)
        .attribute(HOPS, hops.into())
        .build()
        .unwrap()
}

#[test]
fn a_report_tells_of_the_request_and_the_response() {
    let mut outcome = Outcome {
        code: Some(400),
        response: Bytes::from_static(br#"{"why":"blurred"}"#),
        response_type: Some("application/json".to_owned()),
        ..Outcome::new(Class::Rejected, "answered 400")
    };
    let ending = Ending::Dead {
        reason: DeadReason::Rejected,
        last: None,
    };
    let (origin, entry) = appended(followed(
        &leased(json_event(r#"{"n":12345678901234567890123}"#, 3)),
        &ending,
        Some(&mut outcome),
    ));
    assert_eq!(
        (origin, entry.deliveries.to_vec()),
        (
            Name::ingress(),
            vec![NewDelivery::now(SubscriptionNumber(7))]
        )
    );
    let mut text = Vec::new();
    pointsman_schemas::json::encode(&entry.event, &mut text);
    let lines = String::from_utf8(text)
        .unwrap()
        .replace("\",\"", "\",\n\"")
        .replace("},\"", "},\n\"");
    insta::assert_snapshot!(lines, @r#"
    {"specversion":"1.0",
    "id":"0000000000000001-2-3-0",
    "source":"/rules/thumbnails",
    "type":"com.pointsman.delivery.failed",
    "subject":"e1",
    "time":"1970-01-01T00:00:01Z",
    "datacontenttype":"application/json",
    "pointsmanhops":3,"data":{"requestContext":{"task":"0000000000000001-2-3-0",
    "rule":"thumbnails",
    "target":"t",
    "condition":"rejected",
    "attempts":3,"event":{"specversion":"1.0",
    "id":"e1",
    "source":"/s",
    "type":"t",
    "pointsmanhops":3}},
    "requestPayload":{"n":12345678901234567890123},
    "responseContext":{"class":"rejected",
    "code":400,"message":"answered 400"},
    "responsePayload":{"why":"blurred"}}}
    "#);
}

#[test]
fn a_report_on_what_was_never_tried_has_no_response() {
    let ending = Ending::Dead {
        reason: DeadReason::Expired,
        last: None,
    };
    let binary = Event::builder("e1", "/s", "t")
        .data(Data::binary(Bytes::from_static(b"\xff")))
        .build()
        .unwrap();
    let (_, entry) = appended(followed(&leased(binary), &ending, None));
    let data = entry.event.data().unwrap().value().unwrap();
    assert_eq!(data["requestContext"]["condition"], "expired");
    assert_eq!(
        (
            &data["requestPayload"]["data_base64"],
            data["responseContext"].is_null()
        ),
        (&"/w==".into(), true)
    );
}

#[test]
fn data_that_would_be_too_deep_in_a_report_is_left_out() {
    let depth = pointsman_schemas::event::JSON_DEPTH_MAX;
    let deep = [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let (_, entry) = appended(followed(
        &leased(json_event(&String::from_utf8(deep).unwrap(), 0)),
        &Ending::Delivered,
        None,
    ));
    let data = entry.event.data().unwrap().value().unwrap();
    assert!(data["requestContext"]["task"].is_string() && data.get("requestPayload").is_none());
}

#[test]
fn a_retry_and_a_release_are_no_end() {
    assert!(followed(&leased(json_event("1", 0)), &Ending::Released, None).is_empty());
}

#[test]
fn hops_are_read_in_either_type() {
    for (value, expect) in [
        (ExtensionValue::Integer(3), 3),
        ("4".into(), 4),
        ("-1".into(), 0),
        (true.into(), 0),
        ((-1).into(), 0),
    ] {
        assert_eq!(
            hops(
                &Event::builder("1", "/s", "t")
                    .attribute(HOPS, value.clone())
                    .build()
                    .unwrap()
            ),
            expect,
            "{value:?}"
        );
    }
    assert_eq!(hops(&event("e")), 0);
}

#[test]
fn an_answer_that_asks_for_a_delivery_at_no_time_is_kept() {
    let reply = Event::builder("r1", "/f", "t").attribute("deliverat", "soon".into());
    let mut outcome = Outcome {
        replies: Some(Box::new(Replies {
            events: vec![reply.build().unwrap()],
            unreadable: Vec::new(),
        })),
        ..Outcome::new(Class::Delivered, "answered 200")
    };
    let leased = leased(json_event("1", 0));
    let mut follow_ups = followed(&leased, &Ending::Delivered, Some(&mut outcome));
    let Some(FollowUp::Reject { reject, .. }) = follow_ups.pop() else {
        panic!("{follow_ups:?}")
    };
    assert!(
        reject.reason.contains("`deliverat` is \"soon\""),
        "{}",
        reject.reason
    );
    assert!(reject.raw.starts_with(b"{\"specversion\""));
}
