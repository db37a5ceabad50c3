//! Points in time as templates and jq programs read and write them.
//!
//! What is taken for one, in either:
//!
//! | | |
//! |---|---|
//! | a text with an offset | RFC 3339, such as the `time` of an event: `2026-11-27T09:00:00+01:00` |
//! | a text without one | a day, or a day and a time, on the wall clock of the zone that is asked for |
//! | a number, or a text of nine digits or more | since 1970-01-01T00:00:00Z: seconds, from 10¹¹ on milliseconds, from 10¹⁴ microseconds, from 10¹⁷ nanoseconds |
//!
//! A second of 10¹¹ lies in the year 5138 and a millisecond of it in 1973, so nobody means the
//! other. Formats are those of `strftime` with the additions of
//! [jiff](https://docs.rs/jiff/latest/jiff/fmt/strtime/), in English.

use jiff::civil::DateTime;
use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pointsman_schemas::Problem;
use pointsman_schemas::time::zone;

/// RFC 3339 to the second, as `todate` of jq writes it.
const RFC_3339_UTC: &str = "%Y-%m-%dT%H:%M:%SZ";
const RFC_3339: &str = "%Y-%m-%dT%H:%M:%S%:z";

/// How many digits a text has at least that is taken for a number and not for a day: `20261127` is
/// one.
const DIGITS_MIN: usize = 9;

/// Nanoseconds of a unit, by the first number that is taken to count in it.
const UNITS: [(f64, i128); 3] = [(1e17, 1), (1e14, 1_000), (1e11, 1_000_000)];
const SECOND: i128 = 1_000_000_000;

/// The point in time that a number stands for; none where there is none.
pub(crate) fn of_number(number: &str) -> Option<Timestamp> {
    let double: f64 = number.parse().ok()?;
    let unit = UNITS
        .iter()
        .find(|(from, _)| double.abs() >= *from)
        .map_or(SECOND, |(_, unit)| *unit);
    let nanoseconds = match number.parse::<i128>() {
        Ok(whole) => whole.checked_mul(unit)?,
        Err(_) if double.is_finite() => {
            decimal(number, unit).unwrap_or((double * unit as f64) as i128)
        }
        Err(_) => return None,
    };
    Timestamp::from_nanosecond(nanoseconds).ok()
}

/// A number with a point in it, times a unit, exactly: `1764230400.000100`.
fn decimal(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.')?;
    let digits = fraction.get(..fraction.len().min(9))?;
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(fraction) || !is_plain(whole.strip_prefix('-').unwrap_or(whole)) {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(digits.len()).ok()?);
    let fraction = digits.parse::<i128>().ok()?.checked_mul(unit)? / scale;
    let whole = whole.parse::<i128>().ok()?.checked_mul(unit)?;
    if number.starts_with('-') {
        whole.checked_sub(fraction)
    } else {
        whole.checked_add(fraction)
    }
}

/// The point in time that a text stands for, on the wall clock of a zone where it names no offset;
/// none where there is none.
pub(crate) fn of_text(text: &str, wall: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    if digits >= DIGITS_MIN {
        return of_number(text);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let civil: DateTime = text.parse().ok()?;
    wall.to_timestamp(civil).ok()
}

/// Seconds since 1970, as jq counts them: a whole number where it is one.
pub(crate) fn seconds(timestamp: Timestamp) -> serde_json::Number {
    let exact = || serde_json::Number::from_f64(timestamp.as_microsecond() as f64 / 1e6);
    match timestamp.subsec_nanosecond() {
        0 => timestamp.as_second().into(),
        _ => exact().unwrap_or_else(|| timestamp.as_second().into()),
    }
}

/// A point in time on the wall clock of a zone.
pub(crate) fn format(text: &str, at: &Zoned) -> Result<String, String> {
    // Without it `%c` and its like are written for no language at all.
    let config = Config::new().custom(PosixCustom::new());
    BrokenDownTime::from(at)
        .to_string_with_config(&config, text)
        .map_err(|error| error.to_string())
}

/// How a point in time is written.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    text: Box<str>,
    pub(crate) zone: TimeZone,
}

impl Format {
    /// A `strftime` format, in UTC unless a zone is given.
    ///
    /// # Errors
    /// A conversion that there is not, or a zone that there is not: the first with a place inside
    /// of `text`.
    pub(crate) fn new(text: &str, name: Option<&str>) -> Result<Self, Problem> {
        let format = Self {
            text: text.into(),
            zone: name.map_or(Ok(TimeZone::UTC), zone)?,
        };
        format.write(Timestamp::UNIX_EPOCH).map_err(|error| {
            let problem = Problem::new(format!("this is no format of a date: {error}"));
            problem.help(
                "write it as for strftime, such as \"%Y-%m-%d\" or \"%d.%m.%Y %H:%M\"; %% is a \
                 percent sign",
            )
        })?;
        Ok(format)
    }

