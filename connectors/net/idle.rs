//! Connections that are kept while nobody uses them.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a connection is kept that nobody uses. Servers close one after some minutes, and what
/// stands between forgets one without telling anybody.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The connections of one target that nobody uses now. Those that are too old are closed when the
/// next is asked for.
pub(crate) struct Idle<C> {
    connections: Mutex<Vec<(Instant, C)>>,
    connections_max: usize,
}

impl<C> Idle<C> {
    /// Keeps so many at most.
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            connections: Mutex::default(),
            connections_max,
        }
    }

    /// The connection that was used last.
    pub(crate) fn take(&self) -> Option<C> {
        let mut connections = self.connections.lock();
        connections.retain(|(since, _)| since.elapsed() < IDLE_MAX);
        Some(connections.pop()?.1)
    }

    /// Keeps a connection for the next, unless there are enough.
    pub(crate) fn keep(&self, connection: C) {
        let mut connections = self.connections.lock();
        if connections.len() < self.connections_max {
            connections.push((Instant::now(), connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_comes_first_and_old_ones_are_closed() {
        let idle = Idle::new(2);
        for connection in 0..3 {
            idle.keep(connection);
            advance(IDLE_MAX / 4).await;
        }
        assert_eq!(idle.take(), Some(1), "there was no room for the third");
        advance(IDLE_MAX / 4).await;
        assert_eq!(idle.take(), None, "it is too old");
    }
}
