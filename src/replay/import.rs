//! Dead letters that are brought over: from another bus, or back into their own.

use std::sync::Arc;
use std::time::Duration;

use pointsman_journal::{
    Append, Appended, DeadReason, DeadSelection, Entry, Guards, Identity, Key, LastOutcome,
    NewDead, StoredEvent, SubscriptionIdentity, SubscriptionStatus, Terms,
};
use pointsman_rules::Scratch;
use pointsman_schemas::{DeliveryId, Event, Name, Sequence, SubscriptionNumber};

use super::{ReplayError, Replays};
use crate::router::Taken;

/// For how long it is remembered that a letter was brought over.
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60 * 24 * 366);

/// A dead letter of some bus.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignLetter {
    /// The id that it has there.
    pub id: DeliveryId,
    /// The source that it came from.
    pub origin: Name,
    /// For whom.
    pub identity: SubscriptionIdentity,
    /// Why it is dead.
    pub reason: DeadReason,
    /// Tries made.
    pub attempts: u32,
    /// What the last of them came to.
    pub last: Option<LastOutcome>,
    /// Its event.
    pub event: Arc<Event>,
    /// What a redrive sends in its place.
    pub edited: Option<Arc<Event>>,
}

impl Replays {
    /// Keeps dead letters of another bus, each for the subscription of the same names. One that
    /// lies here already, under the id that it has there, or was brought over before, is passed
    /// over. Returns how many were kept. After an error some of them may have been; it does no harm
    /// to bring all of them again.
    ///
    /// # Errors
    /// There is no such subscription, before anything is kept; the journal has no room, or fails.
    pub async fn import(&self, letters: Vec<ForeignLetter>) -> Result<u64, ReplayError> {
        let reader = self.journal.reader();
        let statuses = reader.subscriptions().await?;
        let numbers: Vec<SubscriptionNumber> = letters
            .iter()
            .map(|letter| find(&statuses, letter))
            .collect::<Result<_, _>>()?;
        let here = DeadSelection {
            ids: Some(letters.iter().map(|letter| letter.id).collect()),
            ..DeadSelection::default()
        };
        let here = reader.dead(&here, None, letters.len()).await?;
        let mut imported = 0;
        for (letter, number) in letters.into_iter().zip(numbers) {
            if here.iter().any(|one| one.id == letter.id) {
                continue;
            }
            let appended = self.journal.append(self.append(letter, number)).await?;
            let is_new = |one: &&Appended| matches!(one, Appended::Stored(_));
            imported += appended.iter().filter(is_new).count() as u64;
        }
        Ok(imported)
    }

    fn append(&self, letter: ForeignLetter, subscription: SubscriptionNumber) -> Append {
        let ForeignLetter {
            id,
            origin,
            identity,
            reason,
            attempts,
            last,
            event,
            edited,
        } = letter;
        let key = Key {
            identity: Identity::of_dead_letter(&identity.tenant, &id),
            window: REMEMBERED_FOR,
            guards: Guards::Event,
        };
        let stored = StoredEvent {
            sequence: Sequence(0),
            tenant: identity.tenant.clone(),
            origin: origin.clone(),
            at: self.journal.clock().now(),
            kept_until: None,
            event: Arc::clone(&event),
        };
        let dead = NewDead {
            subscription,
            order_key: self.order_key(&stored, subscription),
            reason,
            attempts,
            last,
            edited,
        };
        Append {
            tenant: identity.tenant,
            origin,
            entries: vec![Entry {
                event,
                deliveries: Default::default(),
                deduplicate: None,
                dead: Some(dead),
                terms: Some(Box::new(Terms {
                    keys: vec![key],
                    ..Terms::default()
                })),
            }],
            rejects: Vec::new(),
            cursor: None,
            positions: Vec::new(),
        }
    }

    /// The order key that the rule in force finds; a hash, so that another bus's is of no use.
    fn order_key(&self, stored: &StoredEvent, number: SubscriptionNumber) -> Option<u64> {
        let router = self.router.load_full();
        let place = router.place(&stored.tenant, number)?;
        let taken = Taken {
            all: true,
            ..Taken::default()
        };
        let clock = self.journal.clock();
        let found = router.delivery(&place, stored, &taken, &*clock, &mut Scratch::default());
        found?.order_key
    }
}

fn find(
    statuses: &[SubscriptionStatus],
    letter: &ForeignLetter,
) -> Result<SubscriptionNumber, ReplayError> {
    let is_own = |status: &&SubscriptionStatus| status.identity == letter.identity;
    let found = statuses.iter().find(is_own);
    found.map(|status| status.number).ok_or_else(|| {
        let SubscriptionIdentity {
            tenant,
            rule,
            role,
            target,
        } = &letter.identity;
        ReplayError::Invalid(format!(
            "letter {}: tenant {tenant} has no rule {rule} with {role} {target}",
            letter.id,
            role = role.as_str()
        ))
    })
}
