//! How many messages wait in a queue, and whether it answers at all: a call for messages that hangs
//! tells nothing for as long as a long poll takes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::queue::Queue;
use crate::Link;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How often while it does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asks for as long as the queue is read.
pub(super) async fn watch<Q: Queue>(queue: Q, link: Link) {
    let mut is_down = false;
    loop {
        let silence = match timeout(ANSWER_WITHIN, queue.waiting()).await {
            Ok(Ok(waiting)) => {
                link.lag(waiting);
                None
            }
            Ok(Err(error)) => Some(error),
            Err(_elapsed) => Some("no answer in time".to_owned()),
        };
        match silence {
            None => {
                if std::mem::take(&mut is_down) {
                    link.up();
                }
                sleep(ASK_EVERY).await;
            }
            Some(error) => {
                is_down = true;
                link.down(format!(
                    "the {} {} does not answer: {error}",
                    Q::KIND,
                    queue.name()
                ));
                sleep(ASK_AGAIN).await;
            }
        }
    }
}
