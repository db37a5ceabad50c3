//! The playground: an event and a piece of a rule side by side, with what the rule makes of it and
//! why, and what it would have made of the last day's events. Nothing is stored or sent.

mod piece;
mod traffic;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use maud::{Markup, html};
use pointsman_schemas::{Event, json};

use self::piece::Piece;
use super::explained::explained;
use super::fields::{Asked, Fields, Form};
use super::page::{self, Health, Section, Viewer, state};
use super::{Console, failure::Failure};
use crate::admin::RuleStatus;
use crate::admin::api::{InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::routes::events::{self, EventReference};

const EVENT: &str = r#"{
  "specversion": "1.0",
  "type": "order.paid",
  "source": "/shop",
  "id": "c-1",
  "subject": "order 17",
  "data": { "total": 130, "customer": { "country": "DE" } }
}"#;

/// What names the rule in force that is changed here.
const IN_FORCE: [&str; 2] = ["tenant", "name"];

const RULE: &str = r#"match:
  type: [{ prefix: order. }]
  data: { total: [{ numeric: [">", 100] }] }
where: $.data.customer.country == 'DE'
transform:
  set: { type: order.large }
  data: { total: <$.data.total>, text: "<$.subject> from <$.source>" }
"#;

pub(super) async fn page(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let event = match asked.text("event") {
        "" => EVENT.to_owned(),
        sequence => {
            let reference = EventReference::parse(sequence)?;
            let view = events::show(console.admin.clone(), reference, Nothing {}).await?;
            view.event
                .map(|event| page::pretty(event.get()))
                .unwrap_or_default()
        }
    };
    let name = asked.has("rule").then(|| asked.text("rule"));
    let changed = asked.only(&["tenant"]).with("name", name);
    let rule = match in_force(&console, &changed)? {
        None => RULE.to_owned(),
        Some(found) => serde_json::to_string_pretty(&found.conditions).unwrap_or_default(),
    };
    let result = tried_aside(event.clone(), rule.clone()).await;
    Ok(whole(viewer, &event, &rule, &changed, &result, None))
}

/// That rule; none where none is named.
fn in_force(console: &Console, asked: &Fields) -> Result<Option<RuleStatus>, Failure> {
    let (tenant, name) = (asked.text("tenant"), asked.text("name"));
    if name.is_empty() {
        return Ok(None);
    }
    let rules = console.admin.overview.rules();
    let is_it = |one: &RuleStatus| {
        one.name.as_str() == name && (tenant.is_empty() || one.tenant.as_str() == tenant)
    };
    let found = rules.into_iter().find(is_it);
    Ok(Some(found.ok_or_else(|| {
        Refused::not_found(format!("rule {name}"))
    })?))
}

/// What is written is tried. A script asks for the result alone.
pub(super) async fn tried(viewer: Viewer, headers: HeaderMap, Form(form): Form) -> Response {
    let (event, rule) = written(&form);
    let result = tried_aside(event.clone(), rule.clone()).await;
    if headers.contains_key("hx-request") {
        return Html(result.into_string()).into_response();
    }
    let changed = form.only(&IN_FORCE);
    whole(viewer, &event, &rule, &changed, &result, None)
}

/// The same with the last day's events.
pub(super) async fn tried_on_traffic(
    State(console): State<Console>,
    viewer: Viewer,
    headers: HeaderMap,
    Form(form): Form,
) -> Result<Response, Failure> {
    let (event, rule) = written(&form);
    let reader = console.admin.pipes.reader();
    let changed = in_force(&console, &form)?;
    let now = console.admin.clock.now();
    let traffic = traffic::tried(&*reader, rule.clone(), changed.as_ref(), now).await?;
    if headers.contains_key("hx-request") {
        return Ok(Html(traffic.into_string()).into_response());
    }
    let result = tried_aside(event.clone(), rule.clone()).await;
    let changed = form.only(&IN_FORCE);
    Ok(whole(
        viewer,
        &event,
        &rule,
        &changed,
        &result,
        Some(&traffic),
    ))
}

fn written(form: &Fields) -> (String, String) {
    (form.text("event").to_owned(), form.text("rule").to_owned())
}

/// Programs take their time, for which the threads that serve others are not held.
async fn tried_aside(event: String, rule: String) -> Markup {
    let made = tokio::task::spawn_blocking(move || result(event, rule)).await;
    made.unwrap_or_else(|_| html! { p .notice .bad { "This could not be tried." } })
}

