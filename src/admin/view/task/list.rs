//! Lists of tasks, page by page.

use std::fmt;
use std::str::FromStr;

use pointsman_journal::{
    EndedSelection, HistoryPlace, JournalError, Pending, Reader, SubscriptionIdentity,
};
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::{Onlooker, SubscriptionSelection, TaskKinds, TaskSelection, TaskView};
use crate::admin::view::Page;

/// Tasks that one request looks at: where few of them are selected the page is short, and says
/// where to go on.
const LOOKED_AT_MAX: usize = 10_000;

/// How many are read at once: more than there are runs of one event.
const READ_AT_ONCE: usize = 1_000;

/// How often one request asks for a part of the history, each of which may hold nothing selected.
const CALLS_MAX: usize = 20;

/// Behind which task a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskCursor {
    /// Of those that have not ended.
    Waiting(DeliveryId),
    /// Of those that have.
    Ended(HistoryPlace),
}

impl fmt::Display for TaskCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(id) => id.fmt(f),
            Self::Ended(place) => place.fmt(f),
        }
    }
}

impl FromStr for TaskCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An id has four parts and a place two.
        if let Ok(place) = text.parse() {
            return Ok(Self::Ended(place));
        }
        let id = text.parse::<DeliveryId>();
        id.map(Self::Waiting).map_err(|error| error.to_string())
    }
}

impl JsonSchema for TaskCursor {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TaskCursor".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let id = generator.subschema_for::<DeliveryId>();
        let place = json!({ "type": "string", "pattern": "^(0|[1-9a-f][0-9a-f]{0,15})-(0|[1-9a-f][0-9a-f]{0,7})$" });
        json_schema!({ "anyOf": [id, place] })
    }
}

/// The selected tasks behind `after`, at most `limit`: those that have not ended by subscription
/// and then by event, then those that have by their ends, the latest first. A task keeps its place
/// as long as it lasts, so page by page none is missed and none is shown twice, but for one that
/// ends between the two: it may be shown as both.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn task_page(
    onlooker: &Onlooker<'_>,
    of: &SubscriptionSelection,
    selection: &TaskSelection,
    kinds: TaskKinds,
    after: Option<TaskCursor>,
    limit: usize,
) -> Result<Page<TaskView>, JournalError> {
    let mut items = Vec::new();
    let (after, behind) = match after {
        Some(TaskCursor::Waiting(id)) => (Some(id), None),
        Some(TaskCursor::Ended(place)) => (None, Some(place)),
        None => (None, None),
    };
    if kinds.waiting && behind.is_none() {
        let tell = |identity: &_, state, pending| {
            items.push(TaskView::waiting(identity, pending, state));
        };
        let next = each_waiting(onlooker, of, selection, after, limit, tell).await?;
        let next = match next {
            Some(next) => Some(TaskCursor::Waiting(next)),
            None if kinds.ended && items.len() == limit => {
                Some(TaskCursor::Ended(HistoryPlace::BEHIND_ALL))
            }
            None => None,
        };
        if !kinds.ended || next.is_some() {
            let next = next.map(|next| next.to_string());
            return Ok(Page::part(items, next));
        }
    }
    let ended = ended_page(onlooker, of, selection, behind, limit - items.len()).await?;
    items.extend(ended.items);
    let next = ended.next;
    Ok(Page::part(items, next))
}

