//! The target.

use std::path::PathBuf;

use async_trait::async_trait;
use pointsman_schemas::{Problem, Size, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::append::{Appended, Rotation};
use crate::parameter::{is_template, resolve};
use crate::printer::{events, line, printer};
use crate::{Attempt, Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// A smaller file would be rotated at every line.
const ROTATED_BYTES_MIN: u64 = 1024;

/// Appends each event to a file, as a line.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileTarget {
    /// The file, which is made where it is not there.
    #[schemars(extend("minLength" = 1, "examples" = ["./events.jsonl"]))]
    path: Text,
    /// What of an event is written.
    #[serde(default)]
    mode: LineMode,
    /// When the file is put aside; it grows unless this is given.
    rotate: Option<Rotate>,
}

/// What of an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum LineMode {
    /// The whole of it, in the JSON format.
    #[default]
    Structured,
    /// Its data, with spaces in the place of line breaks.
    Data,
}

/// When a file is put aside.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rotate {
    /// Once it is as large as this: it becomes `<path>.1`, that one `<path>.2`, and so on.
    size: Size,
    /// How many of those are kept.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1000))]
    keep: u32,
}

fn five() -> u32 {
    5
}

impl FileTarget {
    fn path(&self) -> Result<String, OpenError> {
        resolve(&self.path, &["path".into()])
    }
}

fn cannot(doing: &str, path: &str, error: &std::io::Error) -> OpenError {
    let problem = Problem::new(format!("cannot {doing} {path}: {error}")).at("path");
    OpenError(problem.help("make its folder, and let the user that runs pointsman write there"))
}

fn data(attempt: &Attempt) -> Vec<u8> {
    let mut lines = Vec::new();
    for delivery in &attempt.deliveries {
        let data = delivery.event.data();
        line(&mut lines, |lines| {
            lines.extend(data.iter().flat_map(|data| data.bytes().iter()))
        });
    }
    lines
}

#[async_trait]
impl TargetSettings for FileTarget {
    fn check(&self) -> Vec<Problem> {
        let path = match self.path.literal() {
            Some("") => Some(Problem::new("a file's path must not be empty")),
            Some(path) if is_template(path) => {
                let problem = Problem::new("no event decides which file is written to");
                Some(problem.help("write a target for each file, and rules that choose"))
            }
            _ => None,
        };
        let path = path.map(|problem| problem.at("path"));
        let rotate = self.rotate.as_ref().and_then(|rotate| {
            if rotate.size.bytes < ROTATED_BYTES_MIN {
                let problem = Problem::new("a file is put aside at 1KiB at least");
                return Some(problem.at("size").at("rotate"));
            }
            (!(1..=1_000).contains(&rotate.keep)).then(|| {
                let problem = Problem::new("1 to 1000 files are kept")
                    .at("keep")
                    .at("rotate");
                problem.help("leave rotate out to keep everything in one")
            })
        });
        path.into_iter().chain(rotate).collect()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Vec::new()
    }

    fn called(&self) -> Called {
        let path = self.path.literal().unwrap_or("a file");
        Called::always(format!("append to {path}"))
    }

    fn files(&self) -> Files {
        Files::of([&self.path])
    }

    fn refuses_batches(&self) -> Option<Problem> {
        None
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let path = self.path()?;
        let file = PathBuf::from(&path);
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.map_or_else(|| PathBuf::from("."), PathBuf::from);
        let opened = match tokio::fs::try_exists(&file).await {
            // It is opened as for writing, and nothing is written.
            Ok(true) => {
                let mut options = tokio::fs::OpenOptions::new();
                options.append(true).open(&file).await.map(drop)
            }
            Ok(false) => tokio::fs::read_dir(&folder).await.map(drop),
            Err(error) => Err(error),
        };
        opened.map_err(|error| cannot("write to", &path, &error))?;
        Ok(format!("{path} can be appended to; nothing was written"))
    }

    async fn open(&self, _: TargetContext) -> Result<TargetService, OpenError> {
        let path = self.path()?;
        let rotation = self.rotate.map(|rotate| Rotation {
            bytes: rotate.size.bytes,
            keep: rotate.keep,
        });
        let file = PathBuf::from(&path);
        let opened = tokio::task::spawn_blocking(move || Appended::open(file, rotation)).await;
        let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let file = opened.map_err(|error| cannot("open", &path, &error))?;
        Ok(match self.mode {
            LineMode::Structured => printer(file, &path, events),
            LineMode::Data => printer(file, &path, data),
        })
    }
}
