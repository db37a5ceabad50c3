//! The owners of leases: deliveries are leased from the journal and from the pipes, and each is
//! settled where it came from.

use std::sync::Arc;

use pointsman_journal::{
    Grant, Journal, JournalError, LeaseOwner, Leases, SettleAnswer, Settlement,
};
use pointsman_schemas::SubscriptionNumber;

use crate::pipes::Pipes;

/// The owners of all leases: the journal, and the pipes.
#[derive(Clone)]
pub(super) struct Owners {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) pipes: Arc<Pipes>,
}

impl Owners {
    /// Waits until some subscription may have something to lease that it had not.
    pub(super) async fn due(&self) -> Vec<SubscriptionNumber> {
        tokio::select! {
            numbers = self.journal.due() => numbers,
            numbers = self.pipes.due() => numbers,
        }
    }

    /// Leases from both, the journal first.
    pub(super) async fn lease(
        &self,
        grants: &[Grant],
        bytes_max: usize,
    ) -> Result<Leases, JournalError> {
        let mut leases = self.journal.lease(grants, bytes_max).await?;
        self.pipes.lease(grants, bytes_max, &mut leases);
        Ok(leases)
    }

    /// Settles each lease with its owner.
    pub(super) async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        let is_piped = |one: &Settlement| one.token.owner() == LeaseOwner::Pipes;
        let are_piped: Vec<bool> = settlements.iter().map(is_piped).collect();
        let (piped, stored): (Vec<_>, Vec<_>) = settlements.into_iter().partition(is_piped);
        // The journal first: where it fails, nothing has happened, and the whole call is made
        // again.
        let stored = if stored.is_empty() && !piped.is_empty() {
            Vec::new()
        } else {
            self.journal.settle(stored).await?
        };
        let piped = self.pipes.settle(piped);
        let (mut piped, mut stored) = (piped.into_iter(), stored.into_iter());
        let answers = are_piped.into_iter().map(|is_piped| {
            let answer = if is_piped {
                piped.next()
            } else {
                stored.next()
            };
            answer.unwrap_or(SettleAnswer::Gone)
        });
        Ok(answers.collect())
    }
}
