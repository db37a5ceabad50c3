//! What each service takes, by what it documents.

use serde_json::{Value, json};

use super::{DISCORD, KINDS, PAGERDUTY, SLACK, TEAMS};
use crate::suite::{Asked, Reply};

/// What a service answers.
pub(super) fn answered(asked: &Asked) -> Reply {
    let known = KINDS.iter().enumerate();
    let mut known =
        known.filter(|(_, kind)| asked.line.starts_with(&format!("POST {} ", kind.path)));
    let body = &asked.body;
    let bytes: usize = asked.headers["content-length"].parse().unwrap();
    if asked.headers["content-type"] != "application/json" || !body.is_object() {
        return (400, "invalid_payload").into();
    }
    match known.next() {
        Some((SLACK, _)) => slack(body),
        Some((TEAMS, _)) => teams(body, bytes),
        Some((DISCORD, _)) => discord(body),
        Some((PAGERDUTY, _)) => pagerduty(body, bytes),
        _ if asked.line.contains("/api/webhooks/1/") => {
            let told = r#"{ "message": "Invalid Webhook Token", "code": 50027 }"#;
            (401, told).into()
        }
        _ => (404, "no_service").into(),
    }
}

/// The text at a place of a body; empty where there is none.
pub(super) fn text<'b>(body: &'b Value, place: &str) -> &'b str {
    body.pointer(place).and_then(Value::as_str).unwrap_or("")
}

fn chars(body: &Value, place: &str) -> usize {
    text(body, place).chars().count()
}

fn slack(body: &Value) -> Reply {
    match chars(body, "/text") {
        0 if body.get("blocks").is_none() => (400, "no_text"),
        40_001.. => (400, "msg_too_long"),
        _ => (200, "ok"),
    }
    .into()
}

fn teams(body: &Value, bytes: usize) -> Reply {
    let of_type = |block: &Value| match text(block, "/type") {
        "TextBlock" => !text(block, "/text").is_empty(),
        "RichTextBlock" => !text(block, "/inlines/0/text").is_empty(),
        _ => false,
    };
    let card = &body["attachments"][0];
    let is_card = text(body, "/type") == "message"
        && text(card, "/contentType") == "application/vnd.microsoft.card.adaptive"
        && text(card, "/content/type") == "AdaptiveCard"
        && !text(card, "/content/version").is_empty()
        && card["content"]["body"]
            .as_array()
            .unwrap()
            .iter()
            .all(of_type);
    match is_card {
        _ if bytes > 28 << 10 => (413, "too large"),
        false => (400, "no card"),
        true => (202, ""),
    }
    .into()
}

fn discord(body: &Value) -> Reply {
    match chars(body, "/content") {
        0 => (
            400,
            r#"{ "code": 50006, "message": "Cannot send an empty message" }"#,
        ),
        2001.. => (400, r#"{ "code": 50035, "message": "Invalid Form Body" }"#),
        _ => (200, r#"{ "id": "1" }"#),
    }
    .into()
}

fn pagerduty(body: &Value, bytes: usize) -> Reply {
    let payload = &body["payload"];
    let is_payload = (1..=1024).contains(&chars(payload, "/summary"))
        && !text(payload, "/source").is_empty()
        && ["critical", "error", "warning", "info"].contains(&text(payload, "/severity"))
        && payload.get("custom_details").is_none_or(Value::is_object);
    let is_right = match text(body, "/event_action") {
        "trigger" => is_payload,
        "acknowledge" | "resolve" => !text(body, "/dedup_key").is_empty(),
        _ => false,
    };
    let errors = match text(body, "/routing_key").len() {
        _ if bytes > 512 << 10 => return (413, "too large").into(),
        32 if is_right && chars(body, "/dedup_key") <= 255 => return (202, "{}").into(),
        32 => "Invalid payload",
        _ => "Length of 'routing_key' is incorrect (should be 32 characters)",
    };
    let told = json!({ "status": "invalid event", "errors": [errors] });
    (400, told.to_string()).into()
}
