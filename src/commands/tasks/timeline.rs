//! The life of a task, drawn.
//!
//! ```text
//!   0.000s  came
//!   0.012s  attempt 1  |█                                       | 1.20s  failed, 500: out of memory
//!                      POST http://127.0.0.1:9000/x
//!                      again at 2026-11-28T10:00:03Z (backoff)
//!   3.101s  attempt 2  |                               █████████| 0.90s  delivered, 200
//!   4.001s  succeeded
//! ```
//!
//! Each bar shows when its attempt was under way, on one scale from when the event came to the end,
//! or to now.

use std::fmt::Write;
use std::time::Duration;

use pointsman_journal::TaskState;
use pointsman_schemas::Timestamp;

use crate::admin::view::{AttemptView, EntryView, TaskWhole};
use crate::output;

/// How wide a bar is.
const BAR_CHARS: usize = 40;

/// How much of an answer is shown with an attempt.
const ANSWER_CHARS_MAX: usize = 200;

/// Draws a task's life as it stands at a time.
pub(super) fn timeline(whole: &TaskWhole, now: Timestamp) -> String {
    let mut text = head(whole);
    let Some(began) = began(whole) else {
        return text;
    };
    let end = match whole.task.state.is_terminal() {
        true => last_time(whole).unwrap_or(now),
        false => now,
    };
    let scale = Scale {
        began,
        end: end.max(began),
    };
    text.push('\n');
    line(&mut text, Duration::ZERO, "came");
    for entry in &whole.history {
        draw(&mut text, &scale, entry);
    }
    if !whole.task.state.is_terminal() {
        let after = now.since(began);
        let state = whole.task.state.as_str();
        let due = whole.task.due.as_deref().and_then(parse);
        match due.filter(|due| *due > now && whole.task.state != TaskState::Running) {
            Some(due) => line(
                &mut text,
                after,
                &format!("{state}; due in {}", seconds(due.since(now))),
            ),
            None => line(&mut text, after, state),
        }
    }
    text
}

fn head(whole: &TaskWhole) -> String {
    let task = &whole.task;
    let event = whole.event.as_ref().map_or_else(
        || "no longer retained".to_owned(),
        |event| {
            let subject = event
                .subject
                .as_ref()
                .map(|subject| format!(", subject {subject}"));
            let subject = subject.unwrap_or_default();
            format!(
                "{} from {}, id {}{subject}",
                event.r#type, event.source, event.id
            )
        },
    );
    let lines = [
        ("task", Some(task.id.clone())),
        ("state", Some(task.state.as_str().to_owned())),
        (
            "reason",
            task.reason.map(|reason| reason.as_str().to_owned()),
        ),
        ("tenant", Some(task.identity.tenant.to_string())),
        ("rule", Some(task.identity.rule.to_string())),
        ("target", Some(task.identity.target.to_string())),
        (
            "event",
            Some(format!("{}: {}", task.sequence.0, output::line(&event))),
        ),
        ("since", task.since.clone()),
        ("due", task.due.clone()),
        ("priority", task.priority.map(|number| number.to_string())),
        ("ended", task.ended.clone()),
        ("attempts", Some(task.attempts.to_string())),
        (
            "last",
            task.message
                .as_ref()
                .map(|last| output::line(last).into_owned()),
        ),
    ];
    let shown = lines
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    shown.fold(String::new(), |mut text, (name, value)| {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{name:<10}{value}");
        text
    })
}

/// When its life began: when the event came, or its run where that is unknown.
fn began(whole: &TaskWhole) -> Option<Timestamp> {
    let event = whole.event.as_ref().and_then(|event| parse(&event.at));
    let since = whole.task.since.as_deref().and_then(parse);
    let attempts = whole
        .history
        .iter()
        .filter_map(|entry| entry.attempt.as_ref());
    let first = attempts.filter_map(|attempt| parse(&attempt.began)).min();
    let earliest = [event, since, first].into_iter().flatten().min();
    earliest.or_else(|| last_time(whole))
}

fn last_time(whole: &TaskWhole) -> Option<Timestamp> {
    let entries = whole
        .history
        .iter()
        .filter_map(|entry| parse(&entry.at))
        .max();
    entries.max(whole.task.ended.as_deref().and_then(parse))
}

/// The time that the bars show.
struct Scale {
    began: Timestamp,
    end: Timestamp,
}

impl Scale {
    /// Where a time lies on a bar.
    fn place(&self, time: Timestamp) -> usize {
        let whole = self.end.since(self.began).as_secs_f64();
        if whole <= 0.0 {
            return 0;
        }
        let part = time.since(self.began).as_secs_f64() / whole;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 0 and the width"
        )]
        let place = (part.clamp(0.0, 1.0) * BAR_CHARS as f64) as usize;
        place.min(BAR_CHARS - 1)
    }

    fn bar(&self, from: Timestamp, to: Timestamp) -> String {
        let (from, to) = (self.place(from), self.place(to));
        let at = |place: usize| {
            if (from..=to).contains(&place) {
                '█'
            } else {
                ' '
            }
        };
        (0..BAR_CHARS).map(at).collect()
    }
}

fn draw(text: &mut String, scale: &Scale, entry: &EntryView) {
    if let Some(attempt) = &entry.attempt {
        draw_attempt(text, scale, attempt);
        if let Some(next) = &entry.next {
            detail(
                text,
                &format!("again at {} ({})", next.at, next.why.as_str()),
            );
        }
    }
    // What is no attempt, and what no attempt follows, is told by the state that it led to.
    if entry.attempt.is_none() || entry.state.is_terminal() {
        let at = parse(&entry.at).unwrap_or(scale.end);
        let reason = entry.reason.map(|reason| format!(": {}", reason.as_str()));
        let words = format!("{}{}", entry.state.as_str(), reason.unwrap_or_default());
        line(text, at.since(scale.began), &words);
    }
}

