//! No jq program makes its compiler or jaq panic, take long or take much; what one makes is JSON,
//! and always the same.
//!
//! The first line is the program, the rest an event or its data.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{check_places, event, parts};
use pointsman_rules::Document;
use pointsman_rules::jq::Jq;
use pointsman_schemas::Data;

fuzz_target!(|input: &[u8]| {
    let Some((text, rest)) = parts(input) else {
        return;
    };
    let program = match Jq::compile(text) {
        Ok(program) => program,
        Err(problems) => return check_places(text, &problems),
    };
    let event = event(rest);
    let document = Document::event(&event);
    let run = || {
        let mut out = Vec::new();
        program.run(&document, &mut out).map(|()| out)
    };
    let made = run();
    assert_eq!(made, run());
    if let Ok(out) = made {
        assert!(Data::json(Bytes::from(out)).is_ok());
    }
});
