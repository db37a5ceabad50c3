//! A source's settings, and the command that they make.

use std::time::Duration;

use indexmap::IndexMap;
use pointsman_schemas::{Interval, Problem, Size, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::process::Command;

use crate::OpenError;
use crate::parameter::resolve;
use crate::process::inheriting;

/// The shortest `every`.
pub(super) const EVERY_MIN: Duration = Duration::from_millis(100);

/// The longest `max_line`.
pub(super) const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Runs a command, each line of whose standard output becomes an event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSource {
    /// The program and its arguments. No shell is involved.
    #[schemars(length(min = 1), extend("examples" = [["./follow.py", "--all"]], "prefixItems" = [{ "$ref": "#/$defs/Text", "minLength": 1 }]))]
    pub(super) command: Vec<Text>,
    /// Environment variables for it. Few others are handed on to it.
    #[serde(default)]
    pub(super) env: IndexMap<String, Text>,
    /// The folder to run it in; without it, that of the rule file.
    pub(super) cwd: Option<Text>,
    /// What a line of its standard output is.
    #[serde(default)]
    pub(super) output: Output,
    /// When it is started again.
    #[serde(default)]
    pub(super) restart: Restart,
    /// Which lines say how far it has read; none unless it is given. The next start gets what the
    /// last one said as POINTSMAN_CURSOR.
    pub(super) cursor: Option<CursorForm>,
    /// The longest line; `1MiB` by default. A longer one is a dead letter.
    #[serde(default = "max_line")]
    pub(super) max_line: Size,
}

/// What a line of a command's standard output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Output {
    /// The data of an event: JSON where it is JSON, else text.
    #[default]
    Lines,
    /// A CloudEvent in the JSON format.
    Cloudevents,
}

/// When a command is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Restart {
    /// Whenever it has ended.
    #[default]
    Always,
    /// When it has failed; one that exits with 0 has done its work.
    OnFailure,
    /// So long after its last start, or once it has ended where that is later; after a failure,
    /// sooner.
    Every(Interval),
}

/// Which lines are cursors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum CursorForm {
    /// `{"pointsman_cursor": …}`, with any JSON; a text is handed on without its quotes.
    Json,
    /// Those that begin so; the cursor is what follows.
    Prefix(#[schemars(length(min = 1))] String),
}

fn max_line() -> Size {
    Size { bytes: 1024 * 1024 }
}

impl ExecSource {
    /// The command with everything read now, so that a start has what files say by then.
    pub(super) fn resolved(&self) -> Result<(String, Command), OpenError> {
        let mut words = Vec::with_capacity(self.command.len());
        for (index, word) in self.command.iter().enumerate() {
            words.push(resolve(word, &["command".into(), index.into()])?);
        }
        let [program, arguments @ ..] = words.as_slice() else {
            return Err(OpenError(
                Problem::new("a command needs a program").at("command"),
            ));
        };
        let mut command = inheriting(program, arguments);
        for (name, value) in &self.env {
            command.env(name, resolve(value, &["env".into(), name.as_str().into()])?);
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(resolve(cwd, &["cwd".into()])?);
        }
        Ok((program.clone(), command))
    }
}
