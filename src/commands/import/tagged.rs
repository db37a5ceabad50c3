//! YAML with tags, as CloudFormation has it: `!Ref x` is `{ Ref: x }`, `!GetAtt a.b` is `{
//! "Fn::GetAtt": [a, b] }`, any other `!Name` is `{ "Fn::Name": … }`.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value, json};

use crate::config::yaml::{COPIED_BYTES_MAX, DEPTH_MAX};

/// A collection that is being read.
struct Frame {
    entries: Kind,
    anchor: usize,
    tag: Option<String>,
}

enum Kind {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// The documents of a text.
///
/// # Errors
/// It is no YAML, nests too deep or copies too much by its aliases: why, with its line.
pub(super) fn read(text: &str) -> Result<Vec<Value>, String> {
    let (mut documents, mut stack) = (Vec::new(), Vec::<Frame>::new());
    let mut anchors: HashMap<usize, (Value, usize)> = HashMap::new();
    let mut copied = 0;
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| error.to_string())?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Frame {
                    entries: Kind::Map(_, key @ None),
                    ..
                }) = stack.last_mut()
                {
                    *key = Some(text.into_owned());
                    continue;
                }
                (of_tag(name(tag.as_deref()), scalar(&text, style)), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                open(
                    &mut stack,
                    Kind::List(Vec::new()),
                    anchor,
                    tag.as_deref(),
                    span.start.line(),
                )?;
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                open(
                    &mut stack,
                    Kind::Map(Map::new(), None),
                    anchor,
                    tag.as_deref(),
                    span.start.line(),
                )?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = stack.pop() else { continue };
                let value = match frame.entries {
                    Kind::List(items) => Value::Array(items),
                    Kind::Map(entries, _) => Value::Object(entries),
                };
                (of_tag(frame.tag, value), frame.anchor)
            }
            Event::Alias(anchor) => {
                let line = span.start.line();
                let (value, bytes) = anchors
                    .get(&anchor)
                    .ok_or_else(|| format!("line {line}: the alias stands for nothing"))?;
                copied += bytes;
                if copied > COPIED_BYTES_MAX {
                    return Err(format!(
                        "line {line}: the aliases copy more than {} MiB",
                        COPIED_BYTES_MAX / (1024 * 1024)
                    ));
                }
                (value.clone(), 0)
            }
            _ => continue,
        };
        if anchor > 0 {
            let bytes = value.to_string().len();
            copied += bytes;
            anchors.insert(anchor, (value.clone(), bytes));
        }
        match stack.last_mut().map(|frame| &mut frame.entries) {
            None => documents.push(value),
            Some(Kind::List(items)) => items.push(value),
            Some(Kind::Map(entries, key)) => drop(key.take().map(|key| entries.insert(key, value))),
        }
    }
    Ok(documents)
}

fn open(
    stack: &mut Vec<Frame>,
    entries: Kind,
    anchor: usize,
    tag: Option<&Tag>,
    line: usize,
) -> Result<(), String> {
    if matches!(
        stack.last(),
        Some(Frame {
            entries: Kind::Map(_, None),
            ..
        })
    ) {
        return Err(format!(
            "line {line}: a list or a mapping stands where a key is wanted"
        ));
    }
    // A tag makes a level of its own.
    if stack.len() >= DEPTH_MAX / 2 {
        return Err(format!(
            "line {line}: this is nested deeper than {} levels",
            DEPTH_MAX / 2
        ));
    }
    stack.push(Frame {
        entries,
        anchor,
        tag: name(tag),
    });
    Ok(())
}

/// The name of a tag that is an application's own.
fn name(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| tag.handle == "!")
        .map(|tag| tag.suffix.clone())
}

fn of_tag(tag: Option<String>, value: Value) -> Value {
    match (tag.as_deref(), value) {
        (None | Some(""), value) => value,
        (Some("Ref"), value) => json!({ "Ref": value }),
        (Some("Condition"), value) => json!({ "Condition": value }),
        (Some("GetAtt"), Value::String(path)) => {
            json!({ "Fn::GetAtt": path.split_once('.').map_or_else(|| vec![path.as_str()], |(of, what)| vec![of, what]) })
        }
        (Some(name), value) => json!({ (format!("Fn::{name}")): value }),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        // An account's number may begin with zeros: what JSON does not spell so is a text.
        _ => match serde_json::from_str(text) {
            Ok(Value::Number(number)) => number.into(),
            _ => text.into(),
        },
    }
}
