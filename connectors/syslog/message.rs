//! A message as it was sent, and what it says.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::{rfc3164, rfc5424};

/// How long a field of the head may be: as long as a host's name. RFC 5424 allows less for most of
/// them, which not every sender keeps to.
const FIELD_BYTES_MAX: usize = 255;

/// The largest priority: facility 23, severity 7.
const PRIORITY_MAX: u8 = 191;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Rfc5424,
    Rfc3164,
    /// Neither: all of it, but for the priority, is the message.
    Unknown,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rfc5424 => "rfc5424",
            Self::Rfc3164 => "rfc3164",
            Self::Unknown => "unknown",
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parsed<'m> {
    pub(super) format: Format,
    /// Facility and severity as one number.
    pub(super) priority: Option<u8>,
    pub(super) time: Option<Timestamp>,
    pub(super) hostname: Option<&'m str>,
    pub(super) app_name: Option<&'m str>,
    pub(super) procid: Option<&'m str>,
    pub(super) msgid: Option<&'m str>,
    /// Objects of parameters by the elements' names.
    pub(super) structured_data: Map<String, Value>,
    pub(super) message: &'m str,
}

impl<'m> Parsed<'m> {
    /// A message of which nothing else is known.
    pub(super) fn of(format: Format, message: &'m str) -> Self {
        Self {
            format,
            priority: None,
            time: None,
            hostname: None,
            app_name: None,
            procid: None,
            msgid: None,
            structured_data: Map::new(),
            message,
        }
    }
}

/// When a message came, and where times without a zone are from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'z> {
    pub(super) now: Timestamp,
    pub(super) zone: &'z TimeZone,
}

/// Reads a message.
pub(super) fn parse<'m>(text: &'m str, moment: Moment<'_>) -> Parsed<'m> {
    let Some((priority, rest)) = priority(text) else {
        return Parsed::of(Format::Unknown, text);
    };
    let parsed = rfc5424::parse(rest).or_else(|| rfc3164::parse(rest, moment));
    Parsed {
        priority: Some(priority),
        ..parsed.unwrap_or_else(|| Parsed::of(Format::Unknown, rest))
    }
}

fn priority(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = digits.parse().ok().filter(|_| is_number)?;
    (priority <= PRIORITY_MAX).then_some((priority, rest))
}

/// Whether a text may be a field of the head.
pub(super) fn is_field(text: &str) -> bool {
    (1..=FIELD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever reaches the port can send what he likes.
        #[test]
        fn whatever_comes_is_read_and_ends_with_its_message(
            text in r#"<1[0-9]?>(1 |Oct 1[0-9] |)((-|[0-9]{1,4}|[a\u{e9}"=:+.TZ\\]|\[|\]|\]:|=")( |)){0,14}.{0,3}"#
        ) {
            let zone = TimeZone::UTC;
            let parsed = parse(&text, Moment { now: Timestamp::UNIX_EPOCH, zone: &zone });
            prop_assert!(text.ends_with(parsed.message));
        }
    }

    #[test]
    fn priorities() {
        for (text, expect) in [
            ("<0>a", Some((0, "a"))),
            ("<191>", Some((191, ""))),
            ("<034>a", Some((34, "a"))),
            ("<192>a", None),
            ("<>a", None),
            ("<+1>a", None),
            ("<0001>a", None),
            ("<1", None),
            ("1>a", None),
        ] {
            assert_eq!(priority(text), expect, "{text}");
        }
    }

    #[test]
    fn what_is_of_no_format_is_kept_whole() {
        let zone = TimeZone::UTC;
        let moment = Moment {
            now: Timestamp::UNIX_EPOCH,
            zone: &zone,
        };
        for (text, priority, message) in [
            ("", None, ""),
            ("plain text", None, "plain text"),
            ("<13>hello", Some(13), "hello"),
            ("<13>app[1]: hello", Some(13), "app[1]: hello"),
            ("<13>2 - - - - - - a", Some(13), "2 - - - - - - a"),
            ("<13>1 - - - - - [a b] c", Some(13), "1 - - - - - [a b] c"),
            (
                "<13>Feb 30 00:00:00 h a: b",
                Some(13),
                "Feb 30 00:00:00 h a: b",
            ),
        ] {
            let expect = Parsed {
                priority,
                ..Parsed::of(Format::Unknown, message)
            };
            assert_eq!(parse(text, moment), expect, "{text}");
        }
    }
}
