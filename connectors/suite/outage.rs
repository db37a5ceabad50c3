//! A system that hangs for a while.

use std::time::Duration;

use futures::FutureExt;
use pointsman_test_brokers::{Fault, Proxy};
use tokio::time::sleep;

use super::by_hand::{LONG, bodies, settle, turns};
use super::{Log, next_within};
use crate::{Link, Source, SourceState, Verdict};

/// Has the system behind a proxy hang until its source has noticed, and then for so long, and waits
/// until the source runs again. The log tells of it, and hardly more than once.
pub(crate) async fn hangs(proxy: &Proxy, link: &Link, log: &Log, lasts: Duration) {
    // Of a system that hangs already it may have been told.
    let mut lines = log.lines();
    if link
        .until(|now| now == SourceState::Waiting)
        .now_or_never()
        .is_none()
    {
        lines.clear();
    }
    proxy.set(Fault::BlackHole);
    turns(link, SourceState::Waiting).await;
    sleep(lasts).await;
    proxy.set(Fault::None);
    turns(link, SourceState::Running).await;
    lines.extend(log.lines());
    let down = lines.iter().filter(|line| line.contains("is down"));
    assert!((1..=2).contains(&down.count()), "{lines:#?}");
}

/// Reads on, and stores what comes, until an event with this body does.
pub(crate) async fn read_on(
    mut source: Box<dyn Source>,
    open: impl AsyncFn() -> Box<dyn Source>,
    body: &str,
) {
    let mut found = Vec::new();
    while !found.iter().any(|found| found == body) {
        match next_within(&mut *source, LONG).await.unwrap() {
            Ok(batch) => {
                found.extend(bodies(&batch.messages));
                settle(batch.messages, &Verdict::Stored).await;
            }
            // The call that hung: its owner opens another.
            Err(_) => source = open().await,
        }
    }
}
