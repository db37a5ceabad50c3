//! Slack's events: the Events API's envelope, slash commands and interactions.

use serde_json::Value;

use super::{Attributes, first_text, form_field, text};

/// `com.slack.<type of the inner event>`, by `event_id`, from the team, about the channel. What a person did in a dialog or typed as a
/// command has no id of its own and comes as a form.
pub(super) fn attributes(body: Option<&Value>, form: Option<&str>) -> Attributes {
    let payload: Option<Value> = form.and_then(|form| form_field(form, "payload")).and_then(|json| serde_json::from_str(&json).ok());
    let command = form.is_some_and(|form| form_field(form, "command").is_some());
    let body = payload.as_ref().or(body).unwrap_or(&Value::Null);
    let kind = if command { Some("slash_command".to_owned()) } else { first_text(body, &["event.type", "type"]) };
    let team = first_text(body, &["team_id", "team.id"]).or_else(|| form.and_then(|form| form_field(form, "team_id")));
    let channel = first_text(body, &["event.channel", "event.channel.id", "event.item.channel", "channel.id"]);
    Attributes {
        ty: format!("com.slack.{}", kind.as_deref().unwrap_or("unknown")),
        source: team.map_or_else(|| "https://slack.com".to_owned(), |team| format!("https://slack.com/teams/{team}")),
        id: text(body, "event_id"),
        subject: channel.or_else(|| form.and_then(|form| form_field(form, "channel_id"))),
        time: text(body, "event_time"),
    }
}

/// What Slack wants to hear back when an address is registered: its `url_verification` challenge.
pub(in crate::webhook) fn challenge(body: &[u8]) -> Option<String> {
    // Only then is it worth reading the body an additional time.
    memchr::memmem::find(body, b"url_verification")?;
    let body: Value = serde_json::from_slice(body).ok()?;
    (body.get("type")? == "url_verification").then(|| text(&body, "challenge"))?
}
