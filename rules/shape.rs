//! What is known of an event before there is one: enough to say that a query will never find
//! anything in it.
//!
//! A target's address that finds nothing makes a dead letter of every delivery, and nothing shows
//! it before the first. What a rule's transform makes is known as far as it is written out; a
//! template in it, or a jq program, may make anything.

use pointsman_schemas::suggest;
use pointsman_schemas::template::lexer;
use serde_json::{Value, json};

use crate::document::Step;
use crate::path::Path;
use crate::transform::{RawAttributes, RawTransform};

/// What is known of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape<'s> {
    set: Option<&'s RawAttributes>,
    /// The data, in which a text that is one template stands for anything.
    data: Option<&'s Value>,
}

/// What stands for anything in a [`Shape`]'s data.
const ANYTHING: &str = "<$>";

/// The data of a report on a delivery.
#[must_use]
pub fn of_report() -> Value {
    let context = object(&["task", "rule", "target", "condition", "attempts", "event"]);
    let response = object(&["class", "code", "message"]);
    json!({
        "requestContext": context,
        "requestPayload": ANYTHING,
        "responseContext": response,
        "responsePayload": ANYTHING,
    })
}

/// An object that has these keys, each with anything under it.
#[must_use]
pub fn object(keys: &[&str]) -> Value {
    keys.iter()
        .map(|key| ((*key).to_owned(), Value::from(ANYTHING)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

impl<'s> Shape<'s> {
    /// An event whose data is of a known shape, as [`object`] makes it.
    #[must_use]
    pub fn of_data(data: &'s Value) -> Self {
        Self {
            set: None,
            data: Some(data),
        }
    }

    /// What a transform makes of an event of this shape.
    #[must_use]
    pub fn transformed(self, transform: &'s RawTransform) -> Self {
        let data = match transform {
            RawTransform {
                data: Some(data), ..
            } => Some(data),
            RawTransform { jq: Some(_), .. } => None,
            _ => self.data,
        };
        Self {
            set: Some(&transform.set),
            data,
        }
    }

    /// Why a query finds nothing in any such event; none where it may find something.
    #[must_use]
    pub fn lacks(&self, path: &Path) -> Option<String> {
        let steps = path.steps()?;
        let (first, rest) = steps.split_first()?;
        let Step::Name(name) = first else {
            return Some("an event is an object, and no list".to_owned());
        };
        match (&**name, rest) {
            ("data", rest) => self
                .data
                .and_then(|data| missing(data, "data".to_owned(), rest)),
            // New data is JSON, which stands under `data`.
            ("data_base64", _) => self.data.map(|_| "the data is JSON".to_owned()),
            (name, _)
                if name.is_empty()
                    || !name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) =>
            {
                let meant = name.to_lowercase();
                Some(match meant.as_str() {
                    "data" | "type" | "source" | "subject" | "id" | "time" => {
                        format!("no event has `{name}`; did you mean `{meant}`?")
                    }
                    _ => format!(
                        "no event has `{name}`: attributes are made of a-z and 0-9, and fields of \
                         the data stand under `data`"
                    ),
                })
            }
            ("body" | "headers" | "query" | "path" | "properties", [_, ..]) => Some(format!(
                "`{name}` is there in a source's `event` alone; an event's body stands under `data`"
            )),
            (name, [below, ..]) => Some(format!(
                "`{name}` is an attribute, and has nothing below it; did you mean \
                 `$.data.{name}{below}`?"
            )),
            (name, []) => {
                let is_removed = self
                    .set
                    .and_then(|set| set.0.get(name))
                    .is_some_and(Value::is_null);
                is_removed.then(|| format!("the transform takes `{name}` away"))
            }
        }
    }
}

/// What is missing of a value on the way of these steps.
fn missing(value: &Value, at: String, steps: &[Step]) -> Option<String> {
    let (first, rest) = steps.split_first()?;
    match (value, first) {
        // Alone it may make anything, and in an object or a list it may be left out.
        (Value::String(text), _) if lexer::only_slot(text).is_some() => None,
        (Value::Object(entries), Step::Name(name)) => match entries.get(&**name) {
            Some(value) => missing(value, format!("{at}{first}"), rest),
            None if entries.keys().any(|key| key.contains("<$$")) => None,
            None => {
                let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
                let same = keys
                    .iter()
                    .find(|key| key.eq_ignore_ascii_case(name))
                    .copied();
                let meant = same.or_else(|| suggest::nearest(name, keys.iter().copied()));
                Some(match (meant, keys.is_empty()) {
                    (Some(meant), _) => format!("`{at}` has no `{name}`; did you mean `{meant}`?"),
                    (None, true) => format!("`{at}` is empty"),
                    (None, false) => format!("`{at}` has no `{name}`, but {}", list(&keys)),
                })
            }
        },
        (Value::Array(items), Step::Index(index)) => {
            let at_most = i64::try_from(items.len()).ok()?;
            let index = if *index < 0 {
                index.checked_add(at_most)?
            } else {
                *index
            };
            match usize::try_from(index)
                .ok()
                .and_then(|index| items.get(index))
            {
                Some(value) => missing(value, format!("{at}{first}"), rest),
                None => Some(format!(
                    "`{at}` has {at_most} {}",
                    if at_most == 1 { "item" } else { "items" }
                )),
            }
        }
        (value, _) => Some(format!("`{at}` is {}", kind(value))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn list(keys: &[&str]) -> String {
    const LISTED_MAX: usize = 8;
    let listed: Vec<String> = keys
        .iter()
        .take(LISTED_MAX)
        .map(|key| format!("`{key}`"))
        .collect();
    format!(
        "{}{}",
        listed.join(", "),
        if keys.len() > LISTED_MAX { " …" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_event_of_a_shape_has_is_told() {
        let transform: RawTransform = serde_json::from_value(json!({
            "set": { "subject": null, "kind": "<$.type>" },
            "data": { "id": "<$.data.id>", "total": 5, "note": "of <$.id>", "list": [{ "a": 1 }], "none": {}, "any": "<$.data.x ?? omit>" },
        }))
        .unwrap();
        let made = Shape::default().transformed(&transform);
        for (path, expect) in [
            ("$.type", None),
            ("$.kind", None),
            ("$.other", None),
            ("$.data", None),
            ("$.data.id", None),
            ("$.data.id.deep[0]", None),
            ("$.data.any.deep", None),
            ("$.data.list[0].a", None),
            ("$.data.list[-1].a", None),
            ("$.data.*", None),
            ("$..x", None),
            ("$.data.Id", Some("`data` has no `Id`; did you mean `id`?")),
            (
                "$.data.totl",
                Some("`data` has no `totl`; did you mean `total`?"),
            ),
            (
                "$.data.key",
                Some("`data` has no `key`, but `id`, `total`, `note`, `list`, `none`, `any`"),
            ),
            ("$.data.none.x", Some("`data.none` is empty")),
            ("$.data.total.x", Some("`data.total` is a number")),
            ("$.data.note.x", Some("`data.note` is a text")),
            ("$.data.list[1]", Some("`data.list` has 1 item")),
            ("$.data.list.a", Some("`data.list` is a list")),
            (
                "$.data.list[0].b",
                Some("`data.list[0]` has no `b`, but `a`"),
            ),
            ("$.data_base64", Some("the data is JSON")),
            ("$.subject", Some("the transform takes `subject` away")),
            ("$.Type", Some("no event has `Type`; did you mean `type`?")),
            (
                "$.order_id",
                Some(
                    "no event has `order_id`: attributes are made of a-z and 0-9, and fields of the data stand under `data`",
                ),
            ),
            (
                "$.body.id",
                Some(
                    "`body` is there in a source's `event` alone; an event's body stands under `data`",
                ),
            ),
            (
                "$.detail.id",
                Some(
                    "`detail` is an attribute, and has nothing below it; did you mean `$.data.detail.id`?",
                ),
            ),
            ("$[0]", Some("an event is an object, and no list")),
        ] {
            assert_eq!(
                made.lacks(&Path::parse(path).unwrap()).as_deref(),
                expect,
                "{path}"
            );
        }
        let jq: RawTransform = serde_json::from_value(json!({ "jq": "." })).unwrap();
        assert_eq!(
            made.transformed(&jq)
                .lacks(&Path::parse("$.data.key").unwrap()),
            None,
            "a program may make anything"
        );
        let report = of_report();
        let report = Shape::of_data(&report);
        let lacks = |path: &str| report.lacks(&Path::parse(path).unwrap());
        assert_eq!(
            (
                lacks("$.data.requestPayload.id"),
                lacks("$.data.requestContext.event.type")
            ),
            (None, None)
        );
        assert_eq!(
            lacks("$.data.id").unwrap(),
            "`data` has no `id`, but `requestContext`, `requestPayload`, `responseContext`, `responsePayload`"
        );
        let only_set: RawTransform =
            serde_json::from_value(json!({ "set": { "type": "x" } })).unwrap();
        assert!(
            report
                .transformed(&only_set)
                .lacks(&Path::parse("$.data.id").unwrap())
                .is_some(),
            "the data stays as it was"
        );
    }
}
