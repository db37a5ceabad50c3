//! The conformance suites of others, run in place: `POINTSMAN_CONFORMANCE`, by default
//! `../shared/conformance` beside the workspace.

use std::path::PathBuf;

use pointsman_rules::{Document, Found, Node, Path, Pattern, Scratch};
use serde_json::Value;

fn suites() -> Option<PathBuf> {
    let folder = std::env::var_os("POINTSMAN_CONFORMANCE").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../shared/conformance"
            ))
        },
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: there is no folder {}; name one in POINTSMAN_CONFORMANCE",
        folder.display()
    );
    None
}

/// A name ending in `_NEG` must not match, in `_EXC` must be refused, any other must match.
#[test]
fn event_patterns() {
    let Some(folder) = suites() else { return };
    let mut scratch = Scratch::default();
    let (mut passed, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(folder.join("event-patterns")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let case: Value = json5::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let event = case["Event"].to_string();
        let outcome = match Pattern::compile_for_any_json(&case["EventPattern"]) {
            Err(problems) => format!("refused: {}", problems[0]),
            Ok(pattern)
                if pattern.matches(&Document::json(event.as_bytes()).unwrap(), &mut scratch) =>
            {
                "matches".to_owned()
            }
            Ok(_) => "does not match".to_owned(),
        };
        let expected = if name.ends_with("_NEG") {
            "does not match"
        } else if name.ends_with("_EXC") {
            "refused"
        } else {
            "matches"
        };
        if outcome.starts_with(expected) {
            passed += 1;
        } else {
            failed.push(format!("{name}: {outcome}"));
        }
    }
    println!("event patterns: {passed} of {} pass", passed + failed.len());
    assert!(failed.is_empty() && passed > 0, "{failed:#?}");
}

#[test]
fn jsonpath() {
    let Some(folder) = suites() else { return };
    let suite: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("jsonpath-cts.json")).unwrap())
            .unwrap();
    let (mut passed, mut failed) = (0, Vec::new());
    for case in suite["tests"].as_array().unwrap() {
        let document = case["document"].to_string();
        let parsed = Path::parse(case["selector"].as_str().unwrap());
        let passes = match (parsed, case["invalid_selector"] == true) {
            (Err(_), invalid) => invalid,
            (Ok(_), true) => false,
            (Ok(path), false) => {
                let document = Document::json(document.as_bytes()).unwrap();
                let found: Vec<Value> = match path.find(&document) {
                    Found::Nothing => Vec::new(),
                    Found::One(Node::Json(raw)) => vec![serde_json::from_slice(raw).unwrap()],
                    Found::One(_) => vec![document.tree().clone()],
                    Found::Many(values) => values.into_iter().cloned().collect(),
                };
                match case.get("result") {
                    Some(result) => *result == Value::from(found),
                    None => case["results"]
                        .as_array()
                        .unwrap()
                        .contains(&Value::from(found)),
                }
            }
        };
        if passes {
            passed += 1;
        } else {
            failed.push(case["name"].as_str().unwrap().to_owned());
        }
    }
    println!("JSONPath: {passed} of {} pass", passed + failed.len());
    assert_eq!(failed, [""; 0]);
}
