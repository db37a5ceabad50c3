//! The events to send: the one that the arguments describe, or those of a file.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use pointsman_schemas::{Data, Event, ExtensionValue, Timestamp, json};

use super::SendArgs;
use crate::commands::error::CommandError;

/// Events that one file may hold.
const FILE_EVENTS_MAX: usize = 1_000_000;

/// The event that the arguments describe.
pub(super) fn build(args: &SendArgs) -> Result<Event, CommandError> {
    let invalid = |error: &dyn std::fmt::Display| {
        CommandError::new(format!("that is no CloudEvent: {error}"))
    };
    let id = args
        .id
        .clone()
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let time = args
        .time
        .clone()
        .unwrap_or_else(|| Timestamp::now().to_string());
    let mut event =
        Event::builder(id, args.source.clone(), args.ty.clone().unwrap_or_default()).time(time);
    if let Some(subject) = &args.subject {
        event = event.subject(subject.clone());
    }
    for (name, value) in &args.extensions {
        if event.has(name) || name == "specversion" {
            return Err(CommandError::new(format!("{name} is no extension"))
                .help(format!("give it as --{name}, or leave it out")));
        }
        event = event.attribute(name.clone(), ExtensionValue::String(value.clone().into()));
    }
    if let Some(data) = &args.data {
        let bytes = match data.strip_prefix('@') {
            Some(path) => read(Path::new(path))?,
            None if data == "-" => read(Path::new("-"))?,
            None => data.clone().into_bytes().into(),
        };
        let media_type = args.content_type.as_deref().unwrap_or("application/json");
        event = event
            .data(typed(bytes, media_type)?)
            .datacontenttype(media_type);
    }
    event.build().map_err(|error| invalid(&error))
}

fn typed(bytes: Bytes, media_type: &str) -> Result<Data, CommandError> {
    Data::read(Some(media_type), bytes).map_err(|error| {
        CommandError::new(error.to_string()).help(
            "text in JSON stands in quotes: --data '\"text\"'; else give --content-type text/plain",
        )
    })
}

fn read(path: &Path) -> Result<Bytes, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|all| bytes = all)
    };
    read.map_err(|error| CommandError::new(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes.into())
}

/// The events of a file, and whether it holds several by its form: a list, or lines.
pub(super) fn read_file(path: &Path) -> Result<(Vec<Event>, bool), CommandError> {
    let bytes = read(path)?;
    let wrong = |what: String| CommandError::new(format!("cannot send {}: {what}", path.display()));
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let events = json::decode_batch(&bytes, FILE_EVENTS_MAX).map_err(|error| {
            wrong(pointsman_schemas::http::DecodeError::from(error).to_string())
        })?;
        return if events.is_empty() {
            Err(wrong("the list is empty".into()))
        } else {
            Ok((events, true))
        };
    }
    let lines = || {
        bytes
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
    };
    let is_json = |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    match json::decode(&bytes) {
        Ok(event) => Ok((vec![event], false)),
        Err(_)
            if lines().count() > 1 && lines().next().is_some_and(|(_, first)| is_json(first)) =>
        {
            let event = |(index, line): (usize, &[u8])| {
                json::decode(&bytes.slice_ref(line))
                    .map_err(|error| wrong(format!("line {}: {error}", index + 1)))
            };
            Ok((lines().map(event).collect::<Result<_, _>>()?, true))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}
