//! The flow: what goes from which source through which rule to which target, and how it stands.

mod drawing;
mod graph;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};

use self::graph::{Graph, RULES_MAX, graph};
pub(super) use self::graph::{circuits, of_source, of_subscription, of_target};
use super::Console;
use super::failure::Failure;
use super::fields::{Asked, Fields};
use super::history::{Counted, Look, Rates};
use super::page::{self, Health, Section, Viewer, bytes, count, rate, span, state, table, tile};
use super::parts::subscription::title;
use super::parts::{subscription_path, trouble};
use crate::admin::api::Nothing;
use crate::admin::routes;
use crate::admin::view::{StatusView, SubscriptionView};

/// Rows of the table of what stands worst.
const ROWS_MAX: usize = 25;

/// How often the page asks for it anew: within a second what passes is seen; of more rules than
/// are drawn, which all have to be asked, less often.
const EVERY: &str = "every 800ms";
const EVERY_OF_MANY: &str = "every 2s";

/// The page.
pub(super) async fn page(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let part = drawn(&console, &asked).await?;
    let filter = html! {
        form .filter method="get" action="/" role="search" {
            label { "Tenant, source, rule or target"
                input type="search" name="q" value=(asked.text("q"));
            }
            button .plain { "Filter" }
        }
    };
    let legend = html! {
        p .legend {
            (state(Health::Good, "delivering")) (state(Health::Warn, "retrying"))
            (state(Health::Held, "suspended"))
            (state(Health::Bad, "dead letters growing, circuit open, refused"))
            (state(Health::Idle, "idle"))
        }
    };
    let body = html! { (filter) (part) (legend) };
    Ok(page::page(viewer, Section::Flow, "Flow", &body).into_response())
}

/// What moves of it, which the page asks for every now and then.
pub(super) async fn part(
    State(console): State<Console>,
    Asked(asked): Asked,
) -> Result<Html<String>, Failure> {
    Ok(Html(drawn(&console, &asked).await?.into_string()))
}

async fn drawn(console: &Console, asked: &Fields) -> Result<Markup, Failure> {
    let (look, rates) = console.history.look(&console.admin).await?;
    let status = routes::status(console.admin.clone(), (), Nothing {}).await?;
    let graph = graph(&look, &rates, asked.text("q"));
    let again = asked.only(&["q"]).at("/flow");
    let every = match graph.drawn < graph.rules {
        true => EVERY_OF_MANY,
        false => EVERY,
    };
    Ok(html! {
        div #flow hx-get=(again) hx-trigger=(every) hx-swap="outerHTML" {
            @for missing in &status.missing { p .notice .bad role="alert" { (missing) } }
            (trouble(&look.incomplete))
            (tiles(&status, &look, &rates))
            div .wall {
                div .sheet {
                    (of_graph(&graph))
                }
                div .sheet {
                    h2 { "Worst and busiest" } (of_subscriptions(&look, &rates, asked.text("q")))
                }
            }
        }
    })
}

fn of_graph(graph: &Graph) -> Markup {
    html! {
        @if graph.nodes.is_empty() {
            p .note { "No rule is like that." }
        } @else {
            div .drawing tabindex="0" role="region" aria-label="Drawing of the flow" {
                (drawing::drawing(graph))
            }
        }
        @if graph.drawn < graph.rules {
            p .note {
                "The " (RULES_MAX) " rules that stand worst or are busiest of " (count(graph.rules as u64))
                "; " (count((graph.rules - graph.drawn) as u64)) " more are not drawn. "
                a href="/rules" { "All rules" }
            }
        }
    }
}

fn tiles(status: &StatusView, look: &Look, rates: &Rates) -> Markup {
    let events: f64 = (look.sources.iter())
        .map(|one| {
            rates
                .of(&Counted::Source(one.tenant.clone(), one.name.clone()))
                .passed
        })
        .sum();
    let of_each = look
        .subscriptions
        .iter()
        .map(|one| rates.of(&Counted::Subscription(one.number)));
    let (delivered, died) = of_each.fold((0.0, 0.0), |(passed, failed), one| {
        (passed + one.passed, failed + one.failed)
    });
    let deliveries = status.deliveries.unwrap_or_default();
    let growing = match died > 0.0 {
        true => format!("+{}", rate(died)),
        false => String::new(),
    };
    html! {
        dl .tiles {
            (tile("events", &rate(events), ""))
            (tile("delivered", &rate(delivered), ""))
            (tile("waiting", &count(deliveries.pending), ""))
            (tile("retrying", &count(deliveries.retrying), ""))
            (tile("in flight", &count(deliveries.in_flight), ""))
            @if let Some(totals) = &status.totals {
                (tile("dead letters", &count(totals.dead), &growing))
                (tile("events retained", &count(totals.events), ""))
                (tile("store", &bytes(totals.bytes), &format!("of {}", bytes(totals.bytes_max))))
            }
            (tile("up", &span(status.uptime_seconds), ""))
        }
    }
}

/// Subscriptions, those that stand worst and then the busiest first.
fn of_subscriptions(look: &Look, rates: &Rates, wanted: &str) -> Markup {
    let circuits = circuits(look);
    let wanted = wanted.to_lowercase();
    let is_wanted = |one: &&SubscriptionView| {
        let of = &one.identity;
        wanted.is_empty()
            || [&of.tenant, &of.rule, &of.target]
                .iter()
                .any(|name| name.as_str().contains(&wanted))
    };
    let ranked = look.subscriptions.iter().filter(is_wanted).map(|one| {
        let rate = rates.of(&Counted::Subscription(one.number));
        let circuit = circuits.get(&(&one.identity.tenant, &one.identity.target));
        (one, rate, of_subscription(one, rate, circuit.copied()))
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by(|(a, a_rate, a_state), (b, b_rate, b_state)| {
        let worst = b_state
            .0
            .cmp(&a_state.0)
            .then(b_rate.passed.total_cmp(&a_rate.passed));
        worst
            .then(b.counts.pending.cmp(&a.counts.pending))
            .then(a.number.cmp(&b.number))
    });
    let more = ranked.len().saturating_sub(ROWS_MAX);
    ranked.truncate(ROWS_MAX);
    html! {
        (table("Subscriptions that stand worst or are busiest", &html! {
            thead { tr {
                th scope="col" { "Rule → target" } th scope="col" { "State" }
                th .number scope="col" { "Delivered" } th .number scope="col" { "Waiting" }
                th .number scope="col" { "Retrying" } th .number scope="col" { "Dead" }
                th .number scope="col" { "Oldest" }
            } }
            tbody {
                @for (one, passing, (health, word)) in ranked {
                    tr {
                        td .name {
                            a id={ "row-" (one.number.0) } href=(subscription_path(one.number)) {
                                (title(one))
                            }
                        }
                        td { (state(health, word)) }
                        td .number { (rate(passing.passed)) }
                        td .number { (count(one.counts.pending)) }
                        td .number { (count(one.counts.retrying)) }
                        td .number { (count(one.counts.dead)) }
                        td .number {
                            @if let Some(age) = one.oldest_pending_age_seconds { (span(age)) }
                        }
                    }
                }
            }
        }))
        @if more > 0 { p .note { (count(more as u64)) " more" } }
    }
}
