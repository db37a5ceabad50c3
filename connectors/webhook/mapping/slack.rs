//! Slack's events: the Events API's envelope, slash commands and interactions.

use serde_json::Value;

use super::place::{first_text, text};
use crate::webhook::attributes::Attributes;

/// `com.slack.<type of the inner event>`, by `event_id`, from the team, about the channel. What a
/// person did in a dialog or typed as a command has no id of its own and comes as a form, which has
/// become an object.
pub(super) fn attributes(body: &Value) -> Attributes {
    let kind = first_text(body, &["event.type", "type"]);
    // A command is the one form of Slack's that names no type.
    let kind = kind.or_else(|| text(body, "command").map(|_| "slash_command".to_owned()));
    Attributes {
        ty: format!("com.slack.{}", kind.as_deref().unwrap_or("unknown")),
        source: first_text(body, &["team_id", "team.id"]).map_or_else(
            || "https://slack.com".to_owned(),
            |team| format!("https://slack.com/teams/{team}"),
        ),
        id: text(body, "event_id"),
        subject: first_text(
            body,
            &[
                "event.channel",
                "event.channel.id",
                "event.item.channel",
                "channel.id",
                "channel_id",
            ],
        ),
        time: text(body, "event_time"),
    }
}
