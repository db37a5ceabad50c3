//! Dates in programs: the filters of jq, and a zone where one is wanted.
//!
//! jq knows points in time as numbers of seconds and as lists of parts. Wherever it takes one,
//! texts and other numbers are taken here that [`crate::date`] takes for one, as in templates.

use jaq_core::RunPtr;
use jaq_core::native::{bome, unary};
use jaq_core::{Cv, ValR};
use jaq_json::{Num, Val};
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use pointsman_schemas::time::zone;

use super::budget::{Bounded, Budget};
use super::filters::{failed, lossy, text};
use super::value::of_json;
use crate::date;

/// What looking up a zone costs, in steps: it may read a file.
const ZONE_STEPS: u64 = 100;

/// The filters, as the others are listed.
#[expect(clippy::too_many_lines, reason = "a table, an entry for each filter")]
pub(super) fn all() -> [(&'static str, usize, RunPtr<Bounded>, bool); 9] {
    [
        ("now", 0, |cv| bome(Ok(of_seconds(now(&cv)))), true),
        (
            "fromdate",
            0,
            |cv| bome(moment(&cv.1, &TimeZone::UTC).map(of_seconds)),
            false,
        ),
        (
            "todate",
            0,
            |cv| {
                bome(written(
                    cv.0.data().budget,
                    &cv.1,
                    "%Y-%m-%dT%H:%M:%SZ",
                    None,
                ))
            },
            false,
        ),
        (
            "todate",
            1,
            |cv| {
                let budget = cv.0.data().budget;
                unary(cv, move |value, zone| {
                    written(budget, &value, "%Y-%m-%dT%H:%M:%S%:z", Some(&zone))
                })
            },
            false,
        ),
        (
            "strftime",
            1,
            |cv| {
                let budget = cv.0.data().budget;
                unary(cv, move |value, format| {
                    written(budget, &value, &lossy(text(&format)?), None)
                })
            },
            false,
        ),
        (
            "strftime",
            2,
            |mut cv| {
                let (zone, format) = (cv.0.pop_var(), cv.0.pop_var());
                let format = text(&format).map(|format| lossy(format).into_owned());
                bome(
                    format.and_then(|format| {
                        written(cv.0.data().budget, &cv.1, &format, Some(&zone))
                    }),
                )
            },
            false,
        ),
        (
            "strptime",
            1,
            |cv| {
                let budget = cv.0.data().budget;
                unary(cv, move |value, format| {
                    parsed(budget, text(&value)?, text(&format)?)
                })
            },
            false,
        ),
        (
            "gmtime",
            0,
            |cv| {
                bome(
                    moment(&cv.1, &TimeZone::UTC)
                        .map(|moment| parts(&moment.to_zoned(TimeZone::UTC).datetime())),
                )
            },
            false,
        ),
        (
            "mktime",
            0,
            |cv| bome(moment(&cv.1, &TimeZone::UTC).map(of_seconds)),
            false,
        ),
    ]
}

fn now(cv: &Cv<'_, Bounded>) -> Timestamp {
    Timestamp::from_microsecond(cv.0.data().document.now().0).unwrap_or_default()
}

fn of_seconds(moment: Timestamp) -> Val {
    of_json(&date::seconds(moment).into())
}

/// The point in time that a value stands for; its parts, and a text without an offset, are those of
/// a clock in the zone.
fn moment(value: &Val, wall: &TimeZone) -> Result<Timestamp, jaq_json::Error> {
    let moment = match value {
        Val::Num(number) => date::of_number(&number.to_string()),
        Val::TStr(text) => date::of_text(&lossy(text), wall),
        Val::Arr(parts) => of_parts(parts).and_then(|civil| wall.to_timestamp(civil).ok()),
        _ => None,
    };
    moment.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        failed(format!("{shown} is no point in time"))
    })
}

fn written(budget: &Budget, value: &Val, format: &str, name: Option<&Val>) -> ValR<Val> {
    // Each conversion writes some twenty characters at most.
    budget.step(format.len() as u64)?;
    let zone = match name {
        None => TimeZone::UTC,
        Some(name) => {
            budget.step(ZONE_STEPS)?;
            zone(&lossy(text(name)?)).map_err(|problem| failed(problem.to_string()))?
        }
    };
    let at: Zoned = moment(value, &zone)?.to_zoned(zone);
    date::format(format, &at).map(Val::from).map_err(failed)
}

/// A text read by a format, as parts in UTC.
fn parsed(budget: &Budget, value: &[u8], format: &[u8]) -> ValR<Val> {
    budget.step((value.len() + format.len()) as u64)?;
    let wrong = |error: jiff::Error| failed(error.to_string());
    let mut parsed = BrokenDownTime::parse(format, value).map_err(wrong)?;
    if parsed.offset().is_none() && parsed.iana_time_zone().is_none() {
        parsed.set_offset(Some(Offset::UTC));
    }
    // A day without a time is its midnight.
    let moment = parsed.to_timestamp().map_err(wrong)?;
    Ok(parts(&moment.to_zoned(TimeZone::UTC).datetime()))
}

/// Year, month from 0, day, hour, minute, second, day of the week from Sunday as 0, day of the year
/// from 0.
fn parts(civil: &DateTime) -> Val {
    let whole = |number: i64| Val::Num(Num::from_integral(number));
    let second = match civil.subsec_nanosecond() {
        0 => whole(civil.second().into()),
        nanoseconds => Val::from(f64::from(civil.second()) + f64::from(nanoseconds) / 1e9),
    };
    let parts = [
        i64::from(civil.year()),
        i64::from(civil.month()) - 1,
        civil.day().into(),
        civil.hour().into(),
        civil.minute().into(),
    ];
    let behind = [
        i64::from(civil.weekday().to_sunday_zero_offset()),
        i64::from(civil.day_of_year()) - 1,
    ];
    parts
        .into_iter()
        .map(whole)
        .chain([second])
        .chain(behind.into_iter().map(whole))
        .collect()
}

fn of_parts(parts: &[Val]) -> Option<DateTime> {
    let number = |index: usize| match parts.get(index) {
        Some(Val::Num(number)) => number.to_string().parse::<f64>().ok(),
        Some(_) => None,
        // What is left out is the beginning.
        None if index > 1 => Some(if index == 2 { 1.0 } else { 0.0 }),
        None => None,
    };
    let whole = |index: usize| {
        number(index)
            .filter(|number| number.abs() < 32_000.0)
            .map(|number| number as i16)
    };
    let small = |index: usize| i8::try_from(whole(index)?).ok();
    let second = number(5).filter(|second| (0.0..60.0).contains(second))?;
    let nanosecond = ((second.fract() * 1e9).round() as i32).min(999_999_999);
    DateTime::new(
        whole(0)?,
        small(1)?.checked_add(1)?,
        small(2)?,
        small(3)?,
        small(4)?,
        second as i8,
        nanosecond,
    )
    .ok()
}
