//! The shapes that the admin API answers with and the command line reads. Times are RFC 3339; what
//! only the journal counts stays its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pointsman_schemas::{
    AttributeValue, Class, DeliveryId, Epoch, Event, Name, Sequence, SubscriptionNumber, Timestamp,
    json,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::router::Explained;
use pointsman_journal::{
    Activity, Counts, DeadLetter, DeadReason, DeadSelection, EventPage, EventsFrom, JournalError,
    LastOutcome, Reader, Role, StoredEvent, SubscriptionIdentity, SubscriptionStatus, Totals,
};

/// A list, or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// What it lists.
    pub items: Vec<T>,
    /// Where there is more: what to give as `after` for the next part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// All there is.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastView {
    /// When.
    pub at: String,
    /// Its class.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadView {
    /// The delivery.
    pub id: String,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// The rule; none of what a source could not read.
    pub rule: Option<Name>,
    /// The target's place in the rule.
    pub role: Option<Role>,
    /// The target.
    pub target: Option<Name>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// One line for a person.
    pub message: String,
    /// When it died.
    pub at: String,
    /// Tries made.
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
#[derive(Debug, Serialize)]
pub struct DeadWhole {
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadView,
    /// Its content.
    #[serde(flatten)]
    pub content: DeadContent,
}

/// What is in a dead letter: an event, or what a source could not read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DeadContent {
    /// The event in the JSON format, its data as it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
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
    Ok(Page {
        items: letters.into_iter().map(DeadView::from).collect(),
        next,
    })
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
    let mut content = DeadContent::default();
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

/// The event in the JSON format, data byte for byte.
fn structured(event: &Event) -> Option<Box<RawValue>> {
    let mut text = Vec::with_capacity(event.size_bytes());
    json::encode(event, &mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}

/// Which dead letters are meant, as it is sent to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadRequest {
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// For this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// With this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Every one: has to be said where nothing else is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// Ids that one request may name.
pub const IDS_MAX: usize = 10_000;

impl DeadRequest {
    /// The selection.
    ///
    /// # Errors
    /// What is wrong with it, in words: nothing is selected, or everything and something, or an id
    /// is none.
    pub fn selection(&self) -> Result<DeadSelection, String> {
        let ids = match &self.ids {
            None => None,
            Some(ids) if ids.is_empty() || ids.len() > IDS_MAX => {
                return Err(format!("ids holds 1 to {IDS_MAX} ids"));
            }
            Some(ids) => Some(
                ids.iter()
                    .map(|id| id.parse().map_err(|error| format!("{error}")))
                    .collect::<Result<_, String>>()?,
            ),
        };
        let selection = DeadSelection {
            ids,
            tenant: self.tenant.clone(),
            rule: self.rule.clone(),
            target: self.target.clone(),
            reason: self.reason,
        };
        match (selection == DeadSelection::default(), self.all) {
            (true, false) => Err(
                "nothing is selected: give ids, tenant, rule, target or reason, or say all".into(),
            ),
            (false, true) => Err("all and a narrower selection exclude each other".into()),
            _ => Ok(selection),
        }
    }
}

/// A subscription as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriptionView {
    /// Its number.
    pub number: SubscriptionNumber,
    /// Its identity.
    #[serde(flatten)]
    pub identity: SubscriptionIdentity,
    /// False where no rule in force wants it.
    pub attached: bool,
    /// Whether its deliveries go out.
    pub activity: Activity,
    /// Why the bus itself leaves it alone for now, in the target's words: it refuses us. None where
    /// it does not.
    pub paused: Option<String>,
    /// Its counters.
    #[serde(flatten)]
    pub counts: Counts,
    /// When the oldest pending delivery's run began.
    pub oldest_pending: Option<String>,
    /// How long ago that was.
    pub oldest_pending_age_seconds: Option<f64>,
}

impl SubscriptionView {
    /// The status as it is shown at `now`.
    #[must_use]
    pub fn new(status: SubscriptionStatus, paused: Option<String>, now: Timestamp) -> Self {
        Self {
            paused,
            number: status.number,
            identity: status.identity,
            attached: status.attached,
            activity: status.activity,
            counts: status.counts,
            oldest_pending: status.oldest_pending.map(|oldest| oldest.to_string()),
            oldest_pending_age_seconds: status
                .oldest_pending
                .map(|oldest| now.since(oldest).as_secs_f64()),
        }
    }
}

/// A retained event.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventView {
    /// Its place.
    pub sequence: u64,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// When it was appended.
    pub at: String,
    /// The event in the JSON format, its data as it came in.
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
        }
    }
}

