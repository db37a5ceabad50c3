//! `pointsman dead`: the dead letters, looked at and dealt with.

mod edit;
mod file;
mod print;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_schemas::{DeliveryId, Name};
use serde::{Deserialize, Serialize, de::IntoDeserializer};
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use super::store;
use crate::admin::view::{
    self, DeadRequest, DeadView, Destination, OwnerFilter, Page, RedriveRequest, ReplayView,
};
use crate::output::{self, OutputArgs};
use pointsman_journal::{DeadReason, DeadSelection, JournalError};
use print::{as_sheet, as_table};

/// Dead letters: deliveries that ended without success, and what sources could not read
#[derive(Clone, Debug, clap::Args)]
pub struct DeadArgs {
    /// What to do
    #[command(subcommand)]
    pub command: DeadCommand,
}

/// What can be done with dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DeadCommand {
    /// List them, oldest first
    List(ListArgs),
    /// Show one with its event and what the target answered last
    Show(ShowArgs),
    /// Change the event that a redrive of one sends
    Edit(edit::EditArgs),
    /// Deliver them once more, as if they had just matched
    Redrive(RedriveArgs),
    /// Delete them
    Purge(PurgeArgs),
    /// Write them to a file, a line of JSON each
    Export(file::ExportArgs),
    /// Keep those of a file, for the rules and targets of the same names
    Import(file::ImportArgs),
}

/// Where dead letters are read.
#[derive(Clone, Debug, clap::Args)]
pub struct FromArgs {
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Read the store at this path instead of asking a bus, which may be running or not
    #[arg(long, value_name = "PATH")]
    pub store: Option<PathBuf>,
}

/// Which dead letters are meant: all conditions must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// Whose
    #[command(flatten)]
    pub owner: OwnerFilter,
    /// With this reason: rejected, exhausted, expired, transform, hops, backlog or unreadable
    #[arg(long, value_parser = reason)]
    pub reason: Option<DeadReason>,
}

/// What `dead list` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Which
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Go on behind this one
    #[arg(long, value_name = "ID")]
    pub after: Option<DeliveryId>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Where from
    #[command(flatten)]
    pub from: FromArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `dead show` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// Which
    pub id: DeliveryId,
    /// Where from
    #[command(flatten)]
    pub from: FromArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `dead redrive` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RedriveArgs {
    /// Which, and where
    #[command(flatten)]
    pub change: ChangeArgs,
    /// To this rule's subscription, or to that of this number, in the place of their own
    #[arg(long, value_name = "RULE[/TARGET] | NUMBER", value_parser = redrive_to)]
    pub to: Option<Destination>,
    /// How fast, such as 10/s: the bus goes on with it by itself, and `replay list` shows it. All
    /// at once where left out
    #[arg(long, value_parser = super::replay::rate)]
    pub rate: Option<String>,
}

/// Which dead letters something is done to.
#[derive(Clone, Debug, clap::Args)]
pub struct ChangeArgs {
    /// These
    pub ids: Vec<DeliveryId>,
    /// Which
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Every one
    #[arg(long)]
    pub all: bool,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `dead purge` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct PurgeArgs {
    /// Which, and where
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

fn redrive_to(text: &str) -> Result<Destination, String> {
    if let Ok(number) = text.parse() {
        return Ok(Destination {
            subscription: Some(number),
            ..Destination::default()
        });
    }
    let name = |text: &str| Name::new(text).map(Some).map_err(|error| error.to_string());
    let (rule, target) = match text.split_once('/') {
        Some((rule, target)) => (name(rule)?, name(target)?),
        None => (name(text)?, None),
    };
    Ok(Destination {
        rule,
        target,
        ..Destination::default()
    })
}

fn reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::deserialize(text.into_deserializer())
        .map_err(|error: serde::de::value::Error| error.to_string())
}

/// Does what the arguments say and prints what came of it.
///
/// # Errors
/// There is no bus or no store there, or it refuses.
pub async fn run(args: DeadArgs) -> Result<ExitCode, miette::Report> {
    output::print(&execute(args).await?).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

/// Does it and tells what to print.
async fn execute(args: DeadArgs) -> Result<String, CommandError> {
    match args.command {
        DeadCommand::List(args) => list(&args).await,
        DeadCommand::Show(args) => show(&args).await,
        DeadCommand::Edit(args) => edit::edit(&args).await,
        DeadCommand::Redrive(args) => redrive(&args).await,
        DeadCommand::Purge(args) => {
            if !args.yes {
                confirm(&args.change)?;
            }
            purge(&args.change).await
        }
        DeadCommand::Export(args) => file::export(&args).await,
        DeadCommand::Import(args) => file::import(&args).await,
    }
}

async fn list(args: &ListArgs) -> Result<String, CommandError> {
    let page = page(args).await?;
    if let Some(next) = &page.next {
        eprintln!("there are more: --after {next}");
    }
    if args.output.json {
        output::json(&page.items).map_err(unprintable)
    } else {
        Ok(as_table(&page.items))
    }
}

async fn page(args: &ListArgs) -> Result<Page<DeadView>, CommandError> {
    match &args.from.store {
        Some(path) => {
            let filter = args.filter.clone();
            let selection = DeadSelection {
                ids: None,
                tenant: filter.owner.tenant,
                rule: filter.owner.rule,
                target: filter.owner.target,
                reason: filter.reason,
            };
            view::dead_page(
                &*store::open(path)?,
                &selection,
                args.after,
                usize::from(args.limit),
            )
            .await
            .map_err(unreadable)
        }
        None => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &args.limit.to_string());
            let after = args.after.map(|after| after.to_string());
            let filter = &args.filter;
            let rest = [
                ("reason", filter.reason.map(DeadReason::as_str)),
                ("after", after.as_deref()),
            ];
            query.extend_pairs(
                filter.owner.pairs().chain(
                    rest.into_iter()
                        .filter_map(|(key, value)| Some((key, value?))),
                ),
            );
            Client::of_admin(&args.from.admin)?
                .list(&format!("/dead?{}", query.finish()))
                .await
        }
    }
}

