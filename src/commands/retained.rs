//! Retained events, as commands read them: from a running bus, or from its store.

use std::path::Path;

use pointsman_journal::{EventPage, EventsFrom, StoredEvent};
use pointsman_schemas::{Interval, Sequence, Timestamp};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use url::form_urlencoded;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::{EventView, Page};

/// Events that are read at once.
const PAGE_EVENTS: usize = 1_000;

/// Bytes of events that are read at once.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A duration on the command line.
pub(super) fn interval(text: &str) -> Result<Interval, String> {
    Interval::deserialize(text.into_deserializer())
        .map_err(|error: serde::de::value::Error| error.to_string())
}

/// Where retained events are read.
pub(super) enum RetainedEvents {
    Store(std::sync::Arc<dyn pointsman_journal::Reader>),
    Bus(Box<Client>),
}

impl RetainedEvents {
    /// Reads them from a store, or where none is given from a bus.
    ///
    /// # Errors
    /// The store cannot be opened, or the bus is not known.
    pub(super) fn open(admin: &AdminArgs, store: Option<&Path>) -> Result<Self, CommandError> {
        Ok(match store {
            Some(path) => Self::Store(super::store::open(path)?),
            None => Self::Bus(Box::new(Client::of_admin(admin)?)),
        })
    }

    /// Some of them, the oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) async fn page(&mut self, from: EventsFrom) -> Result<EventPage, CommandError> {
        match self {
            Self::Store(reader) => {
                let page = reader.events(from, PAGE_EVENTS, PAGE_BYTES_MAX).await;
                page.map_err(|error| CommandError::new(format!("cannot read the store: {error}")))
            }
            Self::Bus(client) => {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("limit", &PAGE_EVENTS.to_string());
                match from {
                    EventsFrom::Time(since) => query.append_pair("since", &since.to_string()),
                    EventsFrom::After(after) | EventsFrom::AfterSince(after, _) => {
                        query.append_pair("after", &after.0.to_string())
                    }
                };
                let path = format!("/events?{}", query.finish());
                let Page { items, next, .. } = client.list::<EventView>(&path).await?;
                let next = next.and_then(|next| next.parse().ok()).map(Sequence);
                let read: Vec<Option<StoredEvent>> = items.into_iter().map(stored).collect();
                let damaged = read.iter().filter(|event| event.is_none()).count() as u64;
                Ok(EventPage {
                    events: read.into_iter().flatten().collect(),
                    damaged,
                    next,
                })
            }
        }
    }
}

/// An event as the API shows it; none where it cannot be read.
fn stored(view: EventView) -> Option<StoredEvent> {
    let EventView {
        sequence,
        tenant,
        origin,
        at,
        event,
        ..
    } = view;
    let text: Box<str> = event?.into();
    let event = pointsman_schemas::json::decode(&bytes::Bytes::from(text.into_string())).ok()?;
    let at = Timestamp(at.parse::<jiff::Timestamp>().ok()?.as_microsecond());
    Some(StoredEvent {
        sequence: Sequence(sequence),
        tenant,
        origin,
        at,
        kept_until: None,
        event: event.into(),
    })
}
