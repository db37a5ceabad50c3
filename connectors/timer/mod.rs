//! Clocks that strike: a cron line on the wall clock of a time zone, or a fixed period.
//!
//! ```yaml
//! every-morning:
//!   timer: { cron: "0 9 * * MON-FRI", timezone: Europe/Berlin, misfire: latest }
//! heartbeat:
//!   timer: { every: 30s }
//! ```
//!
//! **Lines** have five fields, six with seconds in front, seven with years behind, or are a
//! nickname (`@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`); days of month and of week both
//! given, either is enough. `timezone` is UTC unless it is given; the zones come with the program
//! where the system has none. A period is counted from 1970-01-01T00:00:00Z, so that it beats alike
//! on every machine and after every restart.
//!
//! **Daylight saving**: what falls into the skipped hour fires as much later as the clock was put
//! on; what falls into the repeated hour fires in its first passing, except that a line naming
//! every hour (`*/10 * * * *`) goes on through both.
//!
//! **Each firing is an event** of type `com.pointsman.timer.fired`, source `/timers/<name>`, id
//! `<name>/<scheduled time>`, subject the name, time the scheduled time, and data `{ "timer",
//! "scheduled", "scheduled_local", "timezone", "skipped" }`: the scheduled time with its offset,
//! the same as the clock on the wall shows it there, the zone, and how many firings were left out
//! since the one before. With an `event:` mapping these are its defaults, and its root has the data
//! as `body`.
//!
//! **Misfires**: what is noticed more than five seconds late, because nothing ran, the machine
//! slept or the clock was put on, was missed. `latest` (the default) fires the last of what is due
//! once, `skip` leaves out what was missed, `{ all: 100 }` fires up to so many, the last ones. What
//! is left out is logged and counted.
//!
//! **Position**: the last scheduled time is stored with each firing, and when a timer first starts.
//! A changed line, zone or period is ordinary: the timer starts anew from then, and logs it.
//!
//! **A clock put back** by no more than lies between the last firing and the next makes the timer
//! wait for the next, so that nothing fires twice. Put back further, by an hour or by years, it
//! would keep the timer silent for as long: the timer goes on from the time that it is now. A
//! scheduled time that has fired before then fires once more, for the clock has shown it twice, and
//! its id says so (`<name>/<scheduled time>/2`): no id comes twice.

mod cron;
mod firing;
mod foreign;
mod schedule;

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pointsman_schemas::time;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Firings, Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};
use firing::{Repeats, Timer};
use schedule::Schedule;

pub use firing::BATCH_EVENTS_MAX;
pub use foreign::{Schedule as ForeignSchedule, of_eventbridge};

/// The type of the events, unless a mapping sets it.
pub const EVENT_TYPE: &str = "com.pointsman.timer.fired";

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// How many missed firings are caught up with at most.
const ALL_MAX: u32 = 10_000;

/// Fires at the times of a cron line, or every so often.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["cron"] }, { "required": ["every"] }], "dependentRequired" = { "timezone": ["cron"] }))]
pub struct TimerSource {
    /// A cron line such as `0 9 * * MON-FRI`, or a nickname such as `@daily`.
    #[schemars(extend("pattern" = cron::pattern(), "examples" = ["0 9 * * MON-FRI", "*/15 * * * *", "@daily"]))]
    cron: Option<Text>,
    /// The time zone of the cron line, such as Europe/Berlin; UTC unless it is given.
    #[schemars(extend("pattern" = "^[A-Za-z][A-Za-z0-9_+/-]*$", "examples" = ["Europe/Berlin", "UTC"]))]
    timezone: Option<Text>,
    /// A period, counted from 1970-01-01T00:00:00Z.
    every: Option<Interval>,
    /// What becomes of firings that were missed.
    #[serde(default)]
    misfire: Misfire,
}

/// What becomes of firings that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Misfire {
    /// They are left out.
    Skip,
    /// The last one fires, once.
    #[default]
    Latest,
    /// The last ones fire, up to so many.
    All(#[schemars(range(min = 1, max = 10_000))] u32),
}

