//! `pointsman schema`: prints the JSON Schema of the rule file.

use std::path::PathBuf;
use std::process::ExitCode;

use miette::IntoDiagnostic;

use super::check::show;
use crate::config::schema::{self, Known};
use crate::output;

/// What `schema` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SchemaArgs {
    /// Rule files or folders of them whose sources, targets and rules are then the only names that
    /// may be referred to
    #[arg(long = "for", value_name = "PATH", num_args = 1..)]
    pub files: Vec<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &SchemaArgs) -> Result<ExitCode, miette::Report> {
    let mut schema = schema::rule_file();
    if !args.files.is_empty() {
        match Known::of_files(&args.files) {
            Ok(known) => known.put_into(&mut schema),
            Err(diagnostics) => {
                eprint!("{}", show(&diagnostics, false)?);
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    output::print(&output::json(&schema).into_diagnostic()?).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
