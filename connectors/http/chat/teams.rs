//! Microsoft Teams: webhooks of workflows, which take Adaptive Cards.

use http::StatusCode;
use pointsman_schemas::{Class, Outcome, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::message::Message;
use crate::net::classify::classify;

/// What stands before a status where Teams tells it in an answer that says 200 itself.
const ERROR: &str = "Microsoft Teams endpoint returned HTTP error ";

/// Posts a message for each event to a channel or chat of Microsoft Teams, by a workflow's webhook.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamsTarget {
    /// The webhook's address, which is a secret.
    #[schemars(extend("pattern" = "^https?://", "writeOnly" = true))]
    url: Text,
    /// The title above the text, which may hold templates.
    title: Option<Text>,
    /// The message, in the Markdown of Adaptive Cards, which may hold templates. What the event is
    /// unless it is given.
    text: Option<Text>,
    /// The whole message in place of a text, as Teams documents it, with the card in its
    /// attachments. Each text in it may hold templates.
    body: Option<Map<String, Value>>,
}

/// A text in which nothing is Markdown.
fn plain(text: &str, looks: Value) -> Value {
    let mut run = json!({ "type": "TextRun", "text": text });
    if let (Value::Object(run), Value::Object(looks)) = (&mut run, looks) {
        run.extend(looks);
    }
    json!({ "type": "RichTextBlock", "inlines": [run] })
}

fn title(text: &str) -> Value {
    plain(text, json!({ "size": "medium", "weight": "bolder" }))
}

/// The blocks that say what an event is.
fn described(message: &Message<'_>) -> Vec<Value> {
    let facts = message
        .facts()
        .map(|(name, fact)| plain(&format!("{name}: {fact}"), json!({})));
    let data = message.data();
    let data = data.map(|data| plain(&data, json!({ "fontType": "monospace" })));
    facts.chain(data).collect()
}

fn card(blocks: &[Value]) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": blocks,
            },
        }],
    })
}

/// The card of a title and as much of a text as fits.
fn fitting(title: Option<Value>, text: &str) -> Value {
    let with = |text: &str| {
        let text = json!({ "type": "TextBlock", "text": text, "wrap": true });
        card(&title.iter().cloned().chain([text]).collect::<Vec<_>>())
    };
    let whole = with(text);
    let excess = whole
        .to_string()
        .len()
        .saturating_sub(TeamsTarget::BYTES_MAX);
    if excess == 0 {
        return whole;
    }
    // A byte of the text is at least one of the message.
    let bytes_max = text.len().saturating_sub(excess + '…'.len_utf8());
    let within = |(at, char): &(usize, char)| at + char.len_utf8() <= bytes_max;
    let kept = text.char_indices().take_while(within);
    with(&kept.map(|(_, char)| char).chain(['…']).collect::<String>())
}

impl Service for TeamsTarget {
    const NAME: &'static str = "Microsoft Teams";
    const BYTES_MAX: usize = 28 << 10;

    fn url(&self) -> Text {
        self.url.clone()
    }

    fn texts(&self) -> Vec<(&'static str, &Text)> {
        let texts = [("title", &self.title), ("text", &self.text)];
        let given = texts.into_iter();
        given
            .filter_map(|(name, text)| Some((name, text.as_ref()?)))
            .collect()
    }

    fn body(&self) -> Option<&Map<String, Value>> {
        self.body.as_ref()
    }

    fn write(&self, message: &Message<'_>) -> Result<Value, String> {
        let given = message.text("title")?.map(title);
        if let Some(text) = message.text("text")? {
            return Ok(fitting(given, text));
        }
        let mut blocks = vec![given.unwrap_or_else(|| title(message.event.ty()))];
        blocks.extend(described(message));
        Ok(card(&blocks))
    }

    /// Connectors of Microsoft 365, which workflows have taken the place of, answer 200 where Teams
    /// itself has not taken the message.
    fn judge(mut outcome: Outcome) -> Outcome {
        let told = String::from_utf8_lossy(&outcome.response);
        let status = told.split_once(ERROR).and_then(|(_, told)| told.get(..3));
        let status = status.and_then(|status| status.parse::<StatusCode>().ok());
        if let (Class::Delivered, Some(status)) = (outcome.class, status) {
            outcome.class = classify(status, None);
            outcome.message = format!("answered 200, and that Teams has answered {status}");
        }
        outcome
    }
}
