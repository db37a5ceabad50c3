//! A command as a source: each line that it prints becomes an event.
//!
//! ```yaml
//! feed:
//!   exec: { command: [./follow.py, --all], cursor: json, restart: always }
//! ```
//!
//! **Run** as the target's commands are: without a shell, in a process group of its own, with
//! [`INHERITED`], `env`, `POINTSMAN_SOURCE` and, where there is one, `POINTSMAN_CURSOR` as its
//! environment, and an empty standard input. Standard error goes into the log.
//!
//! **Each line** is an event of type `com.pointsman.exec.line`, source `/exec/<name>`, with the
//! line as data: JSON where it is JSON, else text. With `output: cloudevents` it is a CloudEvent in
//! the JSON format. Blank lines are passed over. A line longer than `max_line`, one that is no
//! CloudEvent where it should be, and one that the command broke off by failing, is a dead letter
//! of the source. With an `event:` mapping the defaults are these, and its root has the data as
//! `body`.
//!
//! **Restarted** with `restart: always` (the default) or `on-failure`, or `{ every: 5m }`: that
//! long after the last start, or at once where it took longer. One that fails is started again
//! after a backoff, whatever the setting.
//!
//! **Cursor**: with `cursor` set, a line of its form says how far the command has read. It is
//! stored in the same commit as the lines before it or after them, and the next start gets it as
//! `POINTSMAN_CURSOR`. An id is made of how many cursor lines came before, how many lines since the
//! last, and the line itself: what is printed again after a crash is known again, and what differs
//! is never taken for it. Without `cursor` ids are unique, and what was printed and not stored when
//! the bus dies is gone.
//!
//! **Ended** when the source stops: the group is asked to end, and killed after two seconds; what
//! it printed until then is stored. Back-pressure is the pipe's: what is not taken is not read.
//! What an earlier life of Pointsman left running is ended before the first start.

mod line;
mod lines;
mod run;

use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use pointsman_schemas::{Backoff, Cursor, Interval, Problem, Segment, Size, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::{Instant, sleep_until};

use super::{INHERITED, check_command, group};
use crate::parameter::{is_template, resolve};
use crate::source::fingerprint;
use crate::{Batch, Guarantee, OpenError, Source, SourceContext, SourceError, SourceSettings};
use line::{Mapper, Read};
use lines::Lines;
use run::Run;

/// The type of an event that is made of a line.
pub const LINE_TYPE: &str = "com.pointsman.exec.line";

/// How many messages a batch holds at most; of bytes it holds what is read at once, and one line.
pub const BATCH_MESSAGES_MAX: usize = 1_000;

/// The longest `max_line`.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The shortest `every`.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// First and longest pause before a command that has ended well is started again.
const START_AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// A command that ran this long starts over with the shortest pause.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Runs a command, each line of whose standard output becomes an event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSource {
    /// The program and its arguments. No shell is involved.
    #[schemars(length(min = 1), extend("examples" = [["./follow.py", "--all"]], "prefixItems" = [{ "$ref": "#/$defs/Text", "minLength": 1 }]))]
    command: Vec<Text>,
    /// Environment variables for it. Few others are handed on to it.
    #[serde(default)]
    env: IndexMap<String, Text>,
    /// The folder to run it in; without it, that of the rule file.
    cwd: Option<Text>,
    /// What a line of its standard output is.
    #[serde(default)]
    output: Output,
    /// When it is started again.
    #[serde(default)]
    restart: Restart,
    /// Which lines say how far it has read; none unless it is given. The next start gets what the
    /// last one said as POINTSMAN_CURSOR.
    cursor: Option<CursorForm>,
    /// The longest line; `1MiB` by default. A longer one is a dead letter.
    #[serde(default = "max_line")]
    max_line: Size,
}

/// What a line of a command's standard output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Output {
    /// The data of an event: JSON where it is JSON, else text.
    #[default]
    Lines,
    /// A CloudEvent in the JSON format.
    Cloudevents,
}

/// When a command is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Restart {
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
enum CursorForm {
    /// `{"pointsman_cursor": …}`, with any JSON; a text is handed on without its quotes.
    Json,
    /// Those that begin so; the cursor is what follows.
    Prefix(#[schemars(length(min = 1))] String),
}

fn max_line() -> Size {
    Size { bytes: 1024 * 1024 }
}

impl ExecSource {
    fn texts(&self) -> impl Iterator<Item = (Vec<Segment>, &Text)> {
        let words = self
            .command
            .iter()
            .enumerate()
            .map(|(index, word)| (vec!["command".into(), index.into()], word));
        let variables = self
            .env
            .iter()
            .map(|(name, value)| (vec!["env".into(), name.as_str().into()], value));
        words
            .chain(variables)
            .chain(self.cwd.iter().map(|cwd| (vec!["cwd".into()], cwd)))
    }

