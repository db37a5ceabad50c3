//! What can be done to tasks that have not ended: the same for one, for some, and for all that a
//! selection means.
//!
//! A selection is gone through in steps of a bounded number of tasks, each a transaction of its
//! own, and only for a bounded time: then the answer says where to go on. What was done stays done
//! whatever becomes of the rest, and doing it again to the same tasks changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use pointsman_journal::JournalError;
use pointsman_schemas::DeliveryId;
use tokio::time::{Instant, timeout_at};

use super::Admin;
use super::view::{Onlooker, TasksRequest, each_waiting};
use crate::dispatcher::StopReport;

/// Tasks that one step looks for, and one transaction changes.
const STEP: usize = 1_000;

/// For so long one request goes on: well within what a request may take.
const GOES_ON_FOR: Duration = Duration::from_secs(20);

/// How long an answer waits for attempts to be stopped: a command is killed two seconds after it
/// was asked to end.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// What is done to tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lever {
    Cancel,
    Skip,
    Suspend,
    Resume,
    Retry,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Tasks that were meant.
    pub(crate) selected: u64,
    /// Those that it was done to.
    pub(crate) changed: u64,
    /// Those of which an attempt is still being stopped.
    pub(crate) stopping: u64,
    /// Behind which task to go on; none where all were looked at.
    pub(crate) next: Option<DeliveryId>,
}

/// Does something to the tasks that a request means, or only counts them.
///
/// # Errors
/// [`JournalError::Io`], [`JournalError::Closed`]: what was done before it stays done.
pub(crate) async fn pull(
    admin: &Admin,
    lever: Lever,
    request: &TasksRequest,
) -> Result<Done, JournalError> {
    let mut done = Done::default();
    let mut stops = Vec::new();
    if let Some(ids) = &request.ids {
        let found = if request.dry_run {
            waiting(admin, ids).await?
        } else {
            ids.clone()
        };
        done.selected = found.len() as u64;
        for ids in found.chunks(STEP).filter(|_| !request.dry_run) {
            step(admin, lever, ids, &mut done, &mut stops).await?;
        }
    } else {
        let until = Instant::now() + GOES_ON_FOR;
        let mut after = request.after;
        loop {
            let (ids, next) = selected(admin, request, after).await?;
            done.selected += ids.len() as u64;
            if !request.dry_run && !ids.is_empty() {
                step(admin, lever, &ids, &mut done, &mut stops).await?;
            }
            (after, done.next) = (next, next);
            if next.is_none() || Instant::now() >= until {
                break;
            }
        }
    }
    wait_for(stops, &mut done).await;
    if !request.dry_run {
        let Done {
            selected,
            changed,
            stopping,
            ..
        } = done;
        tracing::info!(?lever, selected, changed, stopping, "tasks were steered");
    }
    Ok(done)
}

/// Those of some tasks that have not ended.
async fn waiting(admin: &Admin, ids: &[DeliveryId]) -> Result<Vec<DeliveryId>, JournalError> {
    let reader = admin.pipes.reader();
    let mut found = Vec::new();
    for id in ids {
        let life = reader.life(*id).await?;
        found.extend(life.filter(|life| life.pending.is_some()).map(|_| *id));
    }
    Ok(found)
}

/// Some of the tasks that are selected behind `after`, and behind which there may be more.
async fn selected(
    admin: &Admin,
    request: &TasksRequest,
    after: Option<DeliveryId>,
) -> Result<(Vec<DeliveryId>, Option<DeliveryId>), JournalError> {
    let stopping = admin.overview.stopping();
    let onlooker = Onlooker {
        reader: &*admin.pipes.reader(),
        stopping: &stopping,
        now: admin.clock.now(),
    };
    let mut ids = Vec::new();
    let next = each_waiting(
        &onlooker,
        &request.of,
        &request.selection,
        after,
        STEP,
        |_, _, pending| {
            ids.push(pending.id);
        },
    );
    let next = next.await?;
    Ok((ids, next))
}

/// The reports of attempts that are being stopped.
type Reports = tokio::sync::mpsc::UnboundedReceiver<StopReport>;

/// Does it to some tasks, in one transaction.
async fn step(
    admin: &Admin,
    lever: Lever,
    ids: &[DeliveryId],
    done: &mut Done,
    stops: &mut Vec<Reports>,
) -> Result<(), JournalError> {
    done.changed += match lever {
        Lever::Cancel => {
            // An attempt may begin between the two, or have ended: what waits again then is ended
            // by the second call.
            let before = admin.pipes.cancel(ids).await?;
            let left = ids.len() as u64 - before.min(ids.len() as u64);
            if left > 0 {
                stops.push(admin.overview.stop(ids.to_vec()));
                before + admin.pipes.cancel(ids).await?
            } else {
                before
            }
        }
        Lever::Skip => admin.journal.skip(ids).await?,
        Lever::Suspend => admin.journal.suspend(ids).await?,
        Lever::Resume => admin.journal.resume(ids).await?,
        Lever::Retry => admin.journal.retry(ids).await?,
    };
    if matches!(lever, Lever::Cancel | Lever::Skip) {
        let meant: HashSet<&DeliveryId> = ids.iter().collect();
        let reader = admin.journal.reader();
        admin.waiting.look(&*reader, |id| meant.contains(id)).await;
    }
    Ok(())
}

/// Waits for attempts that are being stopped, but not for long, and counts them.
async fn wait_for(stops: Vec<Reports>, done: &mut Done) {
    let until = Instant::now() + STOPPED_WITHIN;
    for mut reports in stops {
        // Ends once each attempt has ended, and that is durable.
        while let Ok(Some(report)) = timeout_at(until, reports.recv()).await {
            match report {
                StopReport::Stopping => done.stopping += 1,
                StopReport::Ended { is_stopped } => {
                    done.stopping = done.stopping.saturating_sub(1);
                    done.changed += u64::from(is_stopped);
                }
            }
        }
        // What had been told by then counts, also where the time was over before it was looked at.
        while let Ok(report) = reports.try_recv() {
            done.stopping += u64::from(report == StopReport::Stopping);
        }
    }
}
