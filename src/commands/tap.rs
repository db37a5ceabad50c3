//! `pointsman tap`: what passes through a bus, live.

mod line;
mod stream;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::tz::TimeZone;
use pointsman_schemas::Name;
use tokio::sync::mpsc;
use url::form_urlencoded::Serializer;

use self::line::{Layout, as_json, as_text};
use self::stream::{Told, follow};
use super::client::{AdminArgs, Client};
use super::error::CommandError;
use super::filters::read_filters;
use crate::admin::view::{Page, TapItem};
use crate::nodes::{NodeState, NodeView};
use crate::output::{self, OutputArgs};

/// How many lines in a second a terminal is given, unless asked otherwise: more than anybody reads.
const RATE_OF_TERMINAL: u32 = 50;

/// How many anything else is.
const RATE_OF_PIPE: u32 = 1_000;

/// What `tap` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct TapArgs {
    /// Events alone, as they are stored
    #[arg(long, conflicts_with = "attempts")]
    pub events: bool,
    /// Attempts alone, as they end
    #[arg(long)]
    pub attempts: bool,
    /// Attempts that were not delivered, alone
    #[arg(long, conflicts_with = "events")]
    pub failed: bool,
    /// What comes from this source alone
    #[arg(long)]
    pub source: Option<Name>,
    /// Attempts for this rule alone
    #[arg(long, conflicts_with = "events")]
    pub rule: Option<Name>,
    /// Attempts at this target alone
    #[arg(long, conflicts_with = "events")]
    pub target: Option<Name>,
    /// Of this tenant alone
    #[arg(long)]
    pub tenant: Option<Name>,
    /// Of this type alone; a * at its end stands for anything
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Only events for which this holds: a file with `match`, `where` and `filters` as a rule has
    /// them, or with an event pattern alone
    #[arg(long, value_name = "FILE")]
    pub pattern: Option<PathBuf>,
    /// Show the data of events as well
    #[arg(long)]
    pub data: bool,
    /// Lines in a second at most, 50 on a terminal and else 1000 where left out; what passes beyond
    /// that is counted
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: Option<u32>,
    /// End after so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub limit: Option<u64>,
    /// Where the bus is; of several machines any
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How: JSON, one line each, is also what a pipe gets
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Shows what passes until it is interrupted, has shown enough, or the bus stops.
///
/// # Errors
/// There is no bus there, it refuses, or it has gone away.
pub async fn run(args: TapArgs) -> Result<ExitCode, miette::Report> {
    let is_terminal = std::io::stdout().is_terminal();
    let layout = match args.output.json || !is_terminal {
        true => Layout::Json,
        false => Layout::Text {
            colours: output::colours(),
            zone: TimeZone::system(),
        },
    };
    let mut taps = open(&args, is_terminal).await?;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut shown = 0;
    while args.limit.is_none_or(|limit| shown < limit) {
        let told = tokio::select! {
            _ = &mut interrupted => return Ok(ExitCode::SUCCESS),
            told = taps.told.recv() => told,
        };
        let Some(told) = told else { break };
        let (node, item) = (told.node, told.item?);
        shown += u64::from(!matches!(item, TapItem::LeftOut(_)));
        let text = match &layout {
            Layout::Json => as_json(node.as_ref(), &item)?,
            Layout::Text { colours, zone } => as_text(node.as_ref(), &item, *colours, zone),
        };
        // Whoever read it has gone away (`… | head`).
        if !output::print_on(&text).map_err(unprintable)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if args.limit.is_some_and(|limit| shown >= limit) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CommandError::new("the bus tells no more")
        .help("it has stopped, or cannot be reached any more")
        .into())
}

/// What all nodes tell.
struct Taps {
    told: mpsc::Receiver<Told>,
}

/// Listens to a bus, and to every node of it where it runs on several machines.
async fn open(args: &TapArgs, is_terminal: bool) -> Result<Taps, CommandError> {
    let path = path(args, is_terminal)?;
    let client = Client::of_admin(&args.admin)?;
    let nodes: Page<NodeView> = client.list("/nodes").await?;
    let own = nodes.items.iter().find(|node| node.answers);
    let (teller, told) = mpsc::channel(64);
    let name = own.map(|node| node.name.clone());
    follow(&client, &path, name, teller.clone()).await?;
    let others = nodes
        .items
        .iter()
        .filter(|node| !node.answers && node.state != NodeState::Silent);
    for node in others {
        let name = Some(node.name.clone());
        let reached = match client.of_node(&node.address) {
            Ok(client) => follow(&client, &path, name, teller.clone()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = reached {
            eprintln!("what passes through {} is missing here: {error}", node.name);
        }
    }
    Ok(Taps { told })
}

/// What is asked of the API.
fn path(args: &TapArgs, is_terminal: bool) -> Result<String, CommandError> {
    let usual = match is_terminal && !args.output.json {
        true => RATE_OF_TERMINAL,
        false => RATE_OF_PIPE,
    };
    let mut query = Serializer::new(String::new());
    query.append_pair("rate", &args.rate.unwrap_or(usual).to_string());
    let only = match (args.events, args.attempts) {
        (true, _) => Some("events"),
        (_, true) => Some("attempts"),
        _ => None,
    };
    let names = [
        ("source", &args.source),
        ("rule", &args.rule),
        ("target", &args.target),
        ("tenant", &args.tenant),
    ];
    let names = names
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?.as_str())));
    let texts = [("only", only), ("type", args.event_type.as_deref())];
    let texts = texts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    query.extend_pairs(names.chain(texts));
    let flags = [("failed", args.failed), ("data", args.data)];
    for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        query.append_pair(name, "true");
    }
    if let Some(pattern) = &args.pattern {
        let filters = serde_json::to_string(&read_filters(pattern)?).map_err(unprintable)?;
        query.append_pair("pattern", &filters);
    }
    Ok(format!("/tap?{}", query.finish()))
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print what passes: {error}"))
}
