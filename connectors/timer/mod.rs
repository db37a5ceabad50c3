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
mod foreign;
mod schedule;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pointsman_schemas::time;
use pointsman_schemas::{Clock, Cursor, Data, Event, EventBuilder, Interval, Name, Problem, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::source::fingerprint;
use crate::{
    Acknowledgement, Arrival, Batch, Firings, Guarantee, Message, OpenError, Plain, Source,
    SourceContext, SourceError, SourceSettings,
};
use schedule::Schedule;

pub use foreign::{Schedule as ForeignSchedule, of_eventbridge};

/// The type of the events, unless a mapping sets it.
pub const EVENT_TYPE: &str = "com.pointsman.timer.fired";

/// How many firings a batch holds at most.
pub const BATCH_EVENTS_MAX: usize = 100;

/// How late a firing may be noticed and still be on time: far more than a busy machine needs, far
/// less than a person minds.
const MISSED_AFTER: Duration = Duration::from_secs(5);

/// How far a clock may be put back at least for the timer to wait it out: by less it is set all the
/// time.
const WAITED_OUT: Duration = Duration::from_secs(1);

/// How long is slept at once: a clock that is set, or a machine that slept, is noticed within that
/// time.
const SLICE: Duration = Duration::from_secs(1);

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// How many missed firings are caught up with at most.
const ALL_MAX: u32 = 10_000;

/// How many missed firings are looked at before others get their turn.
const STEPS_AT_ONCE: u32 = 256;

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

/// Where a timer stands, as the cursor keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    /// The last scheduled time that has fired, or the time of the first start; microseconds.
    at: i64,
    /// The schedule, as it is written.
    schedule: String,
    #[serde(default)]
    repeats: Repeats,
}

/// The scheduled times that come again because the clock was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Repeats {
    /// How often it was.
    times: u32,
    /// The last scheduled time that had fired before, in microseconds; what is scheduled later
    /// comes for the first time.
    until: i64,
}

/// An open timer.
struct Timer {
    name: Name,
    mapped: bool,
    clock: Arc<dyn Clock>,
    schedule: Schedule,
    written: String,
    misfire: Misfire,
    /// The cursor to begin with, until it has been read.
    stored: Option<Cursor>,
    /// Up to where the schedule has been looked at; none until the cursor has been read.
    position: Option<Timestamp>,
    repeats: Repeats,
    /// How many firings were left out since the last one.
    skipped: u64,
    /// What fires next, in order.
    due: VecDeque<Timestamp>,
}

#[async_trait]
impl Source for Timer {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if self.position.is_none() && self.start()? {
            return Ok(Batch {
                messages: Vec::new(),
                cursor: self.position.map(|at| self.cursor(at)),
            });
        }
        loop {
            self.look().await?;
            if !self.due.is_empty() {
                return self.fire();
            }
            let now = self.now();
            let next = self
                .position
                .and_then(|position| self.schedule.next(position))
                .ok_or(SourceError::Ended)?;
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            tokio::time::sleep(wait.min(SLICE)).await;
        }
    }
}

