//! What passes, as a line for a person or for a program.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::tz::TimeZone;
use pointsman_schemas::{Class, Name};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::error::CommandError;
use super::unprintable;
use crate::admin::view::{TapAttempt, TapEvent, TapItem, TapLeftOut, TapNext};
use crate::output::{line, shortened};

/// How much of an event's data a person is shown.
const DATA_CHARS_MAX: usize = 1_000;

/// How much of what an attempt came to.
const MESSAGE_CHARS_MAX: usize = 160;

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";

/// How lines are written.
pub(super) enum Layout {
    Json,
    Text { colours: bool, zone: TimeZone },
}

/// One JSON object on a line of its own.
pub(super) fn as_json(node: Option<&Name>, item: &TapItem) -> Result<String, CommandError> {
    #[derive(Serialize)]
    struct Line<'i, T> {
        passed: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<&'i Name>,
        #[serde(flatten)]
        item: &'i T,
    }
    fn written<T: Serialize>(
        passed: &'static str,
        node: Option<&Name>,
        item: &T,
    ) -> serde_json::Result<String> {
        serde_json::to_string(&Line { passed, node, item })
    }
    let text = match item {
        TapItem::Event(item) => written("event", node, item),
        TapItem::Attempt(item) => written("attempt", node, item),
        TapItem::LeftOut(item) => written("left-out", node, item),
    };
    Ok(text.map_err(unprintable)? + "\n")
}

/// A line for a person, and the data below it.
pub(super) fn as_text(
    node: Option<&Name>,
    item: &TapItem,
    colours: bool,
    zone: &TimeZone,
) -> String {
    let painted = |text: &str, code: &str| match colours {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let node = node.map_or_else(String::new, |node| format!("{node}  "));
    match item {
        TapItem::Event(item) => {
            let at = painted(&time(&item.at, zone), DIM);
            let what = event(item.event.as_deref());
            let end = match (item.duplicate, item.deliveries) {
                (true, _) => painted("known before", YELLOW),
                (_, 0) => painted("no rule took it", YELLOW),
                (_, deliveries) => painted(&format!("→ {deliveries}"), DIM),
            };
            format!(
                "{at}  {node}event    {}  {}{}  {end}\n{}",
                item.origin,
                what.head,
                place(item),
                what.data
            )
        }
        TapItem::Attempt(item) => {
            let at = painted(&time(&item.at, zone), DIM);
            let what = event(item.event.as_deref());
            let code = match item.class {
                Class::Delivered => GREEN,
                Class::Throttled => YELLOW,
                _ => RED,
            };
            let outcome = painted(&outcome(item), code);
            format!(
                "{at}  {node}attempt  {} → {}  {outcome}  {}{}\n{}",
                item.rule,
                item.target,
                what.head,
                next(item),
                what.data
            )
        }
        TapItem::LeftOut(TapLeftOut { count }) => {
            painted(&format!("              {node}… {count} more passed\n"), DIM)
        }
    }
}

fn place(item: &TapEvent) -> String {
    item.sequence
        .map_or_else(String::new, |sequence| format!("  #{sequence}"))
}

fn outcome(item: &TapAttempt) -> String {
    let code = item
        .code
        .map_or_else(String::new, |code| format!(" {code}"));
    let milliseconds = item.seconds * 1_000.0;
    let mut text = format!("{}{code} in {milliseconds:.1} ms", item.class.as_str());
    if item.attempt > 1 {
        let _ = write!(text, ", attempt {}", item.attempt);
    }
    text
}

fn next(item: &TapAttempt) -> String {
    let next = match (item.next, &item.due, item.reason) {
        (TapNext::Retry, Some(due), _) => format!("; again at {due}"),
        (TapNext::Dead, _, Some(reason)) => format!("; dead: {}", reason.as_str()),
        (TapNext::Waits, ..) => "; waits for its target".to_owned(),
        _ => String::new(),
    };
    let message = shortened(&item.message, MESSAGE_CHARS_MAX);
    match message.is_empty() {
        true => next,
        false => format!("  {}{next}", line(&message)),
    }
}

struct Shown {
    /// Its attributes.
    head: String,
    /// Its data, on a line of its own; empty where it is not shown.
    data: String,
}

fn event(event: Option<&RawValue>) -> Shown {
    #[derive(Default, Deserialize)]
    struct Attributes<'e> {
        #[serde(borrow, default)]
        id: Cow<'e, str>,
        #[serde(borrow, default)]
        source: Cow<'e, str>,
        #[serde(borrow, default)]
        r#type: Cow<'e, str>,
        #[serde(borrow, default)]
        subject: Option<Cow<'e, str>>,
        #[serde(borrow, default)]
        data: Option<&'e RawValue>,
        #[serde(borrow, default)]
        data_base64: Option<Cow<'e, str>>,
    }
    let read = event.and_then(|event| serde_json::from_str::<Attributes<'_>>(event.get()).ok());
    let read = read.unwrap_or_default();
    let subject = read
        .subject
        .map_or_else(String::new, |subject| format!("  {}", line(&subject)));
    let data = match (&read.data, &read.data_base64) {
        (Some(data), _) => data.get(),
        (None, Some(data)) => data,
        (None, None) => "",
    };
    let data = shortened(data, DATA_CHARS_MAX);
    Shown {
        head: format!(
            "{}{subject}  {} {}",
            line(&read.r#type),
            line(&read.source),
            line(&read.id)
        ),
        data: match data.is_empty() {
            true => String::new(),
            false => format!("    {}\n", line(&data)),
        },
    }
}

/// The time of day.
fn time(at: &str, zone: &TimeZone) -> String {
    at.parse::<jiff::Timestamp>().map_or_else(
        |_| at.to_owned(),
        |at| {
            let at = at.to_zoned(zone.clone());
            at.strftime("%H:%M:%S%.3f").to_string()
        },
    )
}
