//! How far a long sending has come, on one line of a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is drawn at most.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// How long is waited before anything is said of the time that is left.
const ESTIMATED_AFTER: Duration = Duration::from_secs(1);

/// The line; nothing is drawn where standard error is no terminal, or one request does it all.
pub(super) struct Progress {
    total: usize,
    started: Instant,
    drawn: Option<Instant>,
    draws: bool,
}

impl Progress {
    /// Begins.
    pub(super) fn of(total: usize, requests: usize) -> Self {
        Self {
            total,
            started: Instant::now(),
            drawn: None,
            draws: requests > 1 && io::stderr().is_terminal(),
        }
    }

    /// So many events have been taken.
    pub(super) fn at(&mut self, sent: usize) {
        let now = Instant::now();
        let is_due = self
            .drawn
            .is_none_or(|drawn| now.duration_since(drawn) >= DRAWN_EVERY)
            || sent == self.total;
        if self.draws && is_due {
            self.drawn = Some(now);
            write(&format!(
                "\r{}\u{1b}[K",
                line(sent, self.total, now.duration_since(self.started))
            ));
        }
    }

    /// Makes room for a line of output, or for the end.
    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            write("\r\u{1b}[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Nobody is told of what cannot be drawn: it is only a comfort.
fn write(text: &str) {
    let mut screen = io::stderr().lock();
    let _ = screen
        .write_all(text.as_bytes())
        .and_then(|()| screen.flush());
}

fn line(sent: usize, total: usize, took: Duration) -> String {
    let percent = sent.saturating_mul(100).checked_div(total).unwrap_or(100);
    let said = format!("{sent} of {total} events, {percent}%");
    if took < ESTIMATED_AFTER || sent == 0 {
        return said;
    }
    let per_second = sent as f64 / took.as_secs_f64();
    let left = Duration::from_secs_f64((total.saturating_sub(sent) as f64 / per_second).min(1e9));
    format!("{said}, {per_second:.0}/s, {} left", in_words(left))
}

/// A time as people say it, in two units at most.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units
        .iter()
        .position(|(unit, _)| seconds >= *unit)
        .unwrap_or(units.len() - 1);
    let mut left = seconds;
    let said = units.iter().skip(first).take(2).filter_map(|(unit, name)| {
        let count = left / unit;
        left %= unit;
        (count > 0 || seconds == 0).then(|| format!("{count} {name}"))
    });
    said.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_it_is_and_how_long_it_takes() {
        for (sent, took, expect) in [
            (0, 0, "0 of 2500 events, 0%"),
            (100, 0, "100 of 2500 events, 4%"),
            (0, 9, "0 of 2500 events, 0%"),
            (1_000, 10, "1000 of 2500 events, 40%, 100/s, 15 s left"),
            (2_499, 2_499, "2499 of 2500 events, 99%, 1/s, 1 s left"),
            (1, 10, "1 of 2500 events, 0%, 0/s, 6 h 56 min left"),
            (2_500, 10, "2500 of 2500 events, 100%, 250/s, 0 s left"),
        ] {
            assert_eq!(line(sent, 2_500, Duration::from_secs(took)), expect);
        }
        for (seconds, expect) in [
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (86_400 * 3 + 3_600 * 2 + 59, "3 d 2 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), expect);
        }
    }
}