    /// RFC 3339 to the second.
    ///
    /// # Errors
    /// A zone that there is not.
    pub(crate) fn rfc_3339(name: Option<&str>) -> Result<Self, Problem> {
        Self::new(
            if name.is_some() {
                RFC_3339
            } else {
                RFC_3339_UTC
            },
            name,
        )
    }

    /// Writes it.
    ///
    /// # Errors
    /// What cannot be written: nothing of a format that was taken, but for the end of time.
    pub(crate) fn write(&self, at: Timestamp) -> Result<String, String> {
        format(&self.text, &at.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_for_a_point_in_time() {
        let berlin = zone("Europe/Berlin").unwrap();
        for (text, expect) in [
            ("2026-11-27T09:00:00+01:00", Some("2026-11-27T08:00:00Z")),
            ("2026-11-27 09:00:00.25Z", Some("2026-11-27T09:00:00.25Z")),
            ("2026-11-27T09:00:00", Some("2026-11-27T08:00:00Z")),
            ("2026-07-01", Some("2026-06-30T22:00:00Z")),
            ("20260701", Some("2026-06-30T22:00:00Z")),
            ("1764230400", Some("2025-11-27T08:00:00Z")),
            ("1764230400.000100", Some("2025-11-27T08:00:00.0001Z")),
            ("1764230400123", Some("2025-11-27T08:00:00.123Z")),
            ("tomorrow", None),
            ("2026-02-30", None),
            ("", None),
            ("99999999999999999999999999", None),
        ] {
            assert_eq!(
                of_text(text, &berlin)
                    .map(|time| time.to_string())
                    .as_deref(),
                expect,
                "{text}"
            );
        }
        for (number, expect) in [
            ("0", Some("1970-01-01T00:00:00Z")),
            ("-1.5", Some("1969-12-31T23:59:58.5Z")),
            ("1764230400", Some("2025-11-27T08:00:00Z")),
            ("1.7642304e9", Some("2025-11-27T08:00:00Z")),
            ("99999999999", Some("5138-11-16T09:46:39Z")),
            ("100000000000", Some("1973-03-03T09:46:40Z")),
            ("1764230400123456", Some("2025-11-27T08:00:00.123456Z")),
            (
                "1764230400123456789",
                Some("2025-11-27T08:00:00.123456789Z"),
            ),
            ("1e400", None),
            ("1e300", None),
        ] {
            assert_eq!(
                of_number(number).map(|time| time.to_string()).as_deref(),
                expect,
                "{number}"
            );
        }
    }

    #[test]
    fn formats_are_those_of_strftime_in_a_zone() {
        let at: Timestamp = "2026-07-01T22:05:09.25Z".parse().unwrap();
        for (text, name, expect) in [
            ("%Y-%m-%d", None, "2026-07-01"),
            ("%Y-%m-%d", Some("Europe/Berlin"), "2026-07-02"),
            (
                "%a, %d %b %Y %H:%M:%S %z (%Z)",
                Some("America/New_York"),
                "Wed, 01 Jul 2026 18:05:09 -0400 (EDT)",
            ),
            (
                "%-d.%-m. %H:%M:%.3f",
                Some("Asia/Kolkata"),
                "2.7. 03:35:.250",
            ),
            (
                "%c|%s|%G-W%V|%j|100%%",
                None,
                "Wed Jul  1 22:05:09 2026|1782943509|2026-W27|182|100%",
            ),
        ] {
            assert_eq!(
                Format::new(text, name).unwrap().write(at).unwrap(),
                expect,
                "{text}"
            );
        }
        assert_eq!(
            Format::rfc_3339(None).unwrap().write(at).unwrap(),
            "2026-07-01T22:05:09Z"
        );
        assert_eq!(
            Format::rfc_3339(Some("Europe/Berlin"))
                .unwrap()
                .write(at)
                .unwrap(),
            "2026-07-02T00:05:09+02:00"
        );
        for (text, name, expect) in [
            ("%Y-%!", None, "this is no format of a date"),
            ("%", None, "this is no format of a date"),
            (
                "%Y",
                Some("Europe/Berln"),
                "there is no time zone `Europe/Berln`",
            ),
        ] {
            let problem = Format::new(text, name).unwrap_err();
            assert!(problem.message.starts_with(expect), "{text}: {problem}");
        }
    }
}
