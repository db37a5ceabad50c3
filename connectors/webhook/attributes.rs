//! Attributes that were found in a call, and the event of them.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pointsman_schemas::event::is_string;
use pointsman_schemas::{Data, Event, EventBuilder, Timestamp};
use serde_json::Value;

/// What was made of a request.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Not checked yet, and without its data.
    pub(super) event: EventBuilder,
    pub(super) data: Option<Data>,
    /// What the data came in, where it is not the whole body.
    pub(super) envelope: Option<Value>,
    /// The sender's own id of it, which stays the same when he tries again.
    pub(super) id: Option<String>,
}

/// The attributes that a sender's own mapping finds; what is missing gets its default.
pub(super) struct Attributes {
    pub(super) ty: String,
    pub(super) source: String,
    pub(super) id: Option<String>,
    pub(super) subject: Option<String>,
    /// RFC 3339, or seconds or milliseconds since 1970.
    pub(super) time: Option<String>,
}

/// The event of these attributes; a missing id is made up, a missing time is now.
pub(super) fn build(
    attributes: Attributes,
    data: Option<Data>,
    declared: Option<&str>,
    now: Timestamp,
) -> Mapped {
    let id = attributes
        .id
        .clone()
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let time = attributes
        .time
        .as_deref()
        .and_then(rfc3339)
        .unwrap_or_else(|| now.to_string());
    let source = utf8_percent_encode(&attributes.source, NOT_OF_URIS).to_string();
    let mut event = Event::builder(id, source, attributes.ty).time(time);
    // A subject that cannot be one is no reason to refuse what happened.
    if let Some(subject) = attributes
        .subject
        .filter(|subject| !subject.is_empty() && is_string(subject))
    {
        event = event.subject(subject);
    }
    if let Some(declared) = declared {
        event = event.datacontenttype(declared);
    }
    Mapped {
        event,
        data,
        envelope: None,
        id: attributes.id,
    }
}

/// What a URI has no room for (RFC 3986, section 2): senders' names are not always encoded.
const NOT_OF_URIS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A sender's time in RFC 3339: as it is where it is that, made from seconds since 1970, or from
/// GitLab's older spelling.
fn rfc3339(time: &str) -> Option<String> {
    if time.parse::<jiff::Timestamp>().is_ok() && time.contains(['T', 't']) {
        return Some(time.to_owned());
    }
    if let Ok(number) = time.parse::<i64>() {
        // The seconds of the year 5138 are the milliseconds of 1973: nobody sends either.
        let made = if number.abs() < 100_000_000_000 {
            jiff::Timestamp::from_second(number)
        } else {
            jiff::Timestamp::from_millisecond(number)
        };
        return made.ok().map(|time| time.to_string());
    }
    if let Some(seconds) = time
        .parse::<f64>()
        .ok()
        .filter(|seconds| seconds.is_finite() && seconds.abs() < 1e11)
    {
        let micros = jiff::Timestamp::from_microsecond((seconds * 1e6).round() as i64);
        return micros.ok().map(|time| time.to_string());
    }
    let time = time.strip_suffix(" UTC")?.replacen(' ', "T", 1) + "Z";
    time.parse::<jiff::Timestamp>().ok().map(|_| time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_no_attribute_can_hold_is_left_out() {
        for (subject, expect) in [
            ("a b", Some("a b")),
            ("", None),
            ("a\u{7}", None),
            ("a\u{FDD0}", None),
            ("a\u{1FFFF}", None),
        ] {
            let attributes = Attributes {
                ty: "t".to_owned(),
                source: "/s".to_owned(),
                id: None,
                subject: Some(subject.to_owned()),
                time: None,
            };
            let event = build(attributes, None, None, Timestamp(0))
                .event
                .build()
                .unwrap();
            assert_eq!(event.subject(), expect, "{subject:?}");
        }
    }
}
