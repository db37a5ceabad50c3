//! Messages as RFC 3164 found them, behind their priority: `Oct 11 22:14:15 host app[12]: text`.
//!
//! It is no standard, and senders differ: the C library leaves out the host, others write the year,
//! or the time as RFC 3339 has it, or no program. What cannot be told apart stays in the text.

use jiff::Timestamp;
use jiff::civil::{Date, Time};

use super::message::{Format, Moment, Parsed, is_field};
use super::rfc5424::instant;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// Reads a message; none where it does not begin with a time.
pub(super) fn parse<'m>(text: &'m str, moment: Moment<'_>) -> Option<Parsed<'m>> {
    let (time, rest) = time(text, moment)?;
    // Some devices have a colon behind the time.
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let rest = match rest.strip_prefix(' ') {
        Some(rest) => rest,
        None if rest.is_empty() => rest,
        None => return None,
    };
    let (hostname, rest) = match (tag(rest), rest.split_once(' ')) {
        (None, Some((host, behind))) if is_field(host) => (Some(host), behind),
        _ => (None, rest),
    };
    let tag = tag(rest).unwrap_or(Tag {
        app_name: None,
        procid: None,
        message: rest,
    });
    Some(Parsed {
        time: Some(time),
        hostname,
        app_name: tag.app_name,
        procid: tag.procid,
        ..Parsed::of(Format::Rfc3164, tag.message)
    })
}

/// The time that a text begins with, and what stands behind it.
fn time<'m>(text: &'m str, moment: Moment<'_>) -> Option<(Timestamp, &'m str)> {
    if let Some(month) = month(text) {
        return local(month, text.get(3..)?, moment);
    }
    let end = text.find(' ').unwrap_or(text.len());
    let (time, rest) = text.split_at(end);
    Some((instant(time)?, rest))
}

fn month(text: &str) -> Option<i8> {
    let name = text.get(..3)?;
    let mut all = (1..).zip(MONTHS);
    all.find_map(|(number, month)| month.eq_ignore_ascii_case(name).then_some(number))
}

/// A time without a zone, behind its month.
fn local<'m>(month: i8, text: &'m str, moment: Moment<'_>) -> Option<(Timestamp, &'m str)> {
    let (day, rest) = word(text)?;
    let day: i8 = number(day, 1..=2)?;
    let year = word(rest).and_then(|(year, rest)| Some((number(year, 4..=4)?, rest)));
    let (year, rest) = year.map_or((None, rest), |(year, rest)| (Some(year), rest));
    let rest = rest.trim_start_matches(' ');
    let end = rest
        .find(|char: char| !char.is_ascii_digit() && !matches!(char, ':' | '.'))
        .unwrap_or(rest.len());
    let (clock, _) = rest.split_at(end);
    let clock = clock.strip_suffix(':').unwrap_or(clock);
    let time = clock_time(clock)?;
    let at = |year: i16| {
        let date = Date::new(year, month, day).ok()?;
        let zoned = date.to_datetime(time).to_zoned(moment.zone.clone());
        Some(zoned.ok()?.timestamp())
    };
    let found = match year {
        Some(year) => at(year),
        // Of the years that it may be of, the one in which it is nearest: a message of December
        // may come in January, and the clock of a sender may be ahead.
        None => {
            let now = moment.now.to_zoned(moment.zone.clone()).year();
            let all = [now.checked_sub(1), Some(now), now.checked_add(1)];
            let distance = |at: &Timestamp| at.duration_since(moment.now).abs();
            all.into_iter()
                .flatten()
                .filter_map(at)
                .min_by_key(distance)
        }
    };
    Some((found?, rest.get(clock.len()..)?))
}

fn clock_time(text: &str) -> Option<Time> {
    let is_long_enough = text.as_bytes().get(5).is_some_and(|byte| *byte == b':');
    text.parse().ok().filter(|_| is_long_enough)
}

/// The word that a text begins with, behind spaces.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    let end = text.find(' ')?;
    Some(text.split_at(end))
}

