//! `pointsman dead export` and `import`: dead letters as lines of JSON.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use pointsman_schemas::DeliveryId;
use serde_json::value::RawValue;

use super::{FilterArgs, FromArgs, ListArgs, find, page, unprintable, whole};
use crate::admin::view::{ImportRequest, Imported, LETTERS_MAX, LetterInFile};
use crate::commands::client::{AdminArgs, Client};
use crate::commands::error::CommandError;
use crate::output::{self, OutputArgs};

/// What is sent at once, about: half of what the API takes.
const BYTES_AT_ONCE: usize = 512 * 1024;

/// What `dead export` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// These; all that the conditions select where none is named
    pub ids: Vec<DeliveryId>,
    /// Which
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Into this file, which must not be there; to standard output where left out
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Where from
    #[command(flatten)]
    pub from: FromArgs,
}

/// What `dead import` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// A file that `dead export` wrote; `-` is standard input
    pub file: PathBuf,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) async fn export(args: &ExportArgs) -> Result<String, CommandError> {
    let name = args
        .file
        .as_ref()
        .map_or("standard output".into(), |file| file.display().to_string());
    let failed = |error: std::io::Error| {
        CommandError::new(format!("cannot write the dead letters to {name}: {error}"))
    };
    let sink: Box<dyn Write> = match &args.file {
        // What is there may be the only copy of something.
        Some(file) => Box::new(std::fs::File::create_new(file).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let (mut sink, mut count) = (BufWriter::new(sink), 0);
    let mut write = |letter: &RawValue| {
        count += 1;
        // Between values of JSON a line break is a space like any other; within one there is none.
        let line = letter.get().replace(['\n', '\r'], " ");
        writeln!(sink, "{line}").map_err(failed)
    };
    for id in &args.ids {
        write(&whole(&args.from, *id).await?)?;
    }
    let mut list = ListArgs {
        filter: args.filter.clone(),
        after: None,
        limit: 1_000,
        from: args.from.clone(),
        output: OutputArgs { json: true },
    };
    while args.ids.is_empty() {
        let found = page(&list).await?;
        for letter in &found.items {
            let id = letter.id.parse().map_err(unprintable)?;
            // Somebody may have dealt with it meanwhile.
            if let Some(letter) = find(&args.from, id).await? {
                write(&letter)?;
            }
        }
        match found.next {
            None => break,
            Some(next) => list.after = Some(next.parse().map_err(unprintable)?),
        }
    }
    sink.flush().map_err(failed)?;
    Ok(match &args.file {
        Some(_) => super::counted(count, &format!("written to {name}")),
        None => String::new(),
    })
}

pub(super) async fn import(args: &ImportArgs) -> Result<String, CommandError> {
    let name = args.file.display();
    let read = match args.file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(&args.file),
    };
    let text = read.map_err(|error| CommandError::new(format!("cannot read {name}: {error}")))?;
    // All of it is read before anything is sent.
    let mut letters: Vec<(usize, LetterInFile)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
        let of_line = |error: String| CommandError::new(format!("{name}, line {number}: {error}"));
        let letter: LetterInFile =
            serde_json::from_str(line).map_err(|error| of_line(error.to_string()))?;
        letter.read().map_err(of_line)?;
        letters.push((line.len(), letter));
    }
    let client = Client::of_admin(&args.admin)?;
    let (mut all, mut letters) = (Imported::default(), letters.into_iter().peekable());
    while letters.peek().is_some() {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some((length, letter)) =
            letters.next_if(|(next, _)| some.is_empty() || bytes + next <= BYTES_AT_ONCE)
        {
            bytes += length;
            some.push(letter);
            if some.len() == LETTERS_MAX {
                break;
            }
        }
        let request = ImportRequest { letters: some };
        let told: Imported = client.post("/dead/import", &request).await?;
        all.imported += told.imported;
        all.known += told.known;
        all.without_event += told.without_event;
    }
    if args.output.json {
        return output::json(&all).map_err(unprintable);
    }
    let mut told = super::counted(all.imported, "imported");
    if all.known > 0 {
        told += &super::counted(all.known, "passed over: here already, or imported before");
    }
    if all.without_event > 0 {
        told += &super::counted(all.without_event, "left out: no event is in it");
    }
    Ok(told)
}
