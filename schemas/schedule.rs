//! When an event asks to be delivered.

use std::time::Duration;

use crate::event::is_rfc3339;
use crate::{AttributeValue, Event, Interval, Timestamp};

/// The extension attribute that says when an event is delivered, and not before: RFC 3339.
pub const DELIVER_AT: &str = "deliverat";

/// How far ahead a delivery may be put off: a year.
pub const AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What an event asks for cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// It is no time.
    #[error("`{DELIVER_AT}` is {0}; give a time such as 2026-12-24T18:00:00Z")]
    NoTime(String),
    /// It is too far ahead.
    #[error("`{DELIVER_AT}` is {0}; nothing is kept for longer than 366 days")]
    TooFar(String),
}

/// Returns when an event asks to be delivered; none where it does not, or where that time has come.
///
/// # Errors
/// [`InvalidSchedule`].
pub fn deliver_at(event: &Event, now: Timestamp) -> Result<Option<Timestamp>, InvalidSchedule> {
    let text = match event.attribute(DELIVER_AT) {
        None => return Ok(None),
        Some(AttributeValue::String(text)) => text,
        Some(other) => return Err(InvalidSchedule::NoTime(other.to_string())),
    };
    if !is_rfc3339(text) {
        return Err(InvalidSchedule::NoTime(format!("{text:?}")));
    }
    // A time that cannot be read is one at the end of the year 9999.
    let at = text
        .parse::<jiff::Timestamp>()
        .map_or(Timestamp(i64::MAX), |time| Timestamp(time.as_microsecond()));
    if at > now.plus(AHEAD_MAX) {
        return Err(InvalidSchedule::TooFar(text.to_owned()));
    }
    Ok((at > now).then_some(at))
}

/// Reads how long a delivery is put off: a duration such as `10m`, or a number of seconds.
///
/// # Errors
/// It is neither, or longer than [`AHEAD_MAX`].
pub fn delay(text: &str) -> Result<Duration, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Interval(delay) = if is_number {
        format!("{text}s").parse()
    } else {
        text.parse()
    }?;
    if delay > AHEAD_MAX {
        return Err(format!("{text:?} is longer than 366 days"));
    }
    Ok(delay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExtensionValue;

    /// 2026-11-27T12:00:00Z.
    const NOW: Timestamp = Timestamp(1_795_780_800_000_000);

    fn asked(value: impl Into<ExtensionValue>) -> Result<Option<Timestamp>, String> {
        let event = Event::builder("1", "/s", "t").attribute(DELIVER_AT, value.into());
        deliver_at(&event.build().unwrap(), NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn a_time_to_come_is_told_to_the_microsecond_in_any_zone() {
        let later = |seconds| Ok(Some(NOW.plus(Duration::from_secs(seconds))));
        assert_eq!(asked("2026-11-27T12:00:01Z"), later(1));
        assert_eq!(asked("2026-11-27t14:00:01+02:00"), later(1));
        assert_eq!(asked("2027-11-28T12:00:00Z"), later(366 * 86_400));
        let micros = Ok(Some(NOW.plus(Duration::from_micros(1))));
        assert_eq!(asked("2026-11-27T12:00:00.000001Z"), micros);
        assert_eq!(asked("2026-11-27T12:00:00Z"), Ok(None));
        assert_eq!(asked("1970-01-01T00:00:00Z"), Ok(None));
        let none = Event::builder("1", "/s", "t").build().unwrap();
        assert_eq!(deliver_at(&none, NOW), Ok(None));
    }

    #[test]
    fn what_is_no_time_or_lies_too_far_ahead_is_told() {
        let wrong = [
            "",
            "soon",
            "10m",
            "2026-11-28",
            "2026-11-28T12:00:00",
            "2026-02-30T12:00:00Z",
            "2026-11-28T12:00:00Z[UTC]",
            "1795780800",
        ];
        for text in wrong {
            assert_eq!(
                asked(text),
                Err(format!(
                    "`deliverat` is {text:?}; give a time such as 2026-12-24T18:00:00Z"
                ))
            );
        }
        for told in [asked(1_795_780_800), asked(true)] {
            assert!(told.unwrap_err().contains("give a time"));
        }
        for far in ["2027-11-28T12:00:01Z", "9999-12-31T23:59:59Z"] {
            assert!(asked(far).unwrap_err().contains("366 days"), "{far}");
        }
    }

    #[test]
    fn a_delay_is_a_duration_or_a_number_of_seconds() {
        let seconds = |text: &str| delay(text).map(|delay| delay.as_secs_f64());
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("0"), Ok(0.0));
        assert_eq!(seconds("500ms"), Ok(0.5));
        assert_eq!(seconds("366d"), Ok(366.0 * 86_400.0));
        for wrong in [
            "",
            "-1",
            "1.5",
            "1 s",
            "367d",
            "31622401",
            "99999999999999999999",
        ] {
            assert!(delay(wrong).is_err(), "{wrong}");
        }
    }
}
