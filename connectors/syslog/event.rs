//! The event that is made of a message.
//!
//! Its data is an object: `format` (`rfc5424`, `rfc3164`, or `unknown` of what is neither),
//! `facility` and `severity` by their names and numbers, `hostname`, `app_name`, `procid`, `msgid`,
//! `structured_data`, `message`, and `peer` and `transport`, which say who sent it and how. What a
//! message does not say is not there. `truncated` says that there was more of it, and `raw_base64` has
//! the bytes of one that is no UTF-8.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pointsman_schemas::{Clock, Data, Event, EventBuilder, InvalidEvent, Name, Reject};
use serde_json::{Map, Value, json};

use super::connection::Received;
use super::message::{Moment, Parsed, parse};
use crate::{Acknowledgement, Arrival, Message, Plain};

/// The type of an event.
const TYPE: &str = "com.pointsman.syslog.message";

/// Names of facilities, by their numbers; those of rsyslog, which are those of Linux.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Names of severities, by their numbers.
const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// Makes events of messages.
#[derive(Debug)]
pub(super) struct Mapper {
    name: Name,
    /// Whether an `event:` mapping makes the events.
    mapped: bool,
    clock: Arc<dyn Clock>,
    /// Where times without a zone are from.
    zone: TimeZone,
    /// Tells the ids of this source from those that it had before.
    run: u128,
    count: u64,
}

impl Mapper {
    pub(super) fn new(name: Name, mapped: bool, clock: Arc<dyn Clock>, zone: TimeZone) -> Self {
        Self {
            name,
            mapped,
            clock,
            zone,
            run: rand::random(),
            count: 0,
        }
    }

    /// A message as the bus takes it.
    pub(super) fn message(&mut self, received: Received) -> Message {
        self.count += 1;
        let raw = received.frame.bytes.clone();
        let arrival = self.arrival(&received).map_err(|invalid| Reject {
            raw,
            reason: format!("no event can be made of this: {invalid}"),
        });
        Message::of(arrival, Acknowledgement::None)
    }

    fn arrival(&self, received: &Received) -> Result<Arrival, InvalidEvent> {
        let Received {
            frame,
            peer,
            transport,
        } = received;
        let now = Timestamp::from_microsecond(self.clock.now().0).unwrap_or_default();
        let moment = Moment {
            now,
            zone: &self.zone,
        };
        let text = String::from_utf8_lossy(&frame.bytes);
        let parsed = parse(&text, moment);
        let mut document = document(&parsed);
        document.insert("peer".to_owned(), peer.to_string().into());
        document.insert("transport".to_owned(), transport.as_str().into());
        if frame.is_cut {
            document.insert("truncated".to_owned(), true.into());
        }
        if str::from_utf8(&frame.bytes).is_err() {
            let raw = STANDARD.encode(&frame.bytes);
            document.insert("raw_base64".to_owned(), raw.into());
        }
        let host = parsed
            .hostname
            .map_or_else(|| peer.to_string(), str::to_owned);
        let subject = match parsed.app_name {
            Some(app_name) => format!("{host}/{app_name}"),
            None => host,
        };
        let event = self
            .event(Value::Object(document))?
            .subject(subject)
            .time(parsed.time.unwrap_or(now).to_string());
        let headers = || Plain::fields([("headers", json!({}))]);
        Arrival::made(event, self.mapped.then(headers))
    }

    fn event(&self, document: Value) -> Result<EventBuilder, InvalidEvent> {
        let (name, run, count) = (&self.name, self.run, self.count);
        let id = format!("{name}/{run:032x}-{count}");
        let data = Data::json(document.to_string().into())?;
        Ok(Event::builder(id, format!("/syslog/{name}"), TYPE)
            .datacontenttype("application/json")
            .data(data))
    }
}

fn document(parsed: &Parsed<'_>) -> Map<String, Value> {
    let mut document = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            document.insert(name.to_owned(), value);
        }
    };
    add("format", Some(parsed.format.as_str().into()));
    if let Some(priority) = parsed.priority {
        let (facility, severity) = (priority >> 3, priority & 7);
        let of =
            |names: &[&'static str], number: u8| Some((*names.get(usize::from(number))?).into());
        add("facility", of(&FACILITIES, facility));
        add("facility_code", Some(facility.into()));
        add("severity", of(&SEVERITIES, severity));
        add("severity_code", Some(severity.into()));
    }
    for (name, value) in [
        ("hostname", parsed.hostname),
        ("app_name", parsed.app_name),
        ("procid", parsed.procid),
        ("msgid", parsed.msgid),
    ] {
        add(name, value.map(Value::from));
    }
    if !parsed.structured_data.is_empty() {
        add(
            "structured_data",
            Some(parsed.structured_data.clone().into()),
        );
    }
    add("message", Some(parsed.message.into()));
    document
}
