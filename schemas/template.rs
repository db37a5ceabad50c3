//! What a target's settings leave to be filled in from the event.
//!
//! Connectors do not know the template language and rules do not know connectors: a connector
//! declares its template texts with where each will stand, the bus compiles them, and each attempt
//! carries them filled in, in the order declared.

pub mod lexer;

use crate::Segment;

/// Where a filled-in text will stand, which decides how values are escaped and what a path that
/// finds nothing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Part of a URL: values are percent-encoded; nothing found is an error.
    Url,
    /// A header's value: CR, LF and NUL are errors; nothing found is an error.
    Header,
    /// A command's argument or an environment variable's value: NUL is an error; nothing found is
    /// the empty text.
    Argument,
    /// A part of an HTML document: values are escaped, so that they are text there and no markup; NUL
    /// is an error; nothing found is the empty text.
    Html,
    /// A text in Slack's mrkdwn: what is markup in values is escaped; NUL is an error; nothing found
    /// is the empty text.
    Mrkdwn,
    /// Tokens of a NATS subject: space, `*` and `>` in a value are errors; nothing found is an
    /// error.
    Subject,
    /// An address of another kind (a routing key, an object's key): nothing found is an error.
    Address,
    /// A value of a database's column: NUL is an error. Where a query stands alone and finds nothing
    /// or a null, the text is [`NO_VALUE`]; inside other text nothing found is the empty text.
    Column,
}

/// The text that stands at a [`Placement::Column`] for no value at all, which no value is: it cannot
/// hold a NUL.
pub const NO_VALUE: &str = "\0";

/// One text of a target's settings that may hold `<$…>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateText {
    /// Where in the target's settings it stands.
    pub path: Vec<Segment>,
    /// The text.
    pub text: String,
    /// Where its result will stand.
    pub placement: Placement,
}
