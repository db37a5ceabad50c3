//! A primary whose commits wait for its standby, and which takes turns with it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::PostgresServer;

/// What each is called as a standby: `first` is a word of `synchronous_standby_names`.
const NAMES: [&str; 2] = ["one", "other"];

/// How long a standby may take to have what the primary has.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(60);

/// Two PostgreSQL servers: a primary, and its synchronous standby.
#[derive(Debug)]
pub struct PostgresPair {
    servers: [PostgresServer; 2],
    primary: usize,
}

impl PostgresPair {
    /// Starts both, and waits until commits of the one wait for the other.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed or cannot be started.
    pub async fn start() -> Self {
        let first = PostgresServer::start("").await;
        let second = first.standby(NAMES[1]).await;
        let pair = Self {
            servers: [first, second],
            primary: 0,
        };
        pair.synchronise().await;
        pair
    }

    /// The port of each.
    #[must_use]
    pub fn ports(&self) -> [u16; 2] {
        self.servers.each_ref().map(PostgresServer::port)
    }

    /// The CPU time that all processes of both have used so far.
    ///
    /// # Panics
    /// Where one does not run.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.servers.iter().map(PostgresServer::cpu).sum()
    }

    /// Ends the primary at once, as a crash does, and makes the standby the primary, which takes
    /// commits by itself until [`PostgresPair::mend`].
    ///
    /// # Panics
    /// Where the standby cannot be promoted.
    pub fn fail_over(&mut self) {
        let [primary, standby] = self.roles();
        primary.kill();
        standby.promote();
        self.primary = 1 - self.primary;
    }

    /// Has the server that is no primary follow the other, and waits until commits wait for it.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn mend(&mut self) {
        let name = self.standby_name();
        let [primary, standby] = self.roles();
        standby.follow(primary, name).await;
        self.synchronise().await;
    }

    /// Ends both at once, as a crash does, and starts them again with what they had.
    ///
    /// # Panics
    /// Where they cannot be started.
    pub async fn restart(&mut self) {
        let [primary, standby] = self.roles();
        primary.kill();
        standby.restart().await;
        primary.restart().await;
    }

    fn roles(&mut self) -> [&mut PostgresServer; 2] {
        let [first, second] = &mut self.servers;
        match self.primary {
            0 => [first, second],
            _ => [second, first],
        }
    }

    fn standby_name(&self) -> &'static str {
        let [first, second] = NAMES;
        if self.primary == 0 { second } else { first }
    }

    async fn synchronise(&self) {
        let [first, second] = &self.servers;
        let primary = if self.primary == 0 { first } else { second };
        let name = self.standby_name();
        primary.write_configuration(&format!("synchronous_standby_names = '{name}'"));
        primary.reload();
        let until = Instant::now() + FOLLOWS_WITHIN;
        while !primary.has_synchronous_standby() {
            assert!(Instant::now() < until, "{name} does not follow");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_two_take_turns() {
        let mut pair = PostgresPair::start().await;
        for _ in 0..2 {
            pair.fail_over();
            pair.mend().await;
        }
        pair.restart().await;
    }
}
