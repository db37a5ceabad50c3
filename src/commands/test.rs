//! `pointsman test`: runs the tests that rule files carry.

mod made;
mod rules;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use miette::IntoDiagnostic;
use pointsman_schemas::{Event, Name};
use serde::Serialize;
use serde_json::Value;

use super::check::show;
use super::difference::{self, Difference};
use crate::app::watch::Watch;
use crate::config::{Config, PathArgs};
use crate::output::{self, OutputArgs};
pub use rules::RulesInTest;

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
mod tests;
