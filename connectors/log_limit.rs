//! Keeps what happens again and again from filling the log.

use std::time::Duration;

use tokio::time::Instant;

/// One subject comes up in the log at most once in this time.
pub const LOG_EVERY: Duration = Duration::from_secs(10);

/// Decides, for one subject, when the log has a line about it, and counts what happened between two
/// lines: once in [`LOG_EVERY`], unless made by [`LogLimit::lines`].
#[derive(Debug)]
pub struct LogLimit {
    lines_max: u32,
    /// When the current window began and how many lines it has had; none before the first line.
    window: Option<(Instant, u32)>,
    unlogged: u64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::lines(1)
    }
}

impl LogLimit {
    /// So many lines in [`LOG_EVERY`]; none are as one.
    #[must_use]
    pub fn lines(lines_max: u32) -> Self {
        Self {
            lines_max,
            window: None,
            unlogged: 0,
        }
    }

    /// Counts what has happened. Returns how often it has since the last line, this time included,
    /// where a line may be written now, and none where not or where there is nothing to tell.
    pub fn admit(&mut self, happened: u64) -> Option<u64> {
        self.unlogged += happened;
        if self.unlogged == 0 {
            return None;
        }
        self.window = match self.window {
            Some((since, lines)) if since.elapsed() < LOG_EVERY => {
                if lines >= self.lines_max {
                    return None;
                }
                Some((since, lines + 1))
            }
            _ => Some((Instant::now(), 1)),
        };
        Some(self.take_unlogged())
    }

    /// Returns how often it has happened since the last line, for a last word on it.
    pub fn take_unlogged(&mut self) -> u64 {
        std::mem::take(&mut self.unlogged)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_written_once_in_ten_seconds_and_tells_of_all() {
        let mut limit = LogLimit::default();
        assert_eq!(limit.admit(0), None, "nothing has happened");
        assert_eq!(limit.admit(1), Some(1));
        assert_eq!((limit.admit(1), limit.admit(16)), (None, None));
        advance(LOG_EVERY - Duration::from_millis(1)).await;
        assert_eq!(limit.admit(0), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(limit.admit(0), Some(17), "what was left out is told later");
        assert_eq!(limit.admit(3), None);
        assert_eq!((limit.take_unlogged(), limit.take_unlogged()), (3, 0));
        advance(LOG_EVERY).await;
        assert_eq!((limit.admit(0), limit.admit(2)), (None, Some(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn some_lines_are_written_at_once_where_so_many_are_allowed() {
        let mut limit = LogLimit::lines(3);
        let mut admitted = Vec::new();
        for _ in 0..100 {
            admitted.extend(limit.admit(1));
            advance(Duration::from_millis(200)).await;
        }
        assert_eq!(admitted, [1, 1, 1, 48, 1, 1], "20 seconds");
    }
}
