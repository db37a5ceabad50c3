//! `pointsman run`: the bus.

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use crate::app::{self, RunError};
use crate::config::{Diagnostic, PathArgs, diagnostic};
use crate::output::Screen;

/// What `run` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Which rule files
    #[command(flatten)]
    pub files: PathArgs,
}

/// Runs the bus until SIGTERM or SIGINT.
pub async fn run(args: &RunArgs) -> ExitCode {
    match app::run(&args.files.resolve(), show).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let RunError::Rules(mistakes) = &error {
                show(mistakes);
            }
            if tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!("{error}");
            } else {
                // A log that was told to be silent is no reason to end without a word.
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Shows what is wrong. The bus runs on whatever becomes of that.
fn show(diagnostics: &[Diagnostic]) {
    if diagnostics.is_empty() {
        return;
    }
    let render = || diagnostic::render(diagnostics, Screen::of(&std::io::stderr()));
    let text = std::panic::catch_unwind(AssertUnwindSafe(render))
        .unwrap_or_else(|_| format!("{}\n", diagnostic::count(diagnostics)));
    // Nobody may be there to read it.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
