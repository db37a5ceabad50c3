//! Why a rule did or did not take an event: each condition with its verdict, the value seen, and
//! the smallest change that would have made it hold.
//!
//! What is told is bounded, however large the rule and the event are. Of many alternatives and of
//! many elements of an array the nearest are shown.

mod change;
mod condition;
mod filters;
mod pattern;

use std::cell::Cell;
use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::{Document, Root};
use crate::rule::Filter;
use crate::scratch::Scratch;

/// How much of a value, or of a condition, is shown.
const SHOWN_CHARS_MAX: usize = 120;

/// How many checks are made for one explanation, those of alternatives and elements that are not
/// shown included.
const CHECKS_MAX: usize = 10_000;

/// How many elements of one array are looked at for the nearest.
const ELEMENTS_MAX: usize = 200;

/// How deeply alternatives may lie within alternatives: what is told must be within what readers of
/// JSON take.
const DEPTH_MAX: usize = 16;

/// How many alternatives of one `$or` are shown.
const ALTERNATIVES_MAX: usize = 8;

/// What is expected of alternatives.
const ALTERNATIVES: &str = "one of the alternatives";

/// What is expected of a negation.
const NEGATION: &str = "what follows should not hold";

/// Why a filter did or did not hold for a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Explanation {
    /// The verdict.
    pub matches: bool,
    /// What had to hold, each part with its own verdict.
    pub checks: Vec<Check>,
    /// What the verdicts of the parts do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One thing that had to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Check {
    /// Whether it held.
    pub holds: bool,
    /// What was looked at: a field such as `data.total` or `data.lines[1].sku`, `from`, `where`,
    /// `sql` or `$or`.
    pub field: String,
    /// What it had to be, as written in the rule.
    pub expected: String,
    /// What was there; none where nothing was.
    pub found: Option<String>,
    /// Where it did not hold: the smallest change with which it would have, in words that follow
    /// "it would hold".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Of `$or`, `||` and the like: the alternatives, one of which had to hold as a whole; the
    /// nearest where there are many. Of a negation: what it negates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// How many alternatives are not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

/// One of the alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alternative {
    /// Which it is in the rule, from 1.
    pub number: usize,
    /// What had to hold for it.
    pub checks: Vec<Check>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Explains what a filter says of a document.
#[must_use]
pub fn explain(filter: &Filter, document: &Document<'_>) -> Explanation {
    let matches = filter.holds(document, &mut Scratch::default());
    with_verdict(matches, filter, document)
}

/// Explains a verdict that is known.
pub(crate) fn with_verdict(matches: bool, filter: &Filter, document: &Document<'_>) -> Explanation {
    let room = Room {
        checks: Cell::new(CHECKS_MAX),
        depth: Cell::new(0),
        cut: Cell::new(false),
    };
    let mut checks = Vec::new();
    if let (Some(filters), Root::Event(event)) = (&filter.filters, document.root()) {
        filters
            .all
            .iter()
            .for_each(|filter| filters::checks(filter, event, &room, &mut checks));
    }
    if let Some(pattern) = &filter.pattern {
        checks.extend(pattern::checks(&pattern.root, document, &room));
    }
    if let Some(condition) = &filter.condition {
        condition::checks(&condition.expression, document, &room, &mut checks);
    }
    let note = if room.cut.get() {
        Some(format!(
            "not all is shown: of a list {ELEMENTS_MAX} elements are looked at, of a rule \
             {CHECKS_MAX} conditions, and alternatives {DEPTH_MAX} deep"
        ))
    } else {
        let disagree = !matches && checks.iter().all(|check| check.holds);
        disagree.then(|| {
            "each of these holds by itself, but not within one element of a list, or not for all \
             of its elements"
                .to_owned()
        })
    };
    Explanation {
        matches,
        checks,
        note,
    }
}

/// What may still be done for one explanation.
struct Room {
    checks: Cell<usize>,
    /// How many alternatives are being looked into.
    depth: Cell<usize>,
    /// True once something was left out.
    cut: Cell<bool>,
}

impl Room {
    /// Takes room for one check; false where there is none left.
    fn take(&self) -> bool {
        let left = self.checks.get();
        self.checks.set(left.saturating_sub(1));
        self.cut.set(self.cut.get() || left == 0);
        left > 0
    }

    /// Makes the checks of an alternative.
    fn under(&self, make: impl FnOnce(&mut Vec<Check>)) -> Vec<Check> {
        let (depth, mut checks) = (self.depth.get(), Vec::new());
        if depth == DEPTH_MAX {
            self.cut.set(true);
        } else {
            self.depth.set(depth + 1);
            make(&mut checks);
            self.depth.set(depth);
        }
        checks
    }
}

impl Explanation {
    /// How far it is from matching, to sort by: the fewest failed checks first, and among them the
    /// most that held.
    #[must_use]
    pub fn distance(&self) -> impl Ord + use<> {
        (!self.matches, distance(&self.checks))
    }
}

