//! No CESQL makes its parser panic, and what it takes has a value for every event.
//!
//! The first line is the expression, the rest an event or its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{check_places, event, parts};
use pointsman_rules::Cesql;
use pointsman_rules::cesql::Value;

fuzz_target!(|input: &[u8]| {
    let Some((text, rest)) = parts(input) else {
        return;
    };
    let sql = match Cesql::parse(text) {
        Ok(sql) => sql,
        Err(problem) => return check_places(text, [&problem]),
    };
    check_places(text, &sql.mistakes());
    check_places(text, sql.warnings());
    let event = event(rest);
    let evaluation = sql.evaluate(&event);
    assert_eq!(
        sql.holds(&event),
        evaluation.error.is_none() && evaluation.value == Value::Boolean(true)
    );
    assert!(
        !sql.holds(&event) || sql.mistakes().is_empty(),
        "it holds against {:?}",
        sql.mistakes()
    );
});
