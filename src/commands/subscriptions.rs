//! `pointsman subscriptions`: what waits for which rule and target, and what to do with it where
//! its rule is gone.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_schemas::{Name, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use super::store;
use crate::admin::view::{OwnerFilter, SubscriptionView};
use crate::output::{self, OutputArgs};
use pointsman_journal::{Activity, Reader, Role};

/// Subscriptions: what waits for each rule and target
#[derive(Clone, Debug, clap::Args)]
pub struct SubscriptionsArgs {
    /// What to do
    #[command(subcommand)]
    pub command: SubscriptionsCommand,
}

/// What can be done with subscriptions.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SubscriptionsCommand {
    /// List them with what they hold
    List(ListArgs),
    /// End everything that waits in one, without an attempt
    Cancel(CancelArgs),
    /// Move everything that waits in one to another one
    Move(MoveArgs),
    /// Stop deliveries of one
    Suspend(OneArgs),
    /// Let deliveries of one go on
    Resume(OneArgs),
}

/// What `subscriptions list` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Whose
    #[command(flatten)]
    pub owner: OwnerFilter,
    /// Only those that no rule wants any more, and that still hold something
    #[arg(long)]
    pub detached: bool,
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

/// What `subscriptions suspend` and `resume` take.
#[derive(Clone, Debug, clap::Args)]
pub struct OneArgs {
    /// The subscription, as `list` numbers it
    pub number: u32,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `subscriptions cancel` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct CancelArgs {
    /// Which, and where
    #[command(flatten)]
    pub one: OneArgs,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What `subscriptions move` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct MoveArgs {
    /// Which, and where
    #[command(flatten)]
    pub one: OneArgs,
    /// The subscription that gets them, as `list` numbers it
    #[arg(long, value_name = "NUMBER")]
    pub to: u32,
}

/// Does what the arguments say and prints what came of it.
///
/// # Errors
/// There is no bus or no store there, or it refuses.
pub async fn run(args: SubscriptionsArgs) -> Result<ExitCode, miette::Report> {
    output::print(&execute(args).await?).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

/// Does it and returns what to print.
async fn execute(args: SubscriptionsArgs) -> Result<String, CommandError> {
    match args.command {
        SubscriptionsCommand::List(args) => list(&args).await,
        SubscriptionsCommand::Cancel(args) => {
            if !args.yes {
                confirm(args.one.number)?;
            }
            change(&args.one, "cancel", "cancelled", &json!({})).await
        }
        SubscriptionsCommand::Move(args) => {
            change(&args.one, "move", "moved", &json!({ "to": args.to })).await
        }
        SubscriptionsCommand::Suspend(args) => set_activity(&args, "suspend").await,
        SubscriptionsCommand::Resume(args) => set_activity(&args, "resume").await,
    }
}

/// What a table shows of a subscription.
#[derive(Debug, Deserialize)]
struct Listed {
    number: u32,
    tenant: Name,
    rule: Name,
    role: Role,
    target: Name,
    attached: bool,
    activity: Activity,
    paused: Option<String>,
    lane: String,
    lane_reason: Option<String>,
    pending: u64,
    retrying: u64,
    dead: u64,
    oldest_pending: Option<String>,
}

impl Listed {
    fn state(&self) -> &'static str {
        match self.activity {
            _ if !self.attached => "detached",
            Activity::Suspended => "suspended",
            Activity::Gone => "gone",
            Activity::Active if self.paused.is_some() => "paused",
            Activity::Active => "active",
        }
    }
}

async fn list(args: &ListArgs) -> Result<String, CommandError> {
    let items: Vec<Value> = match &args.store {
        Some(path) => {
            let reader = store::open(path)?;
            let statuses = reader
                .subscriptions()
                .await
                .map_err(|error| CommandError::new(format!("cannot read the store: {error}")))?;
            let now = Timestamp::now();
            let views = statuses
                .into_iter()
                .map(|status| serde_json::to_value(SubscriptionView::new(status, None, None, now)));
            views.collect::<Result<_, _>>().map_err(unprintable)?
        }
        None => {
            Client::of_admin(&args.admin)?
                .list::<Value>("/subscriptions")
                .await?
                .items
        }
    };
    let mut chosen = Vec::new();
    for item in items {
        let listed = Listed::deserialize(&item).map_err(unprintable)?;
        let is_meant = args
            .owner
            .admits(&listed.tenant, &listed.rule, &listed.target);
        if is_meant && !(args.detached && listed.attached) {
            chosen.push((item, listed));
        }
    }
    if args.output.json {
        return output::json(&chosen.into_iter().map(|(item, _)| item).collect::<Vec<_>>())
            .map_err(unprintable);
    }
    let row = |(_, listed): &(Value, Listed)| {
        [
            listed.number.to_string(),
            listed.tenant.to_string(),
            listed.rule.to_string(),
            listed.role.as_str().to_owned(),
            listed.target.to_string(),
            listed.state().to_owned(),
            listed.lane_reason.as_ref().unwrap_or(&listed.lane).clone(),
            listed.pending.to_string(),
            listed.retrying.to_string(),
            listed.dead.to_string(),
            listed
                .oldest_pending
                .clone()
                .unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let headings = [
        "NUMBER",
        "TENANT",
        "RULE",
        "ROLE",
        "TARGET",
        "STATE",
        "LANE",
        "PENDING",
        "RETRYING",
        "DEAD",
        "OLDEST PENDING",
    ];
    Ok(output::table(headings, chosen.iter().map(row)))
}

async fn change(
    args: &OneArgs,
    verb: &str,
    word: &str,
    body: &Value,
) -> Result<String, CommandError> {
    let answer: Value = Client::of_admin(&args.admin)?
        .post(&format!("/subscriptions/{}/{verb}", args.number), body)
        .await?;
    if args.output.json {
        return Ok(format!("{answer}\n"));
    }
    let count = answer.get(word).and_then(Value::as_u64).unwrap_or_default();
    Ok(format!(
        "{count} {} {word}\n",
        if count == 1 { "delivery" } else { "deliveries" }
    ))
}

async fn set_activity(args: &OneArgs, verb: &str) -> Result<String, CommandError> {
    let answer: Value = Client::of_admin(&args.admin)?
        .post(
            &format!("/subscriptions/{}/{verb}", args.number),
            &json!({}),
        )
        .await?;
    if args.output.json {
        return output::json(&answer).map_err(unprintable);
    }
    let listed = Listed::deserialize(&answer).map_err(unprintable)?;
    Ok(format!(
        "subscription {} of rule {} to {} is {}\n",
        listed.number,
        listed.rule,
        listed.target,
        listed.state()
    ))
}

fn confirm(number: u32) -> Result<(), CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::new(
            "what is cancelled is never delivered, and nobody is there to confirm it",
        )
        .help("say --yes"));
    }
    eprint!("end everything that waits in subscription {number}, for good? [y/N] ");
    std::io::stderr().flush().map_err(unprintable)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(unprintable)?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CommandError::new("nothing was cancelled"))
    }
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the subscriptions: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::testing::{TestBus, subscription};
    use pointsman_journal::Journal;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SubscriptionsArgs,
    }

    /// What a command line prints when it is spoken to a bus.
    async fn typed(bus: &TestBus<impl Journal + 'static>, line: &str) -> String {
        let words = format!("subscriptions {line} --admin http://{}", bus.address);
        let args = match Line::try_parse_from(words.split_whitespace()) {
            Ok(line) => line.args,
            Err(error) => return error.to_string(),
        };
        execute(args)
            .await
            .unwrap_or_else(|error| format!("{error}\n{}", error.help_text()))
    }

    #[tokio::test]
    async fn what_a_rule_that_is_gone_left_is_listed_moved_and_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let bus = TestBus::start_on_disk(folder.path()).await;
        bus.journal
            .subscribe(vec![
                subscription("audit", "archive"),
                subscription("small-pictures", "thumbnailer"),
            ])
            .await
            .unwrap();
        let all = typed(&bus, "list").await;
        let words: Vec<Vec<&str>> = all
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[1][..10],
            [
                "1",
                "default",
                "thumbnails",
                "to",
                "thumbnailer",
                "detached",
                "shared",
                "1",
                "1",
                "1"
            ]
        );
        assert_eq!(
            words[2][..10],
            [
                "2", "default", "audit", "to", "archive", "active", "shared", "0", "0", "3"
            ]
        );
        assert_eq!(
            words[3],
            [
                "3",
                "default",
                "small-pictures",
                "to",
                "thumbnailer",
                "active",
                "shared",
                "0",
                "0",
                "0",
                "-"
            ]
        );
        let detached = typed(&bus, "list --detached --json").await;
        let detached: Value = serde_json::from_str(&detached).unwrap();
        assert_eq!(
            (
                detached.as_array().unwrap().len(),
                &detached[0]["number"],
                &detached[0]["pending"]
            ),
            (1, &json!(1), &json!(1))
        );
        let line = format!("list --store {}", folder.path().display());
        assert_eq!(typed(&bus, &line).await, all);
        assert_eq!(typed(&bus, "list --rule audit").await.lines().count(), 2);

        assert!(
            typed(&bus, "move 1 --to 9")
                .await
                .contains("there is no subscription 9")
        );
        assert_eq!(typed(&bus, "move 1 --to 3").await, "1 delivery moved\n");
        assert_eq!(typed(&bus, "move 1 --to 3 --json").await, "{\"moved\":0}\n");
        assert!(typed(&bus, "cancel 3").await.contains("say --yes"));
        assert_eq!(
            typed(&bus, "cancel 3 --yes").await,
            "1 delivery cancelled\n"
        );
        assert_eq!(
            typed(&bus, "suspend 3").await,
            "subscription 3 of rule small-pictures to thumbnailer is suspended\n"
        );
        assert_eq!(
            typed(&bus, "resume 3").await,
            "subscription 3 of rule small-pictures to thumbnailer is active\n"
        );
        let left = bus.journal.reader().subscriptions().await.unwrap();
        let counts: Vec<_> = left
            .iter()
            .map(|one| {
                (
                    one.number.0,
                    one.counts.created,
                    one.counts.cancelled,
                    one.counts.pending,
                )
            })
            .collect();
        assert_eq!(counts, [(1, 3, 1, 0), (2, 3, 0, 0), (3, 1, 1, 0)]);
    }
}