    /// The command with everything read now, so that a start has what files say by then.
    fn resolved(&self) -> Result<(String, Command), OpenError> {
        let mut words = Vec::with_capacity(self.command.len());
        for (index, word) in self.command.iter().enumerate() {
            words.push(resolve(word, &["command".into(), index.into()])?);
        }
        let [program, arguments @ ..] = words.as_slice() else {
            return Err(OpenError(
                Problem::new("a command needs a program").at("command"),
            ));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        command.envs(
            INHERITED
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        );
        for (name, value) in &self.env {
            command.env(name, resolve(value, &["env".into(), name.as_str().into()])?);
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(resolve(cwd, &["cwd".into()])?);
        }
        Ok((program.clone(), command))
    }
}

#[async_trait]
impl SourceSettings for ExecSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = check_command(&self.command, &self.env);
        for (path, text) in self.texts() {
            let problem = match text.literal() {
                Some(text) if is_template(text) => Problem::new(
                    "a source's command starts before there is an event, so a template has nothing \
                     to be filled in from",
                )
                .help(
                    "write the value, { env: NAME } or { file: path }; `<$` as a text belongs into \
                     a script",
                ),
                Some(text) if text.contains('\0') => {
                    Problem::new("a NUL cannot be handed to a command")
                }
                Some("") if path == ["cwd".into()] => {
                    Problem::new("a folder's path must not be empty")
                }
                _ => continue,
            };
            problems.push(Problem { path, ..problem });
        }
        match self.restart {
            Restart::Every(Interval(every)) if every < EVERY_MIN => {
                let message = format!(
                    "a command is started at most every {} ms",
                    EVERY_MIN.as_millis()
                );
                problems.push(Problem::new(message).at("every").at("restart"));
            }
            _ => {}
        }
        if self.cursor == Some(CursorForm::Prefix(String::new())) {
            let problem =
                Problem::new("every line begins with an empty text, so none would be an event");
            problems.push(
                problem
                    .help("write { prefix: \"#cursor \" }, or json")
                    .at("prefix")
                    .at("cursor"),
            );
        }
        if !(1..=LINE_BYTES_MAX).contains(&self.max_line.bytes) {
            problems.push(Problem::new("a line has between 1B and 64MiB").at("max_line"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        self.output == Output::Cloudevents
    }

    fn has_stable_ids(&self) -> bool {
        self.cursor.is_some() || self.output == Output::Cloudevents
    }

    fn guarantee(&self) -> Guarantee {
        if self.cursor.is_some() {
            Guarantee::AtLeastOnce
        } else {
            Guarantee::AtMostOnce
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (program, command) = self.resolved()?;
        let folder = command.as_std().get_current_dir().unwrap_or(".".as_ref());
        super::found(&program, folder)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let owner = group::owner(&format!("source {}/{}", context.tenant, context.name));
        if !group::end_left_behind(&owner).await {
            return Err(OpenError(Problem::new(
                "a command that was started before Pointsman's last start still runs",
            )));
        }
        let position = match context.cursor.as_ref().filter(|_| self.cursor.is_some()) {
            None => Ok(Position::default()),
            Some(cursor) => Position::read(cursor).ok_or_else(|| {
                let name = &context.name;
                SourceError::CursorMismatch(format!(
                    "the position stored for {name} is not a command's; give the source another \
                     name"
                ))
            }),
        };
        let mapper = Mapper::new(&context, self.output, self.cursor.clone());
        let lines = Lines::new(usize::try_from(self.max_line.bytes).unwrap_or(usize::MAX));
        let mut commands = CommandSource {
            settings: self.clone(),
            context,
            owner,
            bus: group::this_bus(),
            lines,
            mapper,
            position: Position::default(),
            refused: None,
            run: None,
            start_at: Instant::now(),
            pause: START_AGAIN.initial,
            failure: None,
            is_finishing: false,
        };
        match position {
            Ok(position) => {
                commands.position = position;
                commands.start()?;
            }
            Err(refused) => commands.refused = Some(refused),
        }
        Ok(Box::new(commands))
    }
}

/// How far a command has read, as the cursor keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// What the last cursor line said.
    cursor: Option<String>,
    /// How many there have been. A cursor may come again with the same text; its number tells the
    /// lines behind it apart.
    number: u64,
}

impl Position {
    fn read(cursor: &Cursor) -> Option<Self> {
        (cursor.fingerprint == fingerprint(&["exec"]))
            .then(|| serde_json::from_slice(&cursor.position).ok())
            .flatten()
    }

    fn stored(&self) -> Cursor {
        // Texts and numbers always make JSON.
        Cursor {
            fingerprint: fingerprint(&["exec"]),
            position: serde_json::to_vec(self).unwrap_or_default().into(),
        }
    }
}

/// An open source: its command, run again and again.
struct CommandSource {
    settings: ExecSource,
    context: SourceContext,
    owner: String,
    bus: String,
    lines: Lines,
    mapper: Mapper,
    /// What the last line that was handed over leads to.
    position: Position,
    /// Why it cannot go on from where it stood.
    refused: Option<SourceError>,
    /// The command while it runs.
    run: Option<Run>,
    /// When it is started next.
    start_at: Instant,
    /// How long it rests after it has ended well.
    pause: Duration,
    /// How a run failed whose last lines have just been handed over.
    failure: Option<SourceError>,
    /// True once nobody wants more than what there is.
    is_finishing: bool,
}

impl CommandSource {
    fn start(&mut self) -> Result<(), OpenError> {
        let (program, mut command) = self.settings.resolved()?;
        command
            .env("POINTSMAN_SOURCE", self.context.name.as_str())
            .env(group::OWNER, &self.owner)
            .env(group::BUS, &self.bus);
        if let Some(cursor) = &self.position.cursor {
            command.env("POINTSMAN_CURSOR", cursor);
        }
        let run = Run::start(command, &self.context.name).map_err(|error| {
            let help = "check its name, its place and that it is executable";
            OpenError(
                Problem::new(format!("cannot start {program}: {error}"))
                    .help(help)
                    .at("command"),
            )
        })?;
        self.run = Some(run);
        self.mapper.begin_run();
        Ok(())
    }

    /// A batch of the lines that are there; none where there is none. The last cursor in it counts:
    /// what stands before it is in this batch or an earlier one.
    fn batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        while batch.messages.len() < BATCH_MESSAGES_MAX {
            let Some(line) = self.lines.next() else { break };
            let read = self.mapper.read(line, self.position.number);
            self.take(read, &mut batch);
        }
        filled(batch)
    }

    fn take(&mut self, read: Read, batch: &mut Batch) {
        match read {
            Read::Nothing => {}
            Read::Message(message) => batch.messages.push(message),
            Read::Cursor(cursor) => {
                self.position = Position {
                    cursor: Some(cursor),
                    number: self.position.number.saturating_add(1),
                };
                batch.cursor = Some(self.position.stored());
            }
        }
    }

    /// Sees to a run whose output has all been handed over: yields what stands behind its last line
    /// break.
    async fn end_run(&mut self) -> Option<Batch> {
        let run = self.run.as_mut()?;
        let (ended, began) = (run.ended().await, run.began);
        // From here on there is no await.
        self.run = None;
        let mut batch = Batch::default();
        if let Some(line) = self.lines.rest() {
            let read = match self.settings.cursor {
                _ if ended.is_success => self.mapper.read(line, self.position.number),
                // It is printed again, whole, behind the cursor that the next start is given.
                Some(_) => Read::Nothing,
                None => Read::Message(self.mapper.broken_off(line, &ended.how)),
            };
            self.take(read, &mut batch);
        }
        if self.is_finishing {
            return filled(batch);
        }
        if ended.is_success {
            self.plan(began);
        } else {
            self.failure = Some(SourceError::Unavailable(format!(
                "the command has failed: {}",
                ended.how
            )));
        }
        filled(batch)
    }

    /// Decides when a command that has ended well is started again.
    fn plan(&mut self, began: Instant) {
        match self.settings.restart {
            Restart::OnFailure => self.failure = Some(SourceError::Ended),
            Restart::Every(Interval(every)) => self.start_at = began + every,
            Restart::Always => {
                if began.elapsed() >= RAN_WELL {
                    self.pause = START_AGAIN.initial;
                }
                self.start_at = Instant::now() + self.pause;
                self.pause = START_AGAIN.longer(self.pause);
            }
        }
    }
}

fn filled(batch: Batch) -> Option<Batch> {
    (!batch.messages.is_empty() || batch.cursor.is_some()).then_some(batch)
}

#[async_trait]
impl Source for CommandSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if let Some(refused) = self.refused.clone() {
            return Err(refused);
        }
        loop {
            if let Some(batch) = self.batch() {
                return Ok(batch);
            }
            if let Some(failure) = self.failure.clone() {
                return Err(failure);
            }
            match &mut self.run {
                None => {
                    sleep_until(self.start_at).await;
                    self.start()
                        .map_err(|error| SourceError::Unavailable(error.to_string()))?;
                }
                Some(run) => {
                    if !run.read(&mut self.lines).await
                        && let Some(batch) = self.end_run().await
                    {
                        return Ok(batch);
                    }
                }
            }
        }
    }

    async fn finish(&mut self) -> Option<Batch> {
        if !self.is_finishing {
            self.is_finishing = true;
            if let Some(run) = &mut self.run {
                run.end();
            }
        }
        loop {
            if let Some(batch) = self.batch() {
                return Some(batch);
            }
            if !self.run.as_mut()?.read(&mut self.lines).await {
                return self.end_run().await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
