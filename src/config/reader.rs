//! Reads a piece of the tree into any type that serde can make, and finds every mistake on the way.
//!
//! A visitor that serde derives gives up at its first error. So the value at fault is reported,
//! with its place, and hidden, and the piece is read again without it, until it can be read or its
//! root is at fault. What the visitor then misses because it was hidden is not reported. Each pass
//! hides at least one value more, so this ends; a file without mistakes is read once.
//!
//! Keys that a struct does not have are reported and skipped in the same pass.

mod access;
mod error;
mod meant;
mod piece;
mod short;
#[cfg(test)]
mod tests;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use self::access::{ListReader, MapReader, VariantReader};
use super::mistake::Mistake;
use super::suggest;
use super::yaml::{Node, OddNumber, Value};
pub use error::Error;
pub use piece::Piece;
pub(super) use short::in_full;

/// Reads a value. None where it is not even in part what is wanted; what is wrong has been reported
/// to the mistakes then.
pub fn read<'t, T: Deserialize<'t>>(piece: Piece<'t>) -> Option<T> {
    read_with(piece, |reader| T::deserialize(reader))
}

/// Reads the settings of a connector through the function that its registry line has for them.
pub fn read_erased<S: ?Sized>(
    piece: Piece<'_>,
    parse: fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<S>, erased_serde::Error>,
) -> Option<Box<S>> {
    read_with(piece, |reader| {
        let mut erased = <dyn erased_serde::Deserializer<'_>>::erase(reader);
        parse(&mut erased).map_err(de::Error::custom)
    })
}

fn read_with<'t, T>(piece: Piece<'t>, parse: impl Fn(Reader<'t>) -> Result<T, Error>) -> Option<T> {
    /// More mistakes than anybody reads; without a bound each of a hundred thousand would cost a
    /// pass.
    const PASSES_MAX: usize = 500;
    (0..PASSES_MAX)
        .take_while(|_| !piece.mistakes.is_hidden(piece.node))
        .find_map(|_| Reader::new(piece).placed(&parse).ok())
}

#[derive(Clone, Copy)]
struct Reader<'t> {
    piece: Piece<'t>,
    /// True while the visitor wants a struct: then nothing stands for an empty one.
    wants_struct: bool,
    /// The keys of the struct that is wanted.
    fields: Option<&'static [&'static str]>,
}

impl<'t> Reader<'t> {
    fn new(piece: Piece<'t>) -> Self {
        Self {
            piece,
            wants_struct: false,
            fields: None,
        }
    }

    fn placed<T>(self, read: impl FnOnce(Self) -> Result<T, Error>) -> Result<T, Error> {
        let Piece { node, mistakes, .. } = self.piece;
        if mistakes.is_hidden(node) {
            return Err(Error::Reported);
        }
        let hidden_before = mistakes.hidden_count();
        read(self).map_err(|error| {
            let error = self.place(error);
            if mistakes.hidden_count() == hidden_before {
                mistakes.hide(node);
            }
            error
        })
    }

    /// Reports an error, where that has not been done, and hides what is at fault.
    fn place(self, error: Error) -> Error {
        if self.report(error) {
            self.piece.mistakes.hide(self.piece.node);
        }
        Error::Reported
    }

    /// Reports an error that has no place yet; true where there was one.
    fn report(self, error: Error) -> bool {
        let Piece {
            node,
            entry,
            mistakes,
            ..
        } = self.piece;
        let span = self.piece.span();
        match error {
            Error::Reported => return false,
            Error::Missing(field) => {
                if node.entry(field).is_none() && !mistakes.was_meant(node, field) {
                    let span = entry.map_or(span, |entry| entry.key_span);
                    mistakes.report(Mistake::new(span, format!("`{field}` is missing here")));
                }
            }
            Error::UnknownField { field, known } => match node.entry(&field) {
                Some(entry) => {
                    self.piece.report_unknown_key(entry, known);
                    mistakes.hide(&entry.value);
                    return false;
                }
                None => mistakes.report(
                    Mistake::new(span, format!("unknown key `{field}`"))
                        .help(suggest::help(&field, known).1),
                ),
            },
            Error::UnknownVariant { variant, known } => {
                mistakes.report(self.unknown_variant(&variant, known));
            }
            Error::Type { found, expected } => {
                let mistake = Mistake::new(
                    span,
                    format!("{expected} is wanted here, and this is {found}"),
                );
                mistakes.report(with_help(mistake, self.help_for(&expected)));
            }
            // What a type finds wrong with a value of which a part was hidden is most likely that
            // the part is not there.
            Error::Other(_)
                if node
                    .entries()
                    .iter()
                    .any(|entry| mistakes.is_hidden(&entry.value)) => {}
            Error::Other(message) => {
                let help = meant::of_text(&message, node);
                mistakes.report(with_help(Mistake::new(span, message), help));
            }
            Error::Bare(variant) => {
                let key = entry.map(|entry| entry.key.as_str());
                let mistake = Mistake::new(span, format!("`{variant}` needs more"));
                mistakes.report(mistake.help(in_braces(key, &variant)));
            }
            Error::Odd(odd) => self.report_odd_number(odd),
            Error::Empty => {
                let key = entry.map_or("this", |entry| &entry.key);
                self.piece.report(
                    format!("`{key}` has no value"),
                    "give it one, or remove the key",
                );
            }
        }
        true
    }

