//! The files' own tests.

use bytes::Bytes;
use pointsman_schemas::yaml::scalar;
use pointsman_schemas::{Event, InvalidEvent, Timestamp};
use serde_json::Value;

use super::names::Section;
use super::{Document, Loader};
use crate::config::raw::{RawEvent, RawTest};
use crate::config::reader::{Piece, read};
use crate::config::yaml::{Entry, Value as Yaml};
use crate::config::{Expectation, Test};

impl Loader<'_, '_> {
    pub(super) fn test(&self, document: &Document<'_>, entry: &Entry) -> Option<Test> {
        let piece = document.entity(entry);
        let raw = read::<RawTest>(piece)?;
        for key in ["event", "expect"] {
            if piece.get(key).is_none() && !piece.mistakes.was_meant(piece.node, key) {
                piece.report_key(
                    format!("`{key}` is missing here"),
                    "a test says what happens and what is expected: { event: …, expect: … }",
                );
            }
        }
        let from = raw
            .from
            .and_then(|from| self.resolve(Section::Sources, document, &from, piece.get("from")?));
        let event = raw
            .event
            .zip(piece.get("event").filter(|at| at.is_whole()))
            .and_then(|(event, at)| read_event(event, at));
        let now = raw.now.zip(piece.get("now")).and_then(|(now, at)| {
            match now.parse::<jiff::Timestamp>() {
                Ok(now) => Some(Timestamp(now.as_microsecond())),
                Err(_) => {
                    at.report(
                        "this is not a time",
                        "write it as RFC 3339: \"2026-11-27T09:00:00Z\"",
                    );
                    None
                }
            }
        });
        let mut expect = Vec::new();
        for (rule, expected) in raw.expect.unwrap_or_default() {
            let Some(at) = piece.get("expect").and_then(|at| at.get(&rule)) else {
                continue;
            };
            let expectation = match expected {
                Value::Bool(false) => Expectation::Silent,
                Value::Object(_) => Expectation::Fires(expected),
                _ => {
                    at.report(
                        "this is not a part of an event",
                        "write { data: … }, {} for any event, or false for a rule that does not \
                         fire",
                    );
                    continue;
                }
            };
            if let Some(name) = self.resolve(Section::Rules, document, &rule, at) {
                expect.push((name, expectation));
            }
        }
        let (line, _) = document
            .lines
            .place(&document.file.text, entry.key_span.start);
        let (name, tenant) = (entry.key.clone(), document.tenant.clone());
        Some(Test {
            name,
            tenant,
            place: (document.file.name.clone(), line),
            from,
            event: event?,
            now,
            expect,
        })
    }
}

/// Reads a test's event: a CloudEvent in the JSON format, of which `specversion` may be left out.
fn read_event(event: RawEvent, at: Piece<'_>) -> Option<Event> {
    let bytes = Bytes::from(match event {
        RawEvent::Fields(mut event) => {
            event.entry("specversion").or_insert_with(|| "1.0".into());
            serde_json::to_vec(&event).ok()?
        }
        RawEvent::Json(text) if !text.trim_start().starts_with('{') => {
            let written = match text.contains('\n') {
                true => "…".into(),
                false => scalar(&text),
            };
            at.report(
                "this is not a CloudEvent",
                format!("write `event: {{ type: {written}, source: /test, id: \"1\" }}`"),
            );
            return None;
        }
        // Numbers and texts that no tree can hold are to stay as they are.
        RawEvent::Json(text) => text.into_bytes(),
    });
    match decode(bytes) {
        Ok(event) => Some(event),
        Err(error) => {
            let attribute = match &error {
                InvalidEvent::Empty(name)
                | InvalidEvent::Name(name)
                | InvalidEvent::Value { name, .. } => Some(name.as_str()),
                InvalidEvent::SpecVersion(_) => Some("specversion"),
                _ => None,
            };
            let at = attribute
                .and_then(|attribute| at.get(attribute))
                .unwrap_or(at);
            let help = match &at.node.value {
                Yaml::Number(number) if attribute.is_some() => {
                    format!("write it as a text: \"{number}\"")
                }
                Yaml::Boolean(value) if attribute.is_some() => {
                    format!("write it as a text: \"{value}\"")
                }
                _ => "an event has at least type, source and id".to_owned(),
            };
            at.report(format!("this is not a CloudEvent: {error}"), help);
            None
        }
    }
}

/// Reads a CloudEvent, with or without `specversion`.
fn decode(bytes: Bytes) -> Result<Event, InvalidEvent> {
    let read = pointsman_schemas::json::decode(&bytes);
    if let Err(InvalidEvent::Missing("specversion")) = read
        && let Some(behind) = bytes.trim_ascii_start().strip_prefix(b"{")
    {
        return pointsman_schemas::json::decode(
            &[b"{\"specversion\":\"1.0\",", behind].concat().into(),
        );
    }
    read
}
