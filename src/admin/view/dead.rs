//! Dead letters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pointsman_journal::{
    DeadLetter, DeadReason, DeadSelection, JournalError, LastOutcome, Reader, Role,
};
use pointsman_schemas::{Class, DeliveryId, Event, Name, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Destination, Page, structured};
pub use crate::replay::DeadRequest;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastView {
    pub at: String,
    pub class: Class,
    /// The target's own code.
    pub code: Option<i32>,
    /// One line for a person.
    pub message: String,
    /// The beginning of what the target answered.
    pub response: String,
}

impl From<LastOutcome> for LastView {
    fn from(last: LastOutcome) -> Self {
        Self {
            at: last.at.to_string(),
            class: last.class,
            code: last.code,
            message: last.message,
            response: last.response,
        }
    }
}

/// A dead letter without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadView {
    pub id: String,
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// The rule; none of what a source could not read.
    pub rule: Option<Name>,
    /// The target's place in the rule.
    pub role: Option<Role>,
    pub target: Option<Name>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// One line for a person.
    pub message: String,
    /// When it died.
    pub at: String,
    pub attempts: u32,
    /// What the last of them came to.
    pub last: Option<LastView>,
}

impl From<DeadLetter> for DeadView {
    fn from(letter: DeadLetter) -> Self {
        let subscription = letter.subscription;
        Self {
            id: letter.id.to_string(),
            tenant: letter.tenant,
            origin: letter.origin,
            rule: subscription.as_ref().map(|identity| identity.rule.clone()),
            role: subscription.as_ref().map(|identity| identity.role),
            target: subscription.map(|identity| identity.target),
            reason: letter.reason,
            message: letter.message,
            at: letter.at.to_string(),
            attempts: letter.attempts,
            last: letter.last.map(LastView::from),
        }
    }
}

/// A dead letter and what is in it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeadWhole {
    #[serde(flatten)]
    pub letter: DeadView,
    #[serde(flatten)]
    pub content: DeadContent,
}

/// What is in a dead letter: an event, or what a source could not read.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeadContent {
    /// The event in the JSON format, its data as it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Object>")]
    pub event: Option<Box<RawValue>>,
    /// What a redrive sends in its place, where somebody has edited it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Object>")]
    pub edited: Option<Box<RawValue>>,
    /// Why the event cannot be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_missing: Option<String>,
    /// What could not be read, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What could not be read, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<String>,
}

/// Dead letters from after `after`, at most `limit`.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn dead_page(
    reader: &dyn Reader,
    selection: &DeadSelection,
    after: Option<DeliveryId>,
    limit: usize,
) -> Result<Page<DeadView>, JournalError> {
    let mut letters = reader
        .dead(selection, after, limit.saturating_add(1))
        .await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let next = letters
        .last()
        .filter(|_| more)
        .map(|last| last.id.to_string());
    let items = letters.into_iter().map(DeadView::from).collect();
    Ok(Page::part(items, next).read_by(reader))
}

/// One dead letter with its content; none where there is no such letter.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn dead_letter(
    reader: &dyn Reader,
    id: DeliveryId,
) -> Result<Option<DeadWhole>, JournalError> {
    let selection = DeadSelection {
        ids: Some(vec![id]),
        ..DeadSelection::default()
    };
    let Some(letter) = reader.dead(&selection, None, 1).await?.pop() else {
        return Ok(None);
    };
    let mut content = DeadContent {
        edited: letter.edited.as_deref().and_then(structured),
        ..DeadContent::default()
    };
    if letter.subscription.is_some() {
        match reader.event(id.sequence).await {
            Ok(Some(stored)) => content.event = structured(&stored.event),
            Ok(None) => content.event_missing = Some("the event is no longer there".into()),
            Err(JournalError::Damaged(what)) => {
                content.event_missing = Some(JournalError::Damaged(what).to_string())
            }
            Err(error) => return Err(error),
        }
    } else {
        match std::str::from_utf8(&letter.raw) {
            Ok(text) => content.raw = Some(text.to_owned()),
            Err(_) => content.raw_base64 = Some(STANDARD.encode(&letter.raw)),
        }
    }
    Ok(Some(DeadWhole {
        letter: letter.into(),
        content,
    }))
}

/// What a dead letter is edited to.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The event that a redrive sends in the place of the letter's own, in the JSON format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Object>")]
    pub event: Option<Box<RawValue>>,
    /// Take back what was edited, in the place of an event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

impl EditRequest {
    /// The event; none where what was edited is taken back.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn event(&self) -> Result<Option<Event>, String> {
        match (&self.event, self.undo) {
            (Some(event), false) => {
                let text = Bytes::copy_from_slice(event.get().as_bytes());
                let event = json::decode(&text).map_err(|error| format!("event: {error}"))?;
                Ok(Some(event))
            }
            (None, true) => Ok(None),
            (None, false) => Err("it does not say to what: give event, or undo".to_owned()),
            (Some(_), true) => Err("event and undo exclude each other".to_owned()),
        }
    }
}

/// Dead letters to be run anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    #[serde(flatten)]
    pub selection: DeadRequest,
    /// Where they go, in the place of their own subscriptions: one of the same tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Destination>,
    /// How many in a time, such as `10/s`: it is then a replay, which is listed with the others and
    /// can be stopped. At once where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}
