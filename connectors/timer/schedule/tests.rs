use std::collections::BTreeSet;

use jiff::ToSpan;
use jiff::civil::DateTime;

use super::*;

fn read(line: &str, zone: TimeZone) -> Result<Schedule, Problem> {
    Schedule::cron(&super::super::cron::read(line)?, zone)
}

fn cron(line: &str, zone: &str) -> Schedule {
    read(line, TimeZone::get(zone).unwrap()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn instants(schedule: &Schedule, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut instants = vec![from];
    while let Some(next) = schedule
        .next(instants[instants.len() - 1])
        .filter(|next| *next <= until)
    {
        assert!(next > instants[instants.len() - 1], "it strictly advances");
        instants.push(next);
    }
    instants.split_off(1)
}

/// Cron's fields of the simplest kind, read by nothing but this.
fn matches(line: &str, civil: DateTime) -> bool {
    let field = |text: &str, value: i8| {
        text.split(',').any(|part| {
            let (range, step) = part
                .split_once('/')
                .map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
            match range.split_once('-') {
                _ if range == "*" => value % step == 0,
                Some((first, last)) => {
                    (first.parse().unwrap()..=last.parse().unwrap()).contains(&value)
                }
                None => range.parse::<i8>().unwrap() == value,
            }
        })
    };
    let fields: Vec<_> = line.split(' ').collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        panic!("{line}")
    };
    let (of_month, of_week) = (
        field(day, civil.day()),
        field(weekday, civil.weekday().to_sunday_zero_offset()),
    );
    let is_day = match (day, weekday) {
        ("*", _) => of_week,
        (_, "*") => of_month,
        _ => of_month || of_week,
    };
    field(minute, civil.minute())
        && field(hour, civil.hour())
        && field(month, civil.month())
        && is_day
}

/// The declared set, minute by minute, instants and skipped wall clock alike.
fn reference(line: &str, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let every_hour = matches!(line.split(' ').nth(1), Some("*" | "0-23"));
    let mut set = BTreeSet::new();
    let mut instant = from;
    while instant <= until {
        let civil = zone.to_datetime(instant);
        let first_passing = || {
            zone.to_ambiguous_zoned(civil)
                .earlier()
                .unwrap()
                .timestamp()
                == instant
        };
        if matches(line, civil) && (every_hour || first_passing()) {
            set.insert(instant);
        }
        instant += 1.minute();
    }
    let (mut civil, last) = (
        zone.to_datetime(from) - 2.days(),
        zone.to_datetime(until) + 2.days(),
    );
    while civil <= last {
        if matches(line, civil) {
            let ambiguous = zone.to_ambiguous_zoned(civil);
            if matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
                set.insert(ambiguous.compatible().unwrap().timestamp());
            }
        }
        civil += 1.minute();
    }
    set.into_iter()
        .filter(|instant| (from..=until).contains(instant))
        .collect()
}

