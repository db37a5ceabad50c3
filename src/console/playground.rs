//! The playground: an event and a piece of a rule side by side, with what the rule makes of it and
//! why. Nothing is stored or sent.

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use maud::{Markup, html};
use pointsman_rules::{
    Condition, Explanation, Filter, Filters, Origin, OriginSet, Pattern, RawFilter, RawTransform,
    Rule, RuleSet, Transform,
};
use pointsman_schemas::{Event, Problem, json};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::explained::explained;
use super::fields::{Asked, Fields, Form};
use super::page::{self, Health, Section, Viewer, state};
use super::{Console, failure::Failure};
use crate::admin::api::{InPath, Nothing};
use crate::admin::refused::Refused;
use crate::admin::routes::events::{self, EventReference};
use crate::config::Diagnostic;
use crate::config::loose::Loose;

const EVENT: &str = r#"{
  "specversion": "1.0",
  "type": "order.paid",
  "source": "/shop",
  "id": "c-1",
  "subject": "order 17",
  "data": { "total": 130, "customer": { "country": "DE" } }
}"#;

const RULE: &str = r#"match:
  type: [{ prefix: order. }]
  data: { total: [{ numeric: [">", 100] }] }
where: $.data.customer.country == 'DE'
transform:
  set: { type: order.large }
  data: { total: <$.data.total>, text: "<$.subject> from <$.source>" }
"#;

/// What of a rule is tried here.
const TRIED: [&str; 4] = ["match", "where", "filters", "transform"];

/// What else a rule may have, which means nothing to one event.
const BESIDE: [&str; 11] = [
    "description",
    "from",
    "to",
    "delivery",
    "on_success",
    "on_failure",
    "deduplicate",
    "retention",
    "start",
    "quota",
    "renamed_from",
];

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
    let rule = match asked.text("rule") {
        "" => RULE.to_owned(),
        name => {
            let rules = console.admin.overview.rules();
            let is_it =
                |tenant: &str| asked.text("tenant").is_empty() || tenant == asked.text("tenant");
            let found = rules
                .iter()
                .find(|one| one.name.as_str() == name && is_it(one.tenant.as_str()));
            let found = found.ok_or_else(|| Refused::not_found(format!("rule {name}")))?;
            serde_json::to_string_pretty(&found.conditions).unwrap_or_default()
        }
    };
    let result = tried_aside(event.clone(), rule.clone()).await;
    Ok(page::page(
        viewer,
        Section::Playground,
        "Playground",
        &whole(&event, &rule, &result),
    )
    .into_response())
}

/// What is written is tried. A script asks for the result alone.
pub(super) async fn tried(viewer: Viewer, headers: HeaderMap, Form(form): Form) -> Response {
    let (event, rule) = written(&form);
    let result = tried_aside(event.clone(), rule.clone()).await;
    if headers.contains_key("hx-request") {
        return Html(result.into_string()).into_response();
    }
    page::page(
        viewer,
        Section::Playground,
        "Playground",
        &whole(&event, &rule, &result),
    )
    .into_response()
}

fn written(form: &Fields) -> (String, String) {
    (form.text("event").to_owned(), form.text("rule").to_owned())
}

/// Programs take their time, for which the threads that serve others are not held.
async fn tried_aside(event: String, rule: String) -> Markup {
    let made = tokio::task::spawn_blocking(move || result(event, rule)).await;
    made.unwrap_or_else(|_| html! { p .notice .bad { "This could not be tried." } })
}

fn whole(event: &str, rule: &str, result: &Markup) -> Markup {
    html! {
        form method="post" action="/playground" hx-post="/playground" hx-target="#result"
            hx-trigger="input changed delay:400ms, submit" hx-sync="this:replace" {
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
            p .buttons { button { "Try" } span .note { "Nothing is stored or sent." } }
        }
        div #result role="status" aria-live="polite" { (result) }
    }
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

/// A piece of a rule, compiled.
struct Piece {
    rules: RuleSet,
    transform: Option<Transform>,
}

impl Piece {
    /// As a running bus has it that has this one rule.
    fn new(filter: Filter, transform: Option<Transform>) -> Self {
        let rule = Rule {
            from: OriginSet::all_but(&[]),
            filter,
        };
        Self {
            rules: RuleSet::compile(vec![rule]),
            transform,
        }
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// Every mistake in it, each a line.
    fn read(text: String) -> Result<Self, Vec<String>> {
        let lines = |all: Vec<Diagnostic>| all.iter().map(Diagnostic::line).collect::<Vec<_>>();
        let read = Loose::read("rule".to_owned(), text).map_err(lines)?;
        let Value::Object(object) = &read.value else {
            return Err(vec![
                "a rule is a mapping, such as { match: { type: [order.paid] } }".to_owned(),
            ]);
        };
        let is_rule = object.keys().any(|key| TRIED.contains(&key.as_str()));
        if !is_rule && !object.is_empty() {
            let pattern = Pattern::compile(&read.value);
            let pattern = pattern.map_err(|problems| lines(read.mistakes(problems)))?;
            return Ok(Self::new(pattern.into(), None));
        }
        let (piece, problems) = Self::compile(object);
        match problems.is_empty() {
            true => Ok(piece),
            false => Err(lines(read.mistakes(problems))),
        }
    }

    fn compile(object: &Map<String, Value>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        for key in object.keys() {
            if !TRIED.contains(&key.as_str()) && !BESIDE.contains(&key.as_str()) {
                let tried = TRIED.join(", ");
                let problem =
                    Problem::new(format!("a rule has no {key:?}; here {tried} are tried"));
                problems.push(problem.at(key.as_str()));
            }
        }
        let part = |key: &'static str| Part {
            key,
            value: object.get(key),
        };
        let filter = Filter {
            pattern: part("match").compile(&mut problems, |value: &Value| Pattern::compile(value)),
            condition: part("where").read(&mut problems, |text: String| Condition::parse(&text)),
            filters: part("filters").read(&mut problems, |filters: Vec<RawFilter>| {
                Filters::compile(&filters)
            }),
        };
        let transform =
            part("transform").read(&mut problems, |raw: RawTransform| Transform::compile(&raw));
        (Self::new(filter, transform), problems)
    }

    fn explain(&self, event: &Event) -> Explanation {
        let explained = self.rules.explain(0, Origin(0), event);
        let mut explanation = explained.unwrap_or_else(|| Explanation {
            matches: false,
            checks: Vec::new(),
            note: None,
        });
        // Here every source is meant.
        explanation.checks.retain(|check| check.field != "from");
        explanation
    }
}

/// One key of a rule.
struct Part<'v> {
    key: &'static str,
    value: Option<&'v Value>,
}

impl Part<'_> {
    fn compile<T>(
        &self,
        problems: &mut Vec<Problem>,
        compile: impl FnOnce(&Value) -> Result<T, Vec<Problem>>,
    ) -> Option<T> {
        match compile(self.value?) {
            Ok(made) => Some(made),
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| problem.at(self.key)));
                None
            }
        }
    }

    fn read<R: for<'de> Deserialize<'de>, T>(
        &self,
        problems: &mut Vec<Problem>,
        compile: impl FnOnce(R) -> Result<T, Vec<Problem>>,
    ) -> Option<T> {
        self.compile(problems, |value| {
            let read = R::deserialize(value);
            compile(read.map_err(|error| vec![Problem::new(error.to_string())])?)
        })
    }
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
