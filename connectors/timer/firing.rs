//! An open timer: it waits for the next scheduled time, catches up with those that were missed, and
//! makes an event of each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use pointsman_schemas::{Clock, Cursor, Data, Event, EventBuilder, Name, Timestamp as Time};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::schedule::Schedule;
use super::{EVENT_TYPE, Misfire};
use crate::alarms::{Alarms, PUT_BACK};
use crate::source::fingerprint;
use crate::{Acknowledgement, Arrival, Batch, Message, Plain, Source, SourceError};

/// How many firings a batch holds at most.
pub const BATCH_EVENTS_MAX: usize = 100;

/// How late a firing may be noticed and still be on time: far more than a busy machine needs, far
/// less than a person minds.
const MISSED_AFTER: Duration = Duration::from_secs(5);

/// How many missed firings are looked at before others get their turn.
const STEPS_AT_ONCE: u32 = 256;

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
pub(super) struct Repeats {
    /// How often it was.
    times: u32,
    /// The last scheduled time that had fired before, in microseconds; what is scheduled later
    /// comes for the first time.
    until: i64,
}

/// An open timer.
pub(super) struct Timer {
    pub(super) name: Name,
    pub(super) mapped: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) alarms: Alarms,
    pub(super) schedule: Schedule,
    pub(super) written: String,
    pub(super) misfire: Misfire,
    /// The cursor to begin with, until it has been read.
    pub(super) stored: Option<Cursor>,
    /// Up to where the schedule has been looked at; none until the cursor has been read.
    pub(super) position: Option<Timestamp>,
    pub(super) repeats: Repeats,
    /// How many firings were left out since the last one.
    pub(super) skipped: u64,
    /// What fires next, in order.
    pub(super) due: VecDeque<Timestamp>,
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
            let now = self.now();
            self.look(now).await?;
            if !self.due.is_empty() {
                return self.fire();
            }
            let next = self
                .position
                .and_then(|position| self.schedule.next(position))
                .ok_or(SourceError::Ended)?;
            let [now, next] = [now, next].map(|at| Time(at.as_microsecond()));
            self.alarms.sleep(now, next).await;
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
    async fn look(&mut self, now: Timestamp) -> Result<(), SourceError> {
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
        if behind <= PUT_BACK {
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
        let headers = || Plain::fields([("headers", json!({}))]);
        Arrival::made(defaults, self.mapped.then(headers))
    }
}