#[test]
fn a_cron_line_fires_exactly_at_its_declared_times_over_gaps_and_folds() {
    let lines = [
        "30 2 * * *",
        "0 2,3 * * *",
        "*/15 * * * *",
        "*/20 2 * * *",
        "0 */2 * * *",
        "0 0 * * *",
        "59 23 * * *",
        "0 1-3 * * 0",
        "10 * * * *",
        "0 0-23 * * *",
        "0 0 30 12 *",
        "15 0 1,15 * 1",
        "0 12 29 2 *",
        "*/7 1,2,3 * 3,10,11 *",
    ];
    for (zone, from) in [
        ("UTC", "2026-03-28T00:00:00Z"),
        ("Europe/Berlin", "2026-03-27T21:00:00Z"),
        ("Europe/Berlin", "2026-10-23T21:00:00Z"),
        ("America/New_York", "2026-03-07T00:00:00Z"),
        ("America/New_York", "2026-10-31T00:00:00Z"),
        // Half an hour.
        ("Australia/Lord_Howe", "2026-10-02T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
        // At midnight.
        ("America/Sao_Paulo", "2017-10-14T00:00:00Z"),
        ("America/Sao_Paulo", "2018-02-16T00:00:00Z"),
        // Two hours.
        ("Antarctica/Troll", "2026-03-28T00:00:00Z"),
        ("Antarctica/Troll", "2026-10-24T00:00:00Z"),
        // A whole day.
        ("Pacific/Apia", "2011-12-28T00:00:00Z"),
        ("Africa/Casablanca", "2026-02-14T00:00:00Z"),
        ("Asia/Kolkata", "2026-01-01T00:00:00Z"),
    ] {
        let from: Timestamp = from.parse().unwrap();
        let (until, zone) = (
            from + SignedDuration::from_hours(72),
            TimeZone::get(zone).unwrap(),
        );
        for line in lines {
            let schedule = read(line, zone.clone()).unwrap();
            let expect = reference(line, &zone, from + SignedDuration::from_mins(1), until);
            assert_eq!(
                instants(&schedule, from, until),
                expect,
                "{line} in {:?} from {from}",
                zone.iana_name()
            );
            // From any point between two firings the next is the same.
            for (index, instant) in expect.iter().enumerate().step_by(5) {
                let back = SignedDuration::from_secs(1 + i64::try_from(index).unwrap() % 50);
                assert_eq!(
                    schedule.next(*instant - back),
                    Some(*instant),
                    "{line} just before {instant}"
                );
            }
        }
    }
}

#[test]
fn lines_of_other_spellings() {
    let at = |line: &str, zone: &str, after: &str| {
        cron(line, zone)
            .next(after.parse().unwrap())
            .map(|next| cron(line, zone).show(next))
    };
    for (line, zone, after, expect) in [
        (
            "0 9 * * MON-FRI",
            "Europe/Berlin",
            "2026-11-20T08:00:00Z",
            "2026-11-23T09:00:00+01:00",
        ),
        (
            "*/10 * * * * *",
            "UTC",
            "2026-01-01T00:00:01Z",
            "2026-01-01T00:00:10+00:00",
        ),
        (
            "@daily",
            "Europe/Berlin",
            "2026-06-01T00:00:00Z",
            "2026-06-02T00:00:00+02:00",
        ),
        (
            "@HOURLY",
            "Asia/Kolkata",
            "2026-01-01T00:00:00Z",
            "2026-01-01T06:00:00+05:30",
        ),
        (
            "0 0 L * *",
            "UTC",
            "2026-02-01T00:00:00Z",
            "2026-02-28T00:00:00+00:00",
        ),
        (
            "0 0 * * FRI#2",
            "UTC",
            "2026-11-01T00:00:00Z",
            "2026-11-13T00:00:00+00:00",
        ),
        (
            "0 0 15W * *",
            "UTC",
            "2026-11-01T00:00:00Z",
            "2026-11-16T00:00:00+00:00",
        ),
        (
            "5/15 * * * *",
            "UTC",
            "2026-01-01T00:06:00Z",
            "2026-01-01T00:20:00+00:00",
        ),
        (
            "0 0 29 2 *",
            "Europe/Berlin",
            "2026-01-01T00:00:00Z",
            "2028-02-29T00:00:00+01:00",
        ),
        (
            "0 0 0 29 2 * 2096",
            "America/New_York",
            "2026-01-01T00:00:00Z",
            "2096-02-29T00:00:00-05:00",
        ),
        (
            "30 2 31 3 *",
            "Europe/Berlin",
            "2024-01-01T00:00:00Z",
            "2024-03-31T03:30:00+02:00",
        ),
        (
            "30 1 * * *",
            "Europe/Lisbon",
            "2026-10-25T00:29:59.999999Z",
            "2026-10-25T01:30:00+01:00",
        ),
    ] {
        assert_eq!(
            at(line, zone, after).as_deref(),
            Some(expect),
            "{line} in {zone} after {after}"
        );
    }
    assert_eq!(
        at("0 0 0 1 1 * 2030", "Europe/Berlin", "2030-06-01T00:00:00Z"),
        None,
        "it is over"
    );
}

#[test]
fn lines_that_mean_nothing_are_refused() {
    for (line, expect) in [
        ("* * * *", "five fields"),
        ("0 0 * * XYZ", "is no day of the week"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 LWL * *", "is no day of the month"),
    ] {
        let error = read(line, TimeZone::UTC).unwrap_err();
        assert!(error.message.contains(expect), "{line}: {error:?}");
    }
}

#[test]
fn a_step_of_the_days_of_a_week_ends_on_saturday() {
    use jiff::civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    for (line, expect) in [
        ("0 9 * * 1/2", &[Monday, Wednesday, Friday][..]),
        ("0 9 * * MON/2", &[Monday, Wednesday, Friday]),
        ("0 9 * * 0/2", &[Sunday, Tuesday, Thursday, Saturday]),
        ("0 9 * * SUN/3", &[Sunday, Wednesday, Saturday]),
        ("0 9 * * 2/3", &[Tuesday, Friday]),
        ("0 9 * * 6/2", &[Saturday]),
        ("0 9 * * */2", &[Sunday, Tuesday, Thursday, Saturday]),
        ("0 9 * * */5", &[Sunday, Friday]),
        ("0 9 * * 1-5/2", &[Monday, Wednesday, Friday]),
        ("0 9 * * FRI-SUN", &[Sunday, Friday, Saturday]),
        ("0 9 * * TUE/2,SUN", &[Sunday, Tuesday, Thursday, Saturday]),
    ] {
        let week = (
            "2026-11-01T00:00:00Z".parse().unwrap(),
            "2026-11-08T00:00:00Z".parse().unwrap(),
        );
        let days: Vec<_> = instants(&cron(line, "UTC"), week.0, week.1)
            .iter()
            .map(|instant| instant.to_zoned(TimeZone::UTC).weekday())
            .collect();
        assert_eq!(days, expect, "{line}");
    }
}

#[test]
fn a_period_is_counted_from_the_epoch() {
    let every = Schedule::Every(30_000_000);
    let next = |after: &str| every.next(after.parse().unwrap()).unwrap().to_string();
    assert_eq!(next("2026-01-01T00:00:00Z"), "2026-01-01T00:00:30Z");
    assert_eq!(next("2026-01-01T00:00:29.999999Z"), "2026-01-01T00:00:30Z");
    assert_eq!(next("1969-12-31T23:59:59Z"), "1970-01-01T00:00:00Z");
    let (after, until) = (
        "2026-01-01T00:00:00Z".parse().unwrap(),
        "2026-01-01T00:05:15Z".parse().unwrap(),
    );
    assert_eq!(every.count(after, until), Some(10));
    assert_eq!(instants(&every, after, until).len(), 10);
    assert_eq!(every.count(until, after), Some(0));
}

#[test]
fn zones_come_with_the_program() {
    assert!(
        jiff::tz::TimeZoneDatabase::bundled()
            .get("Europe/Berlin")
            .is_ok()
    );
}
