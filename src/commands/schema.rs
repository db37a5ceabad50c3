//! `pointsman schema`: prints the JSON Schema of the rule file.

use std::process::ExitCode;

use super::check::print;
use crate::config::schema;

/// Runs it.
#[must_use]
pub fn run() -> ExitCode {
    print(&format!("{:#}\n", schema::rule_file()));
    ExitCode::SUCCESS
}
