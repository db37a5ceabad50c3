//! A row as it was read, and the event that is made of it.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Clock, EventBuilder, ExtensionValue, InvalidEvent, Name};
use serde_json::{Map, Value, json};

use super::outbox::Read;
use crate::{Arrival, Plain, body, leased};

/// The type of an event whose table has no column for it.
const PLAIN_TYPE: &str = "com.pointsman.postgres.row";

/// Makes events of rows.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    /// The source's name.
    pub(super) name: Name,
    /// The table's.
    pub(super) table: String,
    /// Whether an `event:` mapping makes the events.
    pub(super) mapped: bool,
    pub(super) clock: Arc<dyn Clock>,
}

impl leased::Decoder for Decoder {
    type Message = Read;

    fn queue(&self) -> &str {
        &self.table
    }

    fn arrival(&self, row: &Read) -> Result<Arrival, String> {
        let event = self.event(row).map_err(|invalid| invalid.to_string())?;
        let fields = || {
            let headers = document(row);
            Plain::fields([
                ("headers", Value::Object(headers)),
                ("table", self.table.as_str().into()),
                ("id", row.id.as_str().into()),
            ])
        };
        Arrival::made(event, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    fn id(row: &Read) -> &str {
        &row.id
    }

    fn body(row: Read) -> Bytes {
        let mut all = document(&row);
        all.insert("id".to_owned(), row.id.into());
        if let Some(data) = row.data {
            all.insert("data".to_owned(), String::from_utf8_lossy(&data).into());
        }
        Value::Object(all).to_string().into()
    }
}

impl Decoder {
    fn event(&self, row: &Read) -> Result<EventBuilder, InvalidEvent> {
        let (mut event, mut media_type) = (EventBuilder::default(), None);
        for (name, value) in &row.attributes {
            let Some(value) = value else { continue };
            if name == "datacontenttype" {
                media_type = Some(value.as_str());
            }
            event = event.attribute(name, ExtensionValue::from(value.as_str()));
        }
        // A column that is there and says nothing is a mistake of whoever inserts, unless a mapping
        // may know better.
        let has_column = |name: &str| {
            let mut columns = row.attributes.iter();
            let found = columns.find(|(column, _)| column == name);
            found.is_some_and(|(_, value)| value.is_some() || !self.mapped)
        };
        let source = format!("/postgres/{}", self.name);
        let now = self.clock.now().to_string();
        for (name, value) in [
            ("id", row.id.as_str()),
            ("source", source.as_str()),
            ("type", PLAIN_TYPE),
            ("time", now.as_str()),
        ] {
            if !has_column(name) {
                event = event.attribute(name, ExtensionValue::from(value));
            }
        }
        let Some(data) = &row.data else {
            return Ok(event);
        };
        let declared = media_type.or(row.is_json.then_some("application/json"));
        let (data, found) = body::read(declared, Bytes::copy_from_slice(data))?;
        event = event.data(data);
        Ok(match (media_type, found) {
            (None, Some(found)) => event.datacontenttype(found),
            _ => event,
        })
    }
}

/// The attributes as a JSON object.
fn document(row: &Read) -> Map<String, Value> {
    let attributes = row.attributes.iter();
    let members = attributes.map(|(name, value)| (name.clone(), json!(value)));
    members.collect()
}