impl TimerSource {
    /// The schedule, as far as it is written out; none where it has to be resolved, or has been
    /// complained about.
    fn schedule<E>(
        &self,
        text: impl Fn(&Text, &'static str) -> Result<Option<String>, E>,
        error: impl Fn(Problem) -> E,
    ) -> Result<Option<Schedule>, E> {
        match (&self.cron, self.every) {
            (Some(_), Some(_)) => Err(error(
                Problem::new("a timer has either a cron line or a period")
                    .at("every")
                    .key(),
            )),
            (None, None) => Err(error(
                Problem::new("a timer needs a cron line or a period")
                    .help("write { every: 30s } or { cron: \"0 9 * * *\" }"),
            )),
            (None, Some(_)) if self.timezone.is_some() => Err(error(
                Problem::new("a period has no time zone")
                    .at("timezone")
                    .key()
                    .help("use a cron line, or leave it out"),
            )),
            (None, Some(Interval(period))) => {
                let micros = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
                let short = || {
                    error(
                        Problem::new(format!(
                            "a period is at least {} ms",
                            PERIOD_MIN.as_millis()
                        ))
                        .at("every"),
                    )
                };
                if period < PERIOD_MIN {
                    Err(short())
                } else {
                    Ok(Some(Schedule::Every(micros)))
                }
            }
            (Some(line), None) => {
                let zone = match &self.timezone {
                    None => None,
                    Some(name) => match text(name, "timezone")? {
                        None => return Ok(None),
                        Some(name) => Some(
                            time::zone(&name).map_err(|problem| error(problem.at("timezone")))?,
                        ),
                    },
                };
                let Some(line) = text(line, "cron")? else {
                    return Ok(None);
                };
                let error = |problem: Problem| error(problem.at("cron"));
                let line = cron::read(&line).map_err(&error)?;
                let zone = match (&line.zone, zone) {
                    (Some((_, place)), Some(_)) => {
                        let problem =
                            Problem::new("the time zone stands here and under `timezone`")
                                .inside(place.clone());
                        return Err(error(problem.help("keep one of them")));
                    }
                    (Some((name, place)), None) => {
                        time::zone(name).map_err(|problem| error(problem.inside(place.clone())))?
                    }
                    (None, zone) => zone.unwrap_or(TimeZone::UTC),
                };
                Schedule::cron(&line, zone).map(Some).map_err(error)
            }
        }
    }

    /// The schedule as far as it stands in the rule file; none where it is taken from elsewhere.
    fn written_schedule(&self) -> Result<Option<Schedule>, Problem> {
        self.schedule(
            |text, _| Ok(text.literal().map(str::to_owned)),
            |problem| problem,
        )
    }

    /// What the position is valid for: the schedule as it is written.
    fn written(&self, text: impl Fn(&Text) -> String) -> String {
        match (&self.cron, self.every) {
            (Some(cron), _) => format!(
                "{} {}",
                text(cron),
                self.timezone
                    .as_ref()
                    .map_or_else(|| "UTC".to_owned(), text)
            ),
            (None, Some(every)) => every.to_string(),
            (None, None) => String::new(),
        }
    }
}

#[async_trait]
impl SourceSettings for TimerSource {
    fn check(&self) -> Vec<Problem> {
        let schedule = match self.written_schedule() {
            Ok(Some(schedule)) if schedule.next(Timestamp::now()).is_none() => {
                let problem =
                    Problem::new("the years of this line are past: it fires no more").at("cron");
                Some(problem.help("change the year, the last of the fields, or remove the timer"))
            }
            read => read.err(),
        };
        let all = matches!(self.misfire, Misfire::All(count) if !(1..=ALL_MAX).contains(&count))
            .then(|| {
                Problem::new(format!(
                    "between 1 and {ALL_MAX} firings can be caught up with"
                ))
                .at("all")
                .at("misfire")
            });
        schedule.into_iter().chain(all).collect()
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    fn firings(&self, after: pointsman_schemas::Timestamp, count: usize) -> Option<Firings> {
        let schedule = self.written_schedule().ok().flatten()?;
        let mut after = Timestamp::from_microsecond(after.0).ok()?;
        let mut times = Vec::new();
        while let Some(next) = schedule.next(after).filter(|_| times.len() < count) {
            times.push(schedule.show(next));
            after = next;
        }
        Some(Firings {
            zone: schedule.zone_name().to_owned(),
            times,
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let resolve = |text: &Text, key: &'static str| {
            crate::parameter::resolve(text, &[key.into()]).map(Some)
        };
        self.schedule(resolve, OpenError)?;
        Ok("needs no connection".to_owned())
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let resolve = |text: &Text, key: &'static str| {
            crate::parameter::resolve(text, &[key.into()]).map(Some)
        };
        let schedule = self
            .schedule(resolve, OpenError)?
            .ok_or_else(|| OpenError(Problem::new("a timer needs a cron line or a period")))?;
        let written = self.written(|text| {
            text.resolve()
                .map(|text| text.expose().to_owned())
                .unwrap_or_default()
        });
        Ok(Box::new(Timer {
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
            alarms: context.alarms,
            schedule,
            written,
            misfire: self.misfire,
            stored: context.cursor,
            position: None,
            repeats: Repeats::default(),
            skipped: 0,
            due: VecDeque::new(),
        }))
    }
}

#[cfg(test)]
mod tests;
