//! An error on its way from a visitor to the place where it is reported.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::config::yaml::OddNumber;

/// An error of a visitor. It becomes [`Error::Reported`] once its place is known and the mistakes
/// have it.
#[derive(Debug)]
pub enum Error {
    /// The mistakes have it already.
    Reported,
    /// A required key is not there.
    Missing(&'static str),
    /// A key that is not known.
    UnknownField {
        /// The key.
        field: String,
        /// What is known.
        known: &'static [&'static str],
    },
    /// An alternative that is not known.
    UnknownVariant {
        /// What stands there.
        variant: String,
        /// What is known.
        known: &'static [&'static str],
    },
    /// A value of the wrong kind.
    Type {
        /// What stands there.
        found: String,
        /// What is wanted.
        expected: String,
    },
    /// A number that is not spelt as JSON spells it.
    Odd(OddNumber),
    /// A key without a value.
    Empty,
    /// An alternative without the value that it needs.
    Bare(String),
    /// Anything else that a type finds wrong.
    Other(String),
}

/// How [`Error::Reported`] looks while it passes through an erased deserializer, which keeps only
/// texts of it.
const REPORTED: &str = "\u{1}reported";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str(REPORTED),
            Self::Missing(field) => write!(f, "`{field}` is missing"),
            Self::UnknownField { field, .. } => write!(f, "unknown key `{field}`"),
            Self::UnknownVariant { variant, .. } => write!(f, "`{variant}` is not known here"),
            Self::Type { found, expected } => {
                write!(f, "{expected} is wanted, and this is {found}")
            }
            Self::Odd(_) => f.write_str("this is not a number as JSON spells it"),
            Self::Empty => f.write_str("there is no value"),
            Self::Bare(variant) => write!(f, "`{variant}` needs more"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        match message.to_string() {
            message if message == REPORTED => Self::Reported,
            message => Self::Other(message),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type {
            found: found(unexpected),
            expected: wanted(&expected.to_string()),
        }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type {
            found: found(unexpected),
            expected: wanted(&expected.to_string()),
        }
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::Type {
            found: format!("a list of {length}"),
            expected: wanted(&expected.to_string()),
        }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownVariant {
            variant: variant.to_owned(),
            known,
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownField {
            field: field.to_owned(),
            known,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(_) | Unexpected::Char(_) => "a text".to_owned(),
        Unexpected::Unit | Unexpected::Option => "empty".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// What a visitor says that it expects, in the words of the rule file.
fn wanted(expected: &str) -> String {
    match expected {
        "a string" | "a borrowed string" | "a character" | "path string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        other if other.starts_with("a nonzero u") => "a whole number from 1".to_owned(),
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        other if other.starts_with("enum ") || other.starts_with("variant identifier") => {
            "one of the known words".to_owned()
        }
        other => other.to_owned(),
    }
}
