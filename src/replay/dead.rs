//! Dead letters, redriven at a rate.

use pointsman_journal::{DeadSelection, JournalError, Redrive, Replay, ReplayState};
use pointsman_schemas::SubscriptionNumber;

use super::driver::{Driver, until_done};
use super::{DeadReplay, ReplayError, Replays};

/// Dead letters that are redriven at once, at most.
const REDRIVEN_AT_ONCE: usize = 500;

impl Replays {
    /// Redrives all that is selected and dead now, as fast as the journal does it; returns how
    /// many.
    ///
    /// # Errors
    /// As [`Journal::redrive_some`](pointsman_journal::Journal::redrive_some).
    pub async fn redrive_at_once(
        &self,
        selection: DeadSelection,
        to: Option<SubscriptionNumber>,
    ) -> Result<u64, JournalError> {
        let mut redrive = Redrive {
            selection,
            to,
            before: self.journal.clock().now(),
            after: None,
            limit: u64::MAX,
            replay: None,
        };
        let mut count = 0;
        loop {
            let redriven = self.journal.redrive_some(&redrive).await?;
            count += redriven.count;
            if redriven.next.is_none() {
                return Ok(count);
            }
            redrive.after = redriven.next;
        }
    }
}

impl Driver {
    /// Redrives what was dead when the replay began. After a restart it looks from the first one
    /// again: what has been redriven is no dead letter any more, or died later.
    pub(super) async fn run_dead(&self, replay: Replay) -> Result<(), ReplayError> {
        let request = DeadReplay::decode(&replay.request).map_err(ReplayError::Invalid)?;
        let mut pace = self.pace(request.rate().map_err(ReplayError::Invalid)?);
        let mut redrive = Redrive {
            selection: request.selection().map_err(ReplayError::Invalid)?,
            to: request.to.map(SubscriptionNumber),
            before: replay.began,
            after: None,
            limit: 0,
            replay: Some(replay.id),
        };
        loop {
            redrive.limit = pace.wait(REDRIVEN_AT_ONCE).await as u64;
            let redriven = until_done(|| self.journal.redrive_some(&redrive)).await?;
            pace.made(redriven.count);
            if redriven.next.is_none() {
                break;
            }
            redrive.after = redriven.next;
        }
        let end = || {
            self.journal
                .end_replay(replay.id, ReplayState::Finished, "")
        };
        let ended = until_done(end).await?;
        tracing::info!(replay = %ended.id, redriven = ended.made, "dead letters were redriven");
        Ok(())
    }
}
