//! `pointsman tasks`: deliveries, looked at and steered.

mod timeline;

use std::process::ExitCode;

use pointsman_schemas::{DeliveryId, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use self::timeline::timeline;
use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::{IDS_MAX, Page, TaskSelection, TaskView, TaskWhole, TasksRequest};
use crate::output::{self, OutputArgs};

/// As many as the bus lists at once.
const PAGE: usize = 1_000;

/// Tasks: deliveries, from when they come until they have ended, and what is kept of them then
#[derive(Clone, Debug, clap::Args)]
pub struct TasksArgs {
    /// What to do
    #[command(subcommand)]
    pub command: TasksCommand,
}

/// What can be done with tasks.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TasksCommand {
    /// List those that have not ended, subscription by subscription, in the order of their events;
    /// with the states of those that have (succeeded, failed, expired, stopped, purged): the latest
    /// first
    List(ListArgs),
    /// Show one, with everything that happened to it
    Show(ShowArgs),
    /// End them; the attempts of those that are running are broken off
    Cancel(SteerArgs),
    /// Make dead letters of those that wait, so that what waits behind them in order goes on
    Skip(SteerArgs),
    /// Hold them back until they are resumed; those of which an attempt is under way are left alone
    Suspend(SteerArgs),
    /// Let those go on that were held back
    Resume(SteerArgs),
    /// Try those now that wait for their time
    Retry(SteerArgs),
}

/// What `tasks list` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Which
    #[command(flatten)]
    pub selection: TaskSelection,
    /// Go on behind this one
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
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

/// What `tasks cancel` takes, and the others that change something.
#[derive(Clone, Debug, clap::Args)]
pub struct SteerArgs {
    /// These
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

/// What is done to tasks: its name in the API, and the word for what was done.
#[derive(Clone, Copy, Debug)]
struct Lever {
    name: &'static str,
    done: &'static str,
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
    let lever = |name, done| Lever { name, done };
    match args.command {
        TasksCommand::List(args) => list(&args).await,
        TasksCommand::Show(args) => show(&args).await,
        TasksCommand::Cancel(args) => steer(&args, lever("cancel", "cancelled")).await,
        TasksCommand::Skip(args) => steer(&args, lever("skip", "skipped")).await,
        TasksCommand::Suspend(args) => steer(&args, lever("suspend", "suspended")).await,
        TasksCommand::Resume(args) => steer(&args, lever("resume", "resumed")).await,
        TasksCommand::Retry(args) => steer(&args, lever("retry", "retried")).await,
    }
}

async fn list(args: &ListArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut after = args.after.clone();
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
        let time = task.due.clone().or_else(|| task.ended.clone());
        [
            task.id.clone(),
            task.state.as_str().to_owned(),
            task.identity.rule.to_string(),
            task.identity.target.to_string(),
            task.sequence.0.to_string(),
            task.attempts.to_string(),
            time.unwrap_or_default(),
            task.message.clone().unwrap_or_default(),
        ]
    };
    // Of those that have ended it tells when they did.
    let has_ended = tasks.first().is_some_and(|task| task.state.is_terminal());
    let time = if has_ended { "ENDED" } else { "DUE" };
    let headings = [
        "ID", "STATE", "RULE", "TARGET", "EVENT", "ATTEMPTS", time, "LAST",
    ];
    Ok(output::table(headings, tasks.iter().map(row)))
}

async fn page(
    client: &Client,
    selection: &TaskSelection,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<TaskView>, CommandError> {
    let after = after.map(|after| ("after".to_owned(), after.to_owned()));
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("limit", &limit.to_string())
        .extend_pairs(selection.pairs().into_iter().chain(after))
        .finish();
    client.get(&format!("/tasks?{query}")).await
}

async fn show(args: &ShowArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let task: TaskWhole = client.get(&format!("/tasks/{}", args.id)).await?;
    if args.output.json {
        return output::json(&task).map_err(unprintable);
    }
    Ok(timeline(&task, Timestamp::now()))
}

/// What a lever answers.
#[derive(Default, Deserialize)]
struct Steered {
    selected: u64,
    #[serde(
        default,
        alias = "cancelled",
        alias = "suspended",
        alias = "resumed",
        alias = "retried",
        alias = "skipped"
    )]
    done: u64,
    #[serde(default)]
    stopping: u64,
    next: Option<String>,
}

async fn steer(args: &SteerArgs, lever: Lever) -> Result<String, CommandError> {
    let (has_ids, is_open) = (!args.ids.is_empty(), args.selection.is_open());
    match (has_ids, !is_open, args.all) {
        (false, false, false) => {
            let help = "give ids, --rule, --target, --subscription, --state, --type or another \
                        condition, or --all";
            return Err(CommandError::new("nothing says which tasks are meant").help(help));
        }
        (true, false, false) | (false, true, false) | (false, false, true) => {}
        _ => {
            return Err(
                CommandError::new("ids, conditions and --all exclude each other")
                    .help("leave out all but one kind"),
            );
        }
    }
    let client = Client::of_admin(&args.admin)?;
    let request = TasksRequest {
        ids: None,
        selection: args.selection.clone(),
        all: args.all,
        dry_run: args.dry_run,
        after: None,
    };
    let requests: Vec<TasksRequest> = if has_ids {
        let of = |ids: &[DeliveryId]| TasksRequest {
            ids: Some(ids.to_vec()),
            ..request.clone()
        };
        args.ids.chunks(IDS_MAX).map(of).collect()
    } else {
        vec![request]
    };
    let mut all = Steered::default();
    for mut request in requests {
        loop {
            let path = format!("/tasks/{}", lever.name);
            let some: Steered = client.post(&path, &request).await?;
            all.selected += some.selected;
            all.done += some.done;
            all.stopping += some.stopping;
            let Some(next) = some.next else {
                break;
            };
            let next = next.parse().map_err(|error| {
                CommandError::new(format!("cannot understand where the bus goes on: {error}"))
            })?;
            request.after = Some(next);
        }
    }
    told(args, lever, &all)
}

fn told(args: &SteerArgs, lever: Lever, all: &Steered) -> Result<String, CommandError> {
    let Steered {
        selected,
        done,
        stopping,
        ..
    } = *all;
    if args.output.json {
        let counts = match (args.dry_run, lever.name) {
            (true, _) => json!({ "selected": selected }),
            (false, "cancel") => {
                json!({ "selected": selected, "cancelled": done, "stopping": stopping })
            }
            (false, _) => Value::from_iter([("selected", selected), (lever.done, done)]),
        };
        return output::json(&counts).map_err(unprintable);
    }
    let tasks = |count: u64| format!("{count} task{}", if count == 1 { "" } else { "s" });
    if args.dry_run {
        return Ok(format!("{} would be {}\n", tasks(selected), lever.done));
    }
    let still = match stopping {
        0 => String::new(),
        _ => format!("; {} still stopping", tasks(stopping)),
    };
    Ok(format!("{} {}{still}\n", tasks(done), lever.done))
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the tasks: {error}"))
}

#[cfg(test)]
mod tests;
