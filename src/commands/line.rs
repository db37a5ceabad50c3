//! The command line as a whole: which commands there are, and what each is given.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use super::{
    check, dead, diff, explain, graph, import, init, listen, manual, match_event, nodes, replay,
    rules, run, schema, schemas, send, store, subscriptions, tap, tasks, test, timers, top,
};
use crate::telemetry::{self, LogArgs};

/// The version, and the commit where it was built from one.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("POINTSMAN_COMMIT"));

/// Examples under the help of a command.
macro_rules! examples {
    ($($line:literal),+) => { concat!("Examples:\n", $("  ", $line, "\n"),+) };
}

/// An event bus and trigger router: things happen, rules decide, functions are called.
#[derive(Debug, Parser)]
#[command(version = VERSION, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bus; it reloads the rules when the files change
    #[command(after_help = examples!("pointsman run", "pointsman run rules/ --log debug"))]
    Run(run::RunArgs),
    /// Write a commented rule file to begin with
    #[command(after_help = examples!(
        "pointsman init",
        "pointsman init --source webhook --target exec rules.yaml"
    ))]
    Init(init::InitArgs),
    /// Find every mistake in the rule files
    #[command(visible_alias = "validate", after_help = examples!(
        "pointsman check",
        "pointsman check --connect rules/",
        "kustomize build . | pointsman check -"
    ))]
    Check(check::CheckArgs),
    /// Run the rule files' own tests
    #[command(after_help = examples!("pointsman test", "pointsman test --watch rules.yaml"))]
    Test(test::TestArgs),
    /// Say which events of the last time other rules would send elsewhere: exit 0 none, 1 some, 2
    /// trouble
    #[command(after_help = examples!(
        "pointsman diff new.yaml",
        "pointsman diff --against 7d --from rules/ new-rules/"
    ))]
    Diff(diff::DiffArgs),
    /// Make a rule file of EventBridge rules, Knative Triggers or Argo Sensors
    #[command(after_help = examples!(
        "pointsman import template.yaml -o rules.yaml",
        "kubectl get sensors,eventsources -o json | pointsman import -"
    ))]
    Import(import::ImportArgs),
    /// Hold one pattern against one event: exit 0 it matches, 1 it does not, 2 either is invalid
    #[command(after_help = examples!(
        "pointsman match --pattern pattern.json --event event.json",
        "pointsman match --explain --pattern pattern.json --event - < event.json"
    ))]
    Match(match_event::MatchArgs),
    /// Send CloudEvents to a bus
    #[command(after_help = examples!(
        "pointsman send --type order.paid --source /shop --data '{\"total\": 250}'",
        "pointsman send --file events.jsonl --mode batch",
        "pointsman send --type picture --content-type image/png --data @a.png"
    ))]
    Send(send::SendArgs),
    /// A function that prints what it is given, and can be told to fail or be slow
    #[command(after_help = examples!(
        "pointsman listen --port 9000",
        "pointsman listen --status 503 --slow 2s --exit-after 10"
    ))]
    Listen(listen::ListenArgs),
    /// Show what passes through a bus, live: events as they are stored, attempts as they end
    #[command(after_help = examples!(
        "pointsman tap --type 'order.*'",
        "pointsman tap --failed --rule thumbnails",
        "pointsman tap --attempts --json | jq .seconds"
    ))]
    Tap(tap::TapArgs),
    /// Show what a bus is busy with, live: rates, backlogs, latencies, errors
    #[command(after_help = examples!("pointsman top", "pointsman top --once --json"))]
    Top(top::TopArgs),
    /// Say why rules did or did not take an event that a bus has kept
    #[command(after_help = examples!(
        "pointsman explain",
        "pointsman explain 17 --rule thumbnails"
    ))]
    Explain(explain::ExplainArgs),
    /// Dead letters: what could not be delivered
    #[command(after_help = examples!(
        "pointsman dead list --rule thumbnails",
        "pointsman dead redrive --rule thumbnails",
        "pointsman dead purge --all"
    ))]
    Dead(dead::DeadArgs),
    /// Subscriptions: what waits for each rule and target, also where the rule is gone
    #[command(after_help = examples!(
        "pointsman subscriptions list --detached",
        "pointsman subscriptions move 7 --to 9"
    ))]
    Subscriptions(subscriptions::SubscriptionsArgs),
    /// Tasks: deliveries that have not ended
    #[command(after_help = examples!(
        "pointsman tasks list --rule thumbnails --state retrying",
        "pointsman tasks cancel --target thumbnailer --dry-run"
    ))]
    Tasks(tasks::TasksArgs),
    /// Replay retained events to one subscription, or see to replays under way
    #[command(after_help = examples!(
        "pointsman replay --rule thumbnails --from 2026-01-31T09:00:00Z --rate 100/s",
        "pointsman replay --rule audit --pattern paid.yaml --dry-run",
        "pointsman replay list"
    ))]
    Replay(replay::ReplayArgs),
    /// The machines that run one bus, and which shards they own
    #[command(after_help = examples!("pointsman nodes", "pointsman nodes --json"))]
    Nodes(nodes::ListArgs),
    /// The shards of the log of several machines, and who owns and follows them
    #[command(after_help = examples!("pointsman shards"))]
    Shards(nodes::ListArgs),
    /// Have a machine give what it owns to the others, before it is taken away
    #[command(after_help = examples!(
        "pointsman drain --admin http://10.0.0.7:8081",
        "pointsman drain --undo --admin http://10.0.0.7:8081"
    ))]
    Drain(nodes::DrainArgs),
    /// The rules that several machines work with: which version is in force, and proposing another
    #[command(after_help = examples!(
        "pointsman rules",
        "pointsman rules put rules/ --admin http://10.0.0.7:8081",
        "pointsman rules get in-force/"
    ))]
    Rules(rules::RulesArgs),
    /// The stores on this machine: what they are, and how a cluster's copies become their own
    #[command(after_help = examples!(
        "pointsman store show ./pointsman-data",
        "pointsman store detach ./pointsman-data",
        "pointsman store export ./pointsman-data --output bus.jsonl",
        "pointsman store import bus.jsonl ./pointsman-32 --shards 32"
    ))]
    Store(store::StoreArgs),
    /// Draw what leads where by the rule files, without a bus
    #[command(after_help = examples!(
        "pointsman graph > topology.mmd",
        "pointsman graph --format svg rules/ > topology.svg"
    ))]
    Graph(graph::GraphArgs),
    /// When the timers fire next
    #[command(after_help = examples!("pointsman timers", "pointsman timers -n 20 rules.yaml"))]
    Timers(timers::TimersArgs),
    /// Schemas of the data of events, derived from those that a bus has kept
    #[command(after_help = examples!(
        "pointsman schemas infer",
        "pointsman schemas infer --type order.paid --since 7d --samples 10000 > schemas.yaml"
    ))]
    Schemas(schemas::SchemasArgs),
    /// Print the JSON Schema of the rule file, for editors
    #[command(after_help = examples!(
        "pointsman schema > .pointsman.schema.json",
        "pointsman schema --for rules/ > .pointsman.schema.json"
    ))]
    Schema(schema::SchemaArgs),
    /// Print completions for a shell
    #[command(after_help = examples!(
        "pointsman completions bash > /etc/bash_completion.d/pointsman",
        "pointsman completions zsh > ~/.zfunc/_pointsman"
    ))]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of all or of one command
    #[command(after_help = examples!(
        "pointsman man | man -l -",
        "pointsman man send > pointsman-send.1"
    ))]
    Man {
        /// Which command
        command: Option<String>,
    },
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    if let Err(error) = telemetry::start(&line.log) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let wraps = std::io::stderr().is_terminal();
    // Set once, so it is never taken already; what is no terminal is never wrapped.
    let _ = miette::set_hook(Box::new(move |_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(wraps).build())
    }));
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = match line.command {
        Command::Run(args) => Ok(runtime.block_on(run::run(&args))),
        Command::Check(args) => runtime.block_on(check::run(&args)),
        Command::Test(args) => runtime.block_on(test::run(&args)),
        Command::Diff(args) => Ok(runtime.block_on(diff::run(&args))),
        Command::Import(args) => import::run(&args),
        Command::Match(args) => match_event::run(&args),
        Command::Subscriptions(args) => runtime.block_on(subscriptions::run(args)),
        Command::Top(args) => runtime.block_on(top::run(args)),
        Command::Tap(args) => runtime.block_on(tap::run(args)),
        Command::Tasks(args) => runtime.block_on(tasks::run(args)),
        Command::Replay(args) => runtime.block_on(replay::run(args)),
        Command::Nodes(args) => runtime.block_on(nodes::nodes(&args)),
        Command::Shards(args) => runtime.block_on(nodes::shards(&args)),
        Command::Drain(args) => runtime.block_on(nodes::drain(&args)),
        Command::Rules(args) => runtime.block_on(rules::run(args)),
        Command::Store(args) => store::run(args),
        Command::Graph(args) => graph::run(&args),
        Command::Timers(args) => timers::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Schemas(args) => Ok(runtime.block_on(schemas::run(&args))),
        Command::Completions { shell } => manual::completions(CommandLine::command(), shell),
        Command::Man { command } => manual::page(CommandLine::command(), command.as_deref()),
        Command::Send(args) => runtime.block_on(send::run(args)),
        Command::Listen(args) => runtime.block_on(listen::run(args)),
        Command::Explain(args) => runtime.block_on(explain::run(args)),
        Command::Dead(args) => runtime.block_on(dead::run(args)),
    };
    // Threads of client libraries that are still at work panic as the runtime ends under them,
    // which is nobody's concern any more.
    std::panic::set_hook(Box::new(|panic| tracing::debug!(%panic, "ending")));
    // What blocks still, such as a read from a file system that does not answer, is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.unwrap_or_else(|report| {
        eprintln!("{report:?}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line of a shell, up to where it goes on to something else.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for character in line.chars() {
            match (quote, character) {
                (None, '|' | '>' | '<' | '&') => break,
                (None, '\'' | '"') => {
                    (quote, word) = (Some(character), Some(word.unwrap_or_default()))
                }
                (Some(mark), _) if mark == character => quote = None,
                (None, ' ') => words.extend(word.take()),
                _ => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn every_command_has_examples_that_are_understood() {
        for command in CommandLine::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .skip(1)
                .filter(|line| !line.is_empty())
                .collect();
            assert!(
                !examples.is_empty(),
                "{} has no example",
                command.get_name()
            );
            for example in examples {
                let line = example
                    .find("pointsman ")
                    .map(|at| words(&example[at..]))
                    .unwrap_or_default();
                assert_eq!(
                    line.get(1).map(String::as_str),
                    Some(command.get_name()),
                    "{example}"
                );
                if let Err(error) = CommandLine::try_parse_from(line) {
                    panic!("{example}: {error}");
                }
            }
        }
    }
}
