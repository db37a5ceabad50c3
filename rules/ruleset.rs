//! All rules in force, compiled together: which of them take an event.
//!
//! [`RuleSet::compile`] enters the rules into an index by which [`RuleSet::matches_into`] finds the
//! few that an event may satisfy; those are then evaluated, cheapest test first: the origin, then
//! attributes, and only then data, of which the mentioned fields are read once for all rules. So
//! the cost follows the event and its matches, not the number of rules.

use pointsman_schemas::Event;

use crate::document::Document;
use crate::explain::{self, Check, Explanation};
use crate::fields::{Fields, FieldsBuilder};
use crate::index::Index;
use crate::origin::Origin;
use crate::rule::Rule;
use crate::scratch::Scratch;

/// Up to so many rules are looked at in turn: to find candidates among them would cost more than it
/// saves.
const IN_TURN_MAX: usize = 6;

/// Compiled rules.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    fields: Fields,
    /// None where there are few rules.
    index: Option<Index>,
}

impl RuleSet {
    /// Compiles rules together, which may take some tens of milliseconds for ten thousand.
    #[must_use]
    pub fn compile(mut rules: Vec<Rule>) -> Self {
        let mut builder = FieldsBuilder::new();
        for rule in &mut rules {
            rule.filter.register(&mut builder);
        }
        let (fields, renumbered) = builder.finish();
        for rule in &mut rules {
            rule.filter.renumber(&renumbered);
        }
        let index = (rules.len() > IN_TURN_MAX).then(|| Index::new(&rules, &fields));
        Self {
            rules,
            fields,
            index,
        }
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Why a rule does or does not take an event from this origin; none where there is no rule of
    /// this index.
    #[must_use]
    pub fn explain(&self, index: u32, origin: Origin, event: &Event) -> Option<Explanation> {
        let rule = self.rules.get(index as usize)?;
        let (document, mut scratch) = (Document::event(event), Scratch::default());
        let comes = rule.from.contains(origin);
        let matches = comes
            && rule
                .filter
                .holds_in(&self.fields, event, &document, &mut scratch);
        let mut explanation = explain::with_verdict(matches, &rule.filter, &document);
        if !comes {
            explanation.note = None;
            let expected = "a source that the rule takes events from".to_owned();
            let found = Some("another one".to_owned());
            explanation.checks.insert(
                0,
                Check {
                    holds: false,
                    field: "from".to_owned(),
                    expected,
                    found,
                    ..Check::default()
                },
            );
        }
        Some(explanation)
    }

    /// Whether one rule takes an event from this origin; false where there is no rule of this
    /// index.
    #[must_use]
    pub fn takes(&self, index: u32, origin: Origin, event: &Event, scratch: &mut Scratch) -> bool {
        let document = Document::event(event);
        scratch.start();
        self.rules.get(index as usize).is_some_and(|rule| {
            rule.from.contains(origin)
                && rule
                    .filter
                    .holds_in(&self.fields, event, &document, scratch)
        })
    }

    /// Appends the indexes, ascending, of the rules that take an event from this origin.
    #[inline]
    pub fn matches_into(
        &self,
        origin: Origin,
        event: &Event,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        match &self.index {
            Some(index) => self.matches_by_index(index, origin, event, scratch, out),
            None => self.matches_in_turn_into(origin, event, scratch, out),
        }
    }

    fn matches_by_index(
        &self,
        index: &Index,
        origin: Origin,
        event: &Event,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let (document, before) = (Document::event(event), out.len());
        scratch.start();
        index.search(&self.fields, origin, event, &document, scratch);
        for place in 0..scratch.workspace.hits.len() {
            if let Some(candidate) = scratch.workspace.hits.get(place)
                && let Some(rule) = self.rules.get(candidate as usize)
                && rule.from.contains(origin)
                && index
                    .holds(candidate, &self.fields, event, &document, scratch)
                    .unwrap_or_else(|| {
                        rule.filter
                            .holds_in(&self.fields, event, &document, scratch)
                    })
            {
                out.push(candidate);
            }
        }
        out.get_mut(before..).unwrap_or_default().sort_unstable();
    }

    /// As [`RuleSet::matches_into`], with a look at every rule: what the index is held against in
    /// tests and benchmarks.
    pub fn matches_in_turn_into(
        &self,
        origin: Origin,
        event: &Event,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let document = Document::event(event);
        scratch.start();
        for (index, rule) in (0..).zip(&self.rules) {
            if rule.from.contains(origin)
                && rule
                    .filter
                    .holds_in(&self.fields, event, &document, scratch)
            {
                out.push(index);
            }
        }
    }
}

#[cfg(test)]
mod tests;
