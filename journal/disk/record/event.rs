//! An event as it is stored.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Event, Name, Sequence, Timestamp};

use super::{CHECK_BYTES, Damage, Decoder, Encoder, Table};
use crate::{StoredEvent, encoding};

/// An event with what is kept of its arrival.
#[derive(Debug)]
pub(in crate::disk) struct EventRow {
    pub(in crate::disk) tenant: Name,
    pub(in crate::disk) origin: Name,
    pub(in crate::disk) at: Timestamp,
    /// Until when it is kept, where that is not for the journal's own retention. The table `kept`
    /// has it too, by which it is found, and is made anew from here.
    pub(in crate::disk) kept_until: Option<Timestamp>,
    pub(in crate::disk) event: Arc<Event>,
}

impl EventRow {
    pub(in crate::disk) fn into_stored(self, sequence: u64) -> StoredEvent {
        let Self {
            tenant,
            origin,
            at,
            kept_until,
            event,
        } = self;
        StoredEvent {
            sequence: Sequence(sequence),
            tenant,
            origin,
            at,
            kept_until,
            event,
        }
    }

    pub(in crate::disk) fn encode(&self, sequence: u64) -> Vec<u8> {
        let event = &*self.event;
        let mut out = Encoder::new(event.size_bytes());
        out.bytes(self.tenant.as_str().as_bytes())
            .bytes(self.origin.as_str().as_bytes())
            .time(self.at);
        encoding::event::encode(&mut out, event, self.kept_until);
        out.seal(Table::Event, &[sequence])
    }

    /// What [`EventRow::decode`] reads from the `record` that [`EventRow::encode`] has just made of
    /// it, for less: its data is the record's, and nothing of it lies in what the event came in.
    pub(in crate::disk) fn moved_into(self, record: &Bytes) -> Self {
        let data = self.event.data().and_then(|data| {
            let end = record.len().checked_sub(CHECK_BYTES)?;
            let start = end.checked_sub(data.bytes().len())?;
            Some(record.slice(start..end))
        });
        let event = Arc::new(self.event.with_own_memory(data));
        Self { event, ..self }
    }

    /// Reads an event; its data is a slice of `value`.
    pub(in crate::disk) fn decode(sequence: u64, value: &Bytes) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Event, &[sequence], value)?;
        let (tenant, origin, at) = (from.name()?, from.name()?, from.time()?);
        let own = |data| value.slice_ref(data);
        let (event, kept_until) = encoding::event::decode(&mut from, own)?;
        Ok(Self {
            tenant,
            origin,
            at,
            kept_until,
            event: Arc::new(event),
        })
    }
}

#[cfg(test)]
mod tests {
    use pointsman_schemas::Data;

    use super::*;

    #[test]
    fn an_event_moved_into_its_record_is_what_is_read_from_it() {
        let full = Event::builder("1", "/s", "t")
            .subject("s")
            .time("2026-01-01T00:00:00Z")
            .attribute("number", (-7).into())
            .attribute("flag", false.into())
            .attribute("text", "ü".into());
        let events = [
            Event::builder("1", "/s", "t"),
            full.clone(),
            full.clone().data(Data::binary(Bytes::from_static(&[0xFF]))),
            full.clone().data(Data::text("text".into())),
            full.data(Data::json(Bytes::from_static(b"[1]")).unwrap()),
        ];
        for event in events {
            let row = EventRow {
                tenant: Name::default_tenant(),
                origin: Name::new("s").unwrap(),
                at: Timestamp(9),
                kept_until: Some(Timestamp(12)),
                event: Arc::new(event.build().unwrap()),
            };
            let record = Bytes::from(row.encode(5));
            let read = EventRow::decode(5, &record).unwrap();
            let moved = row.moved_into(&record);
            assert_eq!(moved.event, read.event);
            assert_eq!(
                (moved.tenant, moved.origin, moved.at, moved.kept_until),
                (read.tenant, read.origin, read.at, read.kept_until)
            );
            let place = |event: &Event| event.data().map(|data| data.bytes().as_ptr());
            assert_eq!(place(&moved.event), place(&read.event));
        }
    }
}
