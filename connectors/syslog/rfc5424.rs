//! Messages of RFC 5424, behind their priority:
//! `1 2003-10-11T22:14:15.003Z host app procid msgid [id name="value"] text`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::message::{Format, Parsed, is_field};

/// What a field says that says nothing.
const NIL: &str = "-";

/// Stands in front of a text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a message; none where it is none of this format.
pub(super) fn parse(text: &str) -> Option<Parsed<'_>> {
    let rest = text.strip_prefix("1 ")?;
    let (time, rest) = field(rest)?;
    let (hostname, rest) = field(rest)?;
    let (app_name, rest) = field(rest)?;
    let (procid, rest) = field(rest)?;
    let (msgid, rest) = field(rest)?;
    let (structured_data, rest) = structured_data(rest)?;
    let message = match rest.strip_prefix(' ') {
        Some(message) => message,
        None if rest.is_empty() => rest,
        None => return None,
    };
    let time = match time {
        Some(time) => Some(instant(time)?),
        None => None,
    };
    Some(Parsed {
        time,
        hostname,
        app_name,
        procid,
        msgid,
        structured_data,
        ..Parsed::of(
            Format::Rfc5424,
            message.strip_prefix(BYTE_ORDER_MARK).unwrap_or(message),
        )
    })
}

/// A time as RFC 3339 writes it.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    let is_written_so = text.as_bytes().get(10).is_some_and(|byte| *byte == b'T');
    text.parse().ok().filter(|_| is_written_so)
}

/// The field that a text begins with, and what stands behind it.
fn field(text: &str) -> Option<(Option<&str>, &str)> {
    let (field, rest) = text.split_once(' ')?;
    is_field(field).then_some((Some(field).filter(|field| *field != NIL), rest))
}

/// The elements that a text begins with, and what stands behind them.
fn structured_data(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut elements = Map::new();
    if let Some(rest) = text.strip_prefix(NIL) {
        return Some((elements, rest));
    }
    let mut rest = text.strip_prefix('[')?;
    loop {
        let (id, behind) = name(rest)?;
        let element = elements.entry(id).or_insert_with(|| Map::new().into());
        rest = parameters(behind, element.as_object_mut()?)?;
        let Some(next) = rest.strip_prefix('[') else {
            return Some((elements, rest));
        };
        rest = next;
    }
}

/// Reads the parameters of an element, up to behind its bracket.
fn parameters<'m>(mut text: &'m str, element: &mut Map<String, Value>) -> Option<&'m str> {
    loop {
        let spared = text.trim_start_matches(' ');
        if let Some(rest) = spared.strip_prefix(']') {
            return Some(rest);
        }
        if spared.len() == text.len() {
            return None;
        }
        let (name, rest) = name(spared)?;
        let (value, rest) = value(rest.strip_prefix("=\"")?)?;
        add(element, name, value);
        text = rest;
    }
}

/// Adds a parameter. One that stands there several times, as it may, is an array.
fn add(element: &mut Map<String, Value>, name: &str, value: String) {
    let value = Value::from(value);
    match element.get_mut(name) {
        None => drop(element.insert(name.to_owned(), value)),
        Some(Value::Array(all)) => all.push(value),
        Some(one) => *one = Value::Array(vec![one.take(), value]),
    }
}

/// The name that a text begins with.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find([' ', '=', ']', '"'])?;
    let (name, rest) = text.split_at(end);
    is_field(name).then_some((name, rest))
}

/// The value that a text begins with, and what stands behind its quote.
fn value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()? {
                (_, escaped @ ('"' | '\\' | ']')) => value.push(escaped),
                // One that escapes nothing is there for itself.
                (_, other) => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Option<Value> {
        let parsed = parse(text)?;
        Some(json!([
            parsed.time.map(|time| time.to_string()),
            parsed.hostname,
            parsed.app_name,
            parsed.procid,
            parsed.msgid,
            parsed.structured_data,
            parsed.message,
        ]))
    }

    #[test]
    fn messages() {
        for (text, expect) in [
            // Of RFC 5424, section 6.5.
            (
                "1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
                json!([
                    "2003-10-11T22:14:15.003Z",
                    "mymachine.example.com",
                    "su",
                    null,
                    "ID47",
                    {},
                    "'su root' failed for lonvick on /dev/pts/8"
                ]),
            ),
            (
                "1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
                json!([
                    "2003-08-24T12:14:15.000003Z",
                    "192.0.2.1",
                    "myproc",
                    "8710",
                    null,
                    {},
                    "%% It's time to make the do-nuts."
                ]),
            ),
            (
                "1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]",
                json!(["2003-10-11T22:14:15.003Z", "mymachine.example.com", "evntslog", null, "ID47",
                    { "exampleSDID@32473": { "iut": "3", "eventSource": "Application", "eventID": "1011" }, "examplePriority@32473": { "class": "high" } }, ""]),
            ),
            (
                r#"1 - - - - - [a ip="1" ip="2" ip="3" q="\"\\\]\n]ü"][b] x  y "#,
                json!([null, null, null, null, null, { "a": { "ip": ["1", "2", "3"], "q": "\"\\]\\n]ü" }, "b": {} }, "x  y "]),
            ),
            (
                "1 - - - - - -",
                json!([null, null, null, null, null, {}, ""]),
            ),
            (
                "1 - - - - - - - a",
                json!([null, null, null, null, null, {}, "- a"]),
            ),
        ] {
            assert_eq!(read(text), Some(expect), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "1",
            "1 ",
            "1 - - - - -",
            "0 - - - - - -",
            "1 yesterday - - - - -",
            "1 2003-10-11T22:14:15 - - - - -",
            "1 2003-10-11T22:14:15+ - - - - -",
            "1 2003-13-11T22:14:15Z - - - - -",
            "1  - - - - - -",
            "1 - h\u{fc} - - - -",
            "1 - - - - - -a",
            "1 - - - - - [",
            "1 - - - - - []",
            "1 - - - - - [a",
            "1 - - - - - [a b]",
            "1 - - - - - [a b=c]",
            "1 - - - - - [a b=\"c]",
            "1 - - - - - [a b=\"c\\",
            "1 - - - - - [a b=\"c\"d=\"e\"]",
            "1 - - - - - [a b=\"c\"]x",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
