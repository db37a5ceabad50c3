//! Retained events, for one subscription.

use std::collections::VecDeque;
use std::time::Duration;

use pointsman_journal::{
    AfterStep, EventsFrom, Replay, ReplayKind, ReplayStep, Replayed, StoredEvent,
};
use pointsman_rules::Scratch;
use pointsman_schemas::{Name, Sequence, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::driver::{Driver, until_done};
use super::{EventReplay, EventSelection, PAGE_BYTES_MAX, PAGE_EVENTS, ReplayError};
use crate::aside::aside;
use crate::router::{Place, Router, Taken};

/// How soon to look again whether there is room, more to read, or a rule in force.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How soon to look again for a subscription whose rule is gone.
const LOOK_FOR_RULE: Duration = Duration::from_secs(1);

/// How long after the rules are in force a subscription that begins with a replay makes its own
/// deliveries at the soonest: what was matched by the rules before is stored by then.
const HAND_OVER_AFTER: Duration = Duration::from_secs(2);

/// A replay of events at work.
struct Run {
    replay: Replay,
    number: SubscriptionNumber,
    tenant: Name,
    taken: Taken,
    to: Option<Timestamp>,
    /// What has been read and not looked at.
    page: VecDeque<StoredEvent>,
    /// The last event that was read.
    read: Sequence,
    /// True where there is nothing behind the page, now or for good.
    is_end: bool,
    /// Since when the rule is in force.
    in_force: Option<Instant>,
    scratch: Scratch,
}

impl Driver {
    pub(super) async fn run_events(&self, replay: Replay) -> Result<(), ReplayError> {
        let request = match replay.kind {
            ReplayKind::Start => EventSelection::default(),
            _ => {
                EventReplay::decode(&replay.request)
                    .map_err(ReplayError::Invalid)?
                    .events
            }
        };
        let mut pace = self.pace(request.rate().map_err(ReplayError::Invalid)?);
        let number = replay.subscription.unwrap_or(SubscriptionNumber(0));
        let status = until_done(|| self.status(number)).await?;
        let gone = || ReplayError::Invalid("its subscription is gone".to_owned());
        let mut run = Run {
            number,
            tenant: status.ok_or_else(gone)?.identity.tenant,
            taken: request.taken().map_err(ReplayError::Invalid)?,
            to: request.to()?,
            page: VecDeque::new(),
            read: replay.after,
            is_end: false,
            in_force: None,
            scratch: Scratch::default(),
            replay,
        };
        loop {
            let limit = pace.wait(PAGE_EVENTS).await;
            let permit = self.pages.acquire().await;
            let made = self.advance(&mut run, limit).await?;
            pace.made(made.count);
            if made.has_ended {
                let Replay { id, made, seen, .. } = run.replay;
                tracing::info!(replay = %id, seen, made, "a replay has ended");
                return Ok(());
            }
            if let Some(wait) = made.wait {
                // Nothing is held meanwhile.
                run.page = VecDeque::new();
                run.read = run.replay.after;
                drop(permit);
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Makes at most so many deliveries.
    async fn advance(&self, run: &mut Run, limit: usize) -> Result<Made, ReplayError> {
        let router = self.router.load_full();
        let Some(place) = router.place(&run.tenant, run.number) else {
            return self.without_rule(run).await;
        };
        let in_force = *run.in_force.get_or_insert_with(Instant::now);
        if run.page.is_empty() {
            self.read(run).await?;
        }
        let clock = self.journal.clock();
        let step = aside(|| run.step(&router, &place, limit, &*clock, in_force.elapsed()));
        let is_idle = step.seen == 0 && step.then == AfterStep::More;
        if is_idle && run.is_end {
            return Ok(Made::waits(LOOK_AGAIN));
        }
        let wanted = step.deliveries.len() as u64;
        let Replayed { made, room, replay } =
            until_done(|| self.journal.replay(step.clone())).await?;
        run.replay = replay;
        run.forget_seen();
        let is_full = room == 0 && made < wanted.max(1);
        Ok(Made {
            count: made,
            has_ended: !run.replay.is_running(),
            wait: is_full.then_some(LOOK_AGAIN),
        })
    }

    async fn read(&self, run: &mut Run) -> Result<(), ReplayError> {
        let reader = self.journal.reader();
        let from = EventsFrom::After(run.read);
        let page = until_done(|| reader.events(from, PAGE_EVENTS, PAGE_BYTES_MAX)).await?;
        let is_bounded = run.replay.kind == ReplayKind::Events || run.replay.hands_over;
        let until = if is_bounded {
            run.replay.until
        } else {
            Sequence(u64::MAX)
        };
        let read = page.events.len();
        let own = page.events.into_iter().take_while(|stored| {
            stored.sequence <= until && run.to.is_none_or(|to| stored.at <= to)
        });
        run.page = own.collect();
        run.is_end = page.next.is_none() || run.page.len() < read;
        // Behind what is damaged too.
        let last = run.page.back().map(|last| last.sequence);
        run.read = page.next.or(last).unwrap_or(run.read);
        Ok(())
    }

    /// No rule in force has the subscription: a reload may be under way, or its rule is gone. One
    /// that began with the subscription waits for the rule as deliveries do.
    async fn without_rule(&self, run: &mut Run) -> Result<Made, ReplayError> {
        run.in_force = None;
        let status = until_done(|| self.status(run.number)).await?;
        let is_attached = status.as_ref().is_some_and(|status| status.attached);
        match run.replay.kind {
            _ if is_attached => Ok(Made::waits(LOOK_AGAIN)),
            ReplayKind::Start if status.is_some() => {
                let all = until_done(|| async { self.journal.reader().replays().await }).await?;
                let own = all.into_iter().find(|one| one.id == run.replay.id);
                let is_running = own.is_some_and(|own| own.is_running());
                Ok(Made {
                    has_ended: !is_running,
                    ..Made::waits(LOOK_FOR_RULE)
                })
            }
            _ => Err(ReplayError::Invalid(
                "no rule in force has its subscription any more".to_owned(),
            )),
        }
    }
}

/// What came of a try to go on.
struct Made {
    count: u64,
    has_ended: bool,
    /// How long to wait before the next.
    wait: Option<Duration>,
}

impl Made {
    fn waits(wait: Duration) -> Self {
        Self {
            count: 0,
            has_ended: false,
            wait: Some(wait),
        }
    }
}

impl Run {
    /// What of the page comes next: at most so many deliveries.
    fn step(
        &mut self,
        router: &Router,
        place: &Place,
        limit: usize,
        clock: &dyn pointsman_schemas::Clock,
        in_force: Duration,
    ) -> ReplayStep {
        let (mut deliveries, mut seen, mut after) = (Vec::new(), 0, self.replay.after);
        for stored in &self.page {
            if deliveries.len() >= limit {
                break;
            }
            (seen, after) = (seen + 1, stored.sequence);
            let new = router.delivery(place, stored, &self.taken, clock, &mut self.scratch);
            deliveries.extend(new.map(|new| (stored.sequence, new)));
        }
        let is_whole = seen == self.page.len() as u64;
        let is_start = self.replay.kind == ReplayKind::Start;
        let then = if !is_whole || !self.is_end {
            AfterStep::More
        } else if is_start && !self.replay.hands_over {
            if in_force < HAND_OVER_AFTER {
                AfterStep::More
            } else {
                AfterStep::HandOver
            }
        } else {
            AfterStep::End
        };
        if then == AfterStep::End {
            // What lies behind the last event may be none.
            after = after.max(self.replay.until);
        } else if is_whole {
            after = after.max(self.read);
        }
        ReplayStep {
            id: self.replay.id,
            deliveries,
            after,
            seen,
            then,
        }
    }

    /// Drops what the journal has taken over of the page.
    fn forget_seen(&mut self) {
        let after = self.replay.after;
        while self.page.front().is_some_and(|next| next.sequence <= after) {
            self.page.pop_front();
        }
        // A stop may have moved it on.
        self.read = self.read.max(after);
    }
}
