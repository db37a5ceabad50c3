//! `pointsman check`: finds every mistake in the rule files.

use std::path::PathBuf;
use std::process::ExitCode;

use miette::IntoDiagnostic;

use crate::config::{Config, DEFAULT_PATH, Diagnostic, diagnostic};
use crate::output::{self, OutputArgs};

/// What `check` is told.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Rule files, and folders of them, that are read as one.
    #[arg(value_name = "PATH", default_value = DEFAULT_PATH)]
    pub paths: Vec<PathBuf>,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs it. Exit code 1 where there is a mistake; what is odd but not wrong fails nothing.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &CheckArgs) -> Result<ExitCode, miette::Report> {
    let (text, sound) = report(args)?;
    output::print(&text).into_diagnostic()?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(args: &CheckArgs) -> Result<(String, bool), miette::Report> {
    let (summary, diagnostics) = match Config::load(&args.paths) {
        Ok((config, warnings)) => (Some(summary(&config)), warnings),
        Err(diagnostics) => (None, diagnostics),
    };
    let mut text = show(&diagnostics, args.output.json)?;
    if let (Some(summary), false) = (&summary, args.output.json) {
        text.push_str(&format!("{summary}\n"));
    }
    Ok((text, summary.is_some()))
}

fn summary(config: &Config) -> String {
    let of = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (sources, targets) = (of(config.sources.len(), "source"), of(config.targets.len(), "target"));
    format!("{sources}, {targets}, {}, {}: no mistakes", of(config.rules.len(), "rule"), of(config.tests.len(), "test"))
}

/// Diagnostics as a person or a program wants them.
pub(super) fn show(diagnostics: &[Diagnostic], json: bool) -> Result<String, miette::Report> {
    if json {
        return output::json(&diagnostics.iter().map(Diagnostic::to_json).collect::<Vec<_>>()).into_diagnostic();
    }
    Ok(if diagnostics.is_empty() { String::new() } else { diagnostic::render(diagnostics, output::colours()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(yaml: &str, json: bool) -> (String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, yaml).unwrap();
        let (text, sound) = report(&CheckArgs { paths: vec![path], output: OutputArgs { json } }).unwrap();
        (text.replace(&folder.path().display().to_string(), ""), sound)
    }

    #[test]
    fn warnings_do_not_fail_and_mistakes_do() {
        let sound = "targets: { a: { stdout: {} } }\nrules: { r: { to: a } }\n";
        assert_eq!(report_of(sound, false), ("0 sources, 1 target, 1 rule, 0 tests: no mistakes\n".to_owned(), true));
        assert_eq!(report_of(sound, true), ("[]\n".to_owned(), true));
        let (odd, passes) = report_of("targets: { a: { stdout: {} } }\nrules: { r: { to: a, where: $.data.paid } }\n", false);
        assert!(passes && odd.contains("1 warning\n"), "{odd}");
        let (broken, passes) = report_of("rules:\n  r: { tö: a }\n", true);
        assert!(!passes);
        insta::assert_snapshot!("broken_as_json", broken);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let args = CheckArgs { paths: vec!["nowhere.yaml".into()], output: OutputArgs::default() };
        let (text, sound) = report(&args).unwrap();
        assert!(!sound && text.contains("nowhere.yaml: there is no such file"), "{text}");
    }
}
