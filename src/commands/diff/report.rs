//! What would go elsewhere, as text and as JSON.

use std::fmt;

use pointsman_journal::StoredEvent;
use pointsman_schemas::Name;
use serde::Serialize;

use crate::commands::difference::{self, Difference};
use crate::output::{self, plain, shortened};

/// Differences of a changed event that are shown.
const DIFFERENCES_SHOWN: usize = 5;

/// Where an event can go: tenant, rule, target.
pub(super) type Destination = (Name, Name, Name);

/// What would go elsewhere.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// From when on events were looked at.
    pub(super) since: String,
    /// How many.
    pub(super) events: u64,
    /// How many of them would go elsewhere, or would be made into something else.
    pub(super) moved: u64,
    /// How many could not be read.
    pub(super) damaged: u64,
    /// How many no rule takes.
    pub(super) unmatched: Sides,
    pub(super) deliveries: Sides,
    /// Where something differs.
    pub(super) targets: Vec<Line>,
}

#[derive(Debug, Serialize)]
pub(super) struct Sides {
    pub(super) before: u64,
    pub(super) after: u64,
}

/// One target of one rule.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) tenant: Name,
    pub(super) rule: Name,
    pub(super) target: Name,
    /// Whether the rules in force have it.
    #[serde(rename = "in_force")]
    pub(super) is_old: bool,
    /// Whether the changed rules have it.
    #[serde(rename = "in_new")]
    pub(super) is_new: bool,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) gained: Kind,
    pub(super) lost: Kind,
    pub(super) changed: Kind,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Kind {
    pub(super) count: u64,
    pub(super) examples: Vec<Example>,
}

#[derive(Debug, Serialize)]
pub(super) struct Example {
    sequence: u64,
    at: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    ty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// What goes out otherwise; empty where the event goes elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

impl Example {
    pub(super) fn of(stored: &StoredEvent, differences: Vec<Difference>) -> Self {
        let event = &stored.event;
        Self {
            sequence: stored.sequence.0,
            at: stored.at.to_string(),
            id: event.id().to_string(),
            source: event.source().to_string(),
            ty: event.ty().to_string(),
            subject: event.subject().map(ToString::to_string),
            differences,
        }
    }

    /// A line of it, behind the word for its kind, and below it the first of its differences.
    fn write(&self, word: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self
            .subject
            .as_ref()
            .map_or_else(String::new, |subject| format!(" {subject}"));
        let what = format!("{} {}{subject}, id {}", self.ty, self.source, self.id);
        writeln!(
            f,
            "  {word:<7}  {}  {}  {}",
            self.sequence,
            self.at,
            plain(&shortened(&what, 120))
        )?;
        let shown = self
            .differences
            .get(..DIFFERENCES_SHOWN)
            .unwrap_or(&self.differences);
        if shown.is_empty() {
            return Ok(());
        }
        f.write_str(&difference::table(
            shown,
            ["before", "after"],
            "    ",
            false,
        ))
    }
}

impl Line {
    pub(super) fn new((tenant, rule, target): &Destination) -> Self {
        Self {
            tenant: tenant.clone(),
            rule: rule.clone(),
            target: target.clone(),
            is_old: false,
            is_new: false,
            before: 0,
            after: 0,
            gained: Kind::default(),
            lost: Kind::default(),
            changed: Kind::default(),
        }
    }

    pub(super) fn differs(&self) -> bool {
        self.is_old != self.is_new
            || [&self.gained, &self.lost, &self.changed]
                .iter()
                .any(|kind| kind.count > 0)
    }

    fn name(&self) -> String {
        if self.tenant == Name::default_tenant() {
            self.rule.to_string()
        } else {
            format!("{}/{}", self.tenant, self.rule)
        }
    }

    fn note(&self) -> &'static str {
        match (self.is_old, self.is_new) {
            (true, false) => "gone",
            (false, true) => "new",
            _ => "",
        }
    }

    /// The cells of its row.
    fn row(&self) -> [String; HEADINGS.len()] {
        [
            self.name(),
            self.target.to_string(),
            self.before.to_string(),
            self.after.to_string(),
            self.gained.count.to_string(),
            self.lost.count.to_string(),
            self.changed.count.to_string(),
            self.note().to_owned(),
        ]
    }

    /// Its examples, under its name; nothing where it has none.
    fn write_examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("gained", &self.gained),
            ("lost", &self.lost),
            ("changed", &self.changed),
        ];
        if kinds.iter().all(|(_, kind)| kind.examples.is_empty()) {
            return Ok(());
        }
        writeln!(f, "\n{} → {}", self.name(), self.target)?;
        for (word, kind) in kinds {
            for example in &kind.examples {
                example.write(word, f)?;
            }
        }
        Ok(())
    }
}

/// What stands over the columns of the table.
const HEADINGS: [&str; 8] = [
    "RULE", "TARGET", "BEFORE", "AFTER", "GAINED", "LOST", "CHANGED", "",
];

impl Report {
    /// Whether anything would go elsewhere.
    pub(super) fn differs(&self) -> bool {
        self.moved > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            since,
            events,
            moved,
            damaged,
            unmatched,
            deliveries,
            targets,
        } = self;
        let plural = if *events == 1 { "" } else { "s" };
        match moved {
            0 => writeln!(
                f,
                "{events} event{plural} since {since}: all go where they go now"
            )?,
            _ => writeln!(
                f,
                "{events} event{plural} since {since}: {moved} would go elsewhere or be made into \
                 something else"
            )?,
        }
        writeln!(
            f,
            "deliveries {} → {}, events that no rule takes {} → {}",
            deliveries.before, deliveries.after, unmatched.before, unmatched.after
        )?;
        if *damaged > 0 {
            writeln!(f, "{damaged} could not be read and are not counted")?;
        }
        if targets.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "\n{}",
            output::table(HEADINGS, targets.iter().map(Line::row))
        )?;
        targets.iter().try_for_each(|line| line.write_examples(f))
    }
}
