//! `pointsman schemas infer`: schemas of the events that a bus has kept.

#[cfg(test)]
mod tests;
mod yaml;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use indexmap::IndexMap;
use pointsman_journal::{EventsFrom, StoredEvent};
use pointsman_rules::schema::Inference;
use pointsman_schemas::{Interval, Name, Timestamp};
use serde_json::Value;

use super::client::AdminArgs;
use super::error::CommandError;
use super::retained::{RetainedEvents, interval};
use crate::output;

/// How many types are told apart: the samples of each take memory of their own.
const TYPES_MAX: usize = 100;

/// The longest type that is a key in YAML.
const TYPE_BYTES_MAX: usize = 150;

/// What `schemas` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct SchemasArgs {
    #[command(subcommand)]
    command: SchemasCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum SchemasCommand {
    /// Derive schemas from retained events, and print them as a section of a rule file
    Infer(InferArgs),
}

/// What `schemas infer` is told.
#[derive(Clone, Debug, clap::Args)]
struct InferArgs {
    /// Of this type alone; may be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Whose events
    #[arg(long, value_name = "NAME", default_value_t = Name::default_tenant())]
    tenant: Name,
    /// How far back to look; events are there as long as `store.retention` keeps them
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = interval)]
    since: Interval,
    /// How many events of each type to look at, the oldest first
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    samples: u64,
    /// Where the bus is
    #[command(flatten)]
    admin: AdminArgs,
    /// Read the store at this path instead of asking a bus, which may be running or not
    #[arg(long, value_name = "PATH")]
    store: Option<PathBuf>,
}

/// Runs it.
pub async fn run(args: &SchemasArgs) -> ExitCode {
    let SchemasCommand::Infer(args) = &args.command;
    let printed = match infer(args, Timestamp::now()).await {
        Ok(text) => output::print(&text)
            .map_err(|error| CommandError::new(format!("cannot print: {error}"))),
        Err(error) => Err(error),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::FAILURE
        }
    }
}

async fn infer(args: &InferArgs, now: Timestamp) -> Result<String, CommandError> {
    let mut seen = Seen::new(args);
    let mut events = RetainedEvents::open(&args.admin, args.store.as_deref())?;
    let mut from = Some(EventsFrom::Time(now.minus(args.since.0)));
    while let Some(at) = from.filter(|_| !seen.is_done()) {
        let page = events.page(at).await?;
        page.events.iter().for_each(|stored| seen.event(stored));
        from = page.next.map(EventsFrom::After);
    }
    if seen.types.is_empty() {
        let error = CommandError::new("there are no such events");
        return Err(error.help("look further back with --since, or at another --type or --tenant"));
    }
    Ok(seen.to_string())
}

/// What was seen of each type.
struct Seen<'a> {
    args: &'a InferArgs,
    types: IndexMap<String, SeenType>,
    /// Events of types that are more than are told apart.
    beyond: u64,
}

#[derive(Default)]
struct SeenType {
    inference: Inference,
    /// Events whose data is not JSON, which fit no schema.
    not_json: u64,
}

impl SeenType {
    fn samples(&self) -> u64 {
        self.inference.samples() + self.not_json
    }
}

impl<'a> Seen<'a> {
    fn new(args: &'a InferArgs) -> Self {
        Self {
            args,
            types: IndexMap::new(),
            beyond: 0,
        }
    }

    /// Whether nothing that comes would be looked at.
    fn is_done(&self) -> bool {
        let is_full = |ty: &String| {
            let seen = self.types.get(ty);
            seen.is_some_and(|seen| seen.samples() >= self.args.samples)
        };
        !self.args.types.is_empty() && self.args.types.iter().all(is_full)
    }

    fn event(&mut self, stored: &StoredEvent) {
        let (event, wanted) = (&stored.event, &self.args.types);
        let is_wanted = wanted.is_empty() || wanted.iter().any(|ty| ty == event.ty());
        if stored.tenant != self.args.tenant || !is_wanted {
            return;
        }
        if !self.types.contains_key(event.ty()) && self.types.len() >= TYPES_MAX {
            self.beyond += 1;
            return;
        }
        let seen = self.types.entry(event.ty().to_owned()).or_default();
        if seen.samples() >= self.args.samples {
            return;
        }
        match event.data().map(|data| data.value()) {
            None => seen.inference.see(&Value::Null),
            Some(Some(value)) => seen.inference.see(value),
            Some(None) => seen.not_json += 1,
        }
    }
}

impl std::fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_by_key(|(ty, _)| *ty);
        let (mut schemas, mut left_out) = (String::new(), String::new());
        for (ty, seen) in types {
            let samples = seen.samples();
            if let Some(why) = unfit(ty, seen) {
                writeln!(left_out, "# {} is left out: {why}.", yaml::text(ty))?;
                continue;
            }
            writeln!(schemas, "  {}:  # from {samples} events", yaml::text(ty))?;
            match seen.inference.schema() {
                Value::Object(schema) if !schema.is_empty() => {
                    schemas.push_str("    schema:\n");
                    yaml::mapping(&schema, 6, &mut schemas)?;
                }
                other => writeln!(schemas, "    schema: {other}")?,
            }
        }
        if self.beyond > 0 {
            let beyond = self.beyond;
            writeln!(
                left_out,
                "# {beyond} events of other types are left out: more than {TYPES_MAX} types; name some with --type."
            )?;
        }
        match schemas.is_empty() {
            true => writeln!(f, "schemas: {{}}")?,
            false => write!(f, "schemas:\n{schemas}")?,
        }
        f.write_str(&left_out)
    }
}

/// Why a type gets no schema.
fn unfit(ty: &str, seen: &SeenType) -> Option<String> {
    if seen.not_json > 0 {
        return Some(format!(
            "the data of {} of {} events is not JSON",
            seen.not_json,
            seen.samples()
        ));
    }
    (ty.contains('*') || ty.len() > TYPE_BYTES_MAX)
        .then(|| "a rule file cannot have a schema for such a type".to_owned())
}
