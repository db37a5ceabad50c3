//! What a line of `journalctl --output=json` is.

use bytes::Bytes;
use pointsman_schemas::{Cursor, Data, Event, EventBuilder, InvalidEvent, Name, Reject, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::Line;
use crate::source::fingerprint;
use crate::{Acknowledgement, Arrival, Message, Plain};

/// The type of an event.
const TYPE: &str = "com.pointsman.journald.entry";

/// How long a line may be. Most of the journal's fields are short; core dumps are not.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// The longest cursor: far longer than the journal's are.
const CURSOR_BYTES_MAX: usize = 1_024;

/// What of an entry is looked at. A field is a text, a list of numbers where it is none, or a list of
/// those where it is there several times.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    /// Microseconds.
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: Option<Value>,
    #[serde(rename = "_HOSTNAME")]
    hostname: Option<Value>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<Value>,
    #[serde(rename = "_SYSTEMD_UNIT")]
    unit: Option<Value>,
    #[serde(rename = "_COMM")]
    command: Option<Value>,
}

/// Which journal a position is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin(u64);

impl Origin {
    /// The journal in a folder, or this machine's.
    pub(super) fn new(directory: Option<&str>) -> Self {
        let parts = ["journald", directory.unwrap_or_default()];
        Self(fingerprint(&parts))
    }

    /// The position behind an entry.
    pub(super) fn behind(self, cursor: String) -> Cursor {
        Cursor {
            fingerprint: self.0,
            position: cursor.into(),
        }
    }

    /// The cursor of the entry that a position is behind; none where it is a position of something
    /// else.
    pub(super) fn cursor(self, stored: &Cursor) -> Option<String> {
        let cursor = str::from_utf8(&stored.position).ok()?;
        (stored.fingerprint == self.0 && is_cursor(cursor)).then(|| cursor.to_owned())
    }
}

/// Whether a text may be handed to `journalctl` as a cursor.
fn is_cursor(text: &str) -> bool {
    (1..=CURSOR_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Makes events of lines.
#[derive(Debug)]
pub(super) struct Mapper {
    pub(super) name: Name,
    /// Whether an `event:` mapping makes the events.
    pub(super) mapped: bool,
    pub(super) origin: Origin,
}

/// The cursor of the entry that a line is.
///
/// # Errors
/// It is none, in words.
pub(super) fn cursor_of(line: &[u8]) -> Result<String, String> {
    entry(line).map(|entry| entry.cursor)
}

fn entry(line: &[u8]) -> Result<Entry, String> {
    let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if !is_cursor(&entry.cursor) {
        return Err("its __CURSOR is none".to_owned());
    }
    Ok(entry)
}

impl Mapper {
    /// The message that a line is, and the position behind it; none of a blank line.
    pub(super) fn read(&self, line: Line) -> Option<(Message, Option<Cursor>)> {
        let rejected = |raw: Bytes, reason: String| {
            let reject = Err(Reject { raw, reason });
            (Message::of(reject, Acknowledgement::None), None)
        };
        let line = match line {
            Line::Whole(line) if line.trim_ascii().is_empty() => return None,
            Line::Whole(line) => line,
            Line::Cut(raw) => {
                let reason = format!(
                    "the entry is longer than {LINE_BYTES_MAX} bytes, which are here; the journal \
                     has the rest"
                );
                return Some(rejected(raw, reason));
            }
        };
        let entry = match entry(&line) {
            Ok(entry) => entry,
            Err(why) => return Some(rejected(line, format!("this is no entry: {why}"))),
        };
        let arrival = self
            .arrival(&entry, line.clone())
            .map_err(|invalid| Reject {
                raw: line,
                reason: format!("no event can be made of this: {invalid}"),
            });
        let position = self.origin.behind(entry.cursor);
        Some((Message::of(arrival, Acknowledgement::None), Some(position)))
    }

    fn arrival(&self, entry: &Entry, line: Bytes) -> Result<Arrival, InvalidEvent> {
        let event = self.event(entry, line)?;
        let headers = || Plain::fields([("headers", json!({}))]);
        Arrival::made(event, self.mapped.then(headers))
    }

    fn event(&self, entry: &Entry, line: Bytes) -> Result<EventBuilder, InvalidEvent> {
        let source = format!("/journald/{}", self.name);
        let mut event = Event::builder(&*entry.cursor, source, TYPE)
            .datacontenttype("application/json")
            .data(Data::json(line)?);
        let text = |field: &'_ Option<Value>| field.as_ref()?.as_str().map(str::to_owned);
        let program = [&entry.identifier, &entry.unit, &entry.command];
        let subject = [text(&entry.hostname), program.into_iter().find_map(text)];
        let subject: Vec<_> = subject.into_iter().flatten().collect();
        if !subject.is_empty() {
            event = event.subject(subject.join("/"));
        }
        let time = text(&entry.time).and_then(|micros| micros.parse().ok());
        if let Some(micros) = time {
            event = event.time(Timestamp(micros).to_string());
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::read;

    fn mapper() -> Mapper {
        Mapper {
            name: Name::new("machine").unwrap(),
            mapped: false,
            origin: Origin::new(None),
        }
    }

    fn whole(text: &str) -> (Message, Option<Cursor>) {
        let line = Line::Whole(Bytes::copy_from_slice(text.as_bytes()));
        mapper().read(line).unwrap()
    }

    #[test]
    fn an_entry_is_an_event() {
        for (text, subject) in [
            (
                r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1796025600000001","_HOSTNAME":"web1","SYSLOG_IDENTIFIER":"sshd","_SYSTEMD_UNIT":"ssh.service","MESSAGE":"a"}"#,
                json!("web1/sshd"),
            ),
            (
                r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1796025600000001","_SYSTEMD_UNIT":"ssh.service","SYSLOG_IDENTIFIER":[1,2],"MESSAGE":[255,0]}"#,
                json!("ssh.service"),
            ),
            (
                r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1796025600000001"}"#,
                json!(null),
            ),
        ] {
            let (mut message, position) = whole(text);
            let event = read(Ok(message.arrivals.remove(0))).unwrap();
            let expect: Value = serde_json::from_str(text).unwrap();
            assert_eq!(event["data"], expect);
            assert_eq!(event["subject"], subject, "{text}");
            assert_eq!(event["id"], "s=1;i=2");
            assert_eq!(event["time"], "2026-11-30T08:00:00.000001Z");
            let origin = Origin::new(None);
            let position = position.unwrap();
            assert_eq!(origin.cursor(&position).unwrap(), "s=1;i=2");
            assert_eq!(Origin::new(Some("/j")).cursor(&position), None);
        }
    }

    #[test]
    fn what_is_no_entry_is_a_dead_letter() {
        for text in [
            "-- no entries --",
            "{}",
            r#"{"__CURSOR":"a b"}"#,
            r#"{"__CURSOR":""}"#,
        ] {
            let (message, position) = whole(text);
            assert_eq!(message.rejects.len(), 1, "{text}");
            assert!(position.is_none());
        }
        let cut = mapper().read(Line::Cut(Bytes::from_static(b"{"))).unwrap();
        assert!(cut.0.rejects[0].reason.contains("longer"));
        assert!(
            mapper()
                .read(Line::Whole(Bytes::from_static(b" ")))
                .is_none()
        );
    }
}
