//! Which subscriptions are attached. It is changed page by page, so that appends take turns with a reload of ten thousand rules.

use std::collections::{HashMap, HashSet};

use pointsman_schemas::SubscriptionNumber;

use super::DiskJournal;
use crate::journal::{Backlog, JournalError, Subscription, SubscriptionIdentity};

/// Subscriptions that one transaction attaches or detaches at most: a few milliseconds' work of the writer.
const SUBSCRIPTIONS_PER_TRANSACTION: usize = 250;

/// What a reload may change of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) identity: SubscriptionIdentity,
    pub(super) backlog: Option<Backlog>,
    pub(super) is_attached: bool,
}

/// What a subscription is to become; one without a number is new.
pub(super) type Change = (Option<u32>, Attachment);

impl DiskJournal {
    /// Attaches everything wanted, and then detaches every other.
    pub(super) async fn attach_only(&self, wanted: Vec<Subscription>) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let known = self.ask(true, 0, |transaction| Ok(transaction.attachments())).await?;
        let order: Vec<SubscriptionIdentity> = wanted.iter().map(|one| one.identity.clone()).collect();
        let (mut numbers, changes) = changes(known, wanted);
        for page in changes.chunks(SUBSCRIPTIONS_PER_TRANSACTION) {
            let changed = page.to_vec();
            let given = self.ask(true, 0, move |transaction| Ok(transaction.set_attachments(&changed))).await?;
            numbers.extend(page.iter().map(|(_, attachment)| attachment.identity.clone()).zip(given));
        }
        Ok(order.iter().filter_map(|identity| numbers.get(identity).copied()).collect())
    }
}

/// What has to change for the wanted ones to be those attached, and the numbers of those that need not change.
fn changes(known: Vec<(u32, Attachment)>, wanted: Vec<Subscription>) -> (HashMap<SubscriptionIdentity, SubscriptionNumber>, Vec<Change>) {
    let mut known: HashMap<_, _> = known.into_iter().map(|(number, old)| (old.identity.clone(), (number, old))).collect();
    let identities: HashSet<_> = wanted.iter().map(|one| one.identity.clone()).collect();
    let (mut numbers, mut changes, mut told) = (HashMap::new(), Vec::new(), HashSet::new());
    for Subscription { identity, renamed_from, backlog } in wanted {
        if !told.insert(identity.clone()) {
            continue;
        }
        let earlier = renamed_from.map(|rule| SubscriptionIdentity { rule, ..identity.clone() });
        let earlier = earlier.filter(|earlier| !identities.contains(earlier));
        let found = known.remove(&identity).or_else(|| known.remove(&earlier?));
        let new = Attachment { identity, backlog, is_attached: true };
        match found {
            Some((number, old)) if old == new => {
                numbers.insert(new.identity, SubscriptionNumber(number));
            }
            found => changes.push((found.map(|(number, _)| number), new)),
        }
    }
    let gone = known.into_values().filter(|(_, old)| old.is_attached);
    let mut gone: Vec<Change> = gone.map(|(number, old)| (Some(number), Attachment { is_attached: false, ..old })).collect();
    gone.sort_unstable_by_key(|(number, _)| *number);
    changes.extend(gone);
    (numbers, changes)
}
