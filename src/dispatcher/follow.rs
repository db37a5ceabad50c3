//! What follows from a delivery's end: reports, originals, and the events that targets answer with.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use pointsman_schemas::event::is_json_media_type;
use pointsman_schemas::{
    AttributeValue, Class, Data, DataKind, Event, ExtensionValue, InvalidEvent, Name, Outcome,
    Reject, Replies, Timestamp,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::plan::{Follow, FollowWith, Route};
use crate::router::Matcher;
use pointsman_journal::{DeadReason, Ending, Entry, FollowUp, Leased, NewDelivery};

/// The extension attribute that counts how often an event has come back from a target.
pub const HOPS: &str = "pointsmanhops";

/// How often it may: an event that has come back more often is a dead letter, and no target is
/// called with it.
pub const HOPS_MAX: u32 = 8;

/// The type of the report on a delivery that succeeded.
pub const SUCCEEDED: &str = "com.pointsman.delivery.succeeded";

/// The type of the report on a delivery that became a dead letter.
pub const FAILED: &str = "com.pointsman.delivery.failed";

/// How often an event has come back from a target; what cannot be read counts as never.
#[must_use]
pub fn hops(event: &Event) -> u32 {
    match event.attribute(HOPS) {
        Some(AttributeValue::Integer(hops)) => u32::try_from(hops).unwrap_or(0),
        Some(AttributeValue::String(hops)) => hops.parse().unwrap_or(0),
        _ => 0,
    }
}

/// What follows from a delivery that leaves the dispatcher like this; `outcome` is none where the
/// target was not called.
pub(super) fn follow_ups(
    route: &Route,
    leased: &Leased,
    ending: &Ending,
    outcome: Option<&mut Outcome>,
    replies: &mut Matcher,
    now: Timestamp,
) -> Vec<FollowUp> {
    let follow = match ending {
        Ending::Delivered => route.on_success,
        Ending::Dead { .. } => route.on_failure,
        Ending::Retry { .. } | Ending::Released => return Vec::new(),
    };
    let mut outcome = outcome;
    let replied = outcome
        .as_deref_mut()
        .and_then(|outcome| outcome.replies.take())
        .filter(|_| *ending == Ending::Delivered);
    let mut follow_ups = Vec::new();
    if let Some(Follow { subscription, send }) = follow {
        let delivery = NewDelivery::now(subscription);
        match send {
            FollowWith::Original => follow_ups.push(FollowUp::Original(delivery)),
            FollowWith::Report => {
                match report(Ended::of(route, leased, ending, outcome.as_deref()), now) {
                    Ok(event) => {
                        let entry = Entry {
                            event: Arc::new(event),
                            deliveries: [delivery].into_iter().collect(),
                            deduplicate: None,
                            dead: None,
                        };
                        follow_ups.push(FollowUp::Append {
                            origin: leased.origin.clone(),
                            entry,
                        });
                    }
                    Err(error) => {
                        tracing::error!(delivery = %leased.id, %error, "cannot report on a delivery")
                    }
                }
            }
        }
    }
    let Replies { events, unreadable } = replied.map(|replied| *replied).unwrap_or_default();
    let mut rejects: Vec<Reject> = unreadable
        .into_iter()
        .map(|one| Reject {
            raw: one.raw,
            reason: one.reason,
        })
        .collect();
    for reply in events {
        match one_hop_further(reply, &leased.event) {
            Ok(event) => {
                let (tenant, origin) = (&leased.tenant, &Name::replies());
                let entry = replies.entry(tenant, origin, Arc::new(event), None);
                follow_ups.push(FollowUp::Append {
                    origin: Name::replies(),
                    entry,
                });
            }
            Err(error) => rejects.push(Reject {
                raw: Bytes::new(),
                reason: error.to_string(),
            }),
        }
    }
    for mut reject in rejects {
        let identity = &route.identity;
        reject.reason = format!(
            "answer of {} to {} for {}: {}",
            identity.target, leased.id, identity.rule, reject.reason
        );
        route.observe.unreadable_reply(&reject.reason);
        follow_ups.push(FollowUp::Reject {
            origin: Name::replies(),
            reject,
        });
    }
    follow_ups
}

fn one_hop_further(reply: Event, to: &Event) -> Result<Event, InvalidEvent> {
    reply
        .into_builder()
        .attribute(HOPS, hops_value(hops(to).saturating_add(1)))
        .build()
}

fn hops_value(hops: u32) -> ExtensionValue {
    ExtensionValue::Integer(i32::try_from(hops).unwrap_or(i32::MAX))
}

/// The data of a report, in the shape of an AWS Lambda destination's record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'r> {
    request_context: RequestContext<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_payload: Option<Payload<'r>>,
    response_context: Option<ResponseContext<'r>>,
    response_payload: Option<Payload<'r>>,
}

