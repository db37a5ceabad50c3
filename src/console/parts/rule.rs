//! Rules and pipes.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use pointsman_schemas::Name;

use super::super::history::Counted;
use super::super::page::{self, Section, Viewer, count, rate, table, tile};
use super::super::{Console, failure::Failure, fields::Asked, written};
use super::{
    charts, has_wanted, named, paged, rule_path, search_box, source_path, subscriptions,
    target_path,
};
use crate::admin::RuleStatus;
use crate::admin::refused::Refused;
use crate::config::Defined;

/// How much of the conditions a list shows.
const CONDITIONS_CHARS_MAX: usize = 160;

pub(in crate::console) async fn list(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let (mut look, rates) = console.history.look(&console.admin).await?;
    look.rules.retain(|one| {
        let names = [&one.tenant, &one.name]
            .into_iter()
            .chain(&one.from)
            .chain(&one.to);
        let texts = names.map(Name::as_str).chain(one.description.as_deref());
        has_wanted(&asked, texts) || has_wanted(&asked, [&*one.conditions.to_string()])
    });
    let (shown, ways) = paged(&look.rules, "/rules", &asked);
    let body = html! {
        (written::notices(&console, &console.admin.overview.written()))
        (search_box("/rules", "Name, source, target, description or condition", &asked))
        div .sheet {
            (table("Rules and pipes", &html! {
                thead { tr {
                    th scope="col" { "Rule" } th scope="col" { "From" }
                    th scope="col" { "Conditions" }
                    th scope="col" { "To" } th .number scope="col" { "Takes" }
                    th .number scope="col" { "Taken" }
                } }
                tbody {
                    @for one in shown {
                        @let passing = rates.of(&Counted::Rule(one.tenant.clone(), one.name.clone()));
                        tr {
                            td .name {
                                a href=(rule_path(&one.tenant, &one.name)) {
                                    (one.tenant) "/" (one.name)
                                }
                                @if one.pipe { " (pipe)" }
                                @if let Some(description) = &one.description {
                                    div .said { (description) }
                                }
                            }
                            td { (sources(one)) }
                            td .mono {
                                (crate::output::shortened(&one.conditions.to_string(), CONDITIONS_CHARS_MAX))
                            }
                            td { (targets(one)) }
                            td .number { (rate(passing.passed)) }
                            td .number { (count(one.matches)) }
                        }
                    }
                }
            }))
            (ways)
        }
    };
    let beside = html! {
        a .button .plain href=(written::PATH) { "Rule files" }
        a .button .plain href="/playground" { "Playground" }
    };
    Ok(page::titled(viewer, Section::Rules, "Rules", &beside, &body).into_response())
}

fn sources(rule: &RuleStatus) -> Markup {
    html! {
        @if rule.from.is_empty() { span .note { "any" } }
        @for (index, name) in rule.from.iter().enumerate() {
            @if index > 0 { ", " }
            a href=(source_path(&rule.tenant, name)) { (name) }
        }
    }
}

fn targets(rule: &RuleStatus) -> Markup {
    html! {
        @for (index, name) in rule.to.iter().enumerate() {
            @if index > 0 { ", " }
            a href=(target_path(&rule.tenant, name)) { (name) }
        }
    }
}

pub(in crate::console) async fn show(
    State(console): State<Console>,
    viewer: Viewer,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (tenant, name) = named(&tenant, &name)?;
    let (look, rates) = console.history.look(&console.admin).await?;
    let found = look
        .rules
        .iter()
        .find(|one| (&one.tenant, &one.name) == (&tenant, &name));
    let one = found.ok_or_else(|| Refused::not_found(format!("rule {name} of tenant {tenant}")))?;
    let passing = rates.of(&Counted::Rule(tenant.clone(), name.clone()));
    let is_own = |sub: &&crate::admin::view::SubscriptionView| {
        (&sub.identity.tenant, &sub.identity.rule) == (&tenant, &name)
    };
    let own = look.subscriptions.iter().filter(is_own);
    let conditions = serde_json::to_string_pretty(&one.conditions).unwrap_or_default();
    let has_conditions = one
        .conditions
        .as_object()
        .is_none_or(|object| !object.is_empty());
    let body = html! {
        dl .tiles {
            (tile("takes", &rate(passing.passed), ""))
            (tile("taken since the start", &count(one.matches), ""))
            @if one.duplicates > 0 { (tile("duplicates left out", &count(one.duplicates), "")) }
            (tile("waiting", &count(own.clone().map(|one| one.counts.pending).sum()), ""))
            (tile("dead letters", &count(own.clone().map(|one| one.counts.dead).sum()), ""))
        }
        section .sheet { h2 { "Subscriptions" } (subscriptions(&look, &rates, own)) }
        div .columns {
            section .sheet {
                h2 { "Conditions" }
                @if has_conditions {
                    pre tabindex="0" { (conditions) }
                } @else {
                    p .note { "None: it takes every event of its sources." }
                }
                p {
                    a href={ "/playground?tenant=" (tenant) "&rule=" (name) } {
                        "Try them in the playground"
                    }
                }
            }
            section .sheet {
                h2 { @if one.pipe { "Pipe" } @else { "Rule" } }
                dl .facts {
                    dt { "Tenant" } dd { (tenant) }
                    dt { "From" } dd { (sources(one)) }
                    dt { "To" } dd { (targets(one)) }
                }
                p {
                    a href={ "/tasks?tenant=" (tenant) "&rule=" (name) } { "Its tasks" } " · "
                    a href={ "/dead?tenant=" (tenant) "&rule=" (name) } { "Its dead letters" } " · "
                    a href={ "/live?tenant=" (tenant) "&rule=" (name) } { "Live" }
                }
            }
            (charts(&rule_path(&tenant, &name), false))
        }
        (written::passage(&console, Defined::Rule, &tenant, &name))
    };
    let title = format!("{} {name}", if one.pipe { "Pipe" } else { "Rule" });
    let beside =
        html! { @if let Some(description) = &one.description { span .lead { (description) } } };
    Ok(page::titled(viewer, Section::Rules, &title, &beside, &body).into_response())
}
