//! When a timer fires: a strictly increasing set of instants, the same on every machine.
//!
//! A time zone is a row of segments of constant offset. Inside one, wall clock and instants advance
//! together, so a cron line is searched for in civil time, segment by segment, and only a segment's
//! beginning needs thought:
//!
//! ```text
//! gap   02:00 ┐             what is due in the skipped hour is due as much later as the clock was put on:
//!             └ 03:00       02:30 is 03:30; where something is due then anyway, that is one firing
//!
//! fold  03:00 ┐             what is due in the repeated hour is due in its first passing alone,
//!       02:00 ┘             unless the line names every hour: then it goes on through both
//! ```

use croner::Cron;
use croner::parser::CronParser;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use pointsman_schemas::Problem;

use super::cron::CronExpression;

/// How far civil times of one instant lie apart at most, twice over: whoever jumps ahead stays this
/// far behind.
const CIVIL_SLACK: SignedDuration = SignedDuration::from_hours(96);

/// The set of instants at which a timer fires.
#[derive(Clone, Debug)]
pub(super) enum Schedule {
    /// By a cron line, on the wall clock of a zone.
    Cron {
        /// The line.
        cron: Box<Cron>,
        /// The zone.
        zone: TimeZone,
        /// True where the line names every hour, and so a rhythm rather than a time of day.
        every_hour: bool,
    },
    /// Every so many microseconds, counted from 1970-01-01T00:00:00Z.
    Every(i64),
}

impl Schedule {
    /// The schedule of a cron line that has been read.
    ///
    /// # Errors
    /// What is wrong with it, or that it names no day there ever is.
    pub(super) fn cron(line: &CronExpression, zone: TimeZone) -> Result<Self, Problem> {
        let cron = CronParser::builder()
            .build()
            .parse(&line.fields)
            .map_err(|error| Problem::new(explain(&error.to_string())))?;
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        if cron
            .find_next_occurrence(&DateTime::constant(1970, 1, 1, 0, 0, 0, 0), true)
            .is_err()
        {
            return Err(Problem::new("this names a time that never comes")
                .help("is there such a day in that month?"));
        }
        Ok(Self::Cron {
            cron: Box::new(cron),
            zone,
            every_hour,
        })
    }

    /// The first instant after `after`; none where there will be no more.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let periods = after.as_microsecond().div_euclid(*period).checked_add(1)?;
                Timestamp::from_microsecond(periods.checked_mul(*period)?).ok()
            }
            Self::Cron {
                cron,
                zone,
                every_hour,
            } => {
                let (mut from, mut inclusive) = (after, false);
                loop {
                    let segment = Segment::around(zone, from);
                    match segment.first(cron, *every_hour, from, inclusive)? {
                        Found::At(instant) => return Some(instant),
                        Found::Later(later) => (from, inclusive) = (later, true),
                    }
                }
            }
        }
    }

    /// How many instants lie after `after` and up to `until`, where that needs no enumeration.
    pub(super) fn count(&self, after: Timestamp, until: Timestamp) -> Option<u64> {
        match self {
            Self::Every(period) => {
                let periods = |at: Timestamp| at.as_microsecond().div_euclid(*period);
                Some(u64::try_from(periods(until) - periods(after)).unwrap_or(0))
            }
            Self::Cron { .. } => None,
        }
    }

    /// The zone of its wall clock.
    pub(super) fn zone_name(&self) -> &str {
        match self {
            Self::Every(_) => "UTC",
            Self::Cron { zone, .. } => zone.iana_name().unwrap_or("UTC"),
        }
    }

    /// An instant as the schedule's wall clock shows it: RFC 3339 with its offset.
    pub(super) fn show(&self, instant: Timestamp) -> String {
        match self {
            Self::Every(_) => instant.to_string(),
            Self::Cron { zone, .. } => instant
                .to_zoned(zone.clone())
                .strftime("%Y-%m-%dT%H:%M:%S%:z")
                .to_string(),
        }
    }

    /// An instant as the schedule's wall clock shows it, without an offset. Where a clock is put
    /// back, two instants look alike.
    pub(super) fn show_local(&self, instant: Timestamp) -> String {
        let zone = match self {
            Self::Every(_) => TimeZone::UTC,
            Self::Cron { zone, .. } => zone.clone(),
        };
        instant.to_zoned(zone).datetime().to_string()
    }
}