/// Tells of each selected task that has not ended behind `after`, at most `limit`. Returns where to
/// go on; none where all were looked at.
///
/// # Errors
/// [`JournalError::Io`].
pub(in crate::admin) async fn each_waiting(
    onlooker: &Onlooker<'_>,
    of: &SubscriptionSelection,
    selection: &TaskSelection,
    after: Option<DeliveryId>,
    limit: usize,
    mut tell: impl FnMut(&SubscriptionIdentity, pointsman_journal::TaskState, Pending),
) -> Result<Option<DeliveryId>, JournalError> {
    let from = after.map_or(SubscriptionNumber(0), |after| after.subscription);
    let order_key = selection.order_key();
    let (mut told, mut looked_at, mut last) = (0, 0, after);
    for status in onlooker.reader.subscriptions().await? {
        let (number, identity) = (status.number, &status.identity);
        let names = [&identity.tenant, &identity.rule, &identity.target];
        if number < from || status.counts.pending == 0 || !of.admits(number, names) {
            continue;
        }
        // One event may have several runs here, so those of the event that the page before ended
        // with are read again.
        loop {
            let behind = last.filter(|last| last.subscription == number);
            let event = behind.map(|last| Sequence(last.sequence.0.saturating_sub(1)));
            let found = onlooker.reader.pending(number, event, READ_AT_ONCE).await?;
            let is_last = found.len() < READ_AT_ONCE;
            let next = found.into_iter().filter(|one| {
                behind.is_none_or(|last| (one.id.sequence, one.id.run) > (last.sequence, last.run))
            });
            for one in next {
                if told == limit || looked_at == LOOKED_AT_MAX {
                    return Ok(last);
                }
                (last, looked_at) = (Some(one.id), looked_at + 1);
                let state = onlooker.state(&one);
                if selection.admits_state(state)
                    && selection.admits_time(one.since)
                    && (order_key.is_none() || order_key == one.order_key)
                    && admits_event(onlooker.reader, selection, one.id.sequence).await?
                {
                    told += 1;
                    tell(identity, state, one);
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(None)
}

/// Whether the event of a task is meant; one that is there no more, or damaged, is not where
/// something is asked of it.
async fn admits_event(
    reader: &dyn Reader,
    selection: &TaskSelection,
    sequence: Sequence,
) -> Result<bool, JournalError> {
    if !selection.looks_at_events() {
        return Ok(true);
    }
    match reader.event(sequence).await {
        Ok(stored) => Ok(stored.is_some_and(|stored| selection.admits_event(&stored.event))),
        Err(JournalError::Damaged(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn ended_page(
    onlooker: &Onlooker<'_>,
    of: &SubscriptionSelection,
    selection: &TaskSelection,
    after: Option<HistoryPlace>,
    limit: usize,
) -> Result<Page<TaskView>, JournalError> {
    let identities = onlooker.identities().await?;
    let of_owner = identities.iter().filter(|(number, identity)| {
        let names = [&identity.tenant, &identity.rule, &identity.target];
        of.admits(**number, names)
    });
    let states = selection.state.iter().flat_map(|states| &states.0).copied();
    let ended = EndedSelection {
        subscriptions: Some(of_owner.map(|(number, _)| *number).collect()),
        states: states.filter(|state| state.is_terminal()).collect(),
        from: selection.since.map(|since| since.0),
        before: selection.until.map(|until| until.0),
        latest_first: true,
        event: None,
    };
    let (mut items, mut looked_at, mut calls, mut last) = (Vec::new(), 0, 0, after);
    loop {
        let want = READ_AT_ONCE.min(LOOKED_AT_MAX - looked_at);
        let page = onlooker.reader.ended(&ended, last, want).await?;
        for entry in page.entries {
            if items.len() == limit {
                let next = last.map(|last| last.to_string());
                return Ok(Page::part(items, next));
            }
            (last, looked_at) = (Some(entry.place), looked_at + 1);
            if let Some(identity) = identities.get(&entry.id.subscription)
                && admits_event(onlooker.reader, selection, entry.id.sequence).await?
            {
                items.push(TaskView::ended(identity, &entry));
            }
        }
        let Some(next) = page.next else {
            return Ok(Page::whole(items));
        };
        last = Some(next);
        // One call of the journal looks at a bounded part of the history, and may find nothing.
        calls += 1;
        if looked_at >= LOOKED_AT_MAX || calls == CALLS_MAX || items.len() == limit {
            return Ok(Page::part(items, Some(next.to_string())));
        }
    }
}
