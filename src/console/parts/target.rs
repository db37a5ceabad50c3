//! Targets.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::history::Counted;
use super::super::page::{self, Section, Viewer, ago, count, rate, span, state, table, tile, time};
use super::super::{Console, failure::Failure, fields::Asked, flow::of_target, written};
use super::{charts, has_wanted, named, one_chart, paged, search_box, subscriptions, target_path};
use crate::admin::TargetStatus;
use crate::admin::refused::Refused;
use crate::config::Defined;

pub(in crate::console) async fn list(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let (mut look, rates) = console.history.look(&console.admin).await?;
    look.targets
        .retain(|one| has_wanted(&asked, [one.tenant.as_str(), one.name.as_str(), &one.kind]));
    let (shown, ways) = paged(&look.targets, "/targets", &asked);
    let body = html! {
        (search_box("/targets", "Tenant, name or kind", &asked))
        div .sheet {
            (table("Targets", &html! {
                thead { tr {
                    th scope="col" { "Target" } th scope="col" { "Kind" } th scope="col" { "State" }
                    th .number scope="col" { "Delivered" } th .number scope="col" { "In flight" }
                    th .number scope="col" { "Limit" } th scope="col" { "Last error" }
                } }
                tbody {
                    @for one in shown {
                        @let passing = rates.of(&Counted::Target(one.tenant.clone(), one.name.clone()));
                        @let (health, word) = of_target(one);
                        tr {
                            td .name {
                                a href=(target_path(&one.tenant, &one.name)) {
                                    (one.tenant) "/" (one.name)
                                }
                            }
                            td { (one.kind) }
                            td { (state(health, word)) }
                            td .number { (rate(passing.passed)) }
                            td .number { (count(one.in_flight)) }
                            td .number { (count(one.limit)) }
                            td .said { (one.last_error.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            }))
            (ways)
        }
    };
    Ok(page::page(viewer, Section::Targets, "Targets", &body).into_response())
}

pub(in crate::console) async fn show(
    State(console): State<Console>,
    viewer: Viewer,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (tenant, name) = named(&tenant, &name)?;
    let (look, rates) = console.history.look(&console.admin).await?;
    let found = look
        .targets
        .iter()
        .find(|one| (&one.tenant, &one.name) == (&tenant, &name));
    let one =
        found.ok_or_else(|| Refused::not_found(format!("target {name} of tenant {tenant}")))?;
    let passing = rates.of(&Counted::Target(tenant.clone(), name.clone()));
    let (health, word) = of_target(one);
    let is_own = |sub: &&crate::admin::view::SubscriptionView| {
        (&sub.identity.tenant, &sub.identity.target) == (&tenant, &name)
    };
    let own = look.subscriptions.iter().filter(is_own);
    let waiting: u64 = own.clone().map(|one| one.counts.pending).sum();
    let dead: u64 = own.clone().map(|one| one.counts.dead).sum();
    let path = target_path(&tenant, &name);
    let body = html! {
        dl .tiles {
            (tile("delivered", &rate(passing.passed), ""))
            (tile("waiting", &count(waiting), ""))
            (tile("in flight", &count(one.in_flight), &format!("of {}", one.limit)))
            (tile("dead letters", &count(dead), ""))
            @if let Some(latency) = rates.latency(&tenant, &name) {
                @let p99 = format!("99 of 100: {}", span(latency.p99 / 1e6));
                (tile("half within", &span(latency.p50 / 1e6), &p99))
            }
        }
        @if let Some(error) = &one.last_error {
            p .notice .warn { strong { "Last error: " } (error) }
        }
        div .columns {
            (facts(one, &console))
            (charts(&path, true))
            (one_chart("How long attempts take, over the last hour", &path, "attempts"))
        }
        (written::passage(&console, Defined::Target, &tenant, &name))
        section .sheet {
            h2 { "Subscriptions" } (subscriptions(&look, &rates, own.take(super::ROWS_MAX)))
        }
    };
    let title = format!("Target {name}");
    Ok(page::titled(
        viewer,
        Section::Targets,
        &title,
        &state(health, word),
        &body,
    )
    .into_response())
}

fn facts(one: &TargetStatus, console: &Console) -> Markup {
    let (health, word) = of_target(one);
    html! {
        section .sheet {
            h2 { "Target" }
            dl .facts {
                dt { "Tenant" } dd { (one.tenant) }
                dt { "Kind" } dd { (one.kind) }
                dt { "Circuit" }
                dd {
                    (state(health, word)) " since " (time(&one.since)) " ("
                    (ago(&one.since, console.admin.clock.now())) ")"
                }
                dt { "Limit now" }
                dd {
                    (one.limit) " at once, as it is adapted"
                    @if let Some(share) = one.share { "; " (share) " is this node's share" }
                }
            }
            p {
                a href={ "/tasks?tenant=" (one.tenant) "&target=" (one.name) } { "Its tasks" } " · "
                a href={ "/dead?tenant=" (one.tenant) "&target=" (one.name) } { "Its dead letters" }
                " · "
                a href={ "/live?tenant=" (one.tenant) "&target=" (one.name) } { "Live" }
            }
        }
    }
}
