//! `pointsman timers`: when the timers of the rule files fire next.

use std::process::ExitCode;

use miette::IntoDiagnostic;
use pointsman_connectors::Firings;
use pointsman_schemas::{Name, Timestamp};
use serde::Serialize;

use crate::config::{Config, PathArgs, Source};
use crate::output::{self, OutputArgs};

/// How many firings of a timer are shown where nobody says how many.
pub(super) const FIRINGS: u16 = 5;

/// What `timers` is told.
#[derive(Debug, clap::Args)]
pub struct TimersArgs {
    /// Which rule files
    #[command(flatten)]
    pub files: PathArgs,
    /// How many firings of each
    #[arg(
        long,
        short = 'n',
        default_value_t = FIRINGS,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub count: u16,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A timer and when it fires.
#[derive(Debug, Serialize)]
pub(super) struct Timer<'c> {
    tenant: &'c Name,
    timer: &'c Name,
    #[serde(flatten)]
    firings: Firings,
}

/// Runs it. Exit code 1 where the rule files have mistakes.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &TimersArgs) -> Result<ExitCode, miette::Report> {
    let config = match Config::load(&args.files.resolve()) {
        Ok((config, _)) => config,
        Err(diagnostics) => {
            output::print(&super::check::show(&diagnostics, args.output.json)?)
                .into_diagnostic()?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let timers = next(&config, Timestamp::now(), args.count);
    let text = if args.output.json {
        output::json(&timers).into_diagnostic()?
    } else {
        as_table(&timers)
    };
    output::print(&text).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

/// The timers in the order of the files. One whose line is taken from elsewhere is known to the
/// running bus alone, and not among them.
pub(super) fn next<'c>(config: &'c Config, after: Timestamp, count: u16) -> Vec<Timer<'c>> {
    let sources = config.sources.iter();
    let timer = |one: &'c Source| {
        Some(Timer {
            tenant: &one.tenant,
            timer: &one.name,
            firings: one.settings.firings(after, usize::from(count))?,
        })
    };
    sources.filter_map(timer).collect()
}

/// A row for each firing.
pub(super) fn as_table(timers: &[Timer<'_>]) -> String {
    let rows = timers.iter().flat_map(|Timer { timer, firings, .. }| {
        let first = firings.times.first().map_or("never again", String::as_str);
        let rest = firings
            .times
            .iter()
            .skip(1)
            .map(|time| [String::new(), time.clone(), String::new()]);
        std::iter::once([timer.to_string(), first.to_owned(), firings.zone.clone()]).chain(rest)
    });
    if timers.is_empty() {
        String::new()
    } else {
        output::table(["TIMER", "FIRES", "ZONE"], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_firings_are_told_with_their_zone() {
        let yaml = "sources:\n  morning: { timer: { cron: \"0 9 * * MON/2\", timezone: \
                    Europe/Berlin } }\n  beat: { timer: { every: 30s } }\n  last: { timer: { cron: \
                    \"0 0 0 1 1 * 2199\" } }\n  elsewhere: { timer: { cron: { env: LINE } } }\n  \
                    inbox: { directory: { path: . } }\n  zoned: { timer: { cron: \
                    \"CRON_TZ=Asia/Kolkata @midnight\" } }\n";
        let (config, _) = Config::of_text("rules.yaml", std::path::Path::new("/"), yaml).unwrap();
        let after = Timestamp(
            "2026-10-23T12:00:00Z"
                .parse::<jiff::Timestamp>()
                .unwrap()
                .as_microsecond(),
        );
        let timers = next(&config, after, 3);
        insta::assert_snapshot!(as_table(&timers));
        let json: serde_json::Value =
            serde_json::from_str(&output::json(&timers).unwrap()).unwrap();
        assert_eq!(
            (&json[0]["timer"], &json[0]["times"][1], &json[1]["zone"]),
            (
                &"morning".into(),
                &"2026-10-28T09:00:00+01:00".into(),
                &"UTC".into()
            )
        );
    }
}
