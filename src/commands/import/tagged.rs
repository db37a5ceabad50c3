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
    let mut reader = Reader::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| error.to_string())?;
        reader.take(event, span.start.line())?;
    }
    Ok(reader.documents)
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    documents: Vec<Value>,
    stack: Vec<Frame>,
    /// The values that have anchors, with their bytes as JSON.
    anchors: HashMap<usize, (Value, usize)>,
    copied_bytes: usize,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Frame {
                    entries: Kind::Map(_, key @ None),
                    ..
                }) = self.stack.last_mut()
                {
                    *key = Some(text.into_owned());
                    return Ok(());
                }
                (of_tag(name(tag.as_deref()), scalar(&text, style)), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                return self.open(Kind::List(Vec::new()), anchor, tag.as_deref(), line);
            }
            Event::MappingStart(anchor, tag) => {
                return self.open(Kind::Map(Map::new(), None), anchor, tag.as_deref(), line);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.stack.pop() else {
                    return Ok(());
                };
                let value = match frame.entries {
                    Kind::List(items) => Value::Array(items),
                    Kind::Map(entries, _) => Value::Object(entries),
                };
                (of_tag(frame.tag, value), frame.anchor)
            }
            Event::Alias(anchor) => (self.copy(anchor, line)?, 0),
            _ => return Ok(()),
        };
        if anchor > 0 {
            let bytes = value.to_string().len();
            self.copied_bytes += bytes;
            self.anchors.insert(anchor, (value.clone(), bytes));
        }
        match self.stack.last_mut().map(|frame| &mut frame.entries) {
            None => self.documents.push(value),
            Some(Kind::List(items)) => items.push(value),
            Some(Kind::Map(entries, key)) => drop(key.take().map(|key| entries.insert(key, value))),
        }
        Ok(())
    }

    fn open(
        &mut self,
        entries: Kind,
        anchor: usize,
        tag: Option<&Tag>,
        line: usize,
    ) -> Result<(), String> {
        if matches!(
            self.stack.last(),
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
        if self.stack.len() >= DEPTH_MAX / 2 {
            return Err(format!(
                "line {line}: this is nested deeper than {} levels",
                DEPTH_MAX / 2
            ));
        }
        self.stack.push(Frame {
            entries,
            anchor,
            tag: name(tag),
        });
        Ok(())
    }

    /// The value that an alias stands for.
    fn copy(&mut self, anchor: usize, line: usize) -> Result<Value, String> {
        let (value, bytes) = self
            .anchors
            .get(&anchor)
            .ok_or_else(|| format!("line {line}: the alias stands for nothing"))?;
        self.copied_bytes += bytes;
        if self.copied_bytes > COPIED_BYTES_MAX {
            return Err(format!(
                "line {line}: the aliases copy more than {} MiB",
                COPIED_BYTES_MAX / (1024 * 1024)
            ));
        }
        Ok(value.clone())
    }
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
            json!({
                "Fn::GetAtt": path.split_once('.').map_or_else(|| vec![path.as_str()], |(of, what)| vec![of, what]),
            })
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
