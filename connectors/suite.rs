//! The two conformance suites: what every source and every target must hold to, tried from outside.

mod by_hand;
mod canned;
mod log;
mod mapped;
#[cfg(feature = "sqs")]
pub(crate) mod moto;
mod outage;
mod silent;
mod source;
mod stored;
mod target;

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use pointsman_schemas::{Clock, Data, Event, Timestamp};
use tokio::time::Instant;

pub(crate) use by_hand::{begin, bodies, settle, take, turns, with};
pub(crate) use canned::{Asked, Canned, Reply};
pub(crate) use log::Log;
pub(crate) use mapped::{events, read, untold};
pub(crate) use outage::{hangs, read_on};
pub(crate) use silent::Silent;
pub(crate) use source::{SourceFixture, next_within, open, parse_source, sources};
pub(crate) use stored::Stored;
pub(crate) use target::{Received, TargetFixture, attempt, context, parse, targets};

/// An event with JSON data, a subject and an extension.
pub(crate) fn event(id: &str) -> Event {
    Event::builder(id, "/suite", "com.example.suite")
        .subject("a subject")
        .attribute("ext", "ü".into())
        .datacontenttype("application/json")
        .data(
            Data::json(Bytes::from(format!(
                "{{\n  \"id\": \"{id}\",\r\n \"long\": 12345678901234567890123}}"
            )))
            .unwrap(),
        )
        .build()
        .unwrap()
}

/// A clock that goes by the runtime's time, paused or not, and can be set.
#[derive(Debug)]
pub(crate) struct SetClock {
    start: Instant,
    /// Microseconds.
    at_start: AtomicI64,
}

impl SetClock {
    /// A clock that shows an RFC 3339 time now.
    pub(crate) fn at(time: &str) -> Self {
        let clock = Self {
            start: Instant::now(),
            at_start: AtomicI64::new(0),
        };
        clock.set(time);
        clock
    }

    /// Makes the clock show a time now.
    pub(crate) fn set(&self, time: &str) {
        let micros = time.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        let elapsed = i64::try_from(self.start.elapsed().as_micros()).unwrap();
        self.at_start.store(micros - elapsed, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.at_start.load(Ordering::Relaxed)).plus(self.start.elapsed())
    }
}
