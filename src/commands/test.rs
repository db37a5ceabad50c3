//! `pointsman test`: runs the tests that rule files carry.

use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_rules::{Document, Scratch, explain};
use pointsman_schemas::{Event, Name};
use serde::Serialize;
use serde_json::Value;

use super::check::{print, show_diagnostics};
use crate::config::{Config, DEFAULT_PATH, Expectation, Rule, Test};

/// What `test` is told.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Rule files, and folders of them, that are read as one.
    #[arg(value_name = "PATH", default_value = DEFAULT_PATH)]
    pub paths: Vec<PathBuf>,
    /// Print the results as a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Runs it. Exit code 1 where a test fails or the files have mistakes.
#[must_use]
pub fn run(args: &TestArgs) -> ExitCode {
    let config = match Config::load(&args.paths) {
        Ok((config, _)) => config,
        Err(diagnostics) => {
            show_diagnostics(&diagnostics, args.json);
            return ExitCode::FAILURE;
        }
    };
    let results: Vec<TestResult> = config.tests.iter().map(|test| try_one(test, &config)).collect();
    if args.json {
        print(&format!("{:#}\n", serde_json::json!(results)));
    } else {
        print(&render(&results));
    }
    if results.iter().all(|result| result.failures.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How one test went.
#[derive(Debug, Serialize)]
pub struct TestResult {
    /// The test's name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its line there, from 1.
    pub line: usize,
    /// The rules that fire.
    pub fires: Vec<Name>,
    /// What is not as expected, each in words for a person; none where the test passes.
    pub failures: Vec<String>,
}

/// Runs one test against the rules of its tenant.
#[must_use]
pub fn try_one(test: &Test, config: &Config) -> TestResult {
    let document = Document::event(&test.event);
    let rules: Vec<&Rule> = config.rules.iter().filter(|rule| rule.tenant == test.tenant).collect();
    let firing: Vec<&Rule> = rules.iter().copied().filter(|rule| fires(rule, test, &document)).collect();
    let mut failures = Vec::new();
    if test.expect.is_empty() && !firing.is_empty() {
        let names: Vec<&str> = firing.iter().map(|rule| rule.name.as_str()).collect();
        failures.push(format!("no rule should fire, and {} does", names.join(", ")));
    }
    for (name, expectation) in &test.expect {
        let fires = firing.iter().find(|rule| rule.name == *name);
        match (expectation, fires) {
            (Expectation::Silent, None) => {}
            (Expectation::Silent, Some(_)) => failures.push(format!("{name} should not fire, and does")),
            (Expectation::Fires(_), None) => {
                failures.extend(rules.iter().find(|rule| rule.name == *name).map(|rule| why_not(rule, test, &document)));
            }
            (Expectation::Fires(expected), Some(rule)) => failures.extend(differences_of(rule, &test.event, expected)),
        }
    }
    let (file, line) = test.place.clone();
    TestResult { name: test.name.clone(), file, line, fires: firing.iter().map(|rule| rule.name.clone()).collect(), failures }
}

fn from_fits(rule: &Rule, test: &Test) -> bool {
    match (&test.from, &rule.from) {
        (Some(from), Some(taken)) => taken.contains(from),
        (Some(from), None) => *from != Name::replies(),
        (None, _) => true,
    }
}

fn fires(rule: &Rule, test: &Test, document: &Document<'_>) -> bool {
    let mut scratch = Scratch::default();
    from_fits(rule, test)
        && rule.pattern.as_ref().is_none_or(|pattern| pattern.matches(document, &mut scratch))
        && rule.condition.as_ref().is_none_or(|condition| condition.holds(document, &mut scratch))
}

fn why_not(rule: &Rule, test: &Test, document: &Document<'_>) -> String {
    if !from_fits(rule, test) {
        return format!("{} does not fire: it takes nothing from {}", rule.name, test.from.as_ref().map_or("", Name::as_str));
    }
    format!("{} {}", rule.name, explain(rule.pattern.as_ref(), rule.condition.as_ref(), document)).trim_end().to_owned()
}

/// What keeps the rule from making the expected event: nothing where it makes it for one of its targets.
fn differences_of(rule: &Rule, event: &Event, expected: &Value) -> Option<String> {
    let mut first = None;
    for destination in &rule.to {
        let made = destination.transform.as_ref().map_or_else(|| Ok(event.clone()), |transform| transform.apply(event));
        let differences = match made {
            Ok(made) => {
                let mut differences = Vec::new();
                let mut json = Vec::new();
                pointsman_schemas::json::encode(&made, &mut json);
                compare(expected, serde_json::from_slice(&json).ok().as_ref(), "", &mut differences);
                differences
            }
            Err(error) => vec![error.to_string()],
        };
        if differences.is_empty() {
            return None;
        }
        first.get_or_insert(differences);
    }
    first.map(|differences| format!("{} fires, and makes another event:\n  {}", rule.name, differences.join("\n  ")))
}

/// Notes where `found` lacks something of `expected`. Objects may hold more than is expected of them.
fn compare(expected: &Value, found: Option<&Value>, path: &str, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Some(Value::Object(found))) => {
            for (key, value) in expected {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(value, found.get(key), &path, differences);
            }
        }
        (Value::Array(expected), Some(Value::Array(found))) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(expected, Some(found), &format!("{path}[{index}]"), differences);
            }
        }
        (Value::Number(expected), Some(Value::Number(found))) if expected == found || expected.as_f64() == found.as_f64() => {}
        (expected, Some(found)) if expected == found => {}
        (expected, Some(found)) => differences.push(format!("{path} is {found}, expected {expected}")),
        (expected, None) => differences.push(format!("{path} is missing, expected {expected}")),
    }
}

fn render(results: &[TestResult]) -> String {
    let mut out = String::new();
    for TestResult { name, file, line, failures, .. } in results {
        match failures.as_slice() {
            [] => out.push_str(&format!("ok    {name}\n")),
            failures => {
                out.push_str(&format!("FAIL  {name}  ({file}:{line})\n"));
                for line in failures.iter().flat_map(|failure| failure.lines()) {
                    out.push_str(&format!("      {line}\n"));
                }
            }
        }
    }
    let failed = results.iter().filter(|result| !result.failures.is_empty()).count();
    match results.len() {
        0 => out.push_str("no tests: a rule file has them under `tests:`\n"),
        all => out.push_str(&format!("{} passed, {failed} failed\n", all - failed)),
    }
    out
}
