//! All rules in force, compiled together: which of them take an event.
//!
//! [`RuleSet::compile`] enters the rules into an index by which [`RuleSet::matches_into`] finds the
//! few that an event may satisfy; those are then evaluated, cheapest test first: the origin, then
//! attributes, and only then data, of which the mentioned fields are read once for all rules. So
//! the cost follows the event and its matches, not the number of rules.

use pointsman_schemas::Event;

use crate::condition::Condition;
use crate::document::Document;
use crate::explain::{self, Check, Criteria, Explanation};
use crate::fields::{Fields, FieldsBuilder, Frame, ROOT, Slots};
use crate::filters::Filters;
use crate::index::{Index, Workspace};
use crate::pattern::{Evaluation, Pattern};

/// Up to so many rules are looked at in turn: to find candidates among them would cost more than it
/// saves.
const IN_TURN_MAX: usize = 6;

/// The number by which the caller knows a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u16);

/// From which sources a rule takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSet {
    /// Bit n of word m stands for the origin 64·m + n.
    words: Vec<u64>,
    /// What holds for origins past the words.
    others: bool,
}

impl OriginSet {
    /// Every source but these.
    #[must_use]
    pub fn all_but(origins: &[Origin]) -> Self {
        Self::new(origins, true)
    }

    /// These sources alone.
    #[must_use]
    pub fn only(origins: &[Origin]) -> Self {
        Self::new(origins, false)
    }

    fn new(origins: &[Origin], others: bool) -> Self {
        let length = origins
            .iter()
            .map(|origin| usize::from(origin.0) / 64 + 1)
            .max()
            .unwrap_or(0);
        let mut words = vec![if others { u64::MAX } else { 0 }; length];
        for origin in origins {
            if let Some(word) = words.get_mut(usize::from(origin.0) / 64) {
                let bit = 1 << (origin.0 % 64);
                if others {
                    *word &= !bit;
                } else {
                    *word |= bit;
                }
            }
        }
        Self { words, others }
    }

    /// Its origins, where they are listed.
    pub(crate) fn listed(&self) -> Option<impl Iterator<Item = Origin>> {
        let bits = || (0..64_u16).map(|bit| (bit, 1_u64 << bit));
        let origins = (0..).zip(&self.words).flat_map(move |(word, set)| {
            bits()
                .filter(move |(_, mask)| set & mask != 0)
                .map(move |(bit, _)| Origin(64 * word + bit))
        });
        (!self.others).then_some(origins)
    }

    /// Whether an origin is one of them.
    #[must_use]
    pub fn contains(&self, origin: Origin) -> bool {
        self.words
            .get(usize::from(origin.0) / 64)
            .map_or(self.others, |word| word & 1 << (origin.0 % 64) != 0)
    }
}

/// What decides whether a rule takes an event: all that is given must hold.
#[derive(Debug)]
pub struct Rule {
    /// The sources whose events it looks at.
    pub from: OriginSet,
    /// `match`.
    pub pattern: Option<Pattern>,
    /// `where`.
    pub condition: Option<Condition>,
    /// `filters`.
    pub filters: Option<Filters>,
}

/// Room for evaluating, reused from event to event so that nothing is allocated once it has grown.
/// One per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) slots: Slots,
    pub(crate) buffer: Vec<u8>,
    pub(crate) second: Vec<u8>,
    /// The frame of the document at hand, once it has been read.
    pub(crate) frame: Option<Frame>,
    pub(crate) workspace: Workspace,
}

