//! What may stand where a template's result goes, and how it is escaped.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_schemas::Placement;

use super::RenderError;

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Appends what a query found.
pub(super) fn write(
    found: Option<Cow<'_, str>>,
    query: &str,
    placement: Placement,
    out: &mut String,
) -> Result<(), RenderError> {
    let Some(value) = found else {
        return match placement {
            Placement::Argument | Placement::Html | Placement::Mrkdwn | Placement::Column => Ok(()),
            Placement::Url | Placement::Header | Placement::Subject | Placement::Address => {
                Err(RenderError::Nothing {
                    query: query.to_owned(),
                })
            }
        };
    };
    let forbidden = match placement {
        // A client resolves dot segments (RFC 3986, section 5.2.4) even where the dots are
        // percent-encoded.
        Placement::Url => {
            matches!(&*value, "." | "..").then_some("only dots, which would lead to another path")
        }
        Placement::Header => value
            .contains(|c: char| c.is_ascii_control() && c != '\t')
            .then_some("a control character"),
        Placement::Argument | Placement::Html | Placement::Mrkdwn => {
            value.contains('\0').then_some("a NUL")
        }
        Placement::Subject => {
            if value.contains(['*', '>']) {
                Some("a * or a >")
            } else if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
                Some("a space or a control character")
            } else {
                value.is_empty().then_some("no characters")
            }
        }
        Placement::Address | Placement::Column => value.contains('\0').then_some("a NUL"),
    };
    if let Some(what) = forbidden {
        return Err(RenderError::Forbidden {
            query: query.to_owned(),
            place: name(placement),
            what,
        });
    }
    match placement {
        Placement::Url => out.extend(utf8_percent_encode(&value, RESERVED)),
        Placement::Html => write_escaped(&value, true, out),
        Placement::Mrkdwn => write_escaped(&value, false, out),
        _ => out.push_str(&value),
    }
    Ok(())
}

/// Escapes what ends a text in HTML and in mrkdwn, and what ends a quoted attribute's value.
fn write_escaped(value: &str, with_quotes: bool, out: &mut String) {
    for char in value.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' if with_quotes => out.push_str("&quot;"),
            '\'' if with_quotes => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
}

fn name(placement: Placement) -> &'static str {
    match placement {
        Placement::Url => "a URL",
        Placement::Header => "a header",
        Placement::Argument => "an argument",
        Placement::Html => "HTML",
        Placement::Mrkdwn => "a text for Slack",
        Placement::Subject => "a NATS subject",
        Placement::Address => "an address",
        Placement::Column => "a column",
    }
}

/// Checks the whole of a filled-in text.
pub(super) fn check_whole(
    text: &str,
    placement: Placement,
    constant: bool,
) -> Result<(), RenderError> {
    if placement == Placement::Subject && !constant && text.split('.').any(str::is_empty) {
        return Err(RenderError::Forbidden {
            query: text.to_owned(),
            place: name(placement),
            what: "an empty token between dots",
        });
    }
    Ok(())
}
