//! `pointsman check`: finds every mistake in the rule files, and, where asked to, in what they lead
//! to.

mod connect;

use std::process::ExitCode;

use miette::IntoDiagnostic;
use pointsman_schemas::Timestamp;

use super::timers;
use crate::app;
use crate::config::{Config, Diagnostic, PathArgs, diagnostic};
use crate::output::{self, OutputArgs, Screen};

/// What `check` is told.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Which rule files
    #[command(flatten)]
    pub files: PathArgs,
    /// Also try the connection of every source and target, and of the log of several machines,
    /// without consuming, delivering or changing anything
    #[arg(long)]
    pub connect: bool,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs it. Exit code 1 where there is a mistake or a connection failed; what is odd but not wrong
/// fails nothing.
///
/// # Errors
/// Standard output cannot be written to.
pub async fn run(args: &CheckArgs) -> Result<ExitCode, miette::Report> {
    let (text, sound) = report(args).await?;
    output::print(&text).into_diagnostic()?;
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn report(args: &CheckArgs) -> Result<(String, bool), miette::Report> {
    let paths = args.files.resolve();
    let (config, diagnostics) = match Config::load(&paths) {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(diagnostics) => (None, diagnostics),
    };
    let mut text = show(&diagnostics, args.output.json)?;
    if let (Some(config), false) = (&config, args.output.json) {
        text.push_str(&format!("{}\n{}", summary(config), firings(config)));
    }
    // What a mistake leads to is not worth trying.
    let config = match config {
        Some(config) if args.connect => config,
        other => return Ok((text, other.is_some())),
    };
    // The folder of a bare `pointsman.yaml` has no name of its own.
    let paths = paths
        .iter()
        .map(std::path::absolute)
        .collect::<Result<Vec<_>, _>>()
        .into_diagnostic()?;
    app::enter_folder_of(&paths).into_diagnostic()?;
    let checks = connect::all(&config).await;
    let sound = checks.iter().all(|one| one.ok);
    if args.output.json {
        let diagnostics: Vec<_> = diagnostics.iter().map(Diagnostic::to_json).collect();
        text =
            output::json(&serde_json::json!({ "diagnostics": diagnostics, "connections": checks }))
                .into_diagnostic()?;
    } else {
        text.push_str(&connect::show(&checks));
    }
    Ok((text, sound))
}

fn summary(config: &Config) -> String {
    let of = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let (sources, targets) = (
        of(config.sources.len(), "source"),
        of(config.targets.len(), "target"),
    );
    let pipes = config.rules.iter().filter(|rule| rule.pipe).count();
    let rules = of(config.rules.len() - pipes, "rule");
    let pipes = if pipes == 0 {
        String::new()
    } else {
        format!(", {}", of(pipes, "pipe"))
    };
    format!(
        "{sources}, {targets}, {rules}{pipes}, {}: no mistakes",
        of(config.tests.len(), "test")
    )
}

/// When the timers fire next, so that a line which means something else is seen.
fn firings(config: &Config) -> String {
    /// More than these are for `pointsman timers`.
    const TIMERS_MAX: usize = 10;
    let mut timers = timers::next(config, Timestamp::now(), timers::FIRINGS);
    let more = timers.len().saturating_sub(TIMERS_MAX);
    timers.truncate(TIMERS_MAX);
    let table = timers::as_table(&timers);
    match (table.is_empty(), more) {
        (true, _) => table,
        (false, 0) => format!("\n{table}"),
        (false, more) => format!("\n{table}and {more} more timers: pointsman timers\n"),
    }
}

/// Diagnostics as a person or a program wants them.
pub(super) fn show(diagnostics: &[Diagnostic], json: bool) -> Result<String, miette::Report> {
    if json {
        return output::json(
            &diagnostics
                .iter()
                .map(Diagnostic::to_json)
                .collect::<Vec<_>>(),
        )
        .into_diagnostic();
    }
    Ok(if diagnostics.is_empty() {
        String::new()
    } else {
        diagnostic::render(diagnostics, Screen::of(&std::io::stdout()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn report_of(yaml: &str, json: bool) -> (String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, yaml).unwrap();
        let (text, sound) = report(&CheckArgs {
            files: PathArgs { paths: vec![path] },
            connect: false,
            output: OutputArgs { json },
        })
        .await
        .unwrap();
        (
            text.replace(&folder.path().display().to_string(), ""),
            sound,
        )
    }

    #[tokio::test]
    async fn warnings_do_not_fail_and_mistakes_do() {
        let sound = "targets: { a: { stdout: {} } }\nrules: { r: { to: a } }\n";
        assert_eq!(
            report_of(sound, false).await,
            (
                "0 sources, 1 target, 1 rule, 0 tests: no mistakes\n".to_owned(),
                true
            )
        );
        assert_eq!(report_of(sound, true).await, ("[]\n".to_owned(), true));
        let (odd, passes) = report_of(
            "targets: { a: { stdout: {} } }\nrules: { r: { to: a, where: $.data.paid } }\n",
            false,
        )
        .await;
        assert!(passes && odd.contains("1 warning\n"), "{odd}");
        let (broken, passes) = report_of("rules:\n  r: { tö: a }\n", true).await;
        assert!(!passes);
        insta::assert_snapshot!("broken_as_json", broken);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told() {
        let args = CheckArgs {
            files: PathArgs {
                paths: vec!["nowhere.yaml".into()],
            },
            connect: true,
            output: OutputArgs::default(),
        };
        let (text, sound) = report(&args).await.unwrap();
        assert!(
            !sound && text.contains("nowhere.yaml: there is no such file"),
            "{text}"
        );
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn the_engine_of_a_log_is_tried_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.yaml");
        let log = "postgres: { url: \"postgres://me:hunter2@127.0.0.1:1/bus\" }";
        let yaml = format!("store: {{ log: {{ {log}, cluster: shop, takeover: 2s }} }}\n");
        std::fs::write(&file, yaml).unwrap();
        let (config, _) = Config::load(&[file]).unwrap();
        let checks = connect::all(&config).await;
        let shown = connect::show(&checks);
        assert!(checks.iter().all(|check| !check.ok), "{shown}");
        let row: Vec<_> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..4], ["log", "shop", "postgres", "failed"], "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn each_connection_is_tried_and_told_in_words() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = free.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let inbox = folder.path().join("inbox");
        std::fs::create_dir(&inbox).unwrap();
        let yaml = format!(
            "sources:\n  inbox: {{ directory: {{ path: {} }} }}\n  gone: {{ directory: {{ path: \
             {}/gone }} }}\n  clock: {{ timer: {{ every: 1s }} }}\ntargets:\n  function: {{ http: \
             {{ url: \"http://127.0.0.1:{open}/f\" }} }}\n  closed: {{ http: {{ url: \
             \"http://127.0.0.1:1/\" }} }}\n  command: {{ exec: {{ command: [no-such-program] }} \
             }}\n",
            inbox.display(),
            folder.path().display(),
        );
        std::fs::write(folder.path().join("rules.yaml"), yaml).unwrap();
        let (config, _) = Config::load(&[folder.path().join("rules.yaml")]).unwrap();
        let checks = connect::all(&config).await;
        let shown = connect::show(&checks)
            .replace(&folder.path().display().to_string(), "FOLDER")
            .replace(&open.to_string(), "PORT");
        insta::assert_snapshot!(shown);
        assert_eq!(checks.iter().filter(|one| one.ok).count(), 3);
    }
}