impl Scratch {
    /// How much work the last document took in patterns: values looked at, operators tried, bytes
    /// of arrays read. It must not grow faster than the document, whatever the rule.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.workspace.workings.steps
    }

    /// Forgets the document before.
    pub(crate) fn start(&mut self) {
        self.slots.clear();
        self.frame = None;
        self.workspace.workings.start();
    }
}

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
            if let Some(pattern) = &mut rule.pattern {
                pattern.root.register(&mut builder, ROOT);
            }
            if let Some(condition) = &mut rule.condition {
                condition.register(&mut builder);
            }
            if let Some(filters) = &rule.filters {
                filters.register(&mut builder);
            }
        }
        let (fields, renumbered) = builder.finish();
        for rule in &mut rules {
            if let Some(pattern) = &mut rule.pattern {
                pattern.root.renumber(&renumbered);
                pattern.fields = Fields::default();
            }
            if let Some(condition) = &mut rule.condition {
                condition.renumber(&renumbered);
            }
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
        let matches = comes && self.holds(rule, event, &document, &mut scratch);
        let Rule {
            pattern,
            condition,
            filters,
            ..
        } = rule;
        let criteria = Criteria {
            pattern: pattern.as_ref(),
            condition: condition.as_ref(),
            filters: filters.as_ref(),
        };
        let mut explanation = explain::with_verdict(matches, criteria, &document);
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

    fn holds(
        &self,
        rule: &Rule,
        event: &Event,
        document: &Document<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        // What looks at attributes alone comes first.
        rule.filters
            .as_ref()
            .is_none_or(|filters| filters.hold(event))
            && rule.pattern.as_ref().is_none_or(|pattern| {
                Evaluation::new(&self.fields, document, scratch).pattern(&pattern.root)
            })
            && rule
                .condition
                .as_ref()
                .is_none_or(|condition| condition.holds_in(&self.fields, document, scratch))
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
                    .unwrap_or_else(|| self.holds(rule, event, &document, scratch))
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
            if rule.from.contains(origin) && self.holds(rule, event, &document, scratch) {
                out.push(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pointsman_schemas::Data;
    use serde_json::{Value, json};

    use super::*;
    use crate::filters::RawFilter;

    fn rule(from: OriginSet, pattern: Option<Value>, condition: Option<&str>) -> Rule {
        Rule {
            from,
            pattern: pattern.map(|pattern| Pattern::compile(&pattern).unwrap()),
            condition: condition.map(|condition| Condition::parse(condition).unwrap()),
            filters: None,
        }
    }

    fn filters(filters: Value) -> Option<Filters> {
        Some(Filters::compile(&serde_json::from_value::<Vec<RawFilter>>(filters).unwrap()).unwrap())
    }

    fn any(pattern: Value) -> Rule {
        rule(OriginSet::all_but(&[]), Some(pattern), None)
    }

    #[test]
    fn all_that_a_rule_says_must_hold() {
        let event = |data: &'static str| {
            Event::builder("1", "/s", "order.paid")
                .data(Data::json(Bytes::from_static(data.as_bytes())).unwrap())
                .build()
                .unwrap()
        };
        let rules = RuleSet::compile(vec![
            rule(OriginSet::all_but(&[]), None, None),
            rule(OriginSet::only(&[Origin(3), Origin(200)]), None, None),
            rule(OriginSet::all_but(&[Origin(3)]), None, None),
            any(json!({"type": ["order.paid"], "data": {"total": [{"numeric": [">", 10]}]}})),
            any(json!({"data": {"items": {"sku": ["b"], "n": [2]}}})),
            rule(
                OriginSet::all_but(&[]),
                Some(json!({"type": ["order.paid"]})),
                Some("$.data.total > 100"),
            ),
            any(json!({"data": {"items": {"sku": ["a"], "n": [2]}}})),
            any(json!({"data": {"total": {"net": [1]}}})),
            rule(
                OriginSet::all_but(&[]),
                None,
                Some("$.data.items[?@.n == 2]"),
            ),
            Rule {
                filters: filters(json!([{"sql": "type LIKE 'order.%'"}])),
                ..rule(OriginSet::only(&[Origin(3)]), None, None)
            },
            Rule {
                filters: filters(json!([{"exact": {"type": "order.sent"}}])),
                ..any(json!({"type": ["order.paid"]}))
            },
        ]);
        let mut scratch = Scratch::default();
        for (origin, data, expect) in [
            (
                3,
                r#"{"total":50,"items":[{"sku":"a","n":1},{"sku":"b","n":2}]}"#,
                &[0, 1, 3, 4, 8, 9][..],
            ),
            (4, r#"{"total":500}"#, &[0, 2, 3, 5]),
            (200, r#"{"total":{"net":1}}"#, &[0, 1, 2, 7]),
            (u16::MAX, "[]", &[0, 2]),
        ] {
            let mut out = Vec::new();
            rules.matches_into(Origin(origin), &event(data), &mut scratch, &mut out);
            assert_eq!(out, expect, "{data}");
            for index in 0..11 {
                let explanation = rules.explain(index, Origin(origin), &event(data)).unwrap();
                assert_eq!(
                    explanation.matches,
                    expect.contains(&index),
                    "{index}: {explanation}"
                );
            }
        }
        assert!(rules.explain(11, Origin(0), &event("1")).is_none());
    }

    #[test]
    fn joined_fields_are_held_against_what_a_text_says_not_how_it_is_written() {
        let joined = |text: &str| {
            any(json!({ "type": ["t"], "data": { "a": [text], "b": { "c": ["x"] } } }))
        };
        let texts = ["plain", r"a\n", "a\n", "\"", r"\u0041", "A", "ü", ""];
        let rules = RuleSet::compile(texts.map(joined).into());
        let mut scratch = Scratch::default();
        for (data, expect) in [
            (r#"{"a":"plain","b":{"c":"x"}}"#, &[0][..]),
            (r#"{"a":"pl\u0061in","b":{"c":"\u0078"}}"#, &[0]),
            (
                r#"{"a":["other","plain"],"b":[{"c":"y"},{"c":["x"]}]}"#,
                &[0],
            ),
            (r#"{"a":"plain","b":{"c":"y"}}"#, &[]),
            (r#"{"a":"plain","b.c":"x"}"#, &[0]),
            (r#"{"a":"plain","b":{"c":"y"},"b.c":"x"}"#, &[0]),
            (r#"{"a":"plain"}"#, &[]),
            (r#"{"a":"a\\n","b":{"c":"x"}}"#, &[1]),
            (r#"{"a":"a\n","b":{"c":"x"}}"#, &[2]),
            (r#"{"a":"\"","b":{"c":"x"}}"#, &[3]),
            (r#"{"a":"\\u0041","b":{"c":"x"}}"#, &[4]),
            (r#"{"a":"\u0041","b":{"c":"x"}}"#, &[5]),
            (r#"{"a":"\u00fc","b":{"c":"x"}}"#, &[6]),
            (r#"{"a":"","b":{"c":"x"}}"#, &[7]),
            (r#"{"a":1,"b":{"c":"x"}}"#, &[]),
        ] {
            for (ty, expect) in [("t", expect), ("u", &[])] {
                let data = Data::json(Bytes::from_static(data.as_bytes())).unwrap();
                let event = Event::builder("1", "/s", ty).data(data).build().unwrap();
                let (mut out, mut in_turn) = (Vec::new(), Vec::new());
                rules.matches_into(Origin(0), &event, &mut scratch, &mut out);
                rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut in_turn);
                assert_eq!((&*out, &*in_turn), (expect, expect), "{event:?}");
            }
        }
    }

    #[test]
    fn rules_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<RuleSet>();
        shared::<Scratch>();
        shared::<Document<'_>>();
    }

    #[test]
    fn origins() {
        let (only, but) = (
            OriginSet::only(&[Origin(0), Origin(64)]),
            OriginSet::all_but(&[Origin(0), Origin(64)]),
        );
        for origin in [0, 1, 63, 64, 65, 128, u16::MAX] {
            let listed = origin == 0 || origin == 64;
            assert_eq!(
                (only.contains(Origin(origin)), but.contains(Origin(origin))),
                (listed, !listed),
                "{origin}"
            );
        }
    }
}
