//! `pointsman run`: the bus.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::{self, RunError};
use crate::config::{DEFAULT_PATH, Diagnostic, diagnostic};

/// What `run` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Rule files, and folders of them, that are read as one
    #[arg(value_name = "PATH", default_value = DEFAULT_PATH)]
    pub paths: Vec<PathBuf>,
}

/// Runs the bus until SIGTERM or SIGINT.
pub async fn run(args: &RunArgs) -> ExitCode {
    match app::run(&args.paths, show).await {
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

fn show(diagnostics: &[Diagnostic]) {
    if !diagnostics.is_empty() {
        let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        eprint!("{}", diagnostic::render(diagnostics, colours));
    }
}
