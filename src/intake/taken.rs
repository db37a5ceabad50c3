//! What a caller is told whose task id is taken: the tasks that were made first, as they stand.

use pointsman_connectors::{Made, Task, TaskStatus};
use pointsman_journal::{
    Appended, Entry, Guards, JournalError, Lookup, Reader, SubscriptionIdentity, TaskLife,
    TaskState,
};
use pointsman_schemas::{DeliveryId, Name, SubscriptionNumber};

use crate::router::Router;

/// The state of a task of which nothing is known any more: it was delivered, stopped or purged.
const ENDED: &str = "ended";

/// Whether nothing of a message was stored because the ids of its tasks are taken.
pub(super) fn is_taken(appended: &[Appended]) -> bool {
    let mut taken = appended.iter().map(|one| matches!(one, Appended::Taken(_)));
    !appended.is_empty() && taken.all(|taken| taken)
}

/// Tells of the tasks that were made first, as they stand.
///
/// # Errors
/// [`JournalError::Io`].
pub(super) async fn tell_taken(
    made: &mut Made,
    entries: &[Entry],
    tenant: &Name,
    router: &Router,
    reader: &dyn Reader,
) -> Result<(), JournalError> {
    made.is_taken = true;
    for (event, entry) in made.events.iter_mut().zip(entries) {
        let mut keys = entry.terms.iter().flat_map(|terms| &terms.keys);
        let Some(key) = keys.find(|key| key.guards == Guards::Task) else {
            continue;
        };
        let found = reader.keys(Lookup::Key(key.identity)).await?;
        for id in found.into_iter().flat_map(|found| found.deliveries) {
            let life = reader.life(id).await?;
            let (rule, target) = match router.names(tenant, id.subscription) {
                Some((rule, target)) => (rule.clone(), target.clone()),
                None => match detached(reader, id.subscription).await? {
                    Some(identity) => (identity.rule, identity.target),
                    None => continue,
                },
            };
            event.tasks.push(task(id, rule, target, life));
        }
    }
    Ok(())
}

/// Whose a delivery is of which no rule in force is.
async fn detached(
    reader: &dyn Reader,
    number: SubscriptionNumber,
) -> Result<Option<SubscriptionIdentity>, JournalError> {
    let all = reader.subscriptions().await?.into_iter();
    let mut found = all.filter(|status| status.number == number);
    Ok(found.next().map(|status| status.identity))
}

fn task(id: DeliveryId, rule: Name, target: Name, life: Option<TaskLife>) -> Task {
    let status = life.map_or_else(|| TaskStatus::new(ENDED, 0), |life| status(&life));
    Task {
        id,
        rule,
        target,
        status: Some(status),
    }
}

fn status(life: &TaskLife) -> TaskStatus {
    let mut entries = life.history.iter().rev();
    let last = entries.find_map(|entry| entry.attempt.as_ref());
    let held = life
        .pending
        .as_ref()
        .and_then(|pending| pending.last.as_ref());
    let dead = life.dead.as_ref();
    let held = held.or(dead.and_then(|dead| dead.last.as_ref()));
    let tried = [
        life.pending.as_ref().map(|pending| pending.attempts),
        dead.map(|dead| dead.attempts),
        last.map(|attempt| attempt.number),
    ];
    let message = last.map(|attempt| &attempt.message);
    let message = message.or(held.map(|held| &held.message));
    TaskStatus {
        has_succeeded: life.state == TaskState::Succeeded,
        reason: dead.map(|dead| dead.reason.as_str()),
        code: last.map_or_else(|| held.and_then(|held| held.code), |attempt| attempt.code),
        message: message.cloned().unwrap_or_default(),
        ..TaskStatus::new(
            life.state.as_str(),
            tried.into_iter().flatten().next().unwrap_or(0),
        )
    }
}
