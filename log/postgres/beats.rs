//! Listening for the signs of life of nodes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use pointsman_schemas::Name;
use tokio::time::{Instant, sleep};

use super::pool::Pool;
use super::session::Session;
use crate::{Beat, Beats};

/// How long it may take until a beat is heard. Nodes beat once a second.
const EVERY: Duration = Duration::from_millis(100);

/// Beats that follow on the one with this number. Those whose transactions overlap commit in any
/// order, so that a lower number may come to be seen after a higher one: who listens remembers them
/// all, and they are few.
pub(super) fn statement(schema: &str) -> String {
    format!(
        "SELECT node, number, body FROM {schema}.beat WHERE number <> ALL ($1) \
         AND at > now() - interval '1 day' ORDER BY number"
    )
}

/// The beats that are there, then those that come.
pub(super) fn listen(pool: Arc<Pool>, statement: String, timeout: Duration) -> Beats {
    let listener = Listener {
        pool,
        statement,
        timeout,
        heard: Vec::new(),
        waiting: VecDeque::new(),
        begun: false,
    };
    stream::unfold(listener, async |mut listener| {
        let beat = listener.next().await;
        Some((beat, listener))
    })
    .boxed()
}

struct Listener {
    pool: Arc<Pool>,
    statement: String,
    timeout: Duration,
    /// The last beat of each node that was heard, with its number.
    heard: Vec<(Name, i64)>,
    waiting: VecDeque<Beat>,
    begun: bool,
}

impl Listener {
    async fn next(&mut self) -> Beat {
        loop {
            if let Some(beat) = self.waiting.pop_front() {
                return beat;
            }
            if self.begun {
                sleep(EVERY).await;
            }
            self.begun = true;
            self.look().await;
        }
    }

    /// Reads what is new. An engine that cannot be reached has nothing new.
    async fn look(&mut self) {
        let numbers: Vec<i64> = self.heard.iter().map(|(_, number)| *number).collect();
        let look = async |session: &Session| {
            let statement = session.prepared(&self.statement).await?;
            let rows = session.client().query(&statement, &[&numbers]).await?;
            rows.iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
                .collect::<Result<Vec<(String, i64, Vec<u8>)>, tokio_postgres::Error>>()
        };
        let until = Instant::now() + self.timeout;
        for (node, number, body) in self.pool.run(until, look).await.unwrap_or_default() {
            // What somebody else has written there is no node.
            let Ok(node) = Name::new(&node) else { continue };
            match self.heard.iter_mut().find(|(heard, _)| *heard == node) {
                Some((_, last)) => *last = number,
                None => self.heard.push((node.clone(), number)),
            }
            let body = body.into();
            self.waiting.push_back(Beat { node, body });
        }
    }
}
