//! Whatever the rules and the data, valid JSON or not, the index finds what a look at every rule
//! finds.
//!
//! The first line is a list of rules, the rest an event or its data.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{event, parts, rule};
use pointsman_rules::{Origin, RuleSet, Scratch};
use pointsman_schemas::{Data, DataKind, Event};
use serde_json::Value;

/// More rules than are looked at in turn, so that the set has an index.
const RULES_MIN: usize = 8;

fuzz_target!(|input: &[u8]| {
    let Some((rules, text)) = parts(input) else {
        return;
    };
    let Ok(rules) = serde_json::from_str::<Vec<Value>>(rules) else {
        return;
    };
    let compiled = rules
        .iter()
        .cycle()
        .take(rules.len().max(RULES_MIN))
        .filter_map(rule);
    let rules = RuleSet::compile(compiled.collect());
    let broken = Data::new_unchecked(DataKind::Json, Bytes::copy_from_slice(text));
    let broken = Event::builder("1", "/s", "a")
        .subject("b.c")
        .data(broken)
        .build()
        .expect("it is valid");
    let mut scratch = Scratch::default();
    for event in [event(text), broken] {
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        rules.matches_into(Origin(0), &event, &mut scratch, &mut found);
        rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut expected);
        assert_eq!(found, expected);
    }
});
