//! No `where` makes its compiler panic, and what it takes holds alike alone and among the rules.
//!
//! The first line is the condition, the rest an event or its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{check_places, event, parts};
use pointsman_rules::{Condition, Document, Filter, Origin, OriginSet, Rule, RuleSet, Scratch};

fuzz_target!(|input: &[u8]| {
    let Some((text, rest)) = parts(input) else {
        return;
    };
    let condition = match Condition::parse(text) {
        Ok(condition) => condition,
        Err(problems) => return check_places(text, &problems),
    };
    check_places(text, condition.warnings());
    let (event, mut scratch, mut found) = (event(rest), Scratch::default(), Vec::new());
    let holds = condition.holds(&Document::event(&event), &mut scratch);
    let rule = Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(condition),
    };
    RuleSet::compile(vec![rule]).matches_into(Origin(0), &event, &mut scratch, &mut found);
    assert_eq!(holds, !found.is_empty());
});
