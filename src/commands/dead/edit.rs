//! `pointsman dead edit`: an event is changed in the editor, or taken from a file.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use indexmap::IndexMap;
use pointsman_schemas::{DeliveryId, json};
use serde_json::value::RawValue;

use super::print::as_sheet;
use super::unprintable;
use crate::admin::view::{DeadContent, EditRequest};
use crate::commands::client::{AdminArgs, Client};
use crate::commands::error::CommandError;
use crate::output::OutputArgs;

/// What `dead edit` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct EditArgs {
    /// Which
    pub id: DeliveryId,
    /// Take the event from this file, in the JSON format, instead of opening $VISUAL or $EDITOR
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Take back what was edited: a redrive sends the event as it came again
    #[arg(long, conflicts_with = "file")]
    pub undo: bool,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What stands in the editor where a letter holds no event: what a source could not read.
const EMPTY: &str = r#"{
  "specversion": "1.0",
  "id": "",
  "source": "",
  "type": "",
  "data": null
}
"#;

pub(super) async fn edit(args: &EditArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let path = format!("/dead/{}", args.id);
    let event = match &args.file {
        _ if args.undo => None,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                CommandError::new(format!("cannot read {}: {error}", file.display()))
            })?;
            let of_file = |error| CommandError::new(format!("{}: {error}", file.display()));
            Some(checked(&text).map_err(of_file)?)
        }
        None => {
            let whole: Box<RawValue> = client.get(&path).await?;
            let content: DeadContent = serde_json::from_str(whole.get()).map_err(unprintable)?;
            Some(in_editor(&editor(), &draft(&content), args.id)?)
        }
    };
    let request = EditRequest {
        undo: event.is_none(),
        event,
    };
    let whole: Box<RawValue> = client.post(&format!("{path}/edit"), &request).await?;
    if args.output.json {
        return Ok(format!("{whole}\n"));
    }
    let letter = serde_json::from_str(whole.get()).map_err(unprintable)?;
    let content = serde_json::from_str(whole.get()).map_err(unprintable)?;
    Ok(as_sheet(&letter, &content))
}

/// The event as it is edited: as it was edited last, else as it came. Each member stands on a line
/// of its own, and its value as it is: numbers and duplicate keys of data are not touched.
fn draft(content: &DeadContent) -> String {
    // What does not fit its schema is no event to the bus, and one to whoever edits it.
    let rejected = content.raw.as_deref();
    let rejected = rejected.and_then(|raw| checked(raw).ok());
    let event = content.edited.as_deref().or(content.event.as_deref());
    let event = event.or(rejected.as_deref());
    let members = event.map(|event| {
        serde_json::from_str::<IndexMap<String, Box<RawValue>>>(event.get()).unwrap_or_default()
    });
    let Some(members) = members.filter(|members| !members.is_empty()) else {
        return EMPTY.to_owned();
    };
    let lines = members.iter();
    let lines: Vec<String> = lines
        .map(|(name, value)| format!("  {name:?}: {value}"))
        .collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// The text as it is sent, if it is an event.
fn checked(text: &str) -> Result<Box<RawValue>, String> {
    json::decode(&Bytes::copy_from_slice(text.as_bytes())).map_err(|error| error.to_string())?;
    RawValue::from_string(text.trim().to_owned()).map_err(|error| error.to_string())
}

/// Has the text edited until it is an event, or somebody gives up. What was written is not lost
/// then: the file stays, and is named.
fn in_editor(editor: &str, text: &str, id: DeliveryId) -> Result<Box<RawValue>, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::new(format!("cannot write the event to a file: {error}"))
    };
    let mut file = tempfile::Builder::new()
        .prefix(&format!("pointsman-{id}-"))
        .suffix(".json")
        .tempfile()
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let path = file.into_temp_path();
    loop {
        open(editor, &path)?;
        let edited = std::fs::read_to_string(&path).map_err(failed)?;
        if edited == text {
            return Err(CommandError::new("nothing was changed"));
        }
        let error = match checked(&edited) {
            Ok(event) => return Ok(event),
            Err(error) => error,
        };
        eprintln!("this is no event: {error}");
        if !wants_to_go_on() {
            let kept = path.keep().map_err(|error| failed(error.error))?;
            return Err(CommandError::new(format!("this is no event: {error}"))
                .help(format!("what you wrote is in {}", kept.display())));
        }
    }
}

/// The command that edits a file.
fn editor() -> String {
    ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|editor| !editor.is_empty()))
        .unwrap_or_else(|| "vi".to_owned())
}

fn open(editor: &str, path: &Path) -> Result<(), CommandError> {
    // By the shell, as git does: the variable may have arguments.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$@\""), editor])
        .arg(path)
        .status()
        .map_err(|error| CommandError::new(format!("cannot start the editor: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(
        CommandError::new(format!("the editor {editor:?} ended with {status}"))
            .help("set VISUAL or EDITOR to one that is there, or give --file"),
    )
}

fn wants_to_go_on() -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("edit it again? [Y/n] ");
    let mut line = String::new();
    let is_read =
        std::io::stderr().flush().is_ok() && std::io::stdin().read_line(&mut line).is_ok();
    is_read && matches!(line.trim(), "" | "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(event: &str) -> DeadContent {
        DeadContent {
            event: Some(RawValue::from_string(event.to_owned()).unwrap()),
            ..DeadContent::default()
        }
    }

    const LARGE: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"n":12345678901234567890123,"n":1e2}}"#;

    #[test]
    fn a_draft_keeps_values_as_they_are() {
        let text = draft(&content(LARGE));
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            text.contains(r#""data": {"n":12345678901234567890123,"n":1e2}"#),
            "{text}"
        );
        let sent = checked(&text).unwrap();
        assert!(sent.get().contains("12345678901234567890123"));
        let edited = DeadContent {
            edited: content(r#"{"id":"later"}"#).event,
            ..content(LARGE)
        };
        assert_eq!(draft(&edited), "{\n  \"id\": \"later\"\n}\n");
        assert!(draft(&DeadContent::default()).contains("specversion"));
    }

    #[test]
    fn an_editor_is_given_the_draft_and_what_it_spoils_is_kept() {
        let id = "0000000000000007-1-1-0".parse().unwrap();
        let edited = |editor: &str| {
            let edited = in_editor(editor, &draft(&content(LARGE)), id);
            edited.map_err(|error| format!("{error} {}", error.help_text()))
        };
        let mended = edited("sed -i s#/s#/other#").unwrap();
        assert!(mended.get().contains(r#""source": "/other""#), "{mended}");
        assert!(edited("true").unwrap_err().contains("nothing was changed"));
        assert!(
            edited("false")
                .unwrap_err()
                .contains("set VISUAL or EDITOR")
        );
        // Nobody is there to go on.
        let spoilt = edited("sed -i s/specversion/version/").unwrap_err();
        let (why, kept) = spoilt.split_once("what you wrote is in ").unwrap();
        assert!(why.contains("this is no event"), "{why}");
        let written = std::fs::read_to_string(kept.trim()).unwrap();
        assert!(written.contains(r#""version": "1.0""#), "{written}");
        std::fs::remove_file(kept.trim()).unwrap();
    }

    #[test]
    fn what_is_no_event_says_why() {
        let error = checked(EMPTY).unwrap_err();
        assert!(error.contains("id"), "{error}");
        assert!(checked("{").is_err());
    }
}
