//! Time zones by their names, and what was probably meant by a name of none.

use jiff::tz::{self, TimeZone};

use crate::{Problem, suggest};

/// A time zone by its name in the tz database, such as `Europe/Berlin`.
///
/// # Errors
/// There is none of that name, with the one that was probably meant.
pub fn zone(name: &str) -> Result<TimeZone, Problem> {
    TimeZone::get(name)
        .map_err(|_| Problem::new(format!("there is no time zone `{name}`")).help(meant(name)))
}

/// What zones are called elsewhere: by the abbreviation of a part of the year (POSIX), by Windows
/// (the territory 001 of CLDR's `windowsZones`), in words. Each with the zone of a city in it.
///
/// Abbreviations that the tz database has as zones of their own (`EST`, `CET`) are not among them.
const ALSO_KNOWN_AS: [(&[&str], &str); 22] = [
    (&["CEST", "W. Europe Standard Time"], "Europe/Berlin"),
    (&["WEST", "BST", "GMT Standard Time"], "Europe/London"),
    (&["EEST", "FLE Standard Time"], "Europe/Kyiv"),
    (&["MSD", "Russian Standard Time"], "Europe/Moscow"),
    (&["TRT", "Turkey Standard Time"], "Europe/Istanbul"),
    (&["EDT", "ET", "Eastern Standard Time"], "America/New_York"),
    (&["CDT", "CT", "Central Standard Time"], "America/Chicago"),
    (&["MDT", "MT", "Mountain Standard Time"], "America/Denver"),
    (
        &["PST", "PDT", "PT", "Pacific Standard Time"],
        "America/Los_Angeles",
    ),
    (
        &["AKST", "AKDT", "Alaskan Standard Time"],
        "America/Anchorage",
    ),
    (
        &["BRT", "E. South America Standard Time"],
        "America/Sao_Paulo",
    ),
    (
        &["ART", "Argentina Standard Time"],
        "America/Argentina/Buenos_Aires",
    ),
    (&["IST", "India Standard Time"], "Asia/Kolkata"),
    (&["JST", "Tokyo Standard Time"], "Asia/Tokyo"),
    (&["KST", "Korea Standard Time"], "Asia/Seoul"),
    (&["China Standard Time"], "Asia/Shanghai"),
    (&["SGT", "Singapore Standard Time"], "Asia/Singapore"),
    (&["HKT"], "Asia/Hong_Kong"),
    (
        &["SAST", "South Africa Standard Time"],
        "Africa/Johannesburg",
    ),
    (
        &["AEST", "AEDT", "AUS Eastern Standard Time"],
        "Australia/Sydney",
    ),
    (&["AWST"], "Australia/Perth"),
    (
        &["NZST", "NZDT", "New Zealand Standard Time"],
        "Pacific/Auckland",
    ),
];

/// Help for a name that is none of a zone.
fn meant(name: &str) -> String {
    let also = ALSO_KNOWN_AS.iter().find_map(|(also, zone)| {
        let also = also.iter().find(|also| also.eq_ignore_ascii_case(name))?;
        Some((!also.contains(' '), zone))
    });
    if let Some((is_abbreviation, zone)) = also {
        let why = if is_abbreviation {
            "an abbreviation is a clock of a part of the world or of the year, and no zone; "
        } else {
            ""
        };
        return format!("{why}name a city in it, such as `{zone}`");
    }
    if let Some(offset) = name
        .trim_start_matches("UTC")
        .trim_start_matches("GMT")
        .strip_prefix(['+', '-'])
        && offset.starts_with(|first: char| first.is_ascii_digit())
    {
        return match whole_hours(offset) {
            // The tz database counts them to the west, as POSIX does.
            Some(hours @ 1..=12) => {
                let sign = if name.contains('-') { '+' } else { '-' };
                format!(
                    "an offset does not know summer time: name a city such as `Europe/Berlin`, or \
                     write `Etc/GMT{sign}{hours}` for this offset all year"
                )
            }
            _ => "an offset is no zone: name a city in it, such as `Europe/Berlin`".to_owned(),
        };
    }
    let mut known: Vec<String> = tz::db()
        .available()
        .map(|name| name.as_str().to_owned())
        .collect();
    known.sort_unstable();
    // A city alone is what people remember.
    let city = known.iter().find(|known| {
        let city = known.rsplit('/').next().unwrap_or_default();
        suggest::fold(city) == suggest::fold(name)
    });
    let near = || suggest::nearest(name, known.iter().map(String::as_str));
    match city.map(String::as_str).or_else(near) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "names are such as UTC, Europe/Berlin and America/New_York".to_owned(),
    }
}

/// The hours of an offset that has no minutes: `2`, `02`, `0200`, `02:00`.
fn whole_hours(offset: &str) -> Option<u8> {
    let digits = offset.replace(':', "");
    let hours = match digits.len() {
        1 | 2 => digits.as_str(),
        _ => digits.strip_suffix("00")?,
    };
    hours.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_no_zone_is_told_with_one_of_a_zone() {
        for name in ["UTC", "Europe/Berlin", "CET", "EST5EDT", "Etc/GMT-2"] {
            assert!(zone(name).is_ok(), "{name}");
        }
        for (name, expect) in [
            ("Europe/Berln", "did you mean `Europe/Berlin`?"),
            ("Berlin", "did you mean `Europe/Berlin`?"),
            ("new york", "did you mean `America/New_York`?"),
            (
                "Pacific Standard Time",
                "name a city in it, such as `America/Los_Angeles`",
            ),
            (
                "zebra",
                "names are such as UTC, Europe/Berlin and America/New_York",
            ),
            (
                "",
                "names are such as UTC, Europe/Berlin and America/New_York",
            ),
            (
                "UTC+2",
                "an offset does not know summer time: name a city such as `Europe/Berlin`, or \
                 write `Etc/GMT-2` for this offset all year",
            ),
            (
                "-05:00",
                "an offset does not know summer time: name a city such as `Europe/Berlin`, or \
                 write `Etc/GMT+5` for this offset all year",
            ),
            (
                "+05:30",
                "an offset is no zone: name a city in it, such as `Europe/Berlin`",
            ),
        ] {
            assert_eq!(
                zone(name).unwrap_err().help.as_deref(),
                Some(expect),
                "{name}"
            );
        }
        for (name, city) in [
            ("CEST", "Europe/Berlin"),
            ("PDT", "America/Los_Angeles"),
            ("bst", "Europe/London"),
        ] {
            let help = zone(name).unwrap_err().help.unwrap();
            assert_eq!(
                help,
                format!(
                    "an abbreviation is a clock of a part of the world or of the year, and no \
                     zone; name a city in it, such as `{city}`"
                )
            );
        }
        for (names, city) in ALSO_KNOWN_AS {
            assert!(zone(city).is_ok(), "{city}");
            for name in names {
                assert!(zone(name).is_err(), "{name} is a zone of its own");
            }
        }
    }
}
