//! `pointsman tasks`: deliveries, looked at and steered.

mod timeline;

use std::process::ExitCode;

use pointsman_journal::BEHIND_MAX;
use pointsman_schemas::{DeliveryId, Name, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::form_urlencoded;

use self::timeline::timeline;
use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::{
    BlockedView, IDS_MAX, Page, SubscriptionSelection, TaskSelection, TaskView, TaskWhole,
    TasksRequest, pairs,
};
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
    /// with the states of those that have (succeeded, failed, expired, stopped, purged): behind the
    /// others where some of these are asked for too, the latest first
    List(ListArgs),
    /// List the order keys whose first task was tried, or is suspended, and waits, so that all
    /// others of the key wait for it
    Blocked(BlockedArgs),
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
    /// Of which subscriptions
    #[command(flatten)]
    pub of: SubscriptionSelection,
    /// Which
    #[command(flatten)]
    pub selection: TaskSelection,
    /// Of the events that were sent with this id of one's own, ended or not; with no condition but
    /// --tenant
    #[arg(long, value_name = "ID")]
    pub task_id: Option<String>,
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

/// What `tasks blocked` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct BlockedArgs {
    /// Of which subscriptions
    #[command(flatten)]
    pub of: SubscriptionSelection,
    /// Go on behind this one
    #[arg(long, value_name = "KEY")]
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
    #[arg(required_unless_present = "task_id", conflicts_with = "task_id")]
    pub id: Option<DeliveryId>,
    /// Those of the events that were sent with this id of one's own
    #[arg(long, value_name = "ID")]
    pub task_id: Option<String>,
    /// Of this tenant
    #[arg(long, requires = "task_id")]
    pub tenant: Option<Name>,
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
    /// Of which subscriptions
    #[command(flatten)]
    pub of: SubscriptionSelection,
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
        TasksCommand::Blocked(args) => blocked(&args).await,
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
    let mut conditions = pairs(&args.of);
    conditions.extend(pairs(&args.selection));
    conditions.extend(named(args.task_id.as_deref()));
    let (tasks, next): (Vec<TaskView>, _) = pages(
        &client,
        "/tasks",
        &conditions,
        args.after.clone(),
        args.limit,
    )
    .await?;
    if let Some(after) = next {
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
    let has_ended = |task: &TaskView| task.state.is_terminal();
    let time = match (tasks.iter().any(has_ended), tasks.iter().all(has_ended)) {
        (false, _) => "DUE",
        (true, true) => "ENDED",
        (true, false) => "DUE/ENDED",
    };
    let headings = [
        "ID", "STATE", "RULE", "TARGET", "EVENT", "ATTEMPTS", time, "LAST",
    ];
    Ok(output::table(headings, tasks.iter().map(row)))
}

async fn blocked(args: &BlockedArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let conditions = pairs(&args.of);
    let (keys, next): (Vec<BlockedView>, _) = pages(
        &client,
        "/tasks/blocked",
        &conditions,
        args.after.clone(),
        args.limit,
    )
    .await?;
    if let Some(after) = next {
        eprintln!("there may be more: --after {after}");
    }
    if args.output.json {
        return output::json(&keys).map_err(unprintable);
    }
    let row = |key: &BlockedView| {
        let head = &key.head;
        let more = if key.behind == BEHIND_MAX { "+" } else { "" };
        [
            head.id.clone(),
            head.state.as_str().to_owned(),
            head.identity.rule.to_string(),
            head.identity.target.to_string(),
            head.sequence.0.to_string(),
            head.attempts.to_string(),
            format!("{}{more}", key.behind),
            head.due.clone().unwrap_or_default(),
            head.message.clone().unwrap_or_default(),
        ]
    };
    let headings = [
        "HEAD", "STATE", "RULE", "TARGET", "EVENT", "ATTEMPTS", "BEHIND", "DUE", "LAST",
    ];
    Ok(output::table(headings, keys.iter().map(row)))
}

/// An id of one's own as a condition.
fn named(task_id: Option<&str>) -> Option<(String, String)> {
    task_id.map(|id| ("task_id".to_owned(), id.to_owned()))
}

/// So many at most of what a list holds, page by page, and where there are more.
async fn pages<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    conditions: &[(String, String)],
    mut after: Option<String>,
    limit: u32,
) -> Result<(Vec<T>, Option<String>), CommandError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    loop {
        let room = (limit - items.len()).min(PAGE);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("limit", &room.to_string())
            .extend_pairs(conditions)
            .extend_pairs(after.map(|after| ("after", after)))
            .finish();
        let page: Page<T> = client.list(&format!("{path}?{query}")).await?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() || items.len() >= limit {
            return Ok((items, after));
        }
    }
}

async fn show(args: &ShowArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    if let Some(id) = &args.id {
        let task: TaskWhole = client.get(&format!("/tasks/{id}")).await?;
        if args.output.json {
            return output::json(&task).map_err(unprintable);
        }
        return Ok(timeline(&task, Timestamp::now()));
    }
    let task_id = args.task_id.as_deref();
    let tenant = args.tenant.as_ref();
    let tenant = tenant.map(|tenant| ("tenant".to_owned(), tenant.to_string()));
    let conditions: Vec<_> = named(task_id).into_iter().chain(tenant).collect();
    let (found, _) = pages::<TaskView>(&client, "/tasks", &conditions, None, u32::MAX).await?;
    if found.is_empty() {
        let id = task_id.unwrap_or_default();
        let error = CommandError::new(format!("no task is known by the id {id:?}"));
        return Err(error.help(
            "an id is remembered for 24 hours; `pointsman tasks list` lists the tasks there are",
        ));
    }
    let mut tasks: Vec<TaskWhole> = Vec::new();
    for task in found {
        tasks.push(client.get(&format!("/tasks/{}", task.id)).await?);
    }
    if args.output.json {
        return output::json(&tasks).map_err(unprintable);
    }
    let draw = |task: &TaskWhole| timeline(task, Timestamp::now());
    Ok(tasks.iter().map(draw).collect::<Vec<_>>().join("\n"))
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
    let (has_ids, is_open) = (
        !args.ids.is_empty(),
        args.of.is_open() && args.selection.is_open(),
    );
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
        of: args.of.clone(),
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
