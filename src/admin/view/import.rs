//! Dead letters as a file has them, a JSON text to a line.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_journal::{DeadReason, LastOutcome, Role, SubscriptionIdentity};
use pointsman_schemas::{DeliveryId, Event, Name, Timestamp, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::LastView;
use crate::replay::ForeignLetter;

/// Dead letters that one request may bring over.
pub const LETTERS_MAX: usize = 500;

/// Dead letters to be kept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// They, as `/dead/{id}` shows them.
    #[schemars(length(min = 1, max = 500))]
    pub letters: Vec<LetterInFile>,
}

/// What became of dead letters that were brought over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// How many are kept.
    pub imported: u64,
    /// How many were passed over: they lie here, or were brought over before.
    pub known: u64,
    /// How many hold no event, and were left out.
    pub without_event: u64,
}

/// A dead letter with its content.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterInFile {
    /// The id that it has where it comes from.
    #[schemars(with = "DeliveryId")]
    pub id: String,
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// The rule; none of what a source could not read.
    #[serde(default)]
    pub rule: Option<Name>,
    /// The target's place in the rule.
    #[serde(default)]
    pub role: Option<Role>,
    #[serde(default)]
    pub target: Option<Name>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// One line for a person.
    #[serde(default)]
    pub message: String,
    /// When it died.
    #[serde(default)]
    pub at: String,
    #[serde(default)]
    pub attempts: u32,
    /// What the last of them came to.
    #[serde(default)]
    pub last: Option<LastView>,
    /// The event in the JSON format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Object>")]
    pub event: Option<Box<RawValue>>,
    /// What a redrive sends in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Object>")]
    pub edited: Option<Box<RawValue>>,
    /// Why there is no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_missing: Option<String>,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What could not be read, where it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<String>,
}

impl LetterInFile {
    /// The letter; none where it holds no event that a rule's target could be sent.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(&self) -> Result<Option<ForeignLetter>, String> {
        let id: DeliveryId = self.id.parse().map_err(|error| format!("{error}"))?;
        let told = |error: String| format!("letter {id}: {error}");
        let (Some(text), Some(rule), Some(target)) = (&self.event, &self.rule, &self.target) else {
            return Ok(None);
        };
        let identity = SubscriptionIdentity {
            tenant: self.tenant.clone(),
            rule: rule.clone(),
            role: self.role.unwrap_or(Role::To),
            target: target.clone(),
        };
        let edited = self.edited.as_deref().map(|text| event("edited", text));
        let last = self.last.as_ref().map(last_outcome);
        Ok(Some(ForeignLetter {
            id,
            origin: self.origin.clone(),
            identity,
            reason: self.reason,
            attempts: self.attempts,
            last: last.transpose().map_err(told)?,
            event: event("event", text).map_err(told)?,
            edited: edited.transpose().map_err(told)?,
        }))
    }
}

fn event(what: &str, text: &RawValue) -> Result<Arc<Event>, String> {
    let text = Bytes::copy_from_slice(text.get().as_bytes());
    let event = json::decode(&text).map_err(|error| format!("{what}: {error}"))?;
    Ok(Arc::new(event))
}

fn last_outcome(last: &LastView) -> Result<LastOutcome, String> {
    let at: jiff::Timestamp = last
        .at
        .parse()
        .map_err(|_| format!("last.at is {:?}, which is no time", last.at))?;
    Ok(LastOutcome {
        at: Timestamp(at.as_microsecond()),
        class: last.class,
        code: last.code,
        message: last.message.clone(),
        response: last.response.clone(),
    })
}
