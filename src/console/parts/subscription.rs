//! Subscriptions, with what can be done to them.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use pointsman_journal::{Activity, Role};
use pointsman_schemas::SubscriptionNumber;

use super::super::fields::{Fields, Form};
use super::super::flow::{circuits, of_subscription};
use super::super::history::{Counted, Look};
use super::super::page::{self, Section, Viewer, count, rate, span, state, tile, time};
use super::super::{Console, audit, failure::Failure};
use super::{charts, rule_path, subscription_path, target_path};
use crate::admin::api::{InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::routes::{replays, subscriptions};
use crate::admin::view::{ReplayRequest, SubscriptionView};
use crate::dispatcher::LaneReason;

/// What a subscription is called.
pub(in crate::console) fn title(one: &SubscriptionView) -> String {
    let of = &one.identity;
    let role = match of.role {
        Role::To => "",
        Role::OnSuccess => " (on success)",
        Role::OnFailure => " (on failure)",
    };
    format!("{} → {}{role}", of.rule, of.target)
}

fn find(look: &Look, number: SubscriptionNumber) -> Result<&SubscriptionView, Failure> {
    let found = look.subscriptions.iter().find(|one| one.number == number);
    Ok(found.ok_or_else(|| Refused::not_found(format!("subscription {}", number.0)))?)
}

pub(in crate::console) async fn show(
    State(console): State<Console>,
    viewer: Viewer,
    Path(number): Path<String>,
) -> Result<Response, Failure> {
    let number = SubscriptionNumber::parse(&number)?;
    let (look, rates) = console.history.look(&console.admin).await?;
    let one = find(&look, number)?;
    let passing = rates.of(&Counted::Subscription(number));
    let key = (&one.identity.tenant, &one.identity.target);
    let circuit = circuits(&look).get(&key).copied();
    let (health, word) = of_subscription(one, passing, circuit);
    let path = subscription_path(number);
    let counts = &one.counts;
    let body = html! {
        (super::trouble(&look.incomplete))
        dl .tiles {
            (tile("delivered", &rate(passing.passed), ""))
            (tile("waiting", &count(counts.pending), ""))
            (tile("retrying", &count(counts.retrying), ""))
            (tile("in flight", &count(counts.in_flight), ""))
            (tile("dead letters", &count(counts.dead), ""))
            @if let Some(age) = one.oldest_pending_age_seconds {
                (tile("oldest waits", &span(age), ""))
            }
        }
        @if let Some(why) = &one.paused {
            p .notice .bad { strong { "The target refuses us: " } (why) }
        }
        div .columns {
            (facts(one, &state(health, word)))
            section .sheet { h2 { "Levers" } (levers(one, &path)) }
            (charts(&path, true))
        }
    };
    Ok(page::titled(
        viewer,
        Section::Flow,
        &title(one),
        &state(health, word),
        &body,
    )
    .into_response())
}

/// What is known of a subscription.
fn facts(one: &SubscriptionView, state: &Markup) -> Markup {
    let counts = &one.counts;
    html! {
        section .sheet {
            h2 { "Subscription " (one.number.0) }
            dl .facts {
                dt { "Tenant" } dd { (one.identity.tenant) }
                dt { "Rule" }
                dd {
                    a href=(rule_path(&one.identity.tenant, &one.identity.rule)) {
                        (one.identity.rule)
                    }
                }
                dt { "Target" }
                dd {
                    a href=(target_path(&one.identity.tenant, &one.identity.target)) {
                        (one.identity.target)
                    }
                }
                dt { "State" }
                dd { (state) @if !one.attached { " no rule in force wants it" } }
                dt { "Lane" }
                dd { (one.lane) @if let Some(why) = one.lane_reason { ": " (lane(why)) } }
                @if let Some(oldest) = &one.oldest_pending {
                    dt { "Oldest waits since" } dd { (time(oldest)) }
                }
                dt { "Made so far" }
                dd {
                    (count(counts.created)) " deliveries, of which " (count(counts.delivered))
                    " delivered, " (count(counts.redriven)) " redriven, "
                    (count(counts.cancelled)) " cancelled, " (count(counts.purged)) " purged"
                }
            }
            p {
                a href={ "/tasks?subscription=" (one.number.0) } { "Its tasks" } " · "
                a href={ "/dead?tenant=" (one.identity.tenant) "&rule=" (one.identity.rule) "&target=" (one.identity.target) } {
                    "Its dead letters"
                }
            }
        }
    }
}

fn lane(why: LaneReason) -> &'static str {
    match why {
        LaneReason::Slow => "its attempts take long, or hang",
        LaneReason::Failing => "most of its attempts fail",
        LaneReason::Backlog => "it has had more to deliver than it may for a while",
    }
}

