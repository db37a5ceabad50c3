//! Dead letters: listed, shown, redriven and purged.

use std::sync::Arc;

use pointsman_journal::{DeadReason, DeadSelection};
use pointsman_schemas::{DeliveryId, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{delivery, limited};
use crate::admin::Admin;
use crate::admin::api::{Answer, Api, Nothing};
use crate::admin::refused::Refused;
use crate::admin::view::{
    self, DeadRequest, DeadView, DeadWhole, EditRequest, ImportRequest, Imported, Page,
    RedriveRequest, ReplayView,
};
use crate::replay::DeadReplay;

pub(super) fn register(api: Api) -> Api {
    api.read(
        "/dead",
        "listDeadLetters",
        "Dead letters, the oldest first",
        list,
    )
    .read(
        "/dead/{id}",
        "getDeadLetter",
        "One dead letter with its content",
        show,
    )
    .change(
        "/dead/{id}/edit",
        "editDeadLetter",
        "Change the event that a redrive sends",
        edit,
    )
    .change(
        "/dead/import",
        "importDeadLetters",
        "Keep dead letters of another bus",
        import,
    )
    .change(
        "/dead/redrive",
        "redriveDeadLetters",
        "Deliver dead letters anew",
        redrive,
    )
    .change(
        "/dead/purge",
        "purgeDeadLetters",
        "Delete dead letters",
        purge,
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadQuery {
    /// Of this tenant.
    tenant: Option<Name>,
    /// Of this rule.
    rule: Option<Name>,
    /// For this target.
    target: Option<Name>,
    /// With this reason.
    reason: Option<DeadReason>,
    /// Go on behind this one: the `next` of the page before.
    #[schemars(with = "Option<DeliveryId>")]
    after: Option<String>,
    /// How many at most.
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    limit: Option<usize>,
}

pub(crate) async fn list(admin: Arc<Admin>, (): (), query: DeadQuery) -> Answer<Page<DeadView>> {
    let limit = limited(query.limit)?;
    let after = query.after.map(|after| delivery(&after)).transpose()?;
    let selection = DeadSelection {
        ids: None,
        tenant: query.tenant,
        rule: query.rule,
        target: query.target,
        reason: query.reason,
    };
    Ok(view::dead_page(&*admin.pipes.reader(), &selection, after, limit).await?)
}

pub(crate) async fn show(admin: Arc<Admin>, id: DeliveryId, _: Nothing) -> Answer<DeadWhole> {
    let letter = view::dead_letter(&*admin.pipes.reader(), id).await?;
    letter.ok_or_else(|| Refused::not_found(format!("dead letter {id}")))
}

pub(crate) async fn edit(
    admin: Arc<Admin>,
    id: DeliveryId,
    request: EditRequest,
) -> Answer<DeadWhole> {
    let event = request.event().map_err(Refused::bad_request)?;
    let is_undone = event.is_none();
    admin.journal.edit_dead(id, event.map(Arc::new)).await?;
    tracing::info!(%id, is_undone, "a dead letter was edited");
    show(admin, id, Nothing {}).await
}

pub(crate) async fn import(admin: Arc<Admin>, (): (), request: ImportRequest) -> Answer<Imported> {
    let all = request.letters.len();
    if !(1..=view::LETTERS_MAX).contains(&all) {
        let max = view::LETTERS_MAX;
        return Err(Refused::bad_request(format!("letters holds 1 to {max}")));
    }
    let read = request
        .letters
        .iter()
        .filter_map(|one| one.read().transpose());
    let letters: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(Refused::bad_request)?;
    let with_event = letters.len();
    let imported = admin.replays.import(letters).await?;
    tracing::info!(imported, "dead letters were brought over");
    Ok(Imported {
        imported,
        known: with_event as u64 - imported,
        without_event: (all - with_event) as u64,
    })
}

/// How many were redriven.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Redriven {
    /// By now.
    pub(crate) redriven: u64,
    /// The replay that goes on with it at the rate that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<ReplayView>,
}

pub(crate) async fn redrive(
    admin: Arc<Admin>,
    (): (),
    request: RedriveRequest,
) -> Answer<Redriven> {
    let selection = request.selection.selection();
    let selection = selection.map_err(Refused::bad_request)?;
    let statuses = admin.journal.reader().subscriptions().await?;
    let to = request.to.as_ref().map(|to| to.find(&statuses));
    let to = to.transpose().map_err(Refused::bad_request)?;
    let to = to.map(|status| status.number);
    if request.rate.is_some() {
        let replay = DeadReplay {
            selection: request.selection,
            to: to.map(|number| number.0),
            rate: request.rate,
        };
        let replay = admin.replays.begin_dead(&replay).await?;
        let view = super::replays::view(&admin, replay, &statuses).await?;
        return Ok(Redriven {
            redriven: 0,
            replay: Some(view),
        });
    }
    let described = described(&selection);
    let redriven = admin.replays.redrive_at_once(selection, to).await?;
    tracing::info!(redriven, selection = %described, "dead letters were redriven");
    Ok(Redriven {
        redriven,
        replay: None,
    })
}

/// How many were purged.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Purged {
    pub(crate) purged: u64,
}

pub(crate) async fn purge(admin: Arc<Admin>, (): (), request: DeadRequest) -> Answer<Purged> {
    let selection = request.selection().map_err(Refused::bad_request)?;
    let purged = admin.journal.purge(&selection).await?;
    tracing::info!(purged, selection = %described(&selection), "dead letters were purged");
    Ok(Purged { purged })
}

/// A selection for the log, ten thousand ids as their number.
fn described(selection: &DeadSelection) -> String {
    let names = [
        ("tenant", &selection.tenant),
        ("rule", &selection.rule),
        ("target", &selection.target),
    ];
    let names = names
        .into_iter()
        .filter_map(|(key, name)| Some(format!("{key}={}", name.as_ref()?)));
    let ids = selection
        .ids
        .as_ref()
        .map(|ids| format!("ids={}", ids.len()));
    let parts: Vec<String> = names
        .chain(
            selection
                .reason
                .map(|reason| format!("reason={}", reason.as_str())),
        )
        .chain(ids)
        .collect();
    if parts.is_empty() {
        "all".to_owned()
    } else {
        parts.join(" ")
    }
}
