//! Operations on many rows, a transaction for each page of them, so that nothing else waits long.

use std::sync::Arc;

use pointsman_schemas::DeliveryId;

use super::DiskJournal;
use super::ballast::Share;
use super::queues::Moment;
use super::transaction::{Failure, Page, ROWS_PER_PAGE, Steer, Transaction};
use crate::{JournalError, Redrive, Redriven};

impl DiskJournal {
    /// Takes everything pending out of a subscription, and gives it to another one where there is
    /// one.
    pub(super) async fn empty(&self, from: u32, to: Option<u32>) -> Result<u64, JournalError> {
        let share = if to.is_some() {
            Share::Known
        } else {
            Share::Freeing
        };
        let now = Moment::now(&*self.shared.clock);
        let until = self
            .ask(share, 0, move |transaction| {
                transaction.begin_emptying(from, to, now)
            })
            .await?;
        self.in_pages(share, move |transaction, after, rows| {
            transaction.empty(from, to, until, after, rows)
        })
        .await
    }

    /// Does an operation on many rows, one page of them after the other. Where the disk has no room
    /// for a page a smaller one is tried, down to a single row. Tells how many it was done to.
    pub(super) async fn in_pages<K: Copy + Send + 'static>(
        &self,
        share: Share,
        work: impl Fn(&mut Transaction<'_>, Option<K>, usize) -> Result<Page<K>, Failure>
        + Clone
        + Send
        + 'static,
    ) -> Result<u64, JournalError> {
        let (mut count, mut after, mut rows) = (0, None, ROWS_PER_PAGE);
        loop {
            let work = work.clone();
            let done = self.ask(share, 0, move |transaction| work(transaction, after, rows));
            match done.await {
                Ok(page) => {
                    (count, after) = (count + page.count, page.next);
                    if after.is_none() {
                        return Ok(count);
                    }
                }
                Err(JournalError::DiskFull) if rows > 1 => rows /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Does something to each of some deliveries, so many in a transaction. Tells to how many.
    pub(super) async fn to_each(
        &self,
        share: Share,
        deliveries: &[DeliveryId],
        work: impl Fn(&mut Transaction<'_>, &[DeliveryId]) -> Result<u64, Failure>
        + Clone
        + Send
        + 'static,
    ) -> Result<u64, JournalError> {
        let deliveries: Arc<[DeliveryId]> = deliveries.into();
        self.in_pages(share, move |transaction, from: Option<usize>, rows| {
            let rest = deliveries.get(from.unwrap_or(0)..).unwrap_or_default();
            let page = rest.get(..rows).unwrap_or(rest);
            Ok(Page {
                count: work(transaction, page)?,
                next: (page.len() < rest.len()).then(|| from.unwrap_or(0) + page.len()),
            })
        })
        .await
    }

    pub(super) async fn steer(
        &self,
        deliveries: &[DeliveryId],
        how: Steer,
    ) -> Result<u64, JournalError> {
        self.to_each(Share::Known, deliveries, move |transaction, page| {
            transaction.steer(page, how)
        })
        .await
    }

    /// Redrives a page of dead letters, so many of them as there is room for.
    pub(super) async fn redrive_page(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        // Where the disk has no room for a page a smaller one is tried, down to a single letter.
        let mut redrive = redrive.clone();
        redrive.limit = redrive.limit.min(ROWS_PER_PAGE as u64);
        loop {
            let some = redrive.clone();
            let work = move |transaction: &mut Transaction<'_>| transaction.redrive(&some);
            match self.ask(Share::Known, 0, work).await {
                Err(JournalError::DiskFull) if redrive.limit > 1 => redrive.limit /= 2,
                done => return done,
            }
        }
    }
}
