//! Sources.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use pointsman_schemas::Name;

use super::super::history::Counted;
use super::super::page::{self, Section, Viewer, ago, count, rate, state, table, tile, time};
use super::super::{Console, failure::Failure, fields::Asked, flow::of_source, written};
use super::{charts, has_wanted, named, paged, rule_path, search_box, source_path};
use crate::admin::RuleStatus;
use crate::admin::refused::Refused;
use crate::config::Defined;

pub(in crate::console) async fn list(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let (mut look, rates) = console.history.look(&console.admin).await?;
    look.sources
        .retain(|one| has_wanted(&asked, [one.tenant.as_str(), one.name.as_str(), &one.kind]));
    let (shown, ways) = paged(&look.sources, "/sources", &asked);
    let body = html! {
        (search_box("/sources", "Tenant, name or kind", &asked))
        div .sheet {
            (table("Sources", &html! {
                thead { tr {
                    th scope="col" { "Source" } th scope="col" { "Kind" } th scope="col" { "State" }
                    th .number scope="col" { "Events" } th .number scope="col" { "Unreadable" }
                    th .number scope="col" { "Waiting outside" } th scope="col" { "Last error" }
                } }
                tbody {
                    @for one in shown {
                        @let passing = rates.of(&Counted::Source(one.tenant.clone(), one.name.clone()));
                        @let (health, word) = of_source(one, passing);
                        tr {
                            td .name {
                                a href=(source_path(&one.tenant, &one.name)) {
                                    (one.tenant) "/" (one.name)
                                }
                            }
                            td { (one.kind) }
                            td { (state(health, word)) }
                            td .number { (rate(passing.passed)) }
                            td .number { (count(one.rejects)) }
                            td .number { @if let Some(lag) = one.lag { (count(lag)) } }
                            td .said { (one.last_error.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            }))
            (ways)
        }
    };
    Ok(page::page(viewer, Section::Sources, "Sources", &body).into_response())
}

pub(in crate::console) async fn show(
    State(console): State<Console>,
    viewer: Viewer,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (tenant, name) = named(&tenant, &name)?;
    let (look, rates) = console.history.look(&console.admin).await?;
    let found = look
        .sources
        .iter()
        .find(|one| (&one.tenant, &one.name) == (&tenant, &name));
    let one =
        found.ok_or_else(|| Refused::not_found(format!("source {name} of tenant {tenant}")))?;
    let passing = rates.of(&Counted::Source(tenant.clone(), name.clone()));
    let (health, word) = of_source(one, passing);
    let takes = |from: &[Name]| match from {
        [] => name != Name::replies(),
        names => names.contains(&name),
    };
    let rules = look
        .rules
        .iter()
        .filter(|rule| rule.tenant == tenant && takes(&rule.from));
    let rules: Vec<_> = rules.collect();
    let body = html! {
        dl .tiles {
            (tile("events", &rate(passing.passed), ""))
            (tile("events since the start", &count(one.events), ""))
            (tile("unreadable", &count(one.rejects), ""))
            @if let Some(lag) = one.lag { (tile("waiting outside", &count(lag), "")) }
            @if one.skipped > 0 { (tile("removed unread", &count(one.skipped), "")) }
        }
        @if let Some(error) = &one.last_error {
            p .notice .warn { strong { "Last error: " } (error) }
        }
        div .columns {
            section .sheet {
                h2 { "Source" }
                dl .facts {
                    dt { "Tenant" } dd { (tenant) }
                    dt { "Kind" } dd { (one.kind) }
                    dt { "State" }
                    dd {
                        (state(health, word)) " since " (time(&one.since)) " ("
                        (ago(&one.since, console.admin.clock.now())) ")"
                    }
                    dt { "Guarantee" } dd { (format!("{:?}", one.guarantee)) }
                }
                p {
                    a href={ "/events?origin=" (name) } { "Its events" } " · "
                    a href={ "/live?tenant=" (tenant) "&source=" (name) } { "Live" } " · "
                    a href="/dead?reason=unreadable" { "What could not be read" }
                }
            }
            (taken_by(&rules))
            (charts(&source_path(&tenant, &name), true))
        }
        (written::passage(&console, Defined::Source, &tenant, &name))
    };
    let title = format!("Source {name}");
    Ok(page::titled(
        viewer,
        Section::Sources,
        &title,
        &state(health, word),
        &body,
    )
    .into_response())
}

/// The rules that take from a source.
fn taken_by(rules: &[&RuleStatus]) -> Markup {
    html! {
        section .sheet {
            h2 { "Rules that take from it" }
            @if rules.is_empty() { p .note { "None." } }
            ul {
                @for rule in rules.iter().take(super::ROWS_MAX) {
                    li { a href=(rule_path(&rule.tenant, &rule.name)) { (rule.name) } }
                }
            }
            @if rules.len() > super::ROWS_MAX {
                p .note { (count((rules.len() - super::ROWS_MAX) as u64)) " more" }
            }
        }
    }
}
