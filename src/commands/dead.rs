//! `pointsman dead`: the dead letters, looked at and dealt with.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use pointsman_schemas::{DeliveryId, Name};
use serde::{Deserialize, Serialize, de::IntoDeserializer};
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::{self, DeadContent, DeadRequest, DeadView, Page};
use crate::output::{self, OutputArgs, plain, shortened};
use pointsman_journal::{DeadReason, DeadSelection, JournalError, Reader};

/// How much of a message a table shows.
const MESSAGE_CHARACTERS_MAX: usize = 80;

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
    /// Deliver them once more, as if they had just matched
    Redrive(ChangeArgs),
    /// Delete them
    Purge(PurgeArgs),
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
    /// Of this tenant
    #[arg(long)]
    pub tenant: Option<Name>,
    /// Of this rule
    #[arg(long)]
    pub rule: Option<Name>,
    /// For this target
    #[arg(long)]
    pub target: Option<Name>,
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

/// Opens the store at a path to look at it, whether a bus runs on it or not.
pub type OpenStore = dyn Fn(&Path) -> Result<Arc<dyn Reader>, JournalError> + Send + Sync;

fn reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::deserialize(text.into_deserializer())
        .map_err(|error: serde::de::value::Error| error.to_string())
}

/// Does what the arguments say and prints what came of it.
///
/// # Errors
/// There is no bus or no store there, or it refuses.
pub async fn run(args: DeadArgs, open: &OpenStore) -> Result<ExitCode, miette::Report> {
    output::print(&execute(args, open).await?).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

/// Does it and tells what to print.
async fn execute(args: DeadArgs, open: &OpenStore) -> Result<String, CommandError> {
    match args.command {
        DeadCommand::List(args) => list(&args, open).await,
        DeadCommand::Show(args) => show(&args, open).await,
        DeadCommand::Redrive(args) => change(&args, Change::Redrive).await,
        DeadCommand::Purge(args) => {
            if !args.yes {
                confirm(&args.change)?;
            }
            change(&args.change, Change::Purge).await
        }
    }
}

async fn list(args: &ListArgs, open: &OpenStore) -> Result<String, CommandError> {
    let page: Page<DeadView> = match &args.from.store {
        Some(path) => {
            let filter = args.filter.clone();
            let selection = DeadSelection {
                ids: None,
                tenant: filter.tenant,
                rule: filter.rule,
                target: filter.target,
                reason: filter.reason,
            };
            view::dead_page(
                &*store(path, open)?,
                &selection,
                args.after,
                usize::from(args.limit),
            )
            .await
            .map_err(unreadable)?
        }
        None => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &args.limit.to_string());
            let after = args.after.map(|after| after.to_string());
            let filter = &args.filter;
            let names = [
                ("tenant", &filter.tenant),
                ("rule", &filter.rule),
                ("target", &filter.target),
            ];
            let names = names
                .into_iter()
                .filter_map(|(key, name)| Some((key, name.as_ref()?.as_str())));
            let rest = [
                ("reason", filter.reason.map(DeadReason::as_str)),
                ("after", after.as_deref()),
            ];
            query.extend_pairs(
                names.chain(
                    rest.into_iter()
                        .filter_map(|(key, value)| Some((key, value?))),
                ),
            );
            Client::of_admin(&args.from.admin)?
                .get(&format!("/dead?{}", query.finish()))
                .await?
        }
    };
    if let Some(next) = &page.next {
        eprintln!("there are more: --after {next}");
    }
    if args.output.json {
        output::json(&page.items).map_err(unprintable)
    } else {
        Ok(as_table(&page.items))
    }
}

