//! `pointsman test`: runs the tests that rule files carry.

mod made;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use miette::IntoDiagnostic;
use pointsman_schemas::{Event, Name};
use serde::Serialize;
use serde_json::Value;

use super::check::show;
use super::difference::{self, Difference};
use crate::app::watch::Watch;
use crate::config::{Config, Expectation, PathArgs, Rule, Test};
use crate::output::{self, OutputArgs};
use crate::router::{Router, RuleInForce};

/// What `test` is told.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Which rule files
    #[command(flatten)]
    pub files: PathArgs,
    /// Run them again whenever a rule file changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs it. Exit code 1 where a test fails or the files have mistakes.
///
/// # Errors
/// Standard output cannot be written to, or the files cannot be watched.
pub async fn run(args: &TestArgs) -> Result<ExitCode, miette::Report> {
    let passed = run_with(args, &mut |text| output::print(text)).await?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tests, with `--watch` until `print` fails, and tells whether they passed.
async fn run_with(
    args: &TestArgs,
    print: &mut (dyn FnMut(&str) -> io::Result<()> + Send),
) -> Result<bool, miette::Report> {
    // Begun first, so that no change is missed.
    let mut watch = if args.watch {
        Some(Watch::begin(args.files.resolve()).into_diagnostic()?)
    } else {
        None
    };
    loop {
        let (text, passed) = report(args)?;
        print(&text).into_diagnostic()?;
        let Some(watch) = &mut watch else {
            return Ok(passed);
        };
        watch.changed().await;
        // A screen of its own for each round; in a file or a pipe a line between.
        let clears = !args.output.json && io::stdout().is_terminal();
        print(if clears {
            "\u{1b}[2J\u{1b}[H"
        } else if args.output.json {
            ""
        } else {
            "\n"
        })
        .into_diagnostic()?;
    }
}

fn report(args: &TestArgs) -> Result<(String, bool), miette::Report> {
    match Config::load(&args.files.resolve()) {
        Ok((config, _)) => {
            let results = RulesInTest::new(config).run();
            let text = if args.output.json {
                output::json(&results).into_diagnostic()?
            } else {
                render(&results, output::colours())
            };
            Ok((text, results.iter().all(TestResult::passed)))
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
    /// Of rules that fire and make another event than expected, what is another.
    pub differences: Vec<RuleDifferences>,
}

/// Where the event that a rule makes is not as expected.
#[derive(Debug, Serialize)]
pub struct RuleDifferences {
    /// The rule.
    pub rule: Name,
    /// Of its targets the one whose event comes nearest.
    pub target: Name,
    /// Where it differs.
    pub differences: Vec<Difference>,
}

/// The rules of a configuration, compiled together as a running bus has them, and all else of it.
#[derive(Debug)]
pub struct RulesInTest {
    config: Config,
    router: Router,
}

impl RulesInTest {
    /// Compiles the rules.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        let in_force = config.rules.iter_mut().map(|rule| RuleInForce {
            tenant: rule.tenant.clone(),
            name: rule.name.clone(),
            pipe: rule.pipe,
            from: rule.from.clone(),
            filter: std::mem::take(&mut rule.filter),
            subscriptions: Vec::new(),
        });
        let router = Router::new(in_force.collect());
        Self { config, router }
    }

    /// Runs all tests.
    #[must_use]
    pub fn run(&self) -> Vec<TestResult> {
        self.config
            .tests
            .iter()
            .map(|test| self.try_one(test))
            .collect()
    }

    /// Runs one test against the rules of its tenant.
    fn try_one(&self, test: &Test) -> TestResult {
        let rules: Vec<&Rule> = self
            .config
            .rules
            .iter()
            .filter(|rule| rule.tenant == test.tenant)
            .collect();
        let taken = self
            .router
            .taken(&test.tenant, test.from.as_ref(), &test.event);
        let is_tried = |rule: &Rule| test.from.is_some() || is_looked_at(rule, test);
        let firing: Vec<&Rule> = rules
            .iter()
            .copied()
            .filter(|rule| taken.contains(&&rule.name) && is_tried(rule))
            .collect();
        let (mut failures, mut differences) = (Vec::new(), Vec::new());
        if test.expect.is_empty() && !firing.is_empty() {
            failures.extend(firing.iter().map(|rule| {
                format!(
                    "no rule should fire, and {} {}",
                    rule.name,
                    self.why(rule, test)
                )
            }));
        }
        for (name, expectation) in &test.expect {
            let fires = firing.iter().find(|rule| rule.name == *name);
            match (expectation, fires) {
                (Expectation::Silent, None) => {}
                (Expectation::Silent, Some(rule)) => failures.push(format!(
                    "{name} should not fire, and {}",
                    self.why(rule, test)
                )),
                (Expectation::Fires(_), None) => {
                    failures.extend(
                        rules
                            .iter()
                            .find(|rule| rule.name == *name)
                            .map(|rule| self.why_not(rule, test)),
                    );
                }
                (Expectation::Fires(expected), Some(rule)) => {
                    match made::differences_of(rule, test, expected, &self.config) {
                        Ok(None) => {}
                        Ok(Some(found)) => differences.push(found),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        let (file, line) = test.place.clone();
        let fires = firing.iter().map(|rule| rule.name.clone()).collect();
        TestResult {
            name: test.name.clone(),
            file,
            line,
            fires,
            failures,
            differences,
        }
    }

    fn why_not(&self, rule: &Rule, test: &Test) -> String {
        let takes_from = match (&test.from, &rule.from) {
            (Some(from), Some(taken)) => taken.contains(from),
            (Some(from), None) => {
                *from != Name::replies() && !self.config.feeds_pipe(&test.tenant, from)
            }
            (None, _) => true,
        };
        if !takes_from {
            return format!(
                "{} does not fire: it takes nothing from {}",
                rule.name,
                test.from.as_ref().map_or("", Name::as_str)
            );
        }
        format!("{} {}", rule.name, self.why(rule, test))
    }

    /// Why a rule fires or does not, whatever its `from`.
    fn why(&self, rule: &Rule, test: &Test) -> String {
        if !rule.has_conditions() {
            return "takes everything from its sources".to_owned();
        }
        let explanation = self
            .router
            .explain_content(&test.tenant, &rule.name, &test.event);
        explanation
            .map(|explanation| explanation.to_string().trim_end().to_owned())
            .unwrap_or_default()
    }
}

/// Whether a test that names no source looks at the rule, whose `from` is passed over then. One
/// that has no other condition would take every test's event, so it counts only where the test
/// expects it.
fn is_looked_at(rule: &Rule, test: &Test) -> bool {
    rule.from.is_none()
        || rule.has_conditions()
        || test.expect.iter().any(|(name, _)| *name == rule.name)
}

/// An event in the JSON format.
pub(super) fn as_json(event: &Event) -> Option<Value> {
    let mut json = Vec::new();
    pointsman_schemas::json::encode(event, &mut json);
    pointsman_schemas::json::parse(&json).ok()
}

fn render(results: &[TestResult], colours: bool) -> String {
    let mut out = String::new();
    let marked = |word: &str, code: &str| {
        if colours {
            format!("\u{1b}[{code}m{word}\u{1b}[0m")
        } else {
            word.to_owned()
        }
    };
    for TestResult {
        name,
        file,
        line,
        failures,
        differences,
        ..
    } in results
    {
        if failures.is_empty() && differences.is_empty() {
            out.push_str(&format!(
                "{}    {}\n",
                marked("ok", "32"),
                output::line(name)
            ));
            continue;
        }
        out.push_str(&format!(
            "{}  {}  ({}:{line})\n",
            marked("FAIL", "31"),
            output::line(name),
            output::line(file)
        ));
        for line in failures.iter().flat_map(|failure| failure.lines()) {
            out.push_str(&format!("      {}\n", output::plain(line)));
        }
        for RuleDifferences {
            rule,
            target,
            differences,
        } in differences
        {
            out.push_str(&format!(
                "      {rule} fires, and makes another event for {target}:\n"
            ));
            out.push_str(&difference::table(
                differences,
                ["expected", "came"],
                "        ",
                colours,
            ));
        }
    }
    let failed = results.iter().filter(|result| !result.passed()).count();
    match results.len() {
        0 => out.push_str("no tests: a rule file has them under `tests:`\n"),
        all => out.push_str(&format!("{} passed, {failed} failed\n", all - failed)),
    }
    out
}

impl TestResult {
    fn passed(&self) -> bool {
        self.failures.is_empty() && self.differences.is_empty()
    }
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
        let report = |json| {
            report(&TestArgs {
                files: PathArgs {
                    paths: vec![path.clone()],
                },
                watch: false,
                output: OutputArgs { json },
            })
            .unwrap()
        };
        let (text, passed) = report(false);
        assert!(!passed);
        insta::assert_snapshot!(
            "results",
            text.replace(&folder.path().display().to_string(), "")
        );
        let json: Value = serde_json::from_str(&report(true).0).unwrap();
        assert_eq!(json[0]["fires"], serde_json::json!(["paid", "dear"]));
        assert_eq!(json[0]["failures"], serde_json::json!([]));
    }

    #[test]
    fn targets_are_tried_as_far_as_their_texts() {
        let yaml = r#"
targets:
  function: { http: { url: "http://h/orders/<$.data.id>", headers: { X-Total: "<$.data.total>" } } }
  command: { exec: { command: [./x.sh, "<$.subject>"] } }
rules:
  paid:
    match: { type: [order.paid] }
    transform: { data: { number: <$.data.id>, total: <$.data.total> } }
    to: [{ target: function, transform: { set: { subject: x } } }, command]
tests:
  all is there:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7/8", total: 5 } }
    expect: { paid: { to: function, request: { url: http://h/orders/7%2F8, headers: { X-Total: "5" } } } }
  the command too:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7", total: 5 } }
    expect: { paid: { to: [command], subject: a, request: { command: { "1": a } } } }
  another address:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7", total: 5 } }
    expect: { paid: { to: function, request: { url: http://h/orders/8 } } }
  nothing for the address:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { total: 5 } }
    expect: { paid: {} }
  nobody of that name:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7", total: 5 } }
    expect: { paid: { to: nobody } }
"#;
        let (config, _) = Config::of_text("rules.yaml", std::path::Path::new("/"), yaml).unwrap();
        let results = RulesInTest::new(config).run();
        insta::assert_snapshot!("requests", render(&results, false));
    }

    #[test]
    fn what_is_told_of_an_end_is_made_as_it_would_be() {
        let yaml = r#"
targets:
  function: { stdout: {} }
  chat: { http: { url: "http://h/<$.data.channel>" } }
  archive: { http: { url: "http://h/<$.data.id>" } }
  broken: { http: { url: "http://h/<$.data.requestContext.nothing>" } }
  answers: { http: { url: "http://h/<$.data.responsePayload.id>" } }
rules:
  paid:
    match: { type: [order.paid] }
    transform: { data: gone }
    to: function
    on_success: { to: archive, send: original, transform: { set: { type: kept }, data: { id: <$.data.id> } } }
    on_failure:
      to: chat
      transform: { data: { channel: ops, text: "<$.data.requestContext.target>: <$.data.requestContext.condition> <$.data.responseContext.code>" } }
  silent: { match: { type: [order.lost] }, to: function, on_failure: broken, on_success: answers }
tests:
  both are told:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7" } }
    expect:
      paid:
        data: gone
        on_success: { type: kept, data: { id: "7" }, request: { url: http://h/7 } }
        on_failure: { data: { text: "function: exhausted 500" }, request: { url: http://h/ops } }
  another text:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7" } }
    expect: { paid: { on_failure: { data: { text: x } } } }
  an id that is not there is null:
    event: { type: order.paid, source: /s, id: "1" }
    expect: { paid: {} }
  nothing in the report:
    event: { type: order.lost, source: /s, id: "1" }
    expect: { silent: {} }
"#;
        let (config, warnings) =
            Config::of_text("rules.yaml", std::path::Path::new("/"), yaml).unwrap();
        assert_eq!(warnings.len(), 1, "of the broken one: {warnings:?}");
        let results = RulesInTest::new(config).run();
        insta::assert_snapshot!("told_of_an_end", render(&results, false));
    }

    #[test]
    fn an_event_may_be_given_as_its_json_and_is_then_read_as_the_bus_reads_it() {
        let rules = r#"
targets: { console: { stdout: {} } }
rules:
  large: { match: { data: { n: [{ numeric: [">", 5] }] } }, to: console }
  torn: { match: { data: { t: [{ prefix: a }] } }, to: console }
  where: { where: $.data.n > 5, to: console }
"#;
        let events = r#"
tests:
  beyond all doubles:
    event: '{ "type": "t", "source": "/s", "id": "1", "data": { "n": 1e400, "t": "a\ud800" } }'
    expect: { large: {}, torn: {}, where: {} }
  with its version:
    event: |
      {"specversion":"1.0","type":"t","source":"/s","id":"1","data":{"n":1,"n":7,"t":"b"}}
    expect: { large: {}, torn: false, where: {} }
"#;
        // With more rules they are found by an index.
        let more: String = (0..20)
            .map(|n| {
                format!(
                    "  other-{n}: {{ match: {{ data: {{ n: [{}] }} }}, to: console }}\n",
                    100 + n
                )
            })
            .collect();
        for text in [format!("{rules}{events}"), format!("{rules}{more}{events}")] {
            let (config, _) =
                Config::of_text("rules.yaml", std::path::Path::new("/"), &text).unwrap();
            let results = RulesInTest::new(config).run();
            assert!(
                results.iter().all(TestResult::passed),
                "{}",
                render(&results, false)
            );
        }
        let broken = "tests: { t: { event: '{\"type\": ', expect: {} } }";
        let told = Config::of_text("rules.yaml", std::path::Path::new("/"), broken).unwrap_err();
        assert!(
            told[0].mistake.message.contains("the JSON is broken"),
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn a_change_of_the_files_runs_the_tests_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        let rules = |subject: &str| {
            let test = "tests: { t: { event: { type: a, source: /s, id: \"1\" }, expect: { r: { \
                        subject: x } } } }\n";
            format!(
                "targets: {{ console: {{ stdout: {{}} }} }}\nrules: {{ r: {{ match: {{ type: [a] \
                 }}, transform: {{ set: {{ subject: {subject} }} }}, to: console }} }}\n{test}"
            )
        };
        std::fs::write(&path, rules("y")).unwrap();
        let args = TestArgs {
            files: PathArgs {
                paths: vec![path.clone()],
            },
            watch: true,
            output: OutputArgs::default(),
        };
        let mut rounds = Vec::new();
        // What is printed is the cue for the next change; after the last one nobody reads any more.
        let mut print = |text: &str| {
            if text == "\n" {
                return Ok(());
            }
            rounds.push(text.lines().last().unwrap_or_default().to_owned());
            match rounds.len() {
                1 => std::fs::write(&path, rules("x")),
                2 => std::fs::write(&path, "rules: {"),
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        };
        let ended = run_with(&args, &mut print);
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(60), ended)
                .await
                .expect("the files are watched")
                .is_err()
        );
        assert_eq!(
            rounds,
            ["0 passed, 1 failed", "1 passed, 0 failed", "1 error"]
        );
    }
}
