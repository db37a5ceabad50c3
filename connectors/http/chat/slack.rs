//! Slack: incoming webhooks.

use pointsman_schemas::{Placement, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::message::{Message, cut};

/// What Slack itself cuts a text to.
const TEXT_CHARS_MAX: usize = 40_000;

/// How long the longest escape is, but for its end: `&amp`.
const ESCAPE_BYTES_MAX: usize = 4;

/// Posts a message for each event to a channel of Slack, by an incoming webhook.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackTarget {
    /// The webhook's address, which is a secret.
    #[schemars(extend("pattern" = "^https?://", "writeOnly" = true))]
    url: Text,
    /// The message, in Slack's mrkdwn, which may hold templates: what they find is escaped. What the
    /// event is unless it is given.
    text: Option<Text>,
    /// The whole message in place of a text, as Slack documents it. Each text in it may hold
    /// templates.
    body: Option<Map<String, Value>>,
}

/// As Slack wants it: a text with < in it could call everybody in the channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A text that is not too long, and does not end within an escape.
fn fitting(text: &str) -> String {
    let text = cut(text, TEXT_CHARS_MAX);
    let Some(kept) = text.strip_suffix('…') else {
        return text;
    };
    match kept.rsplit_once('&') {
        Some((before, begun)) if begun.len() < ESCAPE_BYTES_MAX && !begun.contains(';') => {
            format!("{before}…")
        }
        _ => text,
    }
}

impl Service for SlackTarget {
    const NAME: &'static str = "Slack";
    const PLACEMENT: Placement = Placement::Mrkdwn;

    fn url(&self) -> Text {
        self.url.clone()
    }

    fn texts(&self) -> Vec<(&'static str, &Text)> {
        self.text.iter().map(|text| ("text", text)).collect()
    }

    fn body(&self) -> Option<&Map<String, Value>> {
        self.body.as_ref()
    }

    fn write(&self, message: &Message<'_>) -> Result<Value, String> {
        let text = match message.text("text")? {
            Some(text) => fitting(text),
            None => fitting(&message.described("*", escaped)),
        };
        Ok(json!({ "text": text }))
    }
}