/// Why rules did or did not take a retained event, by the rules in force now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// The event's place.
    pub sequence: u64,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// Its attributes.
    pub event: Map<String, Value>,
    /// What the rules say.
    #[serde(flatten)]
    pub explained: Explained,
    /// What became of it, for each target of the rules that took it.
    #[serde(default)]
    pub deliveries: Vec<FateView>,
}

/// What became of one event for one target of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FateView {
    /// The rule.
    pub rule: Name,
    /// The target.
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
    /// Tries made.
    pub attempts: u32,
    /// What the last of them came to, or what else there is to say.
    pub message: String,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It waits, or is under way.
    Pending,
    /// It is a dead letter.
    Dead,
    /// Neither: it was delivered, cancelled or purged, or the rule did not have the target when the
    /// event came.
    Ended,
}

/// Of one event and one subscription more runs than this are not looked at: redrives and replays
/// make them.
const RUNS_MAX: usize = 16;

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
) -> Result<Vec<FateView>, JournalError> {
    let sequence = stored.sequence;
    let before = sequence.0.checked_sub(1).map(Sequence);
    // Behind all of the event before it.
    let after = before.map(|sequence| DeliveryId {
        epoch: Epoch(0),
        sequence,
        subscription: SubscriptionNumber(u32::MAX),
        run: u64::MAX,
    });
    let letters = reader
        .dead(&DeadSelection::default(), after, LETTERS_MAX)
        .await?;
    let letters: Vec<DeadLetter> = letters
        .into_iter()
        .take_while(|letter| letter.id.sequence == sequence)
        .collect();
    let mut fates = Vec::new();
    for SubscriptionStatus {
        number, identity, ..
    } in reader.subscriptions().await?
    {
        if identity.tenant != stored.tenant
            || identity.role != Role::To
            || !taken.contains(&identity.rule)
        {
            continue;
        }
        let view = |fate, id: Option<DeliveryId>, attempts, message: String| FateView {
            rule: identity.rule.clone(),
            target: identity.target.clone(),
            fate,
            id: id.map(|id| id.to_string()),
            due: None,
            reason: None,
            attempts,
            message,
        };
        let before_any = fates.len();
        let pending = reader.pending(number, before, RUNS_MAX).await?;
        for one in pending
            .into_iter()
            .take_while(|one| one.id.sequence == sequence)
        {
            let message = one.last.map_or_else(String::new, |last| last.message);
            fates.push(FateView {
                due: Some(one.due.to_string()),
                ..view(Fate::Pending, Some(one.id), one.attempts, message)
            });
        }
        for letter in letters
            .iter()
            .filter(|letter| letter.id.subscription == number)
        {
            let last = letter.last.as_ref().map_or("", |last| &last.message);
            let message = if letter.message.is_empty() {
                last
            } else {
                &letter.message
            };
            fates.push(FateView {
                reason: Some(letter.reason),
                ..view(
                    Fate::Dead,
                    Some(letter.id),
                    letter.attempts,
                    message.to_owned(),
                )
            });
        }
        if fates.len() == before_any {
            fates.push(view(Fate::Ended, None, 0, String::new()));
        }
    }
    Ok(fates)
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
    Ok(Page {
        items: events.into_iter().map(EventView::from).collect(),
        next: next.map(|next| next.0.to_string()),
    })
}

/// The bus as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct StatusView {
    /// The running version.
    pub version: &'static str,
    /// The journal's identity.
    pub journal: String,
    /// When the bus started.
    pub started: String,
    /// How long ago that was.
    pub uptime_seconds: f64,
    /// True where nothing is missing.
    pub ready: bool,
    /// What is missing before events can be taken.
    pub missing: Vec<String>,
    /// The whole store; none where it cannot be read, of which `missing` says why.
    pub totals: Option<Totals>,
    /// The counters of all subscriptions, added up; none likewise.
    pub deliveries: Option<Counts>,
}

/// The counters of many subscriptions, added up.
#[must_use]
pub fn sum(subscriptions: &[SubscriptionStatus]) -> Counts {
    subscriptions
        .iter()
        .map(|status| status.counts)
        .fold(Counts::default(), |sum, counts| Counts {
            created: sum.created + counts.created,
            delivered: sum.delivered + counts.delivered,
            dead: sum.dead + counts.dead,
            redriven: sum.redriven + counts.redriven,
            purged: sum.purged + counts.purged,
            cancelled: sum.cancelled + counts.cancelled,
            quarantined: sum.quarantined + counts.quarantined,
            pending: sum.pending + counts.pending,
            retrying: sum.retrying + counts.retrying,
            in_flight: sum.in_flight + counts.in_flight,
        })
}
