//! `pointsman completions` and `pointsman man`: what shells and readers of manuals want.

use std::process::ExitCode;

use miette::IntoDiagnostic;

use super::error::CommandError;
use crate::output;

/// Prints completions for a shell.
///
/// # Errors
/// Standard output cannot be written to.
pub fn completions(
    mut command: clap::Command,
    shell: clap_complete::Shell,
) -> Result<ExitCode, miette::Report> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "pointsman", &mut script);
    print(&script)
}

/// Prints the manual page of the whole, or of one command.
///
/// # Errors
/// There is no such command, or standard output cannot be written to.
pub fn page(command: clap::Command, of: Option<&str>) -> Result<ExitCode, miette::Report> {
    let mut command = command.name("pointsman");
    command.build();
    let command = match of {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let known: Vec<&str> = command
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect();
                let error = CommandError::new(format!("there is no command `{name}`"));
                return Err(error.help(format!("there is {}", known.join(", "))).into());
            }
        },
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut roff)
        .into_diagnostic()?;
    print(&roff)
}

fn print(text: &[u8]) -> Result<ExitCode, miette::Report> {
    output::print(&String::from_utf8_lossy(text)).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
