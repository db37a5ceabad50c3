//! `pointsman check`: finds every mistake in the rule files.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, DEFAULT_PATH, Diagnostic, diagnostic};

/// What `check` is told.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Rule files, and folders of them, that are read as one.
    #[arg(value_name = "PATH", default_value = DEFAULT_PATH)]
    pub paths: Vec<PathBuf>,
    /// Print the mistakes as a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Runs it. Exit code 1 where there is a mistake; what is odd but not wrong fails nothing.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let (summary, diagnostics) = match Config::load(&args.paths) {
        Ok((config, warnings)) => (Some(summary(&config)), warnings),
        Err(diagnostics) => (None, diagnostics),
    };
    show_diagnostics(&diagnostics, args.json);
    if let (Some(summary), false) = (&summary, args.json) {
        print(&format!("{summary}\n"));
    }
    if summary.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(config: &Config) -> String {
    let of = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (sources, targets) = (of(config.sources.len(), "source"), of(config.targets.len(), "target"));
    format!("{sources}, {targets}, {}, {}: no mistakes", of(config.rules.len(), "rule"), of(config.tests.len(), "test"))
}

/// Prints diagnostics as a person or a program wants them.
pub(super) fn show_diagnostics(diagnostics: &[Diagnostic], json: bool) {
    if json {
        let array: Vec<_> = diagnostics.iter().map(Diagnostic::to_json).collect();
        print(&format!("{:#}\n", serde_json::Value::from(array)));
    } else if !diagnostics.is_empty() {
        let colours = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        print(&diagnostic::render(diagnostics, colours));
    }
}

/// Prints to standard output. A reader who has gone away (`| head`) has seen enough: that is no error.
pub(super) fn print(text: &str) {
    drop(anstream::stdout().lock().write_all(text.as_bytes()));
}