    /// The mistake of a word that is none of those that are known.
    fn unknown_variant(self, variant: &str, known: &'static [&'static str]) -> Mistake {
        let Piece { node, entry, .. } = self.piece;
        let span = node
            .entry(variant)
            .map_or(self.piece.span(), |entry| entry.key_span);
        let key = entry.map_or("", |entry| &entry.key);
        match short::of_a_secret(key, variant, known, node) {
            // It is not repeated.
            Some(help) => Mistake::new(
                span,
                format!("one of {} is wanted here", alternatives(known)),
            )
            .help(help),
            None => Mistake::new(span, format!("`{variant}` is not known here"))
                .help(suggest::help(variant, known).1),
        }
    }

    fn report_odd_number(self, odd: OddNumber) {
        let source = self.piece.source();
        let quoted = format!("quote it to make a text of it: \"{source}\"");
        match odd {
            OddNumber::Spelling => {
                let help = meant::number(source).map_or_else(
                    || quoted.clone(),
                    |number| format!("write {number}, or {quoted}"),
                );
                self.piece
                    .report("this is not a number as JSON spells it", help);
            }
            OddNumber::Range => {
                self.piece
                    .report("this number is too long to be kept exactly", quoted);
            }
        }
    }

    /// What may have been meant where something else is wanted.
    fn help_for(self, expected: &str) -> Option<String> {
        let Piece { node, entry, .. } = self.piece;
        let (key, source) = (entry.map_or("", |entry| &entry.key), self.piece.source());
        meant::glued(expected, self.fields, node)
            .or_else(|| short::in_full(key, expected, self.fields, node, source))
            .or_else(|| meant::of_kind(expected, node, source))
    }

    fn map(self, fields: Option<&'static [&'static str]>) -> MapReader<'t> {
        MapReader {
            reader: self,
            rest: self.piece.node.entries().iter(),
            value: None,
            fields,
        }
    }

    fn any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.piece.node.value {
            Value::Null if self.wants_struct => visitor.visit_map(self.map(None)),
            Value::Null => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::Odd(odd) => Err(Error::Odd(*odd)),
            Value::Text(text, _) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(ListReader {
                reader: self,
                rest: items.iter(),
            }),
            Value::Map(_) => visitor.visit_map(self.map(None)),
        }
    }
}

impl<'t> Deserializer<'t> for Reader<'t> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| reader.any(visitor))
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| {
            if reader.piece.node.value == Value::Null {
                visitor.visit_none()
            } else {
                visitor.visit_some(reader)
            }
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.placed(|reader| visitor.visit_newtype_struct(reader))
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let reader = Self {
            fields: Some(fields),
            ..self
        };
        reader.placed(|reader| match reader.piece.node.value {
            Value::Map(_) | Value::Null => visitor.visit_map(reader.map(Some(fields))),
            // A derived visitor would take its items for the fields in their order.
            Value::List(_) => Err(Error::Type {
                found: found(reader.piece.node),
                expected: "a mapping".to_owned(),
            }),
            _ => reader.any(visitor),
        })
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.placed(|reader| match &reader.piece.node.value {
            Value::Text(variant, _) => visitor.visit_enum(VariantReader {
                reader,
                variant,
                content: None,
            }),
            Value::Map(entries) => match entries.as_slice() {
                [entry] => {
                    let content = reader.piece.child(Some(entry), &entry.value);
                    visitor.visit_enum(VariantReader {
                        reader,
                        variant: &entry.key,
                        content: Some(content),
                    })
                }
                _ => Err(Error::Other(format!(
                    "exactly one key is wanted here: {}",
                    alternatives(variants)
                ))),
            },
            _ => Err(Error::Type {
                found: found(reader.piece.node),
                expected: format!("one of {}", alternatives(variants)),
            }),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <V: Visitor<'t>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

fn with_help(mistake: Mistake, help: Option<String>) -> Mistake {
    match help {
        Some(help) => mistake.help(help),
        None => mistake,
    }
}

/// How a word that stands alone is written with what it needs, below its key.
fn in_braces(key: Option<&str>, variant: &str) -> String {
    match key {
        Some("signature") if variant == "none" => "write `signature: { none: {} }`".to_owned(),
        Some("signature") => {
            format!("write `signature: {{ {variant}: {{ secret: {{ env: NAME }} }} }}`")
        }
        Some("auth") => {
            format!("write `auth: {{ {variant}: {{ env: NAME }} }}`, or what else it takes")
        }
        Some(key) => format!("write `{key}: {{ {variant}: … }}`"),
        None => format!("write `{{ {variant}: … }}`"),
    }
}

fn alternatives(names: &[&str]) -> String {
    /// More than these are no help.
    const LISTED_MAX: usize = 16;
    let mut listed: Vec<String> = names
        .iter()
        .take(LISTED_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.len() > LISTED_MAX {
        listed.push("…".to_owned());
    }
    listed.join(", ")
}

fn found(node: &Node) -> String {
    match &node.value {
        Value::Null => "empty",
        Value::Boolean(_) => "a boolean",
        Value::Number(_) | Value::Odd(_) => "a number",
        Value::Text(..) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
    .to_owned()
}
