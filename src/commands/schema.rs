//! `pointsman schema`: prints the JSON Schema of the rule file.

use std::process::ExitCode;

use miette::IntoDiagnostic;

use crate::config::schema;
use crate::output;

/// Runs it.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run() -> Result<ExitCode, miette::Report> {
    output::print(&output::json(&schema::rule_file()).into_diagnostic()?).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
