//! An open source: its command is started, read and started again.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Backoff, Cursor, Interval, Problem};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::line::{Mapper, Read};
use super::settings::{ExecSource, Restart};
use crate::process::{Lines, Run, group};
use crate::source::fingerprint;
use crate::{Batch, OpenError, Source, SourceContext, SourceError};

/// How many messages a batch holds at most; of bytes it holds what is read at once, and one line.
pub(super) const BATCH_MESSAGES_MAX: usize = 1_000;

/// First and longest pause before a command that has ended well is started again.
const START_AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// A command that ran this long starts over with the shortest pause.
const RAN_WELL: Duration = Duration::from_secs(60);

/// How far a command has read, as the cursor keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// What the last cursor line said.
    pub(super) cursor: Option<String>,
    /// How many there have been. A cursor may come again with the same text; its number tells the
    /// lines behind it apart.
    pub(super) number: u64,
}

impl Position {
    pub(super) fn read(cursor: &Cursor) -> Option<Self> {
        (cursor.fingerprint == fingerprint(&["exec"]))
            .then(|| serde_json::from_slice(&cursor.position).ok())
            .flatten()
    }

    pub(super) fn stored(&self) -> Cursor {
        // Texts and numbers always make JSON.
        Cursor {
            fingerprint: fingerprint(&["exec"]),
            position: serde_json::to_vec(self).unwrap_or_default().into(),
        }
    }
}

/// An open source: its command, run again and again.
pub(super) struct CommandSource {
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
    /// A source whose command has not been started.
    pub(super) fn new(settings: ExecSource, context: SourceContext, owner: String) -> Self {
        let line_bytes_max = usize::try_from(settings.max_line.bytes).unwrap_or(usize::MAX);
        Self {
            mapper: Mapper::new(&context, settings.output, settings.cursor.clone()),
            lines: Lines::new(line_bytes_max),
            settings,
            context,
            owner,
            bus: group::this_bus(),
            position: Position::default(),
            refused: None,
            run: None,
            start_at: Instant::now(),
            pause: START_AGAIN.initial,
            failure: None,
            is_finishing: false,
        }
    }

    /// Starts the command, which goes on from there.
    pub(super) fn start_from(&mut self, position: Position) -> Result<(), OpenError> {
        self.position = position;
        self.start()
    }

    /// Never starts the command, and says why.
    pub(super) fn refuse(&mut self, why: SourceError) {
        self.refused = Some(why);
    }

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