impl Timer {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.clock.now().0).unwrap_or_default()
    }

    fn cursor(&self, at: Timestamp) -> Cursor {
        let position = Position {
            at: at.as_microsecond(),
            schedule: self.written.clone(),
            repeats: self.repeats,
        };
        // A number and a text always make JSON.
        Cursor {
            fingerprint: fingerprint(&["timer"]),
            position: serde_json::to_vec(&position).unwrap_or_default().into(),
        }
    }

    /// Finds the position to begin at; true where it is new and has to be stored.
    fn start(&mut self) -> Result<bool, SourceError> {
        let now = self.now();
        let mut is_new = true;
        if let Some(cursor) = &self.stored {
            let mismatch = || {
                SourceError::CursorMismatch(format!(
                    "the position stored for {} is not a timer's; give the timer another name",
                    self.name
                ))
            };
            if cursor.fingerprint != fingerprint(&["timer"]) {
                return Err(mismatch());
            }
            let stored: Position =
                serde_json::from_slice(&cursor.position).map_err(|_| mismatch())?;
            self.repeats = stored.repeats;
            if stored.schedule == self.written {
                self.position =
                    Some(Timestamp::from_microsecond(stored.at).map_err(|_| mismatch())?);
                is_new = false;
            } else {
                tracing::info!(
                    timer = %self.name, was = stored.schedule, is = self.written,
                    "the schedule has changed; it starts anew"
                );
            }
        }
        self.stored = None;
        self.position = self.position.or(Some(now));
        Ok(is_new)
    }

    /// Moves what is due by now from the schedule into `due`, and counts what is left out. Wherever
    /// it is dropped, it goes on from there.
    async fn look(&mut self) -> Result<(), SourceError> {
        let now = self.now();
        let Some(mut position) = self.position else {
            return Ok(());
        };
        if self.is_far_behind(now, position) {
            tracing::warn!(
                timer = %self.name, was = %position, %now,
                "the clock has been put back; the timer goes on from now"
            );
            self.repeats = Repeats {
                times: self.repeats.times.saturating_add(1),
                until: self.repeats.until.max(position.as_microsecond()),
            };
            self.position = Some(now);
            return Ok(());
        }
        let missed_until = now.checked_sub(MISSED_AFTER).unwrap_or(now);
        let skipped_before = self.skipped;
        let keep = match self.misfire {
            Misfire::Skip => 0,
            Misfire::Latest => 1,
            Misfire::All(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        // What no enumeration is needed for goes at once; what is left of a long sleep is stepped
        // through.
        if let (Schedule::Every(period), Some(count)) =
            (&self.schedule, self.schedule.count(position, missed_until))
        {
            let kept = u64::try_from(keep).unwrap_or(u64::MAX);
            let over = count.saturating_sub(kept);
            let ahead = i64::try_from(over).unwrap_or(0).saturating_mul(*period);
            position = Timestamp::from_microsecond(position.as_microsecond().saturating_add(ahead))
                .unwrap_or(position);
            self.skipped += over;
            self.position = Some(position);
        }
        let mut steps = 0_u32;
        while let Some(next) = self.schedule.next(position).filter(|next| *next <= now) {
            (position, self.position) = (next, Some(next));
            self.due.push_back(next);
            // With `skip` only what was missed is left out; the others bound the whole once
            // anything was missed.
            let left_out = match self.misfire {
                Misfire::Skip if next <= missed_until => self.due.pop_back(),
                Misfire::Skip => None,
                _ if self.due.len() > keep
                    && self.due.front().is_some_and(|first| *first <= missed_until) =>
                {
                    self.due.pop_front()
                }
                _ => None,
            };
            self.skipped += u64::from(left_out.is_some());
            steps += 1;
            if steps.is_multiple_of(STEPS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        if self.skipped > skipped_before {
            tracing::warn!(
                timer = %self.name, skipped = self.skipped - skipped_before,
                "firings were missed and left out"
            );
        }
        Ok(())
    }

    /// Whether the clock has been put back so far that waiting for the next firing would leave out
    /// others.
    fn is_far_behind(&self, now: Timestamp, position: Timestamp) -> bool {
        let behind = Duration::try_from(position.duration_since(now)).unwrap_or_default();
        if behind <= WAITED_OUT {
            return false;
        }
        // Where nothing comes any more, what comes until then has to come again.
        let gap = self
            .schedule
            .next(position)
            .and_then(|next| Duration::try_from(next.duration_since(position)).ok());
        behind > gap.unwrap_or_default()
    }

    /// A batch of what is due.
    fn fire(&mut self) -> Result<Batch, SourceError> {
        let mut batch = Batch::default();
        for _ in 0..BATCH_EVENTS_MAX {
            let Some(scheduled) = self.due.pop_front() else {
                break;
            };
            let skipped = std::mem::take(&mut self.skipped);
            let arrival = self.arrival(scheduled, skipped).map_err(|error| {
                SourceError::Unavailable(format!("cannot make an event: {error}"))
            })?;
            batch.messages.push(Message {
                arrivals: [arrival].into(),
                rejects: Vec::new(),
                acknowledgement: Acknowledgement::None,
                positions: Vec::new(),
            });
            batch.cursor = Some(self.cursor(scheduled));
        }
        Ok(batch)
    }

    fn arrival(
        &self,
        scheduled: Timestamp,
        skipped: u64,
    ) -> Result<Arrival, pointsman_schemas::InvalidEvent> {
        let time = self.schedule.show(scheduled);
        let (local, zone) = (
            self.schedule.show_local(scheduled),
            self.schedule.zone_name(),
        );
        let data = json!({ "timer": self.name, "scheduled": time, "scheduled_local": local, "timezone": zone, "skipped": skipped });
        let Repeats { times, until } = self.repeats;
        let again = if times > 0 && scheduled.as_microsecond() <= until {
            format!("/{}", times.saturating_add(1))
        } else {
            String::new()
        };
        let defaults: EventBuilder = Event::builder(
            format!("{}/{time}{again}", self.name),
            format!("/timers/{}", self.name),
            EVENT_TYPE,
        )
        .subject(self.name.as_str())
        .time(time)
        .datacontenttype("application/json")
        .data(Data::json(Bytes::from(data.to_string()))?);
        Ok(if self.mapped {
            Arrival::Plain(Box::new(Plain {
                fields: Plain::fields([("headers", json!({}))]),
                defaults,
            }))
        } else {
            Arrival::Event(Arc::new(defaults.build()?))
        })
    }
}

#[cfg(test)]
mod tests;