fn whole(
    viewer: Viewer,
    event: &str,
    rule: &str,
    changed: &Fields,
    result: &Markup,
    traffic: Option<&Markup>,
) -> Response {
    let body = html! {
        form method="post" action="/playground" hx-post="/playground" hx-target="#result"
            hx-trigger="input changed delay:400ms, submit" hx-sync="this:replace" {
            @for (name, value) in changed.pairs() {
                input type="hidden" name=(name) value=(value);
            }
            div .columns {
                div .sheet {
                    label { "Event, in CloudEvents' JSON format"
                        textarea name="event" rows="18" spellcheck="false" { (event) }
                    }
                }
                div .sheet {
                    label { "Rule, as in a rule file: match, where, filters, transform; or an event pattern alone"
                        textarea name="rule" rows="18" spellcheck="false" { (rule) }
                    }
                }
            }
            p .buttons {
                button { "Try" }
                button .plain formaction="/playground/traffic" hx-post="/playground/traffic"
                    hx-target="#traffic" hx-sync="this:replace" { "Try on the last day's events" }
                span .note { "Nothing is stored or sent." }
            }
        }
        div #result role="status" aria-live="polite" { (result) }
        section .sheet {
            h2 {
                "The last day's events"
                @match changed.text("name") { "" => {}, name => { ", beside " (name) " as it is in force" } }
            }
            div #traffic role="status" aria-live="polite" {
                @match traffic {
                    Some(traffic) => (traffic),
                    None => p .note { "They have not been tried." },
                }
            }
        }
    };
    page::page(viewer, Section::Playground, "Playground", &body).into_response()
}

fn result(event: String, rule: String) -> Markup {
    let event = json::decode(&Bytes::from(event)).map_err(|error| format!("{error}"));
    let piece = Piece::read(rule);
    html! {
        @if let Err(why) = &event { p .notice .bad { strong { "The event: " } (why) } }
        @if let Err(mistakes) = &piece {
            div .notice .bad { strong { "The rule: " } @for one in mistakes { pre { (one) } } }
        }
        @if let (Ok(event), Ok(piece)) = (&event, &piece) {
            div .columns {
                section .sheet { (verdict(event, piece)) }
                section .sheet { (transformed(event, piece)) }
            }
        }
    }
}

fn verdict(event: &Event, piece: &Piece) -> Markup {
    let explanation = piece.explain(event);
    html! {
        h2 {
            "Conditions "
            @if explanation.matches {
                (state(Health::Good, "takes it"))
            } @else {
                (state(Health::Bad, "does not take it"))
            }
        }
        (explained(&explanation))
    }
}

fn transformed(event: &Event, piece: &Piece) -> Markup {
    html! {
        h2 { "What is sent" }
        @match &piece.transform {
            None => p .note { "The event as it is: there is no transform." },
            Some(transform) => @match transform.apply(event) {
                Err(error) => p .notice .bad { (error) " – the delivery would be a dead letter." },
                Ok(made) => pre tabindex="0" { (page::pretty(&text(&made))) },
            },
        }
    }
}

fn text(event: &Event) -> String {
    let mut text = Vec::new();
    json::encode(event, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{EVENT, RULE, result};

    #[test]
    fn it_says_what_is_taken_and_made_or_what_is_wrong() {
        for (event, rule, expect) in [
            (
                EVENT,
                RULE,
                &[
                    "takes it",
                    "&quot;type&quot;: &quot;order.large&quot;",
                    "order 17 from /shop",
                ][..],
            ),
            (
                EVENT,
                "{ type: [order.shipped] }",
                &["does not take it", "order.shipped", "as it is"],
            ),
            (
                EVENT,
                "transform: { jq: \".data.total * 2\" }",
                &["takes it", "no conditions", "260"],
            ),
            (
                EVENT,
                "transform: { set: { type: <$.data.none> } }",
                &["dead letter"],
            ),
            (
                EVENT,
                "match:\n  type: order.paid\n",
                &["rule:2:", "order.paid"],
            ),
            (EVENT, "match: { type: [x] }\nmach: 1", &["rule:2:", "mach"]),
            (EVENT, "where: $.data.total >", &["rule:1:"]),
            (EVENT, "[", &["The rule: "]),
            ("{}", RULE, &["The event: "]),
            (
                "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"<script>\"}",
                "type: [a]",
                &["&lt;script&gt;"],
            ),
        ] {
            let told = result(event.to_owned(), rule.to_owned()).into_string();
            for expect in expect {
                assert!(told.contains(expect), "{rule}: {expect}: {told}");
            }
            assert!(!told.contains("<script>"), "{told}");
        }
    }
}