/// Says in our words what croner says in its own.
fn explain(error: &str) -> String {
    let text = error.trim_end_matches('.');
    let text = text
        .strip_prefix("Invalid pattern: ")
        .or_else(|| text.strip_prefix("Component error: "))
        .unwrap_or(text);
    format!(
        "the cron line cannot be read: {}{}",
        text.get(..1).unwrap_or_default().to_lowercase(),
        text.get(1..).unwrap_or_default()
    )
}

/// What a segment holds.
enum Found {
    /// This.
    At(Timestamp),
    /// Nothing; the search goes on from here, this instant included.
    Later(Timestamp),
}

/// A stretch of time during which a zone's offset does not change.
struct Segment {
    /// Its first instant and the offset before it; none for the first segment there is.
    start: Option<(Timestamp, Offset)>,
    offset: Offset,
    /// The first instant behind it; none for the last one there is.
    end: Option<Timestamp>,
}

impl Segment {
    fn around(zone: &TimeZone, instant: Timestamp) -> Self {
        let just_after = instant
            .checked_add(SignedDuration::from_nanos(1))
            .unwrap_or(Timestamp::MAX);
        let start = zone.preceding(just_after).next().map(|transition| {
            let start = transition.timestamp();
            let before = start
                .checked_sub(SignedDuration::from_nanos(1))
                .unwrap_or(Timestamp::MIN);
            (start, zone.to_offset(before))
        });
        let end = zone
            .following(instant)
            .next()
            .map(|transition| transition.timestamp());
        Self {
            start,
            offset: zone.to_offset(instant),
            end,
        }
    }

    /// The first instant of a cron line in this segment from `from` on; none where the line names
    /// no more times at all.
    fn first(
        &self,
        cron: &Cron,
        every_hour: bool,
        from: Timestamp,
        inclusive: bool,
    ) -> Option<Found> {
        let mut start = (self.offset.to_datetime(from), inclusive);
        let mut shifted = None;
        if let Some((first, offset_before)) = self.start {
            let (old_clock, new_clock) = (
                offset_before.to_datetime(first),
                self.offset.to_datetime(first),
            );
            if old_clock > new_clock && !every_hour && start.0 < old_clock {
                start = (old_clock, true);
            }
            let from_on_old_clock = offset_before.to_datetime(from);
            if from_on_old_clock < new_clock {
                let in_gap = cron
                    .find_next_occurrence(&from_on_old_clock, inclusive)
                    .ok();
                shifted = in_gap
                    .filter(|civil| *civil < new_clock)
                    .and_then(|civil| offset_before.to_timestamp(civil).ok());
            }
        }
        let civil = cron.find_next_occurrence(&start.0, start.1).ok();
        let regular = civil.and_then(|civil| self.offset.to_timestamp(civil).ok());
        let ours = regular.filter(|instant| self.end.is_none_or(|end| *instant < end));
        match (ours, shifted, regular, self.end) {
            (Some(regular), Some(shifted), ..) => Some(Found::At(regular.min(shifted))),
            (Some(found), None, ..) | (None, Some(found), ..) => Some(Found::At(found)),
            // Nothing of the line lies before `regular` in any zone, but for what clocks may
            // differ.
            (None, None, Some(regular), Some(end)) => Some(Found::Later(
                end.max(regular.checked_sub(CIVIL_SLACK).ok()?),
            )),
            // No time of the line is left on the old clock, but the repeated hour may yet hold one.
            (None, None, None, Some(end)) if end.duration_since(from) < CIVIL_SLACK => {
                Some(Found::Later(end))
            }
            (None, None, ..) => None,
        }
    }
}

#[cfg(test)]
mod tests;
