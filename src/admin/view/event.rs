//! Retained events, and what became of them.

use pointsman_journal::{
    DeadLetter, DeadReason, DeadSelection, EndedSelection, EventPage, EventsFrom, Identity,
    JournalError, Lookup, Pending, Reader, RememberedKey, Role, StoredEvent, SubscriptionIdentity,
    SubscriptionStatus,
};
use pointsman_schemas::{AttributeValue, DeliveryId, Epoch, Name, Sequence, SubscriptionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Page, structured};
use crate::router::Explained;

/// A retained event.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    pub sequence: u64,
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// When it was appended.
    pub at: String,
    /// Until when it is kept, where its source or a rule said so as it was appended; else that is
    /// `store.retention` after `at`. Longer as long as something waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// The event in the JSON format, its data as it came in.
    #[schemars(with = "Option<super::Object>")]
    pub event: Option<Box<RawValue>>,
}

impl From<StoredEvent> for EventView {
    fn from(stored: StoredEvent) -> Self {
        Self {
            sequence: stored.sequence.0,
            event: structured(&stored.event),
            tenant: stored.tenant,
            origin: stored.origin,
            at: stored.at.to_string(),
            kept_until: stored.kept_until.map(|until| until.to_string()),
        }
    }
}

/// Why rules did or did not take a retained event, by the rules in force now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// The event's place.
    pub sequence: u64,
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    pub event: Map<String, Value>,
    /// Until when it is kept, where its source or a rule said so as it was appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// What the rules say.
    #[serde(flatten)]
    pub explained: Explained,
    /// What became of it, for each target of the rules that took it.
    #[serde(default)]
    pub deliveries: Vec<FateView>,
}

/// What became of one event for one target of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FateView {
    pub rule: Name,
    pub target: Name,
    /// What became of it.
    pub fate: Fate,
    /// The task or dead letter, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Not before this it is tried, or tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Why it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    pub attempts: u32,
    /// What the last of them came to, or what else there is to say.
    pub message: String,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It waits, or is under way.
    Pending,
    /// It is a dead letter.
    Dead,
    /// There is none: the key of its rule's `deduplicate` was that of an event before it.
    Duplicate,
    /// Neither: it was delivered, cancelled or purged, or the rule did not have the target when the
    /// event came.
    Ended,
}

/// Of one event more deliveries that wait than this are not looked at: one for each subscription,
/// and those that redrives and replays make.
const PENDING_MAX: usize = 20_000;

/// Nor more than this that have ended.
const ENDED_MAX: usize = 1_000;

/// Of one event more dead letters than this are not looked at.
const LETTERS_MAX: usize = 1_000;

/// What became of an event for the targets of the rules that take it now.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn fates(
    reader: &dyn Reader,
    stored: &StoredEvent,
    taken: &[Name],
    keys: &[(Name, Identity)],
) -> Result<Vec<FateView>, JournalError> {
    let first = first_of_keys(reader, stored, keys).await?;
    let sequence = stored.sequence;
    let letters = letters_at(reader, sequence).await?;
    let waiting = reader.pending_of(sequence, PENDING_MAX).await?;
    let mut fates = Vec::new();
    for status in reader.subscriptions().await? {
        let SubscriptionStatus {
            number, identity, ..
        } = status;
        let is_meant = identity.tenant == stored.tenant
            && identity.role == Role::To
            && taken.contains(&identity.rule);
        if !is_meant {
            continue;
        }
        let found = fates.len();
        let waiting = waiting.iter().filter(|one| one.id.subscription == number);
        fates.extend(waiting.map(|one| FateView::pending(&identity, one)));
        let letters = letters
            .iter()
            .filter(|letter| letter.id.subscription == number);
        fates.extend(letters.map(|letter| FateView::dead(&identity, letter)));
        if fates.len() == found {
            let mut first = first.iter().filter(|(rule, _)| *rule == identity.rule);
            fates.push(match first.next() {
                Some((_, first)) => FateView::duplicate(&identity, first),
                None => FateView::ended(&identity),
            });
        }
    }
    Ok(fates)
}

/// All deliveries of an event that anything is known of, in the order of their subscriptions,
/// whatever the rules say now; of many that have ended those that did last.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn deliveries_of(
    reader: &dyn Reader,
    sequence: Sequence,
) -> Result<Vec<DeliveryId>, JournalError> {
    let letters = letters_at(reader, sequence).await?;
    let mut found: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    let pending = reader.pending_of(sequence, PENDING_MAX).await?;
    found.extend(pending.iter().map(|one| one.id));
    let ended = EndedSelection {
        event: Some(sequence),
        latest_first: true,
        ..EndedSelection::default()
    };
    let ended = reader.ended(&ended, None, ENDED_MAX).await?;
    found.extend(ended.entries.iter().map(|entry| entry.id));
    found.sort_unstable_by_key(|id| (id.subscription, id.run, id.epoch.0));
    found.dedup();
    Ok(found)
}

