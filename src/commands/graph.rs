//! `pointsman graph`: the topology of rule files, drawn without a bus.

mod svg;
mod text;
mod topology;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use miette::IntoDiagnostic;
use pointsman_schemas::Name;

use self::topology::Topology;
use crate::config::{Config, PathArgs};
use crate::output;

/// What `graph` is told.
#[derive(Debug, clap::Args)]
pub struct GraphArgs {
    /// Which rule files
    #[command(flatten)]
    pub files: PathArgs,
    /// In which form
    #[arg(
        id = "graph_format",
        long = "format",
        short = 'f',
        default_value = "mermaid"
    )]
    pub format: GraphFormat,
    /// Of this tenant alone
    #[arg(long)]
    pub tenant: Option<Name>,
    /// Only what this rule takes and where that goes
    #[arg(long)]
    pub rule: Option<Name>,
}

/// The form of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphFormat {
    /// For Markdown, as a flowchart of Mermaid.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// An image, light and dark.
    Svg,
}

/// Prints it. Exit code 1 where the rule files have mistakes.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &GraphArgs) -> Result<ExitCode, miette::Report> {
    let config = match Config::load(&args.files.resolve()) {
        Ok((config, _)) => config,
        Err(diagnostics) => {
            output::print(&super::check::show(&diagnostics, false)?).into_diagnostic()?;
            return Ok(ExitCode::FAILURE);
        }
    };
    output::print(&drawn(&config, args)).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

fn drawn(config: &Config, args: &GraphArgs) -> String {
    let topology = Topology::of(config, |tenant, rule| {
        let is = |wanted: &Option<Name>, name| wanted.as_ref().is_none_or(|own| own == name);
        is(&args.tenant, tenant) && rule.is_none_or(|rule| is(&args.rule, rule))
    });
    let topology = match args.rule {
        Some(_) => topology.connected(),
        None => topology,
    };
    match args.format {
        GraphFormat::Mermaid => text::mermaid(&topology),
        GraphFormat::Dot => text::dot(&topology),
        GraphFormat::Svg => svg::svg(&topology),
    }
}
