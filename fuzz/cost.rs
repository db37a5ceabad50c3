//! Whatever the rule and the data, work grows with the data and not faster.
//!
//! The first line is a list of rules, the rest an event's data. Each array of it is made longer by
//! repeating what is in it; then no byte may be looked at more often than there are bytes in the
//! rules and arrays around it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{parts, rule};
use pointsman_rules::{Origin, RuleSet, Scratch};
use pointsman_schemas::{Data, Event};
use serde_json::Value;

/// How often what is in an array is repeated. Arrays within arrays are left as they are, so that
/// the data grows by this.
const FACTOR: usize = 16;

fn repeated(value: &Value) -> Value {
    match value {
        Value::Array(items) => items
            .iter()
            .cycle()
            .take(FACTOR * items.len())
            .cloned()
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), repeated(value)))
            .collect(),
        scalar => scalar.clone(),
    }
}

/// How many arrays and objects lie in one another.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((written, text)) = parts(input) else {
        return;
    };
    let (Ok(rules), Ok(data)) = (
        serde_json::from_str::<Vec<Value>>(written),
        serde_json::from_slice::<Value>(text),
    ) else {
        return;
    };
    let rules = RuleSet::compile(rules.iter().filter_map(rule).collect());
    let text = repeated(&data).to_string();
    let looks = text.len() * written.len() * depth(&data);
    let event = Event::builder("1", "/s", "a")
        .subject("b.c")
        .data(Data::json(Bytes::from(text)).expect("it was parsed before"));
    let (event, mut scratch, mut out) = (
        event.build().expect("it is valid"),
        Scratch::default(),
        Vec::new(),
    );
    rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut out);
    assert!(
        scratch.steps() <= looks as u64,
        "{} steps, and {looks} at most",
        scratch.steps()
    );
});
