//! `pointsman explain`: why rules did or did not take an event that a bus has kept.

use std::process::ExitCode;

use pointsman_schemas::{DeliveryId, Name};
use url::form_urlencoded;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::{ExplainView, Fate};
use crate::output::{self, OutputArgs, plain, shortened};
use pointsman_journal::DeadReason;

/// How much of an attribute the heading shows.
const ATTRIBUTE_CHARACTERS_MAX: usize = 80;

/// How much of what an attempt came to is shown.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// What `explain` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// The event: its sequence, or the id of a task or dead letter of it
    #[arg(default_value = "last", value_parser = event, value_name = "SEQUENCE")]
    pub event: String,
    /// This rule alone, whether it took the event or not; otherwise those that did not, the nearest
    /// first
    #[arg(long)]
    pub rule: Option<Name>,
    /// How many rules at most
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub limit: u8,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// An event as the API names it: by its sequence, which the id of a delivery has in it, or as the
/// last one.
fn event(text: &str) -> Result<String, String> {
    match (text.parse::<u64>(), text.parse::<DeliveryId>()) {
        (Ok(sequence), _) => Ok(sequence.to_string()),
        (_, Ok(id)) => Ok(id.sequence.0.to_string()),
        _ if text == "last" => Ok(text.to_owned()),
        _ => Err("give a sequence such as 17, the id of a task or dead letter, or last".to_owned()),
    }
}

/// Asks a bus and prints what it says.
///
/// # Errors
/// There is no bus there, or it does not have the event or the rule.
pub async fn run(args: ExplainArgs) -> Result<ExitCode, miette::Report> {
    output::print(&execute(&args).await?).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

async fn execute(args: &ExplainArgs) -> Result<String, CommandError> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    query.extend_pairs(args.rule.as_ref().map(|rule| ("rule", rule.as_str())));
    let path = format!("/events/{}/explain?{}", args.event, query.finish());
    let view: ExplainView = Client::of_admin(&args.admin)?.get(&path).await?;
    if args.output.json {
        output::json(&view).map_err(unprintable)
    } else {
        Ok(as_text(&view))
    }
}

/// Which event it is.
fn head(view: &ExplainView) -> String {
    let ExplainView {
        sequence,
        origin,
        event,
        kept_until,
        ..
    } = view;
    let attribute = |name: &str| {
        event
            .get(name)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
    };
    let of = |name: &str| shortened(attribute(name), ATTRIBUTE_CHARACTERS_MAX).into_owned();
    let mut text = format!(
        "event {sequence} from {origin}: {} of {}",
        of("type"),
        of("source")
    );
    if !attribute("subject").is_empty() {
        text.push_str(&format!(", subject {}", of("subject")));
    }
    if let Some(until) = kept_until {
        text.push_str(&format!(", kept until {until}"));
    }
    text
}

fn as_text(view: &ExplainView) -> String {
    let ExplainView {
        explained,
        deliveries,
        ..
    } = view;
    let mut text = head(view);
    let taken: Vec<&str> = explained.taken.iter().map(Name::as_str).collect();
    match taken.as_slice() {
        [] => text.push_str("\ntaken by no rule\n"),
        names => text.push_str(&format!("\ntaken by {}\n", names.join(", "))),
    }
    for one in deliveries {
        let tries = match one.attempts {
            0 => String::new(),
            1 => " after 1 try".to_owned(),
            tries => format!(" after {tries} tries"),
        };
        let (id, due) = (
            one.id.as_deref().unwrap_or_default(),
            one.due.as_deref().unwrap_or_default(),
        );
        let said = if one.message.is_empty() {
            String::new()
        } else {
            format!(
                ": {}",
                output::line(&shortened(&one.message, MESSAGE_CHARACTERS_MAX))
            )
        };
        let became = match one.fate {
            Fate::Pending => format!("waits or is under way, due {due}{tries}{said}  (task {id})"),
            Fate::Dead => format!(
                "a dead letter, {}{tries}{said}  (pointsman dead show {id})",
                one.reason.map_or("", DeadReason::as_str)
            ),
            Fate::Duplicate => format!("a duplicate{said}"),
            Fate::Ended => "delivered; or it was cancelled or purged, or the rule did not have \
                            this target then"
                .to_owned(),
        };
        text.push_str(&format!("  {} → {}: {became}\n", one.rule, one.target));
    }
    for one in &explained.rules {
        text.push_str(&format!("\n{} {}", one.rule, one.explanation));
    }
    match explained.omitted {
        0 => {}
        1 => text.push_str("\n1 more rule did not take it; --limit shows more\n"),
        omitted => text.push_str(&format!(
            "\n{omitted} more rules did not take it; --limit shows more\n"
        )),
    }
    plain(&text).into_owned()
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the explanation: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::testing::TestBus;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    async fn told(bus: &TestBus, arguments: &str) -> String {
        let address = format!("--admin=http://{}", bus.address);
        let line = Line::parse_from(
            ["explain"]
                .into_iter()
                .chain(arguments.split_whitespace())
                .chain([&*address]),
        );
        match execute(&line.args).await {
            Ok(text) => bus.anonymous(&text),
            Err(error) => format!("{error}\n").replace(&bus.address.to_string(), "ADDRESS"),
        }
    }

    #[tokio::test]
    async fn the_nearest_misses_come_first() {
        let bus = TestBus::start(&[]).await;
        let texts = [
            told(&bus, "2").await,
            told(&bus, "2 --limit 1").await,
            told(&bus, "2 --rule thumbnails").await,
            told(&bus, "2 --rule answers --json").await,
            told(&bus, "2 --rule nobody").await,
            told(&bus, "99").await,
            told(&bus, "--rule several").await,
            told(&bus, "00000000000000aa-1-1-0 --rule several").await,
        ];
        insta::assert_snapshot!("explained", texts.join("---\n"));
    }
}