/// A letter with its content, as JSON; none where there is no such letter.
async fn find(from: &FromArgs, id: DeliveryId) -> Result<Option<Box<RawValue>>, CommandError> {
    match &from.store {
        Some(path) => {
            let whole = view::dead_letter(&*store::open(path)?, id).await;
            let whole = whole.map_err(unreadable)?;
            let text = |whole| serde_json::value::to_raw_value(&whole).map_err(unprintable);
            whole.map(text).transpose()
        }
        None => {
            Client::of_admin(&from.admin)?
                .find(&format!("/dead/{id}"))
                .await
        }
    }
}

async fn whole(from: &FromArgs, id: DeliveryId) -> Result<Box<RawValue>, CommandError> {
    if from.store.is_none() {
        let client = Client::of_admin(&from.admin)?;
        return client.get(&format!("/dead/{id}")).await;
    }
    let found = find(from, id).await?;
    found.ok_or_else(|| CommandError::new(format!("there is no dead letter {id}")))
}

async fn show(args: &ShowArgs) -> Result<String, CommandError> {
    let whole = whole(&args.from, args.id).await?;
    if args.output.json {
        return Ok(format!("{whole}\n"));
    }
    // Read twice, since what is flattened cannot keep the event's text as it came.
    let letter = serde_json::from_str(whole.get()).map_err(unprintable)?;
    let content = serde_json::from_str(whole.get()).map_err(unprintable)?;
    Ok(as_sheet(&letter, &content))
}

#[derive(Serialize, Deserialize)]
struct Redriven {
    redriven: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay: Option<ReplayView>,
}

async fn redrive(args: &RedriveArgs) -> Result<String, CommandError> {
    let RedriveArgs { change, to, rate } = args;
    let tenant = change.filter.owner.tenant.clone();
    let request = RedriveRequest {
        selection: selected(change)?,
        to: to.clone().map(|to| Destination {
            tenant: tenant.filter(|_| to.subscription.is_none()),
            ..to
        }),
        rate: rate.clone(),
    };
    let client = Client::of_admin(&change.admin)?;
    let redriven: Redriven = client.post("/dead/redrive", &request).await?;
    if change.output.json {
        let mut text = serde_json::to_string(&redriven).map_err(unprintable)?;
        text.push('\n');
        return Ok(text);
    }
    if let Some(ReplayView { id, .. }) = redriven.replay {
        return Ok(format!(
            "replay {id} redrives them; see pointsman replay show {id}\n"
        ));
    }
    let why = match redriven.redriven {
        0 => {
            ": there is none that is selected and can be (what was `unreadable` holds no event; \
             send it again)"
        }
        _ => "",
    };
    Ok(counted(redriven.redriven, &format!("redriven{why}")))
}

#[derive(Serialize, Deserialize)]
struct Purged {
    purged: u64,
}

async fn purge(args: &ChangeArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let Purged { purged } = client.post("/dead/purge", &selected(args)?).await?;
    if args.output.json {
        return Ok(format!("{{\"purged\":{purged}}}\n"));
    }
    Ok(counted(purged, "purged"))
}

fn counted(count: u64, words: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} dead letter{plural} {words}\n")
}

/// What is selected. Nothing is refused here in the words of the command line; the API would refuse
/// it too.
fn selected(args: &ChangeArgs) -> Result<DeadRequest, CommandError> {
    let request = request(&args.ids, &args.filter, args.all);
    request.selection().map_err(|error| {
        CommandError::new(error).help("give ids, --rule, --target, --reason, --tenant, or --all")
    })?;
    Ok(request)
}

fn confirm(args: &ChangeArgs) -> Result<(), CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::new(
            "purging deletes for good, and nobody is there to confirm it",
        )
        .help("say --yes"));
    }
    let what =
        serde_json::to_string(&request(&args.ids, &args.filter, args.all)).map_err(unprintable)?;
    eprint!("delete the dead letters of {what} for good? [y/N] ");
    std::io::stderr().flush().map_err(unprintable)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(unprintable)?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CommandError::new("nothing was purged"))
    }
}

fn request(ids: &[DeliveryId], filter: &FilterArgs, all: bool) -> DeadRequest {
    DeadRequest {
        ids: (!ids.is_empty()).then(|| ids.iter().map(ToString::to_string).collect()),
        tenant: filter.owner.tenant.clone(),
        rule: filter.owner.rule.clone(),
        target: filter.owner.target.clone(),
        reason: filter.reason,
        all,
    }
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the dead letters: {error}"))
}

fn unreadable(error: JournalError) -> CommandError {
    CommandError::new(format!("cannot read the store: {error}"))
}

#[cfg(test)]
mod tests;