async fn show(args: &ShowArgs, open: &OpenStore) -> Result<String, CommandError> {
    let whole: Box<RawValue> = match &args.from.store {
        Some(path) => {
            let whole = view::dead_letter(&*store(path, open)?, args.id)
                .await
                .map_err(unreadable)?;
            let whole = whole
                .ok_or_else(|| CommandError::new(format!("there is no dead letter {}", args.id)))?;
            serde_json::value::to_raw_value(&whole).map_err(unprintable)?
        }
        None => {
            Client::of_admin(&args.from.admin)?
                .get(&format!("/dead/{}", args.id))
                .await?
        }
    };
    if args.output.json {
        return Ok(format!("{whole}\n"));
    }
    // Read twice, since what is flattened cannot keep the event's text as it came.
    let letter = serde_json::from_str(whole.get()).map_err(unprintable)?;
    let content = serde_json::from_str(whole.get()).map_err(unprintable)?;
    Ok(as_sheet(&letter, &content))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Redrive,
    Purge,
}

#[derive(Serialize, Deserialize)]
struct Changed {
    #[serde(alias = "redriven", alias = "purged")]
    count: u64,
}

async fn change(args: &ChangeArgs, change: Change) -> Result<String, CommandError> {
    let request = request(&args.ids, &args.filter, args.all);
    // Refused here in the words of the command line; the API would refuse it too.
    request.selection().map_err(|error| {
        CommandError::new(error).help("give ids, --rule, --target, --reason, --tenant, or --all")
    })?;
    let (path, word) = match change {
        Change::Redrive => ("/dead/redrive", "redriven"),
        Change::Purge => ("/dead/purge", "purged"),
    };
    let Changed { count } = Client::of_admin(&args.admin)?.post(path, &request).await?;
    if args.output.json {
        return Ok(format!("{{\"{word}\":{count}}}\n"));
    }
    let why = match (change, count) {
        (Change::Redrive, 0) => {
            ": there is none that is selected and can be (what was `unreadable` holds no event; \
             send it again)"
        }
        _ => "",
    };
    Ok(format!(
        "{count} dead letter{} {word}{why}\n",
        if count == 1 { "" } else { "s" }
    ))
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
        tenant: filter.tenant.clone(),
        rule: filter.rule.clone(),
        target: filter.target.clone(),
        reason: filter.reason,
        all,
    }
}

fn as_table(letters: &[DeadView]) -> String {
    let name = |name: &Option<Name>| name.as_ref().map_or("-", Name::as_str).to_owned();
    let row = |letter: &DeadView| {
        [
            letter.id.clone(),
            letter.at.clone(),
            letter.reason.as_str().to_owned(),
            name(&letter.rule),
            name(&letter.target),
            letter.attempts.to_string(),
            shortened(said(letter), MESSAGE_CHARACTERS_MAX).into_owned(),
        ]
    };
    output::table(
        [
            "ID", "DIED", "REASON", "RULE", "TARGET", "ATTEMPTS", "MESSAGE",
        ],
        letters.iter().map(row),
    )
}

/// What there is to say about a letter: what was said of itself, else of its last attempt.
fn said(letter: &DeadView) -> &str {
    if letter.message.is_empty() {
        letter.last.as_ref().map_or("", |last| &last.message)
    } else {
        &letter.message
    }
}

fn as_sheet(letter: &DeadView, content: &DeadContent) -> String {
    let mut lines = vec![
        format!("id        {}", letter.id),
        format!("died      {} ({})", letter.at, letter.reason.as_str()),
    ];
    let mut line = |name: &str, value: &str| {
        // A line break in what somebody sent must not begin what looks like a line of this sheet.
        for (number, part) in value.lines().enumerate() {
            lines.push(format!("{:<10}{part}", if number == 0 { name } else { "" }));
        }
    };
    if letter
        .last
        .as_ref()
        .is_none_or(|last| last.message != letter.message)
    {
        line("message", &letter.message);
    }
    line("tenant", letter.tenant.as_str());
    line("from", letter.origin.as_str());
    line("rule", letter.rule.as_ref().map_or("", Name::as_str));
    line("target", letter.target.as_ref().map_or("", Name::as_str));
    if let Some(last) = &letter.last {
        let code = last
            .code
            .map_or_else(String::new, |code| format!(" {code}"));
        line(
            "attempts",
            &format!("{}, the last one at {}", letter.attempts, last.at),
        );
        line(
            "outcome",
            &format!("{}{code}: {}", last.class.as_str(), last.message),
        );
        line("response", &last.response);
    }
    line(
        "event",
        content.event.as_ref().map_or("", |event| event.get()),
    );
    line(
        "event",
        content.event_missing.as_deref().unwrap_or_default(),
    );
    line("raw", content.raw.as_deref().unwrap_or_default());
    line("base64", content.raw_base64.as_deref().unwrap_or_default());
    format!("{}\n", plain(&lines.join("\n")))
}

