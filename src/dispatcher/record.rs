//! What the history is told of attempts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pointsman_connectors::Called;
use pointsman_journal::{ANSWER_BYTES_MAX, AttemptMade, Ending, Record, WaitReason};
use pointsman_schemas::{Outcome, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

/// How much of what was called is kept: an address can be as long as an event wants it to be.
const CALLED_BYTES_MAX: usize = 1024;

/// Of which deliveries the history tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HistoryLevel {
    /// Of all, attempt by attempt.
    #[default]
    All,
    /// Of attempts that failed, and of deliveries that ended without success.
    Failures,
    /// Of none.
    None,
}

impl EndedCall {
    /// A time of the journal's clock before it began, as the time of day.
    pub(super) fn shown(&self, earlier: Timestamp) -> Timestamp {
        self.began_at.minus(self.began.since(earlier))
    }
}

/// What the history is told of the deliveries of a route.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub level: HistoryLevel,
    /// What its target calls, where that is known.
    pub called: Option<Called>,
}

/// Where an attempt leaves what it calls, once its texts are filled in. Nothing where that is the
/// same for all.
#[derive(Clone, Debug, Default)]
pub struct CalledSlot(Option<Arc<OnceLock<Arc<str>>>>);

/// A call of a target that has ended, as far as the history is concerned.
#[derive(Clone, Debug)]
pub(super) struct EndedCall {
    /// By the journal's clock.
    pub(super) began: Timestamp,
    /// By the time of day.
    pub(super) began_at: Timestamp,
    pub(super) ran: Duration,
    pub(super) called: CalledSlot,
}

impl Recording {
    /// Where an attempt is to leave what it calls.
    pub(super) fn slot(&self) -> CalledSlot {
        let is_filled = matches!(self.called, Some(Called::Filled(_)));
        let is_wanted = is_filled && self.level != HistoryLevel::None;
        CalledSlot(is_wanted.then(Arc::default))
    }

    /// Notes what is called with these texts.
    pub(super) fn fill(&self, slot: &CalledSlot, texts: &[String]) {
        if let (Some(slot), Some(Called::Filled(called))) = (&slot.0, &self.called) {
            let mut called = called(texts);
            called.truncate(called.floor_char_boundary(CALLED_BYTES_MAX));
            slot.get_or_init(|| called.into());
        }
    }

    /// What the history is to say of a delivery that is settled like this, without an attempt.
    pub(super) fn end(&self) -> Record {
        match self.level {
            HistoryLevel::None => Record::Nothing,
            HistoryLevel::All | HistoryLevel::Failures => Record::End,
        }
    }

    /// What the history is to say of an attempt with this outcome, after which its delivery is
    /// settled like this; `wait` is what decided when the next one is.
    pub(super) fn attempt(
        &self,
        ending: &Ending,
        call: &EndedCall,
        outcome: &Outcome,
        wait: Option<WaitReason>,
    ) -> Record {
        let is_success = *ending == Ending::Delivered;
        match self.level {
            HistoryLevel::None => return Record::Nothing,
            HistoryLevel::Failures if is_success => return Record::Nothing,
            HistoryLevel::All | HistoryLevel::Failures => {}
        }
        let called = match &self.called {
            Some(Called::Always(called)) => Some(Arc::clone(called)),
            _ => call
                .called
                .0
                .as_ref()
                .and_then(|called| called.get().cloned()),
        };
        let made = AttemptMade {
            began: call.began,
            ran: call.ran,
            called,
            class: outcome.class,
            code: None,
            message: String::new(),
            answer: String::new(),
            wait,
        };
        if ending.last().is_some() {
            return Record::Attempt(made);
        }
        Record::Attempt(AttemptMade {
            code: outcome.code,
            message: if is_success {
                String::new()
            } else {
                outcome.message.clone()
            },
            answer: answer_of(outcome),
            ..made
        })
    }
}

/// The beginning of what a target answered, as text.
pub(super) fn answer_of(outcome: &Outcome) -> String {
    let answer = outcome.response.get(..ANSWER_BYTES_MAX);
    let answer = answer.unwrap_or(&outcome.response);
    String::from_utf8_lossy(answer).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_schemas::Class;

    fn call(called: CalledSlot) -> EndedCall {
        EndedCall {
            began: Timestamp(1),
            began_at: Timestamp(1),
            ran: Duration::ZERO,
            called,
        }
    }

    #[test]
    fn what_an_attempt_called_is_told_once_it_is_known_and_not_at_any_length() {
        let recording = Recording {
            called: Some(Called::Filled(Arc::new(|texts: &[String]| {
                format!("GET {}", texts.concat())
            }))),
            ..Recording::default()
        };
        let outcome = Outcome::new(Class::Unavailable, "nobody there");
        let called = |slot: &CalledSlot| {
            let call = call(slot.clone());
            match recording.attempt(&Ending::Stopped, &call, &outcome, None) {
                Record::Attempt(made) => made.called,
                other => panic!("{other:?}"),
            }
        };
        let slot = recording.slot();
        assert_eq!(called(&slot), None, "nothing was filled in");
        recording.fill(&slot, &["a".to_owned(), "ä".repeat(2_000)]);
        let called = called(&slot).unwrap();
        assert!(called.starts_with("GET aää"), "{called}");
        assert!((CALLED_BYTES_MAX - 1..=CALLED_BYTES_MAX).contains(&called.len()));
    }

    #[test]
    fn the_level_says_which_attempts_are_told() {
        let outcome = Outcome::delivered();
        for (level, ending, expect) in [
            (HistoryLevel::All, Ending::Delivered, true),
            (HistoryLevel::All, Ending::Stopped, true),
            (HistoryLevel::Failures, Ending::Delivered, false),
            (HistoryLevel::Failures, Ending::Stopped, true),
            (HistoryLevel::None, Ending::Delivered, false),
            (HistoryLevel::None, Ending::Stopped, false),
        ] {
            let recording = Recording {
                level,
                called: None,
            };
            let call = call(recording.slot());
            let record = recording.attempt(&ending, &call, &outcome, None);
            assert_eq!(record != Record::Nothing, expect, "{level:?}, {ending:?}");
        }
    }
}