fn levers(one: &SubscriptionView, path: &str) -> Markup {
    let suspended = one.activity != Activity::Active || one.paused.is_some();
    html! {
        form .buttons method="post" {
            @if one.activity == Activity::Active {
                button .plain formaction={ (path) "/suspend" } { "Suspend" }
                span .note { "Nothing goes out until it is resumed; what comes waits." }
            }
            @if suspended {
                button formaction={ (path) "/resume" } { "Resume" }
                span .note { "Goes on, and asks the target at once." }
            }
        }
        @if one.attached && one.identity.role == Role::To {
            form method="post" action={ (path) "/replay" } {
                h3 { "Replay retained events to it" }
                div .columns {
                    label { "From" input name="from" placeholder="2026-01-31T09:30:00Z"; }
                    label { "To" input name="to" placeholder="2026-01-31T10:30:00Z"; }
                    label { "At a rate of" input name="rate" placeholder="100/s"; }
                }
                input type="hidden" name="dry_run" value="true";
                p .buttons {
                    button .plain { "Count first" }
                    span .note { "Left empty: all that is retained, as fast as it is taken." }
                }
            }
        }
    }
}

pub(in crate::console) async fn suspend(
    State(console): State<Console>,
    Viewer(caller): Viewer,
    Path(number): Path<String>,
) -> Result<Redirect, Failure> {
    let number = SubscriptionNumber::parse(&number)?;
    let view = subscriptions::suspend(console.admin, number, Nothing {}).await?;
    audit::changed(caller, "suspend", &on(number), view.counts.pending);
    Ok(Redirect::to(&subscription_path(number)))
}

pub(in crate::console) async fn resume(
    State(console): State<Console>,
    Viewer(caller): Viewer,
    Path(number): Path<String>,
) -> Result<Redirect, Failure> {
    let number = SubscriptionNumber::parse(&number)?;
    let view = subscriptions::resume(console.admin, number, Nothing {}).await?;
    audit::changed(caller, "resume", &on(number), view.counts.pending);
    Ok(Redirect::to(&subscription_path(number)))
}

fn on(number: SubscriptionNumber) -> String {
    format!("subscription={}", number.0)
}

/// Counts what a replay would make, or begins it.
pub(in crate::console) async fn replay(
    State(console): State<Console>,
    viewer: Viewer,
    Path(number): Path<String>,
    Form(form): Form,
) -> Result<Response, Failure> {
    let number = SubscriptionNumber::parse(&number)?;
    let mut request: ReplayRequest = form.only(&["from", "to", "rate", "dry_run"]).body(&[])?;
    request.to.subscription = Some(number.0);
    let begun = replays::begin(console.admin.clone(), (), request).await?;
    match begun {
        replays::Begun::Counted { events, taken } => {
            let (look, _) = console.history.look(&console.admin).await?;
            let title = format!("Replay to {}", title(find(&look, number)?));
            let body = confirm(number, &form, events, taken);
            Ok(page::page(viewer, Section::Flow, &title, &body).into_response())
        }
        replays::Begun::Replay(view) => {
            audit::changed(viewer.0, "replay", &on(number), view.made);
            Ok(Redirect::to("/replays").into_response())
        }
    }
}

fn confirm(number: SubscriptionNumber, form: &Fields, events: u64, taken: u64) -> Markup {
    html! {
        div .notice {
            p {
                "Of " strong { (count(events)) } " events of that time the rule takes "
                strong { (count(taken)) }
                ". Of which it has a delivery waiting or dead gets no other one."
            }
        }
        form .buttons method="post" action={ (subscription_path(number)) "/replay" } {
            @for (name, value) in form.only(&["from", "to", "rate"]).pairs() {
                input type="hidden" name=(name) value=(value);
            }
            button { "Replay " (count(taken)) " events" }
            a .button .plain href=(subscription_path(number)) { "Do nothing" }
        }
    }
}