pub(super) fn store(path: &Path, open: &OpenStore) -> Result<Arc<dyn Reader>, CommandError> {
    open(path).map_err(|error| {
        CommandError::new(format!("cannot open the store {}: {error}", path.display()))
    })
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the dead letters: {error}"))
}

fn unreadable(error: JournalError) -> CommandError {
    CommandError::new(format!("cannot read the store: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::testing::TestBus;
    use pointsman_journal::Journal;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DeadArgs,
    }

    /// What a command line prints when it is spoken to a bus.
    async fn typed(bus: &TestBus, line: &str) -> String {
        let words = format!("dead {line}");
        let words = words
            .split_whitespace()
            .map(str::to_owned)
            .chain(["--admin".to_owned(), format!("http://{}", bus.address)]);
        let args = match Line::try_parse_from(words) {
            Ok(line) => line.args,
            Err(error) => return error.to_string(),
        };
        let journal = bus.journal.clone();
        let open = move |path: &Path| match path.to_str() {
            Some("here") => Ok(journal.reader()),
            _ => Err(JournalError::NotFound("store".into())),
        };
        let text = execute(args, &open)
            .await
            .unwrap_or_else(|error| format!("{error}\n{}", error.help_text()));
        bus.anonymous(&text)
            .replace(&bus.address.to_string(), "127.0.0.1:1")
    }

    #[tokio::test]
    async fn they_are_listed_in_a_table_or_as_json() {
        let bus = TestBus::start(&[]).await;
        insta::assert_snapshot!(typed(&bus, "list").await);
        insta::assert_snapshot!(typed(&bus, "list --rule nobody").await);
        let list: serde_json::Value =
            serde_json::from_str(&typed(&bus, "list --json --rule thumbnails --limit 1").await)
                .unwrap();
        assert_eq!(
            (list.as_array().unwrap().len(), &list[0]["target"]),
            (1, &"thumbnailer".into())
        );
    }

    #[tokio::test]
    async fn one_is_shown_whole_and_does_nothing_to_the_terminal() {
        let bus = TestBus::start(&[]).await;
        let ids = bus.dead().await;
        let one = |number: u32| ids.iter().find(|id| id.subscription.0 == number).unwrap();
        insta::assert_snapshot!(typed(&bus, &format!("show {}", one(1))).await);
        insta::assert_snapshot!(typed(&bus, &format!("show {}", one(0))).await);
        let json = typed(&bus, &format!("show {} --json", one(1))).await;
        assert!(json.contains(crate::admin::testing::DATA), "{json}");
        insta::assert_snapshot!(typed(&bus, "show 00000000000000aa-9-1-0").await);
    }

    #[tokio::test]
    async fn what_was_answered_does_not_look_like_a_line_of_the_sheet() {
        let bus = TestBus::start(&[]).await;
        let list = typed(&bus, "list --json --rule thumbnails --limit 1").await;
        let mut letter = serde_json::from_str::<Vec<DeadView>>(&list)
            .unwrap()
            .remove(0);
        letter.last.as_mut().unwrap().response =
            "no\nrule      innocent\n\u{1b}[1Aid        1\u{202e}".into();
        let sheet = as_sheet(&letter, &DeadContent::default());
        let lines: Vec<&str> = sheet
            .lines()
            .filter(|line| line.starts_with("rule") || line.starts_with("id"))
            .collect();
        assert!(
            lines.len() == 2 && !lines.iter().any(|line| line.contains("innocent")),
            "{sheet}"
        );
        assert!(
            sheet.contains("\n          rule      innocent\n")
                && !sheet.contains(['\u{1b}', '\u{202e}']),
            "{sheet}"
        );
    }

    #[tokio::test]
    async fn a_store_says_the_same_as_the_bus_on_it() {
        let bus = TestBus::start(&[]).await;
        let shows = bus.dead().await.into_iter().map(|id| format!("show {id}"));
        let lists = [
            "list",
            "list --json",
            "list --rule audit --reason expired",
            "list --after 00000000000000aa-2-1-0 --limit 2",
        ];
        for line in lists.map(str::to_owned).into_iter().chain(shows) {
            assert_eq!(
                typed(&bus, &format!("{line} --store here")).await,
                typed(&bus, &line).await,
                "{line}"
            );
        }
        assert_eq!(
            typed(&bus, "show 00000000000000aa-9-1-0 --store here").await,
            "there is no dead letter 00000000000000aa-9-1-0\n"
        );
        assert_eq!(
            typed(&bus, "list --store there").await,
            "cannot open the store there: there is no store\n"
        );
    }

    #[tokio::test]
    async fn they_are_redriven_and_purged() {
        let bus = TestBus::start(&[]).await;
        let id = *bus
            .dead()
            .await
            .iter()
            .find(|id| id.subscription.0 == 1)
            .unwrap();
        assert_eq!(
            typed(&bus, &format!("redrive {id}")).await,
            "1 dead letter redriven\n"
        );
        assert_eq!(
            typed(&bus, "redrive --rule audit --reason transform --json").await,
            "{\"redriven\":1}\n"
        );
        assert!(
            typed(&bus, "redrive --reason unreadable")
                .await
                .starts_with("0 dead letters redriven: there is none that is selected and can")
        );
        assert_eq!(
            typed(&bus, "purge --all --yes").await,
            "3 dead letters purged\n"
        );
        assert_eq!(
            typed(&bus, "purge --all --yes").await,
            "0 dead letters purged\n"
        );
        for (line, expect) in [
            (
                "purge --yes",
                "nothing is selected: give ids, tenant, rule, target or reason, or say all\ngive \
                 ids, --rule,",
            ),
            (
                "redrive --all --rule audit",
                "all and a narrower selection exclude each other",
            ),
            (
                "redrive --rule a.b",
                "error: invalid value 'a.b' for '--rule <RULE>': the name \"a.b\" is not made of",
            ),
            (
                "list --reason bored",
                "error: invalid value 'bored' for '--reason <REASON>': unknown variant `bored`, \
                 expected one of `rejected`",
            ),
            (
                "list --limit 0",
                "error: invalid value '0' for '--limit <LIMIT>'",
            ),
            (
                "show x",
                "error: invalid value 'x' for '<ID>': \"x\" is not the id of a delivery",
            ),
        ] {
            let said = typed(&bus, line).await;
            assert!(said.starts_with(expect), "{line}: {said}");
        }
    }

    #[tokio::test]
    async fn what_stands_in_the_way_is_said() {
        let bus = TestBus::start(&["a-key-of-the-operator-7"]).await;
        insta::assert_snapshot!(typed(&bus, "list").await);
        assert!(
            typed(&bus, "list --admin-key a-key-of-the-operator-7")
                .await
                .starts_with("ID ")
        );
        let address = bus.address;
        drop(bus);
        // Nobody else gets this port while it was ours a moment ago; should somebody, then he is no
        // bus either.
        let args = Line::try_parse_from(["dead", "list", "--admin", &format!("http://{address}")])
            .unwrap()
            .args;
        assert!(execute(args, &|_| Err(JournalError::Closed)).await.is_err());
    }
}
