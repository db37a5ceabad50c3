//! PagerDuty: its Events API v2.

use pointsman_schemas::{Class, Outcome, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::message::{Message, cut};
use crate::parameter::is_template;
use crate::source::fingerprint;

/// Where events are taken, outside of the EU.
const URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// The longest summary.
const SUMMARY_CHARS_MAX: usize = 1024;

/// The longest key of an alert.
const KEY_CHARS_MAX: usize = 255;

const ACTIONS: [&str; 3] = ["trigger", "acknowledge", "resolve"];

const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];

/// Triggers, acknowledges or resolves an alert of PagerDuty for each event, by its Events API v2.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerdutyTarget {
    /// Where events are taken; that of the United States unless it is given.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["https://events.eu.pagerduty.com/v2/enqueue"]))]
    url: Option<Text>,
    /// The integration key of the service, which is a secret.
    #[schemars(extend("writeOnly" = true))]
    routing_key: Text,
    /// What to do, which may hold templates: trigger, acknowledge or resolve; trigger unless it is
    /// given.
    action: Option<Text>,
    /// What tells one alert from another, which may hold templates; the event's source and id unless
    /// it is given.
    dedup_key: Option<Text>,
    /// What is wrong, in a line, which may hold templates; the event's type and subject unless it is
    /// given.
    summary: Option<Text>,
    /// How bad it is, which may hold templates: critical, error, warning or info; error unless it is
    /// given.
    severity: Option<Text>,
    /// What it is about, which may hold templates; the event's source unless it is given.
    source: Option<Text>,
    /// The whole event in place of these, as PagerDuty documents it, but for the routing key. Each
    /// text in it may hold templates.
    body: Option<Map<String, Value>>,
}

/// One of the words that there are for a setting.
fn known<'w>(name: &str, word: &'w str, words: &[&str]) -> Result<&'w str, String> {
    match words.contains(&word) {
        true => Ok(word),
        false => Err(format!("{name}: {word:?} is none of {}", words.join(", "))),
    }
}

/// What is wrong with a word that is written out.
fn mistake(name: &'static str, text: Option<&Text>, words: &[&str]) -> Option<Problem> {
    let word = text?.literal().filter(|word| !is_template(word))?;
    let (false, what) = (words.contains(&word), words.join(", ")) else {
        return None;
    };
    Some(
        Problem::new("there is no such word")
            .help(format!("write one of {what}"))
            .at(name),
    )
}

/// What tells the alert from others: the same at every attempt at an event.
fn key(message: &Message<'_>) -> Result<String, String> {
    let is_long = |key: &str| key.chars().nth(KEY_CHARS_MAX).is_some();
    match message.text("dedup_key")? {
        Some(key) if is_long(key) => Err(format!(
            "dedup_key: PagerDuty takes {KEY_CHARS_MAX} characters at most"
        )),
        Some(key) => Ok(key.to_owned()),
        None => {
            let (source, id) = (message.event.source(), message.event.id());
            let key = format!("{source}#{id}");
            Ok(match is_long(&key) {
                true => format!("{:016x}", fingerprint(&[source, id])),
                false => key,
            })
        }
    }
}

/// The event's data as an object, in short where all of it is too long.
fn details(message: &Message<'_>) -> Value {
    let data = message.event.data();
    let is_short = data.is_some_and(|data| data.bytes().len() < PagerdutyTarget::BYTES_MAX / 2);
    match data.and_then(|data| data.value()).filter(|_| is_short) {
        Some(Value::Object(fields)) => Value::Object(fields.clone()),
        Some(value) => json!({ "data": value }),
        None => message
            .data()
            .map_or(Value::Null, |data| json!({ "data": data })),
    }
}

impl PagerdutyTarget {
    fn payload(message: &Message<'_>) -> Result<Value, String> {
        let event = message.event;
        let severity = message.text("severity")?.unwrap_or("error");
        let summary = match (message.text("summary")?, event.subject()) {
            (Some(summary), _) => summary.to_owned(),
            (None, Some(subject)) => format!("{}: {subject}", event.ty()),
            (None, None) => event.ty().to_owned(),
        };
        let mut payload = json!({
            "summary": cut(&summary, SUMMARY_CHARS_MAX),
            "severity": known("severity", severity, &SEVERITIES)?,
            "source": message.text("source")?.unwrap_or(event.source()),
            "class": event.ty(),
            "timestamp": event.time(),
            "custom_details": details(message),
        });
        if let Value::Object(fields) = &mut payload {
            fields.retain(|_, value| !value.is_null());
        }
        Ok(payload)
    }
}

impl Service for PagerdutyTarget {
    const NAME: &'static str = "PagerDuty";
    const BYTES_MAX: usize = 512 << 10;
    const BESIDE_BODY: Option<&'static str> = Some("routing_key");

    fn url(&self) -> Text {
        self.url.clone().unwrap_or_else(|| URL.into())
    }

    fn texts(&self) -> Vec<(&'static str, &Text)> {
        let texts = [
            ("action", &self.action),
            ("dedup_key", &self.dedup_key),
            ("summary", &self.summary),
            ("severity", &self.severity),
            ("source", &self.source),
        ];
        let given = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?)));
        [("routing_key", &self.routing_key)]
            .into_iter()
            .chain(given)
            .collect()
    }

    fn body(&self) -> Option<&Map<String, Value>> {
        self.body.as_ref()
    }

    fn mistakes(&self) -> Vec<Problem> {
        let action = self.action.as_ref().and_then(Text::literal);
        let is_without_key = action.is_some_and(|action| action != "trigger")
            && self.dedup_key.is_none()
            && self.body.is_none();
        let without_key = is_without_key.then(|| {
            Problem::new("no other event has the key that this one has of itself")
                .help("write a dedup_key that both make alike, such as <$.subject>")
                .at("action")
        });
        [
            mistake("action", self.action.as_ref(), &ACTIONS),
            mistake("severity", self.severity.as_ref(), &SEVERITIES),
            without_key,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn write(&self, message: &Message<'_>) -> Result<Value, String> {
        let action = message.text("action")?.unwrap_or("trigger");
        let action = known("action", action, &ACTIONS)?;
        let mut body = Map::from_iter([("event_action".to_owned(), action.into())]);
        self.complete(&mut body, message)?;
        if action == "trigger" {
            body.insert("payload".to_owned(), Self::payload(message)?);
        }
        Ok(Value::Object(body))
    }

    fn complete(&self, body: &mut Map<String, Value>, message: &Message<'_>) -> Result<(), String> {
        let routing_key = message.text("routing_key")?.unwrap_or_default();
        body.insert("routing_key".to_owned(), routing_key.into());
        body.entry("event_action").or_insert("trigger".into());
        if !body.contains_key("dedup_key") {
            body.insert("dedup_key".to_owned(), key(message)?.into());
        }
        Ok(())
    }

    /// A key that does not do makes a bad request of every event.
    fn judge(mut outcome: Outcome) -> Outcome {
        let told = String::from_utf8_lossy(&outcome.response).to_lowercase();
        let is_of_key = told.contains("routing key") || told.contains("routing_key");
        if outcome.code == Some(400) && is_of_key {
            outcome.class = Class::Refused;
            outcome.message = "PagerDuty does not take the routing_key (400)".to_owned();
        }
        outcome
    }
}
