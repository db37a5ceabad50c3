//! `pointsman store import`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use pointsman_journal::disk::{Imported, import_stores};

use super::export::{Told, counts, failed};
use crate::commands::error::CommandError;
use crate::output::{self, OutputArgs};

/// What `store import` takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// What was exported; `-` is standard input
    file: PathBuf,
    /// The folder for the stores, which is empty or not there: `store.path` of the rule file
    path: PathBuf,
    /// Into how many shards: 1 makes the store of a bus on one machine, more make the stores with
    /// which a cluster of so many shards begins its log
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
    #[command(flatten)]
    printing: OutputArgs,
}

/// Makes the stores, and says what is in them and what to do with them.
pub(super) fn import(args: &ImportArgs) -> Result<String, CommandError> {
    let mut from: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file).map_err(|error| {
            CommandError::new(format!("cannot read {}: {error}", args.file.display()))
        })?;
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    let imported = import_stores(&mut *from, &args.path, args.shards);
    let Imported {
        from,
        shards,
        carried,
        notes,
    } = imported.map_err(|error| failed(&error))?;
    if args.printing.json {
        let told = Told {
            from_shards: from,
            shards: Some(shards),
            carried: &carried,
            notes: &notes,
        };
        return output::json(&told).map_err(|error| CommandError::new(error.to_string()));
    }
    notes
        .iter()
        .for_each(|note| eprintln!("{}", output::line(note)));
    let next = match shards {
        1 => {
            "run the bus on it without store.log, or with another cluster and shards: 1".to_owned()
        }
        _ => format!(
            "start the node with these stores before all others, on an empty engine or with \
             another store.log.cluster, and shards: {shards}; they become its log"
        ),
    };
    Ok(format!("imported {}: {next}\n", counts(&carried)))
}
