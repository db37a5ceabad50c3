//! What all pages look like: the bar, the title, and the small pieces that several of them show.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Html;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use crate::admin::Caller;

/// htmx does nothing that the pages' policy forbids, asks nobody else, and keeps no page.
const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,
    "selfRequestsOnly":true,"historyEnabled":false,"historyCacheSize":0}"#;

/// Sections, with where each is.
const SECTIONS: [(Section, &str, &str); 10] = [
    (Section::Flow, "Flow", "/"),
    (Section::Events, "Events", "/events"),
    (Section::Tasks, "Tasks", "/tasks"),
    (Section::Dead, "Dead letters", "/dead"),
    (Section::Live, "Live", "/live"),
    (Section::Rules, "Rules", "/rules"),
    (Section::Sources, "Sources", "/sources"),
    (Section::Targets, "Targets", "/targets"),
    (Section::Replays, "Replays", "/replays"),
    (Section::Playground, "Playground", "/playground"),
];

/// Which part of the console a page is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Flow,
    Events,
    Tasks,
    Dead,
    Live,
    Rules,
    Sources,
    Targets,
    Replays,
    Playground,
}

/// Who looks at a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The guard has put it there.
        let caller = parts.extensions.get().copied();
        Ok(Self(caller.unwrap_or(Caller::Stranger)))
    }
}

/// A page of a section. The body begins behind the title.
pub(super) fn page(viewer: Viewer, at: Section, title: &str, body: &Markup) -> Html<String> {
    titled(viewer, at, title, &html! {}, body)
}

/// The same with something beside the title.
pub(super) fn titled(
    Viewer(caller): Viewer,
    at: Section,
    title: &str,
    beside: &Markup,
    body: &Markup,
) -> Html<String> {
    let looks = matches!(caller, Caller::Viewer(_));
    let navigation = html! {
        nav aria-label="Console" {
            ul {
                @for (section, name, href) in SECTIONS {
                    li { a href=(href) aria-current=[(section == at).then_some("page")] { (name) } }
                }
            }
        }
        @if let Caller::Key(index) | Caller::Viewer(index) = caller {
            div .who {
                span { @if looks { "viewer " } @else { "key " } (index) }
                form method="post" action="/logout" { button .plain { "Log out" } }
            }
        }
    };
    whole(title, &navigation, beside, body, looks)
}

/// A page without the way to others.
pub(super) fn bare(title: &str, body: &Markup) -> Html<String> {
    whole(title, &html! {}, &html! {}, body, false)
}

/// Of whoever `looks` what would change something is out of sight: he would be refused.
fn whole(
    title: &str,
    navigation: &Markup,
    beside: &Markup,
    body: &Markup,
    looks: bool,
) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="htmx-config" content=(HTMX);
                title { (title) " · Pointsman" }
                // So that no browser asks for one.
                link rel="icon" href="data:,";
                @for href in assets::styles() { link rel="stylesheet" href=(href); }
                @for src in assets::scripts() { script src=(src) defer {} }
            }
            body .looks[looks] {
                a .skip href="#main" { "Skip to the content" }
                header .bar {
                    a .brand href="/" { "Pointsman" }
                    (navigation)
                }
                main id="main" tabindex="-1" {
                    div .head { h1 { (title) } (beside) }
                    p #away .notice .warn role="status" hidden {
                        "The bus does not answer. What is shown is what it said last."
                    }
                    (body)
                }
                footer { "Pointsman " (env!("CARGO_PKG_VERSION")) }
            }
        }
    };
    Html(page.into_string())
}

/// How something stands, in its own word and in a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Idle,
    Good,
    Warn,
    Held,
    Bad,
}

impl Health {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Held => "held",
            Self::Bad => "bad",
        }
    }
}

pub(super) fn state(health: Health, word: &str) -> Markup {
    html! { span class={ "state " (health.class()) } { (word) } }
}

/// JSON with a line for each member, if that changes nothing else: numbers keep their digits, and a
/// key that stands twice its place, only in the text as it is.
pub(super) fn pretty(json: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(json).ok();
    let dense = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let same = value.filter(|value| dense(&value.to_string()) == dense(json));
    let written = same.and_then(|value| serde_json::to_string_pretty(&value).ok());
    written.unwrap_or_else(|| json.to_owned())
}

/// How a state is written in the API.
pub(super) fn word(state: &impl serde::Serialize) -> String {
    let written = serde_json::to_value(state).ok();
    let text = written.as_ref().and_then(|value| value.as_str());
    text.unwrap_or_default().to_owned()
}

/// A number with what it counts.
pub(super) fn tile(what: &str, number: &str, small: &str) -> Markup {
    html! {
        div .tile {
            dt { (what) }
            dd { (number) @if !small.is_empty() { " " small { (small) } } }
        }
    }
}

/// A table that scrolls by itself where it is wider than the screen.
pub(super) fn table(name: &str, content: &Markup) -> Markup {
    html! { div .table tabindex="0" role="region" aria-label=(name) { table { (content) } } }
}

/// A time for a person, whole to the second, with the whole of it as its title.
pub(super) fn time(text: &str) -> Markup {
    let short = text.get(..19).map(|start| start.replace('T', " "));
    html! { time datetime=(text) title=(text) { (short.as_deref().unwrap_or(text)) } }
}

/// How long ago a time was, roughly.
pub(super) fn ago(text: &str, now: pointsman_schemas::Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else {
        return String::new();
    };
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let seconds = (now.0 - then.as_microsecond()) as f64 / 1e6;
    span(seconds)
}

/// A span of time for a person.
pub(super) fn span(seconds: f64) -> String {
    match seconds.max(0.0) {
        0.0 => "0 s".to_owned(),
        s if s < 0.001 => "< 1 ms".to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// How many in a second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0/s".to_owned(),
        few if few < 0.1 => format!("{few:.2}/s"),
        some if some < 10.0 => format!("{some:.1}/s"),
        many => format!("{}/s", count(many.round() as u64)),
    }
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            // A thin space that does not break.
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes for a person.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let (mut size, mut unit) = (number as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || size >= 100.0 {
        format!("{size:.0} {name}")
    } else {
        format!("{size:.1} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_a_person() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!(
            [0, 1_023, 1_536, 200 << 20].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "200 MiB"]
        );
        assert_eq!(
            [0.0, 0.05, 2.5, 12_345.6].map(rate),
            ["0/s", "0.05/s", "2.5/s", "12\u{202f}346/s"]
        );
        assert_eq!(
            [0.0, 0.25, 5.0, 300.0, 7_200.0, 400_000.0].map(span),
            ["0 s", "250 ms", "5 s", "5 min", "2 h", "5 d"]
        );
    }
}
