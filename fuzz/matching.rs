//! Whatever the patterns and the data, valid JSON or not, the index finds what a look at every rule finds.
//!
//! The first line is a list of patterns, the rest an event's data.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_rules::{Origin, OriginSet, Pattern, Rule, RuleSet, Scratch};
use pointsman_schemas::{Data, DataKind, Event};
use serde_json::Value;

/// As many rules as it takes for the set to have an index.
const RULES_MIN: usize = 16;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (Some(patterns), Some(data)) = (lines.next(), lines.next()) else { return };
    let Ok(patterns) = serde_json::from_slice::<Vec<Value>>(patterns) else { return };
    let compiled = patterns.iter().cycle().take(patterns.len().max(RULES_MIN)).filter_map(|pattern| Pattern::compile(pattern).ok());
    let rule = |pattern| Rule { from: OriginSet::all_but(&[]), pattern: Some(pattern), condition: None, filters: None };
    let rules = RuleSet::compile(compiled.map(rule).collect());
    let data =
        Data::json(Bytes::copy_from_slice(data)).unwrap_or_else(|_| Data::new_unchecked(DataKind::Json, Bytes::copy_from_slice(data)));
    let Ok(event) = Event::builder("1", "/s", "a").subject("b.c").data(data).build() else { return };
    let (mut scratch, mut found, mut expected) = (Scratch::default(), Vec::new(), Vec::new());
    rules.matches_into(Origin(0), &event, &mut scratch, &mut found);
    rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut expected);
    assert_eq!(found, expected);
});