/// The dead letters of one event.
async fn letters_at(
    reader: &dyn Reader,
    sequence: Sequence,
) -> Result<Vec<DeadLetter>, JournalError> {
    // Behind all of the event before it.
    let after = sequence.0.checked_sub(1).map(|before| DeliveryId {
        epoch: Epoch(0),
        sequence: Sequence(before),
        subscription: SubscriptionNumber(u32::MAX),
        run: u64::MAX,
    });
    let selection = DeadSelection::default();
    let mut letters = reader.dead(&selection, after, LETTERS_MAX).await?;
    letters.retain(|letter| letter.id.sequence == sequence);
    Ok(letters)
}

/// Of rules that leave out duplicates, the event before this one that had its key.
async fn first_of_keys(
    reader: &dyn Reader,
    stored: &StoredEvent,
    keys: &[(Name, Identity)],
) -> Result<Vec<(Name, RememberedKey)>, JournalError> {
    let mut first = Vec::new();
    for (rule, identity) in keys {
        let found = reader.keys(Lookup::Key(*identity)).await?.into_iter();
        // A later one remembers the key anew: of what was before that nothing is known.
        let before = found.filter(|key| key.sequence < stored.sequence && stored.at < key.until);
        first.extend(before.map(|key| (rule.clone(), key)));
    }
    Ok(first)
}

impl FateView {
    fn ended(identity: &SubscriptionIdentity) -> Self {
        Self {
            rule: identity.rule.clone(),
            target: identity.target.clone(),
            fate: Fate::Ended,
            id: None,
            due: None,
            reason: None,
            attempts: 0,
            message: String::new(),
        }
    }

    fn duplicate(identity: &SubscriptionIdentity, first: &RememberedKey) -> Self {
        let message = format!(
            "event {} had its key, which is remembered until {}",
            first.sequence.0, first.until
        );
        Self {
            fate: Fate::Duplicate,
            message,
            ..Self::ended(identity)
        }
    }

    fn pending(identity: &SubscriptionIdentity, pending: &Pending) -> Self {
        Self {
            fate: Fate::Pending,
            id: Some(pending.id.to_string()),
            due: Some(pending.due.to_string()),
            attempts: pending.attempts,
            message: pending
                .last
                .as_ref()
                .map_or_else(String::new, |last| last.message.clone()),
            ..Self::ended(identity)
        }
    }

    fn dead(identity: &SubscriptionIdentity, letter: &DeadLetter) -> Self {
        let last = letter.last.as_ref().map_or("", |last| &last.message);
        let message = match letter.message.as_str() {
            "" => last,
            message => message,
        };
        Self {
            fate: Fate::Dead,
            id: Some(letter.id.to_string()),
            reason: Some(letter.reason),
            attempts: letter.attempts,
            message: message.to_owned(),
            ..Self::ended(identity)
        }
    }
}

impl ExplainView {
    /// An event with what the rules say of it.
    #[must_use]
    pub fn new(stored: &StoredEvent, explained: Explained) -> Self {
        let value = |value| match value {
            AttributeValue::String(text) => Value::from(text),
            AttributeValue::Integer(number) => number.into(),
            AttributeValue::Boolean(value) => value.into(),
        };
        let event = stored
            .event
            .attributes()
            .map(|(name, attribute)| (name.to_owned(), value(attribute)))
            .collect();
        let (tenant, origin) = (stored.tenant.clone(), stored.origin.clone());
        Self {
            sequence: stored.sequence.0,
            tenant,
            origin,
            event,
            kept_until: stored.kept_until.map(|until| until.to_string()),
            explained,
            deliveries: Vec::new(),
        }
    }
}

/// Bytes of events that a page holds at most, where it holds more than one.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Retained events in their order, at most `limit`; damaged ones are left out.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn event_page(
    reader: &dyn Reader,
    from: EventsFrom,
    limit: usize,
) -> Result<Page<EventView>, JournalError> {
    let EventPage {
        events,
        next,
        damaged: _,
    } = reader.events(from, limit, PAGE_BYTES_MAX).await?;
    let items = events.into_iter().map(EventView::from).collect();
    let next = next.map(|next| next.0.to_string());
    Ok(Page::part(items, next).read_by(reader))
}
