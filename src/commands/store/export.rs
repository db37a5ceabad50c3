//! `pointsman store export`.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pointsman_journal::disk::{Carried, Exported, PortableError, export_stores};
use pointsman_schemas::SystemClock;
use serde::Serialize;

use super::{State, stores};
use crate::commands::error::CommandError;
use crate::output::{self, OutputArgs};

/// What `store export` takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The folder: `store.path` of the rule file
    path: PathBuf,
    /// Where to write it, a file that is not there yet; standard output where left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    printing: OutputArgs,
}

/// What was exported or imported, for a program.
#[derive(Debug, Serialize)]
pub(super) struct Told<'t> {
    /// Of how many shards what was exported is.
    pub(super) from_shards: u16,
    /// Of how many shards the new stores are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shards: Option<u16>,
    pub(super) carried: &'t Carried,
    pub(super) notes: &'t [String],
}

/// Writes the export, and says what it has: where that goes to standard output, on standard error.
pub(super) fn export(args: &ExportArgs) -> Result<String, CommandError> {
    let stores = stores(&args.path)?;
    if let Some(store) = stores
        .iter()
        .find(|store| !matches!(store.state, State::Own))
    {
        return Err(CommandError::new(format!(
            "the store of shard {} in {} is a copy of a cluster's",
            store.shard,
            store.directory.display()
        ))
        .help(format!(
            "stop all nodes and make it a store of its own first: pointsman store detach {}",
            args.path.display()
        )));
    }
    let directories: Vec<PathBuf> = stores.into_iter().map(|store| store.directory).collect();
    let exported = match &args.output {
        Some(path) => to_file(&directories, path)?,
        None if io::stdout().is_terminal() => {
            return Err(CommandError::new("an export is not for a terminal")
                .help("write it to a file: --output FILE"));
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            export_stores(&directories, &SystemClock, &mut out).map_err(|error| failed(&error))?
        }
    };
    let told = told(&exported, args.printing)?;
    if args.output.is_none() {
        eprint!("{told}");
        return Ok(String::new());
    }
    Ok(told)
}

/// Writes it to a file that only its owner may read; what was cut short is removed.
fn to_file(directories: &[PathBuf], path: &Path) -> Result<Exported, CommandError> {
    let cannot =
        |error: io::Error| CommandError::new(format!("cannot write {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut out = BufWriter::with_capacity(1 << 18, file.map_err(cannot)?);
    let exported = export_stores(directories, &SystemClock, &mut out);
    let synced = out.flush().and_then(|()| out.get_ref().sync_all());
    let exported = exported.map_err(|error| failed(&error));
    let exported = exported.and_then(|exported| synced.map_err(cannot).map(|()| exported));
    if exported.is_err() {
        drop(fs::remove_file(path));
    }
    exported
}

pub(super) fn failed(error: &PortableError) -> CommandError {
    CommandError::new(error.to_string())
}

fn told(exported: &Exported, printing: OutputArgs) -> Result<String, CommandError> {
    let Exported {
        shards,
        carried,
        notes,
    } = exported;
    if printing.json {
        let told = Told {
            from_shards: *shards,
            shards: None,
            carried,
            notes,
        };
        return output::json(&told).map_err(|error| CommandError::new(error.to_string()));
    }
    notes
        .iter()
        .for_each(|note| eprintln!("{}", output::line(note)));
    Ok(format!("exported {}\n", counts(carried)))
}

/// What there is, in words.
pub(super) fn counts(carried: &Carried) -> String {
    let Carried {
        subscriptions,
        events,
        pending,
        dead,
        positions,
        keys,
        replays,
        history,
    } = carried;
    format!(
        "{events} events, {pending} deliveries that wait, {dead} dead letters, {subscriptions} \
         subscriptions, {positions} positions of sources, {keys} keys of duplicates, {replays} \
         replays and {history} entries of the history"
    )
}