#[derive(Serialize)]
struct RequestContext<'r> {
    task: String,
    rule: &'r Name,
    target: &'r Name,
    /// `delivered`, or why the delivery is dead.
    condition: &'static str,
    /// Tries made.
    attempts: u32,
    /// The event's attributes.
    event: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct ResponseContext<'r> {
    class: &'static str,
    code: Option<i32>,
    message: &'r str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'r> {
    Json(&'r RawValue),
    Text(Cow<'r, str>),
    Binary { data_base64: String },
}

/// What a report is about.
struct Ended<'e> {
    task: String,
    rule: &'e Name,
    target: &'e Name,
    event: &'e Event,
    /// Tries made.
    attempts: u32,
    /// None of a success.
    dead: Option<DeadReason>,
    /// None where the target was not called.
    outcome: Option<&'e Outcome>,
}

impl<'e> Ended<'e> {
    fn of(
        route: &'e Route,
        leased: &'e Leased,
        ending: &Ending,
        outcome: Option<&'e Outcome>,
    ) -> Self {
        let (rule, target) = (&route.identity.rule, &route.identity.target);
        let attempts = leased.attempts.saturating_add(u32::from(outcome.is_some()));
        let dead = if let Ending::Dead { reason, .. } = ending {
            Some(*reason)
        } else {
            None
        };
        Self {
            task: leased.id.to_string(),
            rule,
            target,
            event: &leased.event,
            attempts,
            dead,
            outcome,
        }
    }
}

/// The report that a rule's `on_success` or `on_failure` would be sent of an event, as far as that
/// is known before any target has answered: the target has taken it, or has failed at every
/// attempt, and its answer is empty.
///
/// # Errors
/// The event is so large or deep that no report can be made of it.
pub fn example_report(
    rule: &Name,
    target: &Name,
    event: &Event,
    succeeded: bool,
) -> Result<Event, InvalidEvent> {
    let (outcome, attempts, dead) = if succeeded {
        (
            Outcome {
                code: Some(200),
                ..Outcome::new(Class::Delivered, "")
            },
            1,
            None,
        )
    } else {
        (
            Outcome {
                code: Some(500),
                ..Outcome::new(Class::Failed, "answered 500")
            },
            4,
            Some(DeadReason::Exhausted),
        )
    };
    let ended = Ended {
        task: "example".to_owned(),
        rule,
        target,
        event,
        attempts,
        dead,
        outcome: Some(&outcome),
    };
    report(ended, Timestamp::now())
}

fn report(ended: Ended<'_>, now: Timestamp) -> Result<Event, InvalidEvent> {
    let Ended {
        task,
        rule,
        target,
        event: subject,
        attempts,
        dead,
        outcome,
    } = ended;
    let (ty, condition) = dead.map_or((SUCCEEDED, "delivered"), |reason| (FAILED, reason.as_str()));
    let attributes = subject.attributes().map(|(name, value)| {
        let value = match value {
            AttributeValue::String(text) => text.into(),
            AttributeValue::Integer(number) => number.into(),
            AttributeValue::Boolean(value) => value.into(),
        };
        (name.to_owned(), value)
    });
    let mut report = Report {
        request_context: RequestContext {
            task: task.clone(),
            rule,
            target,
            condition,
            attempts,
            event: attributes.collect(),
        },
        request_payload: subject.data().map(request_payload),
        response_context: outcome.map(|outcome| ResponseContext {
            class: outcome.class.as_str(),
            code: outcome.code,
            message: &outcome.message,
        }),
        response_payload: outcome.and_then(response_payload),
    };
    let data = json(&report).or_else(|_| {
        // Both lie one level deeper in the report than they came, which may be one too many.
        (report.request_payload, report.response_payload) = (None, None);
        json(&report)
    })?;
    let mut event = Event::builder(task, format!("/rules/{rule}"), ty)
        .subject(subject.id().clone())
        .time(now.to_string())
        .datacontenttype("application/json")
        .data(data);
    // A report can be answered with an event too: the count goes on, or rules that do so would
    // never end.
    if hops(subject) > 0 {
        event = event.attribute(HOPS, hops_value(hops(subject)));
    }
    event.build()
}

fn json(report: &Report<'_>) -> Result<Data, InvalidEvent> {
    let bytes =
        serde_json::to_vec(report).map_err(|error| InvalidEvent::Malformed(error.to_string()))?;
    Data::json(Bytes::from(bytes))
}

fn request_payload(data: &Data) -> Payload<'_> {
    match data.kind() {
        DataKind::Json => as_json(data.bytes())
            .unwrap_or_else(|| Payload::Text(String::from_utf8_lossy(data.bytes()))),
        DataKind::Text => Payload::Text(String::from_utf8_lossy(data.bytes())),
        DataKind::Binary => Payload::Binary {
            data_base64: base64::engine::general_purpose::STANDARD.encode(data.bytes()),
        },
    }
}

fn response_payload(outcome: &Outcome) -> Option<Payload<'_>> {
    let is_json = outcome
        .response_type
        .as_deref()
        .is_none_or(is_json_media_type);
    // What was cut off, undeclared text, or only said to be JSON, is shown as it is.
    let json = is_json.then(|| as_json(&outcome.response)).flatten();
    (!outcome.response.is_empty())
        .then(|| json.unwrap_or_else(|| Payload::Text(String::from_utf8_lossy(&outcome.response))))
}

fn as_json(bytes: &[u8]) -> Option<Payload<'_>> {
    serde_json::from_slice(bytes).ok().map(Payload::Json)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pointsman_schemas::SubscriptionNumber;

    use super::*;
    use crate::dispatcher::testing::{event, id, no_replies, policy, route};
    use pointsman_journal::{LeaseOwner, LeaseToken};

    fn leased(event: Event) -> Leased {
        let (tenant, origin) = (Name::default_tenant(), Name::ingress());
        let since = Timestamp(0);
        Leased {
            token: LeaseToken::new(LeaseOwner::Disk, 1),
            id: id(),
            event: Arc::new(event),
            tenant,
            origin,
            attempts: 2,
            failures: 2,
            since,
        }
    }

    fn followed(leased: &Leased, ending: &Ending, outcome: Option<&mut Outcome>) -> Vec<FollowUp> {
        let follow = Some(Follow {
            subscription: SubscriptionNumber(7),
            send: FollowWith::Report,
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
        let depth = pointsman_schemas::data::JSON_DEPTH_MAX;
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
}
