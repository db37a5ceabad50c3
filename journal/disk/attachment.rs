//! Which subscriptions are attached. It is changed page by page, so that appends take turns with a
//! reload of ten thousand rules.

use std::collections::HashMap;

use pointsman_schemas::SubscriptionNumber;

use super::DiskJournal;
use super::ballast::Share;
use crate::{Backlog, JournalError, Numbered, ReplayId, Start, Subscription, SubscriptionIdentity};

/// Subscriptions that one job of the writer reads at most, and that one attaches or detaches: half
/// a millisecond's work.
const READ_AT_ONCE: usize = 1_000;
const CHANGED_AT_ONCE: usize = 50;

/// What a reload may change of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) identity: SubscriptionIdentity,
    pub(super) backlog: Option<Backlog>,
    pub(super) is_attached: bool,
}

/// What a subscription is to become; one without a number is new.
/// One that comes for the first time is given retained events from its start.
pub(super) type Change = (Option<u32>, Attachment, Option<(Start, ReplayId)>);

/// Where the number of a wanted subscription comes from.
#[derive(Clone, Copy, Debug)]
enum Number {
    Known(u32),
    /// From the change with this index.
    Change(usize),
}

impl DiskJournal {
    /// Attaches everything wanted, then detaches every other, and drops what holds nothing.
    pub(super) async fn attach_only(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let known = self.known().await?;
        let (numbers, changes) = changes(&known, &wanted);
        let given = self.change(&changes).await?;
        let number = |number| match number {
            Number::Known(number) => Some(SubscriptionNumber(number)),
            Number::Change(index) => given.get(index).copied(),
        };
        Ok(numbers.into_iter().filter_map(number).collect())
    }

    /// The same under given numbers.
    pub(super) async fn attach_only_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError> {
        let known = self.known().await?;
        self.change(&numbered_changes(&known, wanted)).await?;
        Ok(())
    }

    /// Every subscription that there is.
    async fn known(&self) -> Result<Vec<(u32, Attachment)>, JournalError> {
        let mut known = Vec::new();
        loop {
            let from = known
                .last()
                .map_or(0, |(number, _): &(u32, Attachment)| number + 1);
            let page = self
                .ask(Share::Freeing, 0, move |transaction| {
                    Ok(transaction.attachments(from, READ_AT_ONCE))
                })
                .await?;
            if page.is_empty() {
                return Ok(known);
            }
            known.extend(page);
        }
    }

    /// Makes the changes, and drops what holds nothing.
    async fn change(&self, changes: &[Change]) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let mut given = Vec::with_capacity(changes.len());
        for page in changes.chunks(CHANGED_AT_ONCE) {
            let changed = page.to_vec();
            given.extend(
                self.ask(Share::Freeing, 0, move |transaction| {
                    transaction.set_attachments(&changed)
                })
                .await?,
            );
        }
        while self
            .ask(Share::Freeing, 0, |transaction| {
                Ok(transaction.drop_detached(CHANGED_AT_ONCE))
            })
            .await?
            == CHANGED_AT_ONCE
        {}
        Ok(given)
    }
}

/// What has to change for the wanted ones to be those attached, and what becomes of each of these.
fn changes(known: &[(u32, Attachment)], wanted: &[Subscription]) -> (Vec<Number>, Vec<Change>) {
    let old = known.iter().map(|known| (&known.1.identity, known));
    let mut old: HashMap<&SubscriptionIdentity, &(u32, Attachment)> = old.collect();
    let new = wanted.iter().map(|one| (&one.identity, None));
    let mut assigned: HashMap<&SubscriptionIdentity, Option<Number>> = new.collect();
    let (mut numbers, mut changes) = (Vec::with_capacity(wanted.len()), Vec::new());
    for Subscription {
        identity,
        renamed_from,
        backlog,
        start,
    } in wanted
    {
        if let Some(Some(number)) = assigned.get(identity) {
            numbers.push(*number);
            continue;
        }
        let earlier = renamed_from.clone().map(|rule| SubscriptionIdentity {
            rule,
            ..identity.clone()
        });
        let earlier = earlier.filter(|earlier| !assigned.contains_key(earlier));
        let found = old.remove(identity).or_else(|| old.remove(&earlier?));
        let new = Attachment {
            identity: identity.clone(),
            backlog: *backlog,
            is_attached: true,
        };
        let number = match found {
            Some((number, old)) if *old == new => Number::Known(*number),
            found => {
                let start = start.map(|start| (start, ReplayId::random()));
                changes.push((found.map(|(number, _)| *number), new, start));
                Number::Change(changes.len() - 1)
            }
        };
        assigned.insert(identity, Some(number));
        numbers.push(number);
    }
    let gone = known
        .iter()
        .filter(|(_, attachment)| attachment.is_attached && old.contains_key(&attachment.identity));
    changes.extend(gone.map(detached));
    (numbers, changes)
}

/// The change that detaches a subscription.
fn detached((number, attachment): &(u32, Attachment)) -> Change {
    let detached = Attachment {
        is_attached: false,
        ..attachment.clone()
    };
    (Some(*number), detached, None)
}

/// What has to change for exactly these to be attached under their numbers, the lowest first: that
/// a number has never been there is told by those below it.
fn numbered_changes(known: &[(u32, Attachment)], wanted: Vec<Numbered>) -> Vec<Change> {
    let mut old: HashMap<u32, &Attachment> = known.iter().map(|(n, one)| (*n, one)).collect();
    let mut changes = Vec::new();
    for one in wanted {
        let Numbered {
            subscription,
            number,
            replay,
        } = one;
        let new = Attachment {
            identity: subscription.identity,
            backlog: subscription.backlog,
            is_attached: true,
        };
        if old.remove(&number.0) != Some(&new) {
            let start = subscription.start.map(|start| (start, replay));
            changes.push((Some(number.0), new, start));
        }
    }
    changes.sort_by_key(|(number, ..)| *number);
    let gone = known.iter().filter(|(number, _)| old.contains_key(number));
    changes.extend(gone.filter(|(_, one)| one.is_attached).map(detached));
    changes
}