/// The rules that did not match, the nearest first: those with the fewest failed checks, and among
/// them those with the most that held.
#[must_use]
pub fn nearest_misses<N>(explained: &[(N, Explanation)]) -> Vec<&(N, Explanation)> {
    let mut misses: Vec<_> = explained
        .iter()
        .filter(|(_, explanation)| !explanation.matches)
        .collect();
    misses.sort_by_key(|(_, explanation)| explanation.distance());
    misses
}

fn distance(checks: &[Check]) -> (usize, Reverse<usize>) {
    (
        failures(checks),
        Reverse(checks.iter().filter(|check| check.holds).count()),
    )
}

/// How many checks failed; of alternatives those of the nearest one.
fn failures(checks: &[Check]) -> usize {
    let of = |check: &Check| {
        check
            .alternatives
            .iter()
            .map(|alternative| failures(&alternative.checks).max(1))
            .min()
            .unwrap_or(1)
    };
    checks.iter().filter(|check| !check.holds).map(of).sum()
}

/// A check of alternatives, of which the nearest are kept.
fn of_alternatives(holds: bool, field: impl Into<String>, alternatives: Vec<Vec<Check>>) -> Check {
    let mut alternatives: Vec<Alternative> = (1..)
        .zip(alternatives)
        .map(|(number, checks)| Alternative { number, checks })
        .filter(|one| !one.checks.is_empty())
        .collect();
    let omitted = alternatives.len().saturating_sub(ALTERNATIVES_MAX);
    if omitted > 0 {
        alternatives.sort_by_key(|alternative| distance(&alternative.checks));
        alternatives.truncate(ALTERNATIVES_MAX);
    }
    Check {
        holds,
        field: field.into(),
        expected: ALTERNATIVES.to_owned(),
        alternatives,
        omitted,
        ..Check::default()
    }
}

/// A check of a negation, with what it negates under it.
fn of_negation(holds: bool, field: impl Into<String>, mut negated: Vec<Check>) -> Check {
    without_changes(&mut negated);
    let alternatives = vec![Alternative {
        number: 1,
        checks: negated,
    }];
    Check {
        holds,
        field: field.into(),
        expected: NEGATION.to_owned(),
        alternatives,
        ..Check::default()
    }
}

/// What would make them hold leads away from their negation.
fn without_changes(checks: &mut [Check]) {
    for check in checks {
        check.change = None;
        check
            .alternatives
            .iter_mut()
            .for_each(|alternative| without_changes(&mut alternative.checks));
    }
}

/// A text's beginning, without what would act on a terminal: values come from outside.
fn shorten(text: &str) -> String {
    let visible = |character: char| {
        if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        }
    };
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(visible).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

impl Check {
    /// True of alternatives and negations.
    fn is_composed(&self) -> bool {
        !self.alternatives.is_empty() || [ALTERNATIVES, NEGATION].contains(&&*self.expected)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.matches {
            "matches\n"
        } else {
            "does not match\n"
        })?;
        write_checks(f, &self.checks, 1)?;
        match &self.note {
            Some(note) => writeln!(f, "  {note}"),
            None => Ok(()),
        }
    }
}

fn write_checks(f: &mut fmt::Formatter<'_>, checks: &[Check], depth: usize) -> fmt::Result {
    for check in checks {
        let (indent, verdict) = ("  ".repeat(depth), if check.holds { "yes" } else { "no " });
        let Check {
            field, expected, ..
        } = check;
        match &check.found {
            _ if check.found.is_none() && check.is_composed() => {
                writeln!(f, "{indent}{verdict} {field}: {expected}")?
            }
            Some(found) if is_expression(field) => {
                writeln!(f, "{indent}{verdict} {expected}: {found}")?
            }
            None if is_expression(field) => writeln!(f, "{indent}{verdict} {expected}")?,
            Some(found) => writeln!(
                f,
                "{indent}{verdict} {field} is {found}, expected {expected}"
            )?,
            None => writeln!(
                f,
                "{indent}{verdict} {field} is missing, expected {expected}"
            )?,
        }
        if let Some(change) = &check.change {
            writeln!(f, "{indent}    it would hold {change}")?;
        }
        for Alternative { number, checks } in &check.alternatives {
            if check.alternatives.len() > 1 || *number > 1 {
                writeln!(f, "{indent}    {number}.")?;
            }
            write_checks(f, checks, depth + 3)?;
        }
        if check.omitted > 0 {
            writeln!(
                f,
                "{indent}    and {} more, which are not nearer",
                check.omitted
            )?;
        }
    }
    Ok(())
}

/// A check whose `expected` says what is looked at.
fn is_expression(field: &str) -> bool {
    field == "where" || field == "sql"
}

#[cfg(test)]
mod tests;
