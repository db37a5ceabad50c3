//! What a piece of a rule would have made of the last day's events, beside the rule that it comes
//! from as that is in force.

use std::time::Duration;

use maud::{Markup, html};
use pointsman_journal::{Reader, StoredEvent};
use pointsman_rules::Scratch;
use pointsman_schemas::{Name, Timestamp};
use tokio::time::Instant;

use super::super::events::search::{Wanted, search};
use super::super::failure::Failure;
use super::super::fields::Fields;
use super::super::page::{Health, count, state, table, time};
use super::piece::Piece;
use crate::admin::RuleStatus;
use crate::admin::refused::Refused;
use crate::dispatcher::follow::is_report;

/// How far back.
const BACK: Duration = Duration::from_secs(24 * 60 * 60);

/// Events that are looked at, the newest first, and for how long.
const LOOKED_AT_MAX: usize = 10_000;
const LOOKED_FOR: Duration = Duration::from_secs(10);

/// Events that are in memory at once.
const AT_ONCE: usize = 500;

/// Events of each kind that are shown.
const EXAMPLES_MAX: usize = 10;

/// The rule in force that a piece is a change of.
struct InForce {
    tenant: Name,
    name: Name,
    /// Empty for any.
    from: Vec<Name>,
    piece: Piece,
}

impl InForce {
    fn of(rule: &RuleStatus) -> Self {
        let nothing = serde_json::Map::new();
        let (piece, _) = Piece::compile(rule.conditions.as_object().unwrap_or(&nothing));
        Self {
            tenant: rule.tenant.clone(),
            name: rule.name.clone(),
            from: rule.from.clone(),
            piece,
        }
    }

    fn looks_at(&self, one: &StoredEvent) -> bool {
        self.tenant == one.tenant && (self.from.is_empty() || self.from.contains(&one.origin))
    }
}

/// Events of a kind.
#[derive(Default)]
struct Kind {
    count: u64,
    /// The newest, each with what is said of it.
    examples: Vec<(StoredEvent, Option<String>)>,
}

impl Kind {
    fn add(&mut self, one: &StoredEvent, said: Option<String>) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push((one.clone(), said));
        }
    }
}

/// Events held against a piece.
struct Traffic {
    piece: Piece,
    in_force: Option<InForce>,
    /// Events that either could take.
    looked_at: u64,
    oldest: Option<Timestamp>,
    taken: u64,
    taken_in_force: u64,
    gained: Kind,
    lost: Kind,
    /// Those that the transform fails for.
    failed: Kind,
}

impl Traffic {
    fn new(piece: Piece, in_force: Option<InForce>) -> Self {
        Self {
            piece,
            in_force,
            looked_at: 0,
            oldest: None,
            taken: 0,
            taken_in_force: 0,
            gained: Kind::default(),
            lost: Kind::default(),
            failed: Kind::default(),
        }
    }

    fn event(&mut self, one: &StoredEvent, scratch: &mut Scratch) {
        self.oldest = Some(one.at);
        let in_force = self.in_force.as_ref();
        if is_report(&one.event) || in_force.is_some_and(|rule| !rule.looks_at(one)) {
            return;
        }
        self.looked_at += 1;
        let before = in_force.is_some_and(|rule| rule.piece.takes(&one.event, scratch));
        let now = self.piece.takes(&one.event, scratch);
        self.taken += u64::from(now);
        self.taken_in_force += u64::from(before);
        match (before, now) {
            (false, true) => self.gained.add(one, None),
            (true, false) => self.lost.add(one, None),
            _ => {}
        }
        if now
            && let Some(transform) = &self.piece.transform
            && let Err(error) = transform.apply(&one.event)
        {
            self.failed.add(one, Some(error.to_string()));
        }
    }

    fn shown(&self, is_all: bool) -> Markup {
        html! {
            p {
                @let events = count(self.looked_at);
                @match (is_all, self.oldest) {
                    (true, _) => { "Of the " (events) " retained events of the last day" }
                    (false, Some(oldest)) => {
                        "Of the " (events) " newest events, those since " (time(&oldest.to_string()))
                    }
                    (false, None) => { "Of no events, since reading them took too long" }
                }
                @if let Some(rule) = &self.in_force { " that " (rule.name) " looks at" }
                " it would take " strong { (count(self.taken)) }
                @if let Some(rule) = &self.in_force {
                    "; " (rule.name) " as it is in force takes "
                    strong { (count(self.taken_in_force)) }
                }
                "."
            }
            @if self.in_force.is_none() {
                (kind(Health::Good, "Taken", &self.gained))
            } @else {
                (kind(Health::Good, "Gained", &self.gained))
                (kind(Health::Bad, "Lost", &self.lost))
                @if self.gained.count + self.lost.count == 0 {
                    p .note { "It takes the same events." }
                }
            }
            (kind(Health::Bad, "Dead letters, since the transform fails", &self.failed))
        }
    }
}

fn kind(health: Health, name: &str, kind: &Kind) -> Markup {
    html! {
        @if kind.count > 0 {
            h3 { (name) " " (state(health, &count(kind.count))) }
            (table(name, &html! {
                thead { tr {
                    th scope="col" { "Event" } th scope="col" { "Stored" } th scope="col" { "Type" }
                    th scope="col" { "Subject" } th scope="col" { "Id" }
                } }
                tbody { @for (one, said) in &kind.examples {
                    tr {
                        td { a href={ "/events/" (one.sequence.0) } { (one.sequence.0) } }
                        td .when { (time(&one.at.to_string())) }
                        td .name {
                            (one.event.ty())
                            @if let Some(said) = said { div .said { (said) } }
                        }
                        td { (one.event.subject().unwrap_or_default()) }
                        td { (one.event.id()) }
                    }
                } }
            }))
            @if kind.count > kind.examples.len() as u64 {
                p .note { "The newest " (kind.examples.len()) " are shown." }
            }
        }
    }
}

/// Holds what is written against retained events, and says what comes of that. What is wrong with
/// it is told where one event is tried.
///
/// # Errors
/// The journal cannot be read.
pub(super) async fn tried(
    reader: &dyn Reader,
    rule: String,
    in_force: Option<&RuleStatus>,
    now: Timestamp,
) -> Result<Markup, Failure> {
    let Ok(piece) = Piece::read(rule) else {
        return Ok(html! { p .note { "The rule has mistakes." } });
    };
    let mut traffic = Traffic::new(piece, in_force.map(InForce::of));
    let (until, mut left) = (Instant::now() + LOOKED_FOR, LOOKED_AT_MAX);
    let since = now.minus(BACK).to_string();
    let mut fields = Fields::default().with("since", Some(&since));
    let is_all = loop {
        let wanted = Wanted::of(&fields, now).map_err(Refused::bad_request)?;
        let found = search(reader, &wanted, AT_ONCE.min(left)).await?;
        left -= found.events.len();
        traffic = aside(traffic, found.events).await?;
        match found.next {
            None => break true,
            Some(_) if left == 0 || Instant::now() >= until => break false,
            Some(next) => fields = fields.with("before", Some(&next)),
        }
    };
    Ok(traffic.shown(is_all))
}

/// Programs take their time, for which the threads that serve others are not held.
async fn aside(mut traffic: Traffic, events: Vec<StoredEvent>) -> Result<Traffic, Failure> {
    let looked = tokio::task::spawn_blocking(move || {
        let mut scratch = Scratch::default();
        for one in &events {
            traffic.event(one, &mut scratch);
        }
        traffic
    });
    let failed = |_| Refused::bad_request("this could not be tried");
    Ok(looked.await.map_err(failed)?)
}
