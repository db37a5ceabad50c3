//! Texts that are filled in from a request.

use std::borrow::Cow;

use http::HeaderName;
use pointsman_schemas::template::lexer::{self, Token, Unclosed};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A text with `<$…>` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    /// Where it is, and whether it may be missing.
    Ref(Ref, bool),
}

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ref {
    /// The raw body.
    Body,
    /// The text that the scheme's `timestamp` finds.
    Timestamp,
    /// The public address with its query.
    Url,
    Method,
    Path,
    /// The fields of a form, sorted by name, without anything between them.
    SortedForm,
    Header(HeaderName),
    Query(String),
    /// A field of the body by its path.
    Field(Vec<String>),
    /// A `name=value` beside the signature.
    Pair(String),
    /// The CRC-32 of the body, in decimal.
    Crc32,
    /// The secret itself.
    Secret,
    /// What Amazon's Simple Notification Service signs.
    AwsSns,
    /// What Alibaba's Message Service signs.
    AlibabaMns,
}

/// What a reference may begin with, in the words of a message.
const ROOTS: &str = "body, timestamp, url, method, path, sorted_form, crc32, secret, headers.…, \
                     query.…, fields.…, pairs.…";

impl Template {
    /// `<$.body>`.
    pub(super) fn body() -> Self {
        Self {
            parts: vec![Part::Ref(Ref::Body, false)],
        }
    }

    /// A header's value.
    pub(super) fn header(name: &str) -> Result<Self, http::header::InvalidHeaderName> {
        Ok(Self {
            parts: vec![Part::Ref(Ref::Header(name.parse()?), false)],
        })
    }

    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong, with the piece that is.
    pub(in crate::webhook) fn parse(text: &str) -> Result<Self, String> {
        let part = |token| match token {
            Ok(Token::Text(plain)) => Ok(Part::Literal(plain.to_owned())),
            Ok(Token::Slot { inside, .. }) => {
                let path = inside.trim_start_matches('$');
                let (path, optional) = path
                    .strip_suffix('?')
                    .map_or((path, false), |path| (path, true));
                let reference =
                    reference(path).map_err(|message| format!("`<{inside}>` {message}"))?;
                Ok(Part::Ref(reference, optional))
            }
            Err(Unclosed { at }) => {
                let open = text.get(at..).unwrap_or_default();
                Err(format!("`{open}` has no `>` at its end"))
            }
        };
        let parts = lexer::tokens(text).map(part).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// The headers, parameters and fields that it takes from a request, by their names there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.refs().filter_map(|reference| match reference {
            Ref::Header(name) => Some(name.as_str()),
            Ref::Query(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The first place that it names, in words for the sender.
    pub(super) fn place(&self) -> String {
        match self.refs().next() {
            Some(Ref::Header(name)) => format!("the header {name}"),
            Some(Ref::Query(name)) => format!("the query parameter {name}"),
            Some(Ref::Field(path)) => format!("the field {}", path.join(".")),
            _ => "what the request says of itself".to_owned(),
        }
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn refs(&self) -> impl Iterator<Item = &Ref> {
        self.parts.iter().filter_map(|part| match part {
            Part::Ref(reference, _) => Some(reference),
            Part::Literal(_) => None,
        })
    }
}

/// Reads `.a.b` and `['a']`, which header names with a dot or a quote in them want.
fn path(mut text: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    while !text.is_empty() {
        let (key, rest) = if let Some(rest) = text.strip_prefix('.') {
            rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()))
        } else {
            let quoted = text.strip_prefix('[')?;
            match quoted.strip_prefix('\'') {
                Some(rest) => rest.split_once("']")?,
                None => quoted.split_once(']')?,
            }
        };
        if key.is_empty() {
            return None;
        }
        keys.push(key.to_owned());
        text = rest;
    }
    Some(keys)
}

fn reference(text: &str) -> Result<Ref, String> {
    let unknown = || format!("is nothing of a request; there are {ROOTS}");
    let keys = path(text).ok_or_else(|| "is not a path such as <$.headers.x-time>".to_owned())?;
    let (root, rest) = keys.split_first().ok_or_else(unknown)?;
    let single = |rest: &[String]| match rest {
        [name] => Ok(name.clone()),
        _ => Err(format!("names one of {root}, such as <$.{root}.name>")),
    };
    match (root.as_str(), rest) {
        ("body", []) => Ok(Ref::Body),
        ("timestamp", []) => Ok(Ref::Timestamp),
        ("url", []) => Ok(Ref::Url),
        ("method", []) => Ok(Ref::Method),
        ("path", []) => Ok(Ref::Path),
        ("sorted_form", []) => Ok(Ref::SortedForm),
        ("crc32", []) => Ok(Ref::Crc32),
        ("secret", []) => Ok(Ref::Secret),
        ("aws_sns", []) => Ok(Ref::AwsSns),
        ("alibaba_mns", []) => Ok(Ref::AlibabaMns),
        ("headers", rest) => Ok(Ref::Header(
            single(rest)?
                .parse()
                .map_err(|_| "is not the name of a header".to_owned())?,
        )),
        ("query", rest) => Ok(Ref::Query(single(rest)?)),
        ("pairs", rest) => Ok(Ref::Pair(single(rest)?)),
        ("fields", [_, ..]) => Ok(Ref::Field(rest.to_vec())),
        _ => Err(unknown()),
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Template {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SignedText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_and_mistakes_are_told() {
        let read = |text: &str| Template::parse(text).map(|template| template.parts);
        assert_eq!(
            read("v0:<$.timestamp>:<$.body>").unwrap(),
            [
                Part::Literal("v0:".into()),
                Part::Ref(Ref::Timestamp, false),
                Part::Literal(":".into()),
                Part::Ref(Ref::Body, false)
            ]
        );
        for text in [
            "<$.headers.x-time>",
            "<$.headers['X-Time']>",
            "<$['headers'].x-time>",
        ] {
            assert_eq!(
                read(text).unwrap(),
                [Part::Ref(Ref::Header("x-time".parse().unwrap()), false)],
                "{text}"
            );
        }
        assert_eq!(
            read("<$.fields.a[0].b?>").unwrap(),
            [Part::Ref(
                Ref::Field(vec!["a".into(), "0".into(), "b".into()]),
                true
            )]
        );
        assert_eq!(
            read("<$.fields['a>b']>").unwrap(),
            [Part::Ref(Ref::Field(vec!["a>b".into()]), false)]
        );
        assert_eq!(read("").unwrap(), []);
        for (text, told) in [
            ("a<$.body", "`<$.body` has no `>` at its end"),
            (
                "<$.bodi>",
                "`<$.bodi>` is nothing of a request; there are body, timestamp",
            ),
            ("<$>", "`<$>` is nothing of a request"),
            (
                "<$.headers>",
                "`<$.headers>` names one of headers, such as <$.headers.name>",
            ),
            ("<$.headers.a.b>", "names one of headers"),
            ("<$.headers.a b>", "is not the name of a header"),
            ("<$.fields>", "is nothing of a request"),
            ("<$..a>", "is not a path"),
            // A `>` in quotes closes nothing.
            ("<$.fields['a>", "`<$.fields['a>` has no `>` at its end"),
            ("<$.fields[a'b'>", "has no `>` at its end"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
