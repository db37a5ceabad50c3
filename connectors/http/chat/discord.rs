//! Discord: webhooks of a channel.

use std::time::Duration;

use pointsman_schemas::{Outcome, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::message::{Message, cut};

/// The longest text of a message.
const CONTENT_CHARS_MAX: usize = 2000;

/// Posts a message for each event to a channel of Discord, by a webhook.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscordTarget {
    /// The webhook's address, which is a secret.
    #[schemars(extend("pattern" = "^https?://", "writeOnly" = true))]
    url: Text,
    /// The message, in Discord's Markdown, which may hold templates. What the event is unless it is
    /// given.
    text: Option<Text>,
    /// The whole message in place of a text, as Discord documents it. Each text in it may hold
    /// templates.
    body: Option<Map<String, Value>>,
}

/// Nobody is called, whatever name stands in a message.
fn no_mentions() -> Value {
    json!({ "parse": [] })
}

impl Service for DiscordTarget {
    const NAME: &'static str = "Discord";

    /// Without it Discord answers before it has stored the message, and never tells that it could
    /// not.
    const QUERY: Option<(&'static str, &'static str)> = Some(("wait", "true"));

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
        let content = match message.text("text")? {
            Some(text) => cut(text, CONTENT_CHARS_MAX),
            None => cut(&message.described("**", str::to_owned), CONTENT_CHARS_MAX),
        };
        Ok(json!({ "content": content, "allowed_mentions": no_mentions() }))
    }

    fn complete(&self, body: &mut Map<String, Value>, _: &Message<'_>) -> Result<(), String> {
        body.entry("allowed_mentions").or_insert_with(no_mentions);
        Ok(())
    }

    /// How long to wait is told in the body too, and at times there alone.
    fn judge(mut outcome: Outcome) -> Outcome {
        #[derive(Deserialize)]
        struct Limited {
            /// In seconds.
            retry_after: f64,
        }
        if outcome.code == Some(429) && outcome.retry_after.is_none() {
            let limited = serde_json::from_slice::<Limited>(&outcome.response).ok();
            outcome.retry_after =
                limited.and_then(|told| Duration::try_from_secs_f64(told.retry_after).ok());
        }
        outcome
    }
}
