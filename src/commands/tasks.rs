//! `pointsman tasks`: deliveries that have not ended, looked at and ended.

use std::process::ExitCode;

use pointsman_schemas::DeliveryId;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::{IDS_MAX, Page, TaskSelection, TaskState, TaskView};
use crate::output::{self, OutputArgs};

/// As many as the bus lists at once.
const PAGE: usize = 1_000;

/// Tasks: deliveries that have not ended
#[derive(Clone, Debug, clap::Args)]
pub struct TasksArgs {
    /// What to do
    #[command(subcommand)]
    pub command: TasksCommand,
}

/// What can be done with tasks.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TasksCommand {
    /// List them, subscription by subscription, in the order of their events
    List(ListArgs),
    /// Show one
    Show(ShowArgs),
    /// End them without an attempt; those of which one is under way are left alone
    Cancel(CancelArgs),
}

/// What `tasks list` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Which
    #[command(flatten)]
    pub selection: TaskSelection,
    /// Go on behind this one
    #[arg(long, value_name = "ID")]
    pub after: Option<DeliveryId>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `tasks show` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// Which
    pub id: DeliveryId,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `tasks cancel` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct CancelArgs {
    /// These
    #[arg(conflicts_with_all = ["tenant", "rule", "target", "subscription", "state", "all"])]
    pub ids: Vec<DeliveryId>,
    /// Which
    #[command(flatten)]
    pub selection: TaskSelection,
    /// Every one
    #[arg(long)]
    pub all: bool,
    /// Only say how many are meant
    #[arg(long)]
    pub dry_run: bool,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Does what the arguments say and prints what came of it.
///
/// # Errors
/// There is no bus there, or it refuses.
pub async fn run(args: TasksArgs) -> Result<ExitCode, miette::Report> {
    output::print(&execute(args).await?).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

/// Does it and returns what to print.
async fn execute(args: TasksArgs) -> Result<String, CommandError> {
    match args.command {
        TasksCommand::List(args) => list(&args).await,
        TasksCommand::Show(args) => show(&args).await,
        TasksCommand::Cancel(args) => cancel(&args).await,
    }
}

async fn list(args: &ListArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut after = args.after.map(|after| after.to_string());
    let mut tasks: Vec<TaskView> = Vec::new();
    loop {
        let room = (limit - tasks.len()).min(PAGE);
        let page = page(&client, &args.selection, after.as_deref(), room).await?;
        tasks.extend(page.items);
        after = page.next;
        if after.is_none() || tasks.len() >= limit {
            break;
        }
    }
    if let Some(after) = after {
        eprintln!("there are more: --after {after}");
    }
    if args.output.json {
        return output::json(&tasks).map_err(unprintable);
    }
    let row = |task: &TaskView| {
        [
            task.id.clone(),
            task.state.as_str().to_owned(),
            task.identity.rule.to_string(),
            task.identity.target.to_string(),
            task.sequence.0.to_string(),
            task.attempts.to_string(),
            task.due.clone(),
            task.message.clone().unwrap_or_default(),
        ]
    };
    let headings = [
        "ID", "STATE", "RULE", "TARGET", "EVENT", "ATTEMPTS", "DUE", "LAST",
    ];
    Ok(output::table(headings, tasks.iter().map(row)))
}

async fn page(
    client: &Client,
    selection: &TaskSelection,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<TaskView>, CommandError> {
    let subscription = selection.subscription.map(|number| number.to_string());
    let rest = [
        ("after", after),
        ("subscription", subscription.as_deref()),
        ("state", selection.state.map(TaskState::as_str)),
    ];
    let rest = rest
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("limit", &limit.to_string())
        .extend_pairs(selection.owner.pairs().chain(rest))
        .finish();
    client.get(&format!("/tasks?{query}")).await
}

async fn show(args: &ShowArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let task: TaskView = client.get(&format!("/tasks/{}", args.id)).await?;
    if args.output.json {
        return output::json(&task).map_err(unprintable);
    }
    let lines = [
        ("task", task.id),
        ("state", task.state.as_str().to_owned()),
        ("rule", task.identity.rule.to_string()),
        ("target", task.identity.target.to_string()),
        ("event", task.sequence.0.to_string()),
        ("since", task.since),
        ("due", task.due),
        ("attempts", task.attempts.to_string()),
        ("last", task.message.unwrap_or_else(|| "-".to_owned())),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<10}{value}\n"));
    Ok(lines.concat())
}

#[derive(Deserialize)]
struct Cancelled {
    cancelled: u64,
}

async fn cancel(args: &CancelArgs) -> Result<String, CommandError> {
    let TaskSelection {
        owner,
        subscription,
        state,
    } = &args.selection;
    let is_open = owner.is_open() && subscription.is_none() && state.is_none();
    if args.ids.is_empty() && is_open && !args.all {
        return Err(CommandError::new("nothing says which tasks are meant")
            .help("give ids, --rule, --target, --subscription, --state, --tenant, or --all"));
    }
    let client = Client::of_admin(&args.admin)?;
    let ids = if args.ids.is_empty() {
        selected(&client, &args.selection).await?
    } else {
        args.ids.iter().map(ToString::to_string).collect()
    };
    if args.dry_run {
        return told(args, "selected", "would be cancelled", ids.len() as u64);
    }
    let mut count = 0;
    for ids in ids.chunks(IDS_MAX) {
        let Cancelled { cancelled } = client.post("/tasks/cancel", &json!({ "ids": ids })).await?;
        count += cancelled;
    }
    told(args, "cancelled", "cancelled", count)
}

/// Those of which no attempt is under way.
async fn selected(client: &Client, selection: &TaskSelection) -> Result<Vec<String>, CommandError> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = page(client, selection, after.as_deref(), PAGE).await?;
        let waiting = page
            .items
            .into_iter()
            .filter(|task| task.state != TaskState::Running);
        ids.extend(waiting.map(|task| task.id));
        after = page.next;
        if after.is_none() {
            return Ok(ids);
        }
    }
}

fn told(args: &CancelArgs, key: &str, words: &str, count: u64) -> Result<String, CommandError> {
    if args.output.json {
        return output::json(&Value::from_iter([(key, count)])).map_err(unprintable);
    }
    let plural = if count == 1 { "" } else { "s" };
    Ok(format!("{count} task{plural} {words}\n"))
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the tasks: {error}"))
}

#[cfg(test)]
mod tests;
