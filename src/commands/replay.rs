//! `pointsman replay`: retained events given to a subscription anew.

use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_journal::{ReplayId, ReplayKind};
use pointsman_schemas::Rate;
use serde::Deserialize;
use serde_json::Value;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use super::filters::read_filters;
use crate::admin::view::{Destination, OwnerFilter, Page, ReplayRequest, ReplayView};
use crate::output::{self, OutputArgs};
use crate::replay::EventSelection;

/// Replay retained events to one subscription
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReplayArgs {
    /// What to do with replays that have begun
    #[command(subcommand)]
    pub command: Option<ReplayCommand>,
    /// What to replay
    #[command(flatten)]
    pub begin: BeginArgs,
}

/// What can be done with replays.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ReplayCommand {
    /// List those that are running, and the last that have ended
    List(ListArgs),
    /// Show one, with how far it has come
    Show(OneArgs),
    /// Stop one; what it has made stays
    Stop(OneArgs),
}

/// What `replay` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct BeginArgs {
    /// To this rule's subscription
    #[command(flatten)]
    pub owner: OwnerFilter,
    /// To this subscription, as `subscriptions list` numbers it
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["rule", "target", "tenant"])]
    pub subscription: Option<u32>,
    /// Events appended at this time or later, RFC 3339; from the first that is retained where left
    /// out
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<String>,
    /// Events appended at this time or before; to the last there is now where left out
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<String>,
    /// Only events for which this holds: a file with `match`, `where` and `filters` as a rule has
    /// them, or with an event pattern alone
    #[arg(long, value_name = "FILE")]
    pub pattern: Option<PathBuf>,
    /// Also events that the rule does not take
    #[arg(long)]
    pub all: bool,
    /// How fast, such as 100/s; as fast as the subscription takes them where left out
    #[arg(long, value_parser = rate)]
    pub rate: Option<String>,
    /// Only say how many events are meant
    #[arg(long)]
    pub dry_run: bool,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `replay list` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `replay show` and `stop` take.
#[derive(Clone, Debug, clap::Args)]
pub struct OneArgs {
    /// Which
    pub id: ReplayId,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

fn time(text: &str) -> Result<String, String> {
    text.parse::<jiff::Timestamp>()
        .map(|_| text.to_owned())
        .map_err(|_| format!("{text:?} is no time; write it as 2026-01-31T09:30:00Z"))
}

/// A rate, as it is written.
pub(super) fn rate(text: &str) -> Result<String, String> {
    text.parse::<Rate>().map(|_| text.to_owned())
}

/// Does what the arguments say and prints what came of it.
///
/// # Errors
/// There is no bus there, or it refuses.
pub async fn run(args: ReplayArgs) -> Result<ExitCode, miette::Report> {
    output::print(&execute(args).await?).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

/// Does it and returns what to print.
async fn execute(args: ReplayArgs) -> Result<String, CommandError> {
    match args.command {
        None => begin(&args.begin).await,
        Some(ReplayCommand::List(args)) => list(&args).await,
        Some(ReplayCommand::Show(args)) => {
            let client = Client::of_admin(&args.admin)?;
            let replay: ReplayView = client.get(&format!("/replays/{}", args.id)).await?;
            shown(&replay, args.output)
        }
        Some(ReplayCommand::Stop(args)) => {
            let client = Client::of_admin(&args.admin)?;
            let path = format!("/replays/{}/stop", args.id);
            let replay: ReplayView = client.post(&path, &serde_json::json!({})).await?;
            shown(&replay, args.output)
        }
    }
}

#[derive(Deserialize)]
struct Counted {
    events: u64,
    taken: u64,
}

async fn begin(args: &BeginArgs) -> Result<String, CommandError> {
    if args.owner.rule.is_none() && args.subscription.is_none() {
        return Err(CommandError::new("nothing says to whom")
            .help("give --rule, and --target where it has several, or --subscription"));
    }
    let pattern = args.pattern.as_deref().map(read_filters).transpose()?;
    let request = ReplayRequest {
        to: Destination {
            tenant: args.owner.tenant.clone(),
            rule: args.owner.rule.clone(),
            target: args.owner.target.clone(),
            subscription: args.subscription,
        },
        events: EventSelection {
            from: args.from.clone(),
            to: args.to.clone(),
            pattern,
            all: args.all,
            rate: args.rate.clone(),
        },
        dry_run: args.dry_run,
    };
    let answer: Value = Client::of_admin(&args.admin)?
        .post("/replays", &request)
        .await?;
    if !args.dry_run {
        let replay = ReplayView::deserialize(answer).map_err(unprintable)?;
        return shown(&replay, args.output);
    }
    if args.output.json {
        return output::json(&answer).map_err(unprintable);
    }
    let Counted { events, taken } = Counted::deserialize(answer).map_err(unprintable)?;
    Ok(format!(
        "{taken} of {events} events would be replayed; those that are pending or dead there are \
         passed over\n"
    ))
}

async fn list(args: &ListArgs) -> Result<String, CommandError> {
    let page: Page<ReplayView> = Client::of_admin(&args.admin)?.list("/replays").await?;
    if args.output.json {
        return output::json(&page.items).map_err(unprintable);
    }
    let row = |replay: &ReplayView| {
        [
            replay.id.clone(),
            kind(replay.kind).to_owned(),
            replay.state.as_str().to_owned(),
            destination(replay),
            share(replay),
            replay.made.to_string(),
            replay.began.clone(),
        ]
    };
    let headings = ["ID", "OF", "STATE", "TO", "DONE", "MADE", "BEGAN"];
    Ok(output::table(headings, page.items.iter().map(row)))
}

fn kind(kind: ReplayKind) -> &'static str {
    match kind {
        ReplayKind::Events => "events",
        ReplayKind::Start => "start",
        ReplayKind::Dead => "dead letters",
    }
}

fn destination(replay: &ReplayView) -> String {
    match (&replay.identity, replay.subscription) {
        (Some(identity), _) => format!("{}/{}", identity.rule, identity.target),
        (None, Some(number)) => format!("subscription {}", number.0),
        (None, None) => "their own".to_owned(),
    }
}

fn share(replay: &ReplayView) -> String {
    replay
        .progress
        .map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

fn shown(replay: &ReplayView, output: OutputArgs) -> Result<String, CommandError> {
    if output.json {
        return output::json(replay).map_err(unprintable);
    }
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("replay", replay.id.clone()),
        ("of", kind(replay.kind).to_owned()),
        ("to", destination(replay)),
        ("state", replay.state.as_str().to_owned()),
        ("why", or_dash(&replay.message)),
        ("began", replay.began.clone()),
        ("ended", or_dash(&replay.ended)),
        ("rate", or_dash(&replay.events.rate)),
        ("done", share(replay)),
        ("seen", replay.seen.to_string()),
        ("made", replay.made.to_string()),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<8}{value}\n"));
    Ok(lines.concat())
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the replays: {error}"))
}

#[cfg(test)]
mod tests;
