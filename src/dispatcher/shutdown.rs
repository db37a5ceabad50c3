//! The end of a dispatcher: nothing more is leased, what is under way has its grace, and everything
//! is settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::attempts::RunningAttempt;
use super::{Dispatcher, FINISHED_AT_ONCE, Summary};

/// How long the last settlements may take after the grace, while the store fails: what is not
/// settled then is delivered again. Where the stop was hastened nobody waits for a store that fails,
/// which may be another node's by now.
const LAST_SETTLE_WITHIN: Duration = Duration::from_secs(10);

impl Dispatcher {
    /// Ends what is under way and settles everything, each within its time.
    pub(super) async fn stop(mut self, grace: Duration) -> Summary {
        let until = Instant::now() + grace;
        self.commands.close();
        self.finish_lease(until).await;
        let mut finished = Vec::new();
        while !self.under_way.is_empty() {
            self.settling.start(&self.owners, Instant::now());
            let again_at = self.settling.again_at();
            tokio::select! {
                () = sleep_until(until) => break,
                () = self.hasten.cancelled() => break,
                settled = self.settling.next(), if self.settling.is_calling() => self.settled_some(settled),
                _ = self.finished.1.recv_many(&mut finished, FINISHED_AT_ONCE) => {
                    self.finished(&mut finished);
                }
                () = sleep_until(again_at.unwrap_or(until)), if again_at.is_some() => {}
            }
        }
        // Those that have ended in this very moment count; the others are cancelled, and stay among
        // those under way.
        for attempt in self.under_way.values() {
            attempt.task.abort();
        }
        self.attempts.close();
        self.attempts.wait().await;
        while let Ok(ended) = self.finished.1.try_recv() {
            finished.push(ended);
        }
        self.finished(&mut finished);
        let abandoned = self.under_way.len() + std::mem::take(&mut self.more_under_way);
        let under_way: Vec<RunningAttempt> = self.under_way.drain().map(|(_, one)| one).collect();
        let now = self.now();
        for attempt in under_way {
            let ended = attempt.ended(now.instant, now);
            let RunningAttempt { call, route, .. } = attempt;
            for leased in call {
                route.observer.given_up(&leased, &ended);
                self.release(&leased, Some(Arc::clone(&route)));
            }
        }
        let last = Instant::now() + LAST_SETTLE_WITHIN;
        while self.settling.len() > 0 && Instant::now() < last {
            self.settling.start(&self.owners, Instant::now());
            let again_at = self.settling.again_at();
            if again_at.is_some() && self.hasten.is_cancelled() {
                break;
            }
            tokio::select! {
                () = sleep_until(last) => break,
                settled = self.settling.next(), if self.settling.is_calling() => self.settled_some(settled),
                () = sleep_until(again_at.unwrap_or(last)), if again_at.is_some() => {}
                () = self.hasten.cancelled(), if again_at.is_some() => {}
            }
        }
        // What the journal has not been told is found out again by the next attempt.
        drop(
            timeout_at(last, async {
                while self.gone.join_next().await.is_some() {}
            })
            .await,
        );
        self.gone.shutdown().await;
        Summary {
            settled: self.settled,
            abandoned,
            unsettled: self.settling.len(),
        }
    }

    /// Waits for the lease under way, and puts back what it brings.
    async fn finish_lease(&mut self, until: Instant) {
        if self.leasing.is_calling()
            && let Ok(answer) = timeout_at(until, self.leasing.next()).await
        {
            self.leased(answer, true);
        }
    }
}
