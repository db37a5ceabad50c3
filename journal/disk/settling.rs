//! Settling, in parts where the disk has no room for all at once.

use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::DiskJournal;
use super::ballast::Share;
use super::queues::Moment;
use crate::{Ending, JournalError, SettleAnswer, Settlement};

impl DiskJournal {
    /// Settles what there is room for, down to one settlement at a time. Where nothing fits,
    /// nothing has happened.
    pub(super) async fn settle_in_parts(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        let now = Moment::now(&*self.shared.clock).instant;
        let settlements: Arc<[Settlement]> = settlements.into();
        let mut answers = vec![SettleAnswer::NoRoom; settlements.len()];
        let (mut parts, mut fits) = (
            std::iter::once(0..settlements.len()).collect::<Vec<_>>(),
            settlements.is_empty(),
        );
        while let Some(part) = parts.pop() {
            match self.settle_part(&settlements, part.clone(), now).await {
                Ok(settled) => {
                    fits = true;
                    for (answer, is_settled) in answers.iter_mut().skip(part.start).zip(settled) {
                        *answer = SettleAnswer::of(is_settled);
                    }
                }
                Err(JournalError::DiskFull) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(JournalError::DiskFull) => {}
                Err(error) => return Err(error),
            }
        }
        if fits {
            Ok(answers)
        } else {
            Err(JournalError::DiskFull)
        }
    }

    async fn settle_part(
        &self,
        all: &Arc<[Settlement]>,
        part: Range<usize>,
        now: Instant,
    ) -> Result<Vec<bool>, JournalError> {
        let (all, share) = (
            Arc::clone(all),
            all.get(part.clone()).map_or(Share::Known, share),
        );
        self.ask(share, 0, move |transaction| {
            transaction.settle(all.get(part.clone()).unwrap_or_default(), now)
        })
        .await
    }
}

/// What only takes deliveries away makes room.
fn share(settlements: &[Settlement]) -> Share {
    let is_freeing = |settlement: &Settlement| {
        matches!(
            settlement.ending,
            Ending::Delivered | Ending::Stopped | Ending::Released
        ) && settlement.follow_ups.is_empty()
    };
    if settlements.iter().all(is_freeing) {
        Share::Freeing
    } else {
        Share::Known
    }
}
