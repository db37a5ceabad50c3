//! `pointsman store`: the stores in a folder, which may be copies of a cluster's, how they become
//! stores of their own, and how what they hold comes into others.

mod export;
mod import;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use pointsman_cluster::Progress;
use pointsman_journal::disk::{DiskReader, Part, Replica, mark_of};
use serde::Serialize;

use super::error::CommandError;
use crate::output::{self, OutputArgs};

/// What `store` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Say what the stores in a folder are, and how far each has come; a bus may run on them
    Show(ShowArgs),
    /// Make copies of a cluster's stores of their own: to run without it, or to begin the log of
    /// another one with. No bus may run on them
    Detach(DetachArgs),
    /// Write everything that the stores in a folder hold as lines of JSON, which make stores of any
    /// number of shards. No bus may run on them
    Export(export::ExportArgs),
    /// Make stores of what was exported: one, or those with which a cluster of so many shards
    /// begins its log
    Import(import::ImportArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ShowArgs {
    /// The folder: `store.path` of the rule file
    #[arg(default_value = "pointsman-data")]
    path: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct DetachArgs {
    /// The folder: `store.path` of the rule file
    path: PathBuf,
    /// Also what has not everything that its log had: what is missing is lost
    #[arg(long)]
    incomplete: bool,
}

/// A store of a folder.
#[derive(Clone, Debug, Serialize)]
struct StoreView {
    /// The shard that it is of, where its bus has several.
    shard: u16,
    #[serde(flatten)]
    state: State,
    #[serde(skip)]
    directory: PathBuf,
}

/// What a store is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// It is in no log: that of a bus on one machine, or detached.
    Own,
    /// It is a copy of what a cluster's log has come to.
    Copy {
        /// Whether it has everything up to there.
        complete: bool,
        /// The number of the last ownership.
        epoch: u64,
        /// The last record.
        record: u64,
    },
    /// What it says of that cannot be read.
    Unreadable,
}

/// Opens a store to read from it.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn open(path: &Path) -> Result<Arc<DiskReader>, CommandError> {
    DiskReader::open(path)
        .map_err(|error| CommandError::new(format!("cannot open the store: {error}")))
}

/// Does what was asked for.
///
/// # Errors
/// There is no store, it cannot be read, or what was asked for cannot be done with it.
pub fn run(args: StoreArgs) -> Result<ExitCode, miette::Report> {
    let text = match args.action {
        Action::Show(args) => show(&args)?,
        Action::Detach(args) => detach(&args)?,
        Action::Export(args) => export::export(&args)?,
        Action::Import(args) => import::import(&args)?,
    };
    output::print(&text).map_err(|error| CommandError::new(format!("cannot print: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// The stores in a folder, by their shards.
fn stores(path: &Path) -> Result<Vec<StoreView>, CommandError> {
    let store = |(shard, directory): (u16, PathBuf)| {
        let mark = mark_of(&directory).map_err(|error| CommandError::new(error.to_string()))?;
        let state = match mark.as_deref().map(Progress::of) {
            None => State::Own,
            Some(None) => State::Unreadable,
            Some(Some(progress)) => State::Copy {
                complete: progress.is_complete,
                epoch: progress.epoch,
                record: progress.place,
            },
        };
        Ok(StoreView {
            shard,
            state,
            directory,
        })
    };
    let numbers = others(path)?;
    if let Some((missing, _)) = (1..).zip(&numbers).find(|(wanted, found)| wanted != *found) {
        let path = path.display();
        return Err(CommandError::new(format!("{path} has no shard-{missing}")));
    }
    let others = numbers
        .iter()
        .map(|shard| (*shard, path.join(format!("shard-{shard}"))));
    std::iter::once((0, path.to_owned()))
        .chain(others)
        .map(store)
        .collect()
}

/// The shards that have folders of their own, in their order.
fn others(path: &Path) -> Result<Vec<u16>, CommandError> {
    let cannot = |error| CommandError::new(format!("cannot read {}: {error}", path.display()));
    let entries = std::fs::read_dir(path).map_err(cannot)?;
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("shard-")?.parse().ok()
    };
    let mut numbers: Vec<u16> = entries.flatten().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn show(args: &ShowArgs) -> Result<String, CommandError> {
    let stores = stores(&args.path)?;
    if args.output.json {
        return output::json(&stores).map_err(|error| CommandError::new(error.to_string()));
    }
    let row = |store: &StoreView| {
        let (state, epoch, record) = match &store.state {
            State::Own => ("its own", None, None),
            State::Unreadable => ("a copy of unknown state", None, None),
            State::Copy {
                complete,
                epoch,
                record,
            } => {
                let state = match complete {
                    true => "a whole copy",
                    false => "an incomplete copy",
                };
                (state, Some(*epoch), Some(*record))
            }
        };
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        [
            store.shard.to_string(),
            state.to_owned(),
            number(epoch),
            number(record),
            store.directory.display().to_string(),
        ]
    };
    let headings = ["SHARD", "STORE", "EPOCH", "RECORDS", "FOLDER"];
    Ok(output::table(headings, stores.iter().map(row)))
}

/// Detaches all of them, or none where one cannot be.
fn detach(args: &DetachArgs) -> Result<String, CommandError> {
    let stores = stores(&args.path)?;
    let shards = u16::try_from(stores.len()).unwrap_or(u16::MAX);
    if let Some(store) = stores.iter().find(|store| !store.is_whole())
        && !args.incomplete
    {
        return Err(CommandError::new(format!(
            "the copy of shard {} in {} has not everything that its log had: detach the one of \
             another node, or say --incomplete and lose what is missing",
            store.shard,
            store.directory.display()
        )));
    }
    let is_copy = |store: &&StoreView| !matches!(store.state, State::Own);
    let failed = |error: &dyn std::fmt::Display| CommandError::new(error.to_string());
    // All are locked before the first one changes.
    let copies = stores.iter().filter(is_copy).map(|store| {
        let replica = Replica::open_as_it_is(&store.directory).map_err(|error| failed(&error))?;
        Ok((store.shard, replica))
    });
    let copies: Vec<_> = copies.collect::<Result<_, CommandError>>()?;
    let count = copies.len();
    for (shard, replica) in copies {
        let detached = replica.detach(Part { shard, shards });
        detached.map_err(|error| failed(&error))?;
    }
    Ok(match (count, shards) {
        (0, _) => "nothing to detach: no store here is a copy of a cluster's\n".to_owned(),
        (_, 1) => "the store is its own: run the bus without store.log, or with another cluster \
                   and shards: 1\n"
            .to_owned(),
        _ => format!(
            "the stores of {shards} shards are their own: start this node, before all others, with \
             another store.log.cluster and shards: {shards}; they become its log\n"
        ),
    })
}

impl StoreView {
    fn is_whole(&self) -> bool {
        match self.state {
            State::Own => true,
            State::Copy { complete, .. } => complete,
            State::Unreadable => false,
        }
    }
}