fn draw_attempt(text: &mut String, scale: &Scale, attempt: &AttemptView) {
    let began = parse(&attempt.began).unwrap_or(scale.began);
    let ran = Duration::try_from_secs_f64(attempt.ran_seconds).unwrap_or_default();
    // Many targets begin what they say with their code.
    let is_told = |code: &i32| attempt.message.starts_with(&code.to_string());
    let code = attempt.code.filter(|code| !is_told(code));
    let code = code.map(|code| format!(", {code}")).unwrap_or_default();
    let message = match output::line(&attempt.message) {
        message if message.is_empty() => String::new(),
        message => format!(": {message}"),
    };
    let words = format!(
        "attempt {:<3}|{}| {:>8}  {}{code}{message}",
        attempt.number,
        scale.bar(began, began.plus(ran)),
        seconds(ran),
        attempt.class.as_str(),
    );
    line(text, began.since(scale.began), &words);
    if let Some(called) = &attempt.called {
        detail(text, &output::line(called));
    }
    // What went well needs no more words.
    if attempt.message.is_empty() {
        return;
    }
    let answer: String = output::line(&attempt.answer)
        .chars()
        .take(ANSWER_CHARS_MAX)
        .collect();
    if !answer.is_empty() {
        detail(text, &format!("answered {answer}"));
    }
}

fn line(text: &mut String, after: Duration, words: &str) {
    // Writing into a text cannot fail.
    let _ = writeln!(text, "{:>10}  {words}", seconds(after));
}

fn detail(text: &mut String, words: &str) {
    // Writing into a text cannot fail.
    let _ = writeln!(text, "{:>10}             {words}", "");
}

/// A time span for a person: to the millisecond below a minute, then in minutes, hours or days.
fn seconds(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.3}s", span.as_secs_f64()),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn parse(time: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(Timestamp(time.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two attempts, of which the second succeeded.
    fn life() -> serde_json::Value {
        json!({
            "id": "9f86d081884c7d65-1f-2-0", "state": "succeeded", "tenant": "default",
            "rule": "thumbnails", "role": "to", "target": "thumbnailer", "subscription": 2,
            "sequence": 31, "ended": "2026-11-28T10:00:04Z", "attempts": 2,
            "event": {
                "type": "photo", "source": "/camera", "id": "7\u{1b}[2J", "subject": "a.jpg",
                "at": "2026-11-28T10:00:00Z",
            },
            "history": [
                {
                    "at": "2026-11-28T10:00:01Z", "state": "retrying",
                    "next": { "at": "2026-11-28T10:00:03Z", "why": "backoff" },
                    "attempt": {
                        "number": 1, "began": "2026-11-28T10:00:00Z", "waited_seconds": 0.0,
                        "ran_seconds": 1.0, "called": "POST http://127.0.0.1:9000/x",
                        "class": "failed", "code": 500, "message": "500 Internal Server Error",
                        "answer": "out of\nmemory\u{1b}]0;x\u{7}",
                    },
                },
                {
                    "at": "2026-11-28T10:00:04Z", "state": "succeeded",
                    "attempt": {
                        "number": 2, "began": "2026-11-28T10:00:03Z", "waited_seconds": 0.0,
                        "ran_seconds": 1.0, "called": "POST http://127.0.0.1:9000/x",
                        "class": "delivered", "code": 200, "message": "", "answer": "done",
                    },
                },
            ],
        })
    }

    fn drawn(life: serde_json::Value) -> String {
        let now = parse("2026-11-28T10:00:10Z").unwrap();
        timeline(&serde_json::from_value(life).unwrap(), now)
    }

    #[test]
    fn a_life_is_drawn_to_scale_and_does_nothing_to_the_terminal() {
        let text = drawn(life());
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}'),
            "{text}"
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_has_not_ended_says_when_it_goes_on() {
        let mut waiting = life();
        waiting["state"] = json!("retrying");
        waiting["since"] = json!("2026-11-28T10:00:00Z");
        waiting["due"] = json!("2026-11-28T10:02:10Z");
        waiting["ended"] = json!(null);
        waiting["history"].as_array_mut().unwrap().pop();
        let text = drawn(waiting);
        assert!(
            text.ends_with("   10.000s  retrying; due in 2m00s\n"),
            "{text}"
        );
        assert!(
            text.contains("again at 2026-11-28T10:00:03Z (backoff)\n"),
            "{text}"
        );
        let mut held = life();
        held["state"] = json!("suspended");
        held["ended"] = json!(null);
        let entry = json!({ "at": "2026-11-28T10:00:02Z", "state": "suspended" });
        held["history"].as_array_mut().unwrap()[1] = entry;
        let text = drawn(held);
        assert!(
            text.contains("\n    2.000s  suspended\n   10.000s  suspended\n"),
            "{text}"
        );
        let mut bare = life();
        (bare["history"], bare["event"]) = (json!([]), json!(null));
        let text = drawn(bare);
        assert!(text.contains("no longer retained"), "{text}");
    }

    #[test]
    fn spans_are_told_in_fitting_units() {
        for (seconds_, expect) in [
            (0.0, "0.000s"),
            (59.5, "59.500s"),
            (60.0, "1m00s"),
            (3_661.0, "1h01m"),
            (90_000.0, "1d01h"),
        ] {
            assert_eq!(seconds(Duration::from_secs_f64(seconds_)), expect);
        }
    }
}
