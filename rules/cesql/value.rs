//! CESQL's values, and casts between their types (section 3.7).

use std::borrow::Cow;
use std::fmt;

use pointsman_schemas::AttributeValue;

/// A value. URIs, timestamps and binary attributes are strings (section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// True or false.
    Boolean(bool),
    /// A whole number of 32 bits.
    Integer(i32),
    /// A text.
    String(Cow<'a, str>),
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false.
    Boolean,
    /// A whole number of 32 bits.
    Integer,
    /// A text.
    String,
}

impl Type {
    /// What stands for a value that there is not (section 3.1).
    #[must_use]
    pub fn zero(self) -> Value<'static> {
        match self {
            Self::Boolean => Value::Boolean(false),
            Self::Integer => Value::Integer(0),
            Self::String => Value::String(Cow::Borrowed("")),
        }
    }
}

impl Value<'_> {
    /// Its type.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match self {
            Self::Boolean(_) => Type::Boolean,
            Self::Integer(_) => Type::Integer,
            Self::String(_) => Type::String,
        }
    }

    pub(crate) fn to_boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            Self::Integer(number) => Some(*number != 0),
            Self::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            Self::String(_) => None,
        }
    }

    pub(super) fn to_integer(&self) -> Option<i32> {
        match self {
            Self::Boolean(value) => Some((*value).into()),
            Self::Integer(number) => Some(*number),
            // One leading sign and digits: just what Rust takes.
            Self::String(text) => text.parse().ok(),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Boolean(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::String(text) => text,
        }
    }

    /// Casts it; gives it back where that cannot be done.
    pub(super) fn cast(self, to: Type) -> Result<Self, Self> {
        match to {
            Type::Boolean => self.to_boolean().map(Value::Boolean).ok_or(self),
            Type::Integer => self.to_integer().map(Value::Integer).ok_or(self),
            Type::String => Ok(Value::String(self.into_text())),
        }
    }
}

impl<'a> From<AttributeValue<'a>> for Value<'a> {
    fn from(value: AttributeValue<'a>) -> Self {
        match value {
            AttributeValue::String(text) => Self::String(Cow::Borrowed(text)),
            AttributeValue::Integer(number) => Self::Integer(number),
            AttributeValue::Boolean(value) => Self::Boolean(value),
        }
    }
}

impl fmt::Display for Value<'_> {
    /// As a literal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "'{}'", text.replace('\'', "\\'")),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::String => "a string",
        })
    }
}
