//! What a line is: an event, a cursor, or nothing that can be read.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Clock, Event, InvalidEvent, Name, Reject, json};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::settings::{CursorForm, Output};
use crate::body;
use crate::process::Line;
use crate::{Acknowledgement, Arrival, Message, Plain, SourceContext};

/// The type of an event that is made of a line.
pub const LINE_TYPE: &str = "com.pointsman.exec.line";

/// The longest cursor: what fits into a variable of the environment, twice.
const CURSOR_BYTES_MAX: usize = 64 * 1024;

/// What a line was read as.
#[derive(Debug)]
pub(super) enum Read {
    /// A blank line.
    Nothing,
    /// An event, or what could not be read as one.
    Message(Message),
    /// How far the command has read.
    Cursor(String),
}

/// Makes events of lines.
#[derive(Debug)]
pub(super) struct Mapper {
    name: Name,
    mapped: bool,
    clock: Arc<dyn Clock>,
    output: Output,
    cursor: Option<CursorForm>,
    /// Tells this run from all others.
    run: u128,
    /// Lines since the last cursor line, or since the start where that is later.
    count: u64,
}

/// A line of JSON that is a cursor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CursorLine<'line> {
    #[serde(borrow)]
    pointsman_cursor: &'line RawValue,
}

impl Mapper {
    pub(super) fn new(context: &SourceContext, output: Output, cursor: Option<CursorForm>) -> Self {
        let SourceContext {
            name,
            mapped,
            clock,
            ..
        } = context;
        Self {
            name: name.clone(),
            mapped: *mapped,
            clock: Arc::clone(clock),
            output,
            cursor,
            run: 0,
            count: 0,
        }
    }

    /// The command is started: what it prints is counted anew.
    pub(super) fn begin_run(&mut self) {
        (self.run, self.count) = (rand::random(), 0);
    }

    /// Reads a line behind the cursor line of this number.
    pub(super) fn read(&mut self, line: Line, cursor_number: u64) -> Read {
        let line = match line {
            Line::Whole(line) => line,
            Line::Cut(raw) => {
                let reason = format!(
                    "the line is longer than `max_line`; these are its first {} bytes, the rest is \
                     lost",
                    raw.len()
                );
                return Read::Message(rejected(raw, reason));
            }
        };
        if line.trim_ascii().is_empty() {
            return Read::Nothing;
        }
        match self.cursor(&line) {
            Some(Ok(cursor)) => {
                self.count = 0;
                return Read::Cursor(cursor);
            }
            Some(Err(reason)) => return Read::Message(rejected(line, reason)),
            None => {}
        }
        self.count += 1;
        let arrival = match self.output {
            Output::Cloudevents => json::decode(&line).map(|event| Arrival::Event(Arc::new(event))),
            Output::Lines => self.event(&line, cursor_number),
        };
        Read::Message(match arrival {
            Ok(arrival) => Message {
                arrivals: smallvec::smallvec![arrival],
                rejects: Vec::new(),
                acknowledgement: Acknowledgement::None,
                positions: Vec::new(),
            },
            Err(error) => rejected(line, format!("the line is no event: {error}")),
        })
    }

    /// A line that the command did not finish.
    pub(super) fn broken_off(&self, line: Line, how: &str) -> Message {
        let (Line::Whole(raw) | Line::Cut(raw)) = line;
        rejected(
            raw,
            format!("the command ended in the middle of this line ({how})"),
        )
    }

    /// What a cursor line says, or why that cannot be; none of another line.
    fn cursor(&self, line: &Bytes) -> Option<Result<String, String>> {
        let cursor = match self.cursor.as_ref()? {
            CursorForm::Prefix(prefix) => {
                let cursor = line.strip_prefix(prefix.as_bytes())?;
                std::str::from_utf8(cursor)
                    .map(|cursor| cursor.trim().to_owned())
                    .map_err(|error| error.to_string())
            }
            CursorForm::Json => {
                let inside = line.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
                inside
                    .strip_prefix(b"\"pointsman_cursor\"")?
                    .trim_ascii_start()
                    .strip_prefix(b":")?;
                let read: Result<CursorLine<'_>, _> = serde_json::from_slice(line);
                read.map_err(|error| error.to_string()).map(|line| {
                    let text: Result<String, _> = serde_json::from_str(line.pointsman_cursor.get());
                    text.unwrap_or_else(|_| line.pointsman_cursor.get().to_owned())
                })
            }
        };
        Some(
            cursor
                .and_then(usable)
                .map_err(|error| format!("the line is no cursor: {error}")),
        )
    }

    fn event(&self, line: &Bytes, cursor_number: u64) -> Result<Arrival, InvalidEvent> {
        let (data, media_type) = body::read(None, line.clone())?;
        let (name, count) = (&self.name, self.count);
        let id = if self.cursor.is_some() {
            let digest = Sha256::digest(line)
                .iter()
                .take(8)
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            format!("{name}/{cursor_number}-{count}-{digest:016x}")
        } else {
            format!("{name}/{:032x}-{count}", self.run)
        };
        let defaults = Event::builder(id, format!("/exec/{name}"), LINE_TYPE)
            .time(self.clock.now().to_string())
            .datacontenttype(media_type.unwrap_or_default())
            .data(data);
        let headers = || Plain::fields([("headers", serde_json::json!({}))]);
        Arrival::made(defaults, self.mapped.then(headers))
    }
}

/// A cursor that can be handed to the next start.
fn usable(cursor: String) -> Result<String, String> {
    if cursor.contains('\0') {
        return Err("a NUL cannot be handed on in a variable".to_owned());
    }
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, and {CURSOR_BYTES_MAX} can be handed on",
            cursor.len()
        ));
    }
    Ok(cursor)
}

fn rejected(raw: Bytes, reason: String) -> Message {
    Message {
        arrivals: smallvec::SmallVec::new(),
        rejects: vec![Reject { raw, reason }],
        acknowledgement: Acknowledgement::None,
        positions: Vec::new(),
    }
}