fn number<T: std::str::FromStr>(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<T> {
    let is_number = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// The program, and what it says.
struct Tag<'m> {
    app_name: Option<&'m str>,
    procid: Option<&'m str>,
    message: &'m str,
}

/// Reads `app: text` and `app[12]: text`; none where a text does not begin with a program.
fn tag(text: &str) -> Option<Tag<'_>> {
    let end = text.find([' ', ':', '['])?;
    let (app_name, rest) = text.split_at(end);
    let (procid, rest) = match rest.strip_prefix('[') {
        None => (None, rest),
        Some(inside) => {
            let (procid, rest) = inside.split_once(']')?;
            (Some(procid).filter(|procid| is_field(procid)), rest)
        }
    };
    let message = match rest.strip_prefix(':') {
        Some(message) => message,
        None if procid.is_some() => rest,
        None => return None,
    };
    let is_separate = procid.is_some() || message.is_empty() || message.starts_with(' ');
    (is_field(app_name) && is_separate).then_some(Tag {
        app_name: Some(app_name),
        procid,
        message: message.strip_prefix(' ').unwrap_or(message),
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str, now: &str, zone: &str) -> Option<Value> {
        let zone = TimeZone::get(zone).unwrap();
        let moment = Moment {
            now: now.parse().unwrap(),
            zone: &zone,
        };
        let parsed = parse(text, moment)?;
        Some(json!([
            parsed.time.map(|time| time.to_string()),
            parsed.hostname,
            parsed.app_name,
            parsed.procid,
            parsed.message,
        ]))
    }

    #[test]
    fn messages() {
        const TIME: &str = "2026-10-11T22:14:15Z";
        for (text, expect) in [
            // Of RFC 3164, section 5.4.
            (
                "Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
                json!([
                    TIME,
                    "mymachine",
                    "su",
                    null,
                    "'su root' failed for lonvick on /dev/pts/8"
                ]),
            ),
            (
                "Oct 11 22:14:15 10.1.2.3 CRON[12]: (root) CMD",
                json!([TIME, "10.1.2.3", "CRON", "12", "(root) CMD"]),
            ),
            // Of the C library, and of BusyBox.
            (
                "Oct 11 22:14:15 sshd(pam_unix)[12]: opened",
                json!([TIME, null, "sshd(pam_unix)", "12", "opened"]),
            ),
            (
                "Oct 11 22:14:15 kernel: [ 12.5] a: b",
                json!([TIME, null, "kernel", null, "[ 12.5] a: b"]),
            ),
            // Of devices.
            (
                "Oct 11 2025 22:14:15: %ASA-6-302013: Built",
                json!(["2025-10-11T22:14:15Z", null, "%ASA-6-302013", null, "Built"]),
            ),
            (
                "Oct 11 22:14:15.250 h %LINK-3: down",
                json!(["2026-10-11T22:14:15.25Z", "h", "%LINK-3", null, "down"]),
            ),
            (
                "2026-10-12T00:14:15+02:00 h app[1] no colon",
                json!([TIME, "h", "app", "1", "no colon"]),
            ),
            (
                "oct 1 22:14:15 h a",
                json!(["2026-10-01T22:14:15Z", "h", null, null, "a"]),
            ),
            (
                "Oct  1 22:14:15 2001:db8::1 GET http://h/ a: b",
                json!([
                    "2026-10-01T22:14:15Z",
                    "2001:db8::1",
                    null,
                    null,
                    "GET http://h/ a: b"
                ]),
            ),
            (
                "Oct 11 22:14:15 h app[1]:x",
                json!([TIME, "h", "app", "1", "x"]),
            ),
            (
                "Oct 11 22:14:15 h  two",
                json!([TIME, "h", null, null, " two"]),
            ),
            ("Oct 11 22:14:15 h", json!([TIME, null, null, null, "h"])),
            ("Oct 11 22:14:15", json!([TIME, null, null, null, ""])),
        ] {
            let found = read(text, "2026-11-30T08:00:00Z", "UTC");
            assert_eq!(found, Some(expect), "{text}");
        }
    }

    #[test]
    fn the_year_is_the_nearest() {
        for (text, now, zone, expect) in [
            (
                "Dec 31 23:59:59",
                "2027-01-01T00:00:05Z",
                "UTC",
                "2026-12-31T23:59:59Z",
            ),
            (
                "Jan  1 00:00:05",
                "2026-12-31T23:59:59Z",
                "UTC",
                "2027-01-01T00:00:05Z",
            ),
            (
                "Feb 29 12:00:00",
                "2028-03-01T00:00:00Z",
                "UTC",
                "2028-02-29T12:00:00Z",
            ),
            (
                "Nov 30 09:00:00",
                "2026-11-30T08:00:00Z",
                "Europe/Berlin",
                "2026-11-30T08:00:00Z",
            ),
            (
                "Jan  1 00:30:00",
                "2026-12-31T23:30:01Z",
                "Europe/Berlin",
                "2026-12-31T23:30:00Z",
            ),
        ] {
            let found = read(text, now, zone).unwrap();
            assert_eq!(found[0], expect, "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "Oc",
            "Oct",
            "Oct 11",
            "Oct 11 22:14 h",
            "Oct 11 25:14:15 h",
            "Oct 32 22:14:15 h",
            "Feb 29 22:14:15 h",
            "Oct 11 22:14:15h",
            "Oct 11 22:14:15Z h",
            "ü 11 22:14:15 h",
            "2026-10-12 h",
            "*Oct 11 22:14:15 h",
        ] {
            assert_eq!(read(text, "2026-11-30T08:00:00Z", "UTC"), None, "{text}");
        }
    }
}
