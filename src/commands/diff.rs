//! `pointsman diff`: which events of the last time changed rules would send elsewhere, before they
//! go live.
//!
//! Both sets of rules, those in force by their files and the changed ones, are held against the
//! same retained events; what really became of those then plays no part. Events stand as they were
//! stored: a changed source, or the `event` of one, is not looked at. Reports of `on_success` and
//! `on_failure` meet no rules and are passed over.

mod compare;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_schemas::{Interval, Sequence, Timestamp};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use url::form_urlencoded;

use self::compare::Comparison;
use super::check::show;
use super::client::{AdminArgs, Client};
use super::error::CommandError;
use super::store;
use crate::admin::view::{EventView, Page};
use crate::config::{Config, PathArgs};
use crate::output::{self, OutputArgs};
use pointsman_journal::{EventPage, EventsFrom, StoredEvent};

/// Events that are read at once.
const PAGE_EVENTS: usize = 1_000;

/// Bytes of events that are read at once.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What `diff` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// The changed rule files, and folders of them, that are read as one
    #[arg(value_name = "NEW", required = true)]
    pub new: Vec<PathBuf>,
    /// The rule files in force; else those that `run` would read
    #[arg(long, value_name = "PATH")]
    pub from: Vec<PathBuf>,
    /// How far back to look; events are there as long as `store.retention` keeps them
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = interval)]
    pub against: Interval,
    /// Examples of each kind for each target
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(0..=100)
    )]
    pub examples: u16,
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

fn interval(text: &str) -> Result<Interval, String> {
    Interval::deserialize(text.into_deserializer())
        .map_err(|error: serde::de::value::Error| error.to_string())
}

/// Runs it. Exit code 0 where every event would go where it goes, 1 where one would not, 2 where
/// that could not be found out.
pub async fn run(args: &DiffArgs) -> ExitCode {
    let printed = match execute(args, Timestamp::now()).await {
        Ok((text, code)) => output::print(&text)
            .map(|()| code)
            .map_err(|error| CommandError::new(format!("cannot print: {error}"))),
        Err(error) => Err(error),
    };
    ExitCode::from(printed.unwrap_or_else(|error| {
        eprintln!("{:?}", miette::Report::new(error));
        2
    }))
}

/// Does it and tells what to print, and the exit code.
async fn execute(args: &DiffArgs, now: Timestamp) -> Result<(String, u8), CommandError> {
    let mut configs = Vec::new();
    let from = PathArgs {
        paths: args.from.clone(),
    }
    .resolve();
    for paths in [&from, &args.new] {
        match Config::load(paths) {
            Ok((config, _)) => configs.push(config),
            Err(diagnostics) => {
                let text = show(&diagnostics, args.output.json)
                    .map_err(|error| CommandError::new(error.to_string()))?;
                return Ok((text, 2));
            }
        }
    }
    let [old, new] = <[Config; 2]>::try_from(configs)
        .map_err(|_| CommandError::new("cannot read both sets of rules"))?;
    let since = now.minus(args.against.0);
    let mut comparison = Comparison::new(old, new, usize::from(args.examples));
    let mut events = match &args.store {
        Some(path) => Events::Store(store::open(path)?),
        None => Events::Bus(Box::new(Client::of_admin(&args.admin)?)),
    };
    let mut from = Some(EventsFrom::Time(since));
    while let Some(at) = from {
        let page = events.page(at).await?;
        comparison.damaged += page.damaged;
        for stored in &page.events {
            comparison.event(stored);
        }
        from = page.next.map(EventsFrom::After);
    }
    let report = comparison.finish(since);
    let text = if args.output.json {
        output::json(&report)
            .map_err(|error| CommandError::new(format!("cannot print: {error}")))?
    } else {
        report.to_string()
    };
    Ok((text, u8::from(report.differs())))
}

/// Where the events are read.
enum Events {
    Store(std::sync::Arc<dyn pointsman_journal::Reader>),
    Bus(Box<Client>),
}

impl Events {
    async fn page(&mut self, from: EventsFrom) -> Result<EventPage, CommandError> {
        match self {
            Self::Store(reader) => {
                let page = reader.events(from, PAGE_EVENTS, PAGE_BYTES_MAX).await;
                page.map_err(|error| CommandError::new(format!("cannot read the store: {error}")))
            }
            Self::Bus(client) => {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("limit", &PAGE_EVENTS.to_string());
                match from {
                    EventsFrom::Time(since) => query.append_pair("since", &since.to_string()),
                    EventsFrom::After(after) | EventsFrom::AfterSince(after, _) => {
                        query.append_pair("after", &after.0.to_string())
                    }
                };
                let path = format!("/events?{}", query.finish());
                let Page { items, next, .. } = client.list::<EventView>(&path).await?;
                let next = next.and_then(|next| next.parse().ok()).map(Sequence);
                let read: Vec<Option<StoredEvent>> = items.into_iter().map(stored).collect();
                let damaged = read.iter().filter(|event| event.is_none()).count() as u64;
                Ok(EventPage {
                    events: read.into_iter().flatten().collect(),
                    damaged,
                    next,
                })
            }
        }
    }
}

/// An event as the API shows it; none where it cannot be read.
fn stored(view: EventView) -> Option<StoredEvent> {
    let EventView {
        sequence,
        tenant,
        origin,
        at,
        event,
        ..
    } = view;
    let text: Box<str> = event?.into();
    let event = pointsman_schemas::json::decode(&bytes::Bytes::from(text.into_string())).ok()?;
    let at = Timestamp(at.parse::<jiff::Timestamp>().ok()?.as_microsecond());
    Some(StoredEvent {
        sequence: Sequence(sequence),
        tenant,
        origin,
        at,
        kept_until: None,
        event: event.into(),
    })
}
