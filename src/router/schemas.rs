//! Schemas in force: what the data of events has to be, and what becomes of one that is not so.

use std::sync::Arc;

use pointsman_rules::EventSchema;
use pointsman_rules::schema::{MARK, Mismatch};
use pointsman_schemas::http::encode_structured;
use pointsman_schemas::{Event, ExtensionValue, Name, Reject};
use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::Deserialize;

use super::TenantRules;
use super::matcher::is_large;
use crate::aside::aside;

/// What the data of events of one type has to be.
#[derive(Clone, Debug)]
pub struct TypeSchema {
    /// The tenant whose events these are.
    pub tenant: Name,
    /// Their type.
    pub ty: Box<str>,
    /// What holds for their data.
    pub schema: Arc<EventSchema>,
    /// What becomes of one for which it does not.
    pub on_mismatch: OnMismatch,
}

/// What becomes of an event whose data is not as its schema says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMismatch {
    /// Who sends it is told, and it is not taken in; where nobody hears that, it is a dead letter.
    #[default]
    Refuse,
    /// It is taken in like any other, with the attribute `schemaerror` that says what is wrong.
    Mark,
    /// It is taken in as a dead letter.
    DeadLetter,
}

/// What holds for the data of the events of one type.
#[derive(Debug)]
pub struct SchemaInForce {
    pub(super) of: TypeSchema,
    mismatches: Counter,
}

/// An event that no entry of the journal is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    /// The event, and why.
    pub reject: Reject,
    /// True where it is a dead letter also if somebody waits who could be told.
    pub is_kept: bool,
}

impl From<Reject> for NotTaken {
    fn from(reject: Reject) -> Self {
        Self {
            reject,
            is_kept: false,
        }
    }
}

impl TenantRules {
    /// The event as it is taken in by the schema of its type; itself where it has none, which costs
    /// one look into a table, and none where there are no schemas.
    ///
    /// # Errors
    /// Its data is not as the schema says, which says that such an event is not taken in.
    pub(super) fn conforming(&self, event: Arc<Event>) -> Result<Arc<Event>, NotTaken> {
        if self.schemas.is_empty() {
            return Ok(event);
        }
        let Some(found) = self.schemas.get(event.ty()) else {
            return Ok(event);
        };
        let check = || found.of.schema.check(&event);
        let checked = if is_large(&event) {
            aside(check)
        } else {
            check()
        };
        match checked {
            Ok(()) => Ok(unmarked(event)),
            Err(mismatch) => {
                found.mismatches.inc();
                found.mismatched(event, &mismatch)
            }
        }
    }
}

impl SchemaInForce {
    /// Holds a schema in force, and counts the events for which it does not hold.
    #[must_use]
    pub fn new(of: TypeSchema, mismatches: Counter) -> Self {
        Self { of, mismatches }
    }

    fn mismatched(&self, event: Arc<Event>, mismatch: &Mismatch) -> Result<Arc<Event>, NotTaken> {
        let is_kept = match self.of.on_mismatch {
            OnMismatch::Mark => return marked(event, mismatch),
            OnMismatch::Refuse => false,
            OnMismatch::DeadLetter => true,
        };
        let reason = format!(
            "the data of `{}` does not fit its schema: {mismatch}",
            self.of.ty
        );
        Err(not_taken(&event, reason, is_kept))
    }
}

fn not_taken(event: &Event, reason: String, is_kept: bool) -> NotTaken {
    let raw = encode_structured(event).1;
    NotTaken {
        reject: Reject { raw, reason },
        is_kept,
    }
}

/// The event with what is wrong with it. One that has as many attributes as there may be is a dead
/// letter.
fn marked(event: Arc<Event>, mismatch: &Mismatch) -> Result<Arc<Event>, NotTaken> {
    let text = mismatch.to_string();
    let builder = event.as_ref().clone().into_builder();
    let marked = builder
        .attribute(MARK, ExtensionValue::from(text.as_str()))
        .build();
    marked.map(Arc::new).map_err(|error| {
        not_taken(
            &event,
            format!("it does not fit its schema ({text}) and cannot be marked: {error}"),
            true,
        )
    })
}

/// The event without a mark that it came with: only the bus says whether one fits.
fn unmarked(event: Arc<Event>) -> Arc<Event> {
    if event.attribute(MARK).is_none() {
        return event;
    }
    let builder = event.as_ref().clone().into_builder();
    // One attribute less makes no event invalid.
    builder.without(MARK).build().map_or(event, Arc::new)
}
