//! `pointsman test`: runs the tests that rule files carry.

use std::path::PathBuf;
use std::process::ExitCode;

use miette::IntoDiagnostic;
use pointsman_rules::{Document, Scratch, explain};
use pointsman_schemas::{Event, Name};
use serde::Serialize;
use serde_json::Value;

use super::check::show;
use crate::config::{Config, DEFAULT_PATH, Expectation, Rule, Test};
use crate::output::{self, OutputArgs};

/// What `test` is told.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Rule files, and folders of them, that are read as one.
    #[arg(value_name = "PATH", default_value = DEFAULT_PATH)]
    pub paths: Vec<PathBuf>,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs it. Exit code 1 where a test fails or the files have mistakes.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &TestArgs) -> Result<ExitCode, miette::Report> {
    let (text, passed) = report(args)?;
    output::print(&text).into_diagnostic()?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(args: &TestArgs) -> Result<(String, bool), miette::Report> {
    match Config::load(&args.paths) {
        Ok((config, _)) => {
            let results: Vec<TestResult> = config.tests.iter().map(|test| try_one(test, &config)).collect();
            let text = if args.output.json { output::json(&results).into_diagnostic()? } else { render(&results) };
            Ok((text, results.iter().all(|result| result.failures.is_empty())))
        }
        Err(diagnostics) => Ok((show(&diagnostics, args.output.json)?, false)),
    }
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
    let from_fits = |rule: &Rule| from_fits(rule, test, config);
    let firing: Vec<&Rule> = rules.iter().copied().filter(|rule| from_fits(rule) && fires(rule, &document)).collect();
    let mut failures = Vec::new();
    if test.expect.is_empty() && !firing.is_empty() {
        failures.extend(firing.iter().map(|rule| format!("no rule should fire, and {} {}", rule.name, why(rule, &document))));
    }
    for (name, expectation) in &test.expect {
        let fires = firing.iter().find(|rule| rule.name == *name);
        match (expectation, fires) {
            (Expectation::Silent, None) => {}
            (Expectation::Silent, Some(rule)) => failures.push(format!("{name} should not fire, and {}", why(rule, &document))),
            (Expectation::Fires(_), None) => {
                failures.extend(rules.iter().find(|rule| rule.name == *name).map(|rule| why_not(rule, test, from_fits(rule), &document)));
            }
            (Expectation::Fires(expected), Some(rule)) => failures.extend(differences_of(rule, &test.event, expected)),
        }
    }
    let (file, line) = test.place.clone();
    TestResult { name: test.name.clone(), file, line, fires: firing.iter().map(|rule| rule.name.clone()).collect(), failures }
}

/// Whether the rule takes events from the test's source.
///
/// Where the test names none, `from` is not looked at; but a rule that has no other filter would take every test's event then, and is
/// passed over unless the test expects it.
fn from_fits(rule: &Rule, test: &Test, config: &Config) -> bool {
    match (&test.from, &rule.from) {
        (Some(from), Some(taken)) => taken.contains(from),
        (Some(from), None) => *from != Name::replies() && !config.feeds_pipe(&test.tenant, from),
        (None, Some(_)) if rule.criteria().is_empty() => test.expect.iter().any(|(name, _)| *name == rule.name),
        (None, _) => true,
    }
}

fn fires(rule: &Rule, document: &Document<'_>) -> bool {
    rule.criteria().hold(document, &mut Scratch::default())
}

fn why_not(rule: &Rule, test: &Test, from_fits: bool, document: &Document<'_>) -> String {
    if !from_fits {
        return format!("{} does not fire: it takes nothing from {}", rule.name, test.from.as_ref().map_or("", Name::as_str));
    }
    format!("{} {}", rule.name, why(rule, document))
}

/// Why a rule fires or does not, whatever its `from`.
fn why(rule: &Rule, document: &Document<'_>) -> String {
    if rule.criteria().is_empty() {
        return "takes everything from its sources".to_owned();
    }
    explain(rule.criteria(), document).to_string().trim_end().to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
targets: { console: { stdout: {} }, audit: { stdout: {} } }
rules:
  paid:
    match: { type: [order.paid] }
    transform: { set: { subject: <$.data.id> }, data: { total: <$.data.total>, lines: <$.data.lines> } }
    to: [console, { target: audit, transform: { data: <$.data.total> } }]
  dear: { where: $.data.total > 100, to: console }
  answers: { from: replies, to: console }
sources: { beat: { timer: { every: 1s } } }
pipes:
  beats: { from: beat, match: { type: [tick] }, to: audit }
tests:
  both fire:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7", total: 250, lines: [{ sku: a, n: 1 }] } }
    expect: { paid: { subject: "7", data: { total: 250.0, lines: [{ sku: a }] } }, dear: {} }
  any of the targets will do:
    event: { type: order.paid, source: /s, id: "1", data: { total: 250 } }
    expect: { paid: { data: 250 } }
  of a source:
    from: ingress
    event: { type: a, source: /s, id: "1" }
    expect: {}
  it makes another event:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7", total: 1, lines: [1] } }
    expect: { paid: { subject: "8", data: { total: 2, lines: [1, 2], note: x } } }
  it does not fire:
    event: { type: order.sent, source: /s, id: "1", data: { total: 5 } }
    expect: { paid: {}, dear: {} }
  nothing should:
    from: ingress
    event: { type: order.paid, source: /s, id: "1" }
    expect: {}
  one should not:
    event: { type: order.paid, source: /s, id: "1" }
    expect: { paid: false }
  a pipe takes its source's events alone:
    from: beat
    event: { type: tick, source: /s, id: "1", data: { total: 250 } }
    expect: { beats: {}, dear: false }
  it takes nothing from there:
    from: ingress
    event: { type: order.paid, source: /s, id: "1" }
    expect: { answers: {} }
"#;

    #[test]
    fn the_files_own_tests_pass_or_say_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, RULES).unwrap();
        let report = |json| report(&TestArgs { paths: vec![path.clone()], output: OutputArgs { json } }).unwrap();
        let (text, passed) = report(false);
        assert!(!passed);
        insta::assert_snapshot!("results", text.replace(&folder.path().display().to_string(), ""));
        let json: Value = serde_json::from_str(&report(true).0).unwrap();
        assert_eq!(json[0]["fires"], serde_json::json!(["paid", "dear"]));
        assert_eq!(json[0]["failures"], serde_json::json!([]));
    }
}
