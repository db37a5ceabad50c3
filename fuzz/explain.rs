//! An explanation agrees with the verdict, its checks agree with it too or a note says why not, and
//! it survives being sent.
//!
//! The first line is a rule, the rest an event or its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{event, parts, rule};
use pointsman_rules::{Explanation, Origin, RuleSet, Scratch};

fuzz_target!(|input: &[u8]| {
    let Some((raw, text)) = parts(input) else {
        return;
    };
    let Some(rule) = serde_json::from_str(raw).ok().and_then(|raw| rule(&raw)) else {
        return;
    };
    let (rules, event, mut found) = (RuleSet::compile(vec![rule]), event(text), Vec::new());
    rules.matches_into(Origin(0), &event, &mut Scratch::default(), &mut found);
    let explanation = rules
        .explain(0, Origin(0), &event)
        .expect("there is a rule");
    assert_eq!(explanation.matches, !found.is_empty(), "{explanation}");
    let all_hold = explanation.checks.iter().all(|check| check.holds);
    assert!(
        explanation.matches == all_hold || explanation.note.is_some(),
        "{explanation}"
    );
    let sent = serde_json::to_string(&explanation).expect("it can be written");
    assert_eq!(
        serde_json::from_str::<Explanation>(&sent).expect("it can be read"),
        explanation
    );
    let _ = explanation.to_string();
});
