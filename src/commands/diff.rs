//! `pointsman diff`: which events of the last time changed rules would send elsewhere, before they
//! go live.
//!
//! Both sets of rules, those in force by their files and the changed ones, are held against the
//! same retained events; what really became of those then plays no part. Events stand as they were
//! stored: a changed source, or the `event` of one, is not looked at. Reports of `on_success` and
//! `on_failure` meet no rules and are passed over.

mod compare;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_schemas::{Interval, Timestamp};

use self::compare::Comparison;
use super::check::show;
use super::client::AdminArgs;
use super::error::CommandError;
use super::retained::{RetainedEvents, interval};
use crate::config::{Config, PathArgs};
use crate::output::{self, OutputArgs};
use pointsman_journal::EventsFrom;

/// What `diff` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// The changed rule files, and folders of them, that are read as one
    #[arg(value_name = "NEW", required = true)]
    pub new: Vec<PathBuf>,
    /// The rule files in force; else those that `run` would read
    #[arg(long, value_name = "PATH")]
    pub from: Vec<PathBuf>,
    /// How far back to look; events are there as long as `store.retention` keeps them
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = interval)]
    pub against: Interval,
    /// Examples of each kind for each target
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(0..=100)
    )]
    pub examples: u16,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Read the store at this path instead of asking a bus, which may be running or not
    #[arg(long, value_name = "PATH")]
    pub store: Option<PathBuf>,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs it. Exit code 0 where every event would go where it goes, 1 where one would not, 2 where
/// that could not be found out.
pub async fn run(args: &DiffArgs) -> ExitCode {
    let printed = match execute(args, Timestamp::now()).await {
        Ok((text, code)) => output::print(&text)
            .map(|()| code)
            .map_err(|error| CommandError::new(format!("cannot print: {error}"))),
        Err(error) => Err(error),
    };
    ExitCode::from(printed.unwrap_or_else(|error| {
        eprintln!("{:?}", miette::Report::new(error));
        2
    }))
}

/// Does it and tells what to print, and the exit code.
async fn execute(args: &DiffArgs, now: Timestamp) -> Result<(String, u8), CommandError> {
    let mut configs = Vec::new();
    let from = PathArgs {
        paths: args.from.clone(),
    }
    .resolve();
    for paths in [&from, &args.new] {
        match Config::load(paths) {
            Ok((config, _)) => configs.push(config),
            Err(diagnostics) => {
                let text = show(&diagnostics, args.output.json)
                    .map_err(|error| CommandError::new(error.to_string()))?;
                return Ok((text, 2));
            }
        }
    }
    let [old, new] = <[Config; 2]>::try_from(configs)
        .map_err(|_| CommandError::new("cannot read both sets of rules"))?;
    let since = now.minus(args.against.0);
    let mut comparison = Comparison::new(old, new, usize::from(args.examples));
    let mut events = RetainedEvents::open(&args.admin, args.store.as_deref())?;
    let mut from = Some(EventsFrom::Time(since));
    while let Some(at) = from {
        let page = events.page(at).await?;
        comparison.damaged += page.damaged;
        for stored in &page.events {
            comparison.event(stored);
        }
        from = page.next.map(EventsFrom::After);
    }
    let report = comparison.finish(since);
    let text = if args.output.json {
        output::json(&report)
            .map_err(|error| CommandError::new(format!("cannot print: {error}")))?
    } else {
        report.to_string()
    };
    Ok((text, u8::from(report.differs())))
}
