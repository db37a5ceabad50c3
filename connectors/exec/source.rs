//! A command as a source: each line that it prints becomes an event.
//!
//! ```yaml
//! feed:
//!   exec: { command: [./follow.py, --all], cursor: json, restart: always }
//! ```
//!
//! **Run** as the target's commands are: without a shell, in a process group of its own, with
//! `INHERITED`, `env`, `POINTSMAN_SOURCE` and, where there is one, `POINTSMAN_CURSOR` as its
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

mod commands;
mod line;
mod settings;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem};

use super::command;
use crate::parameter::is_template;
use crate::process::group;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceError, SourceSettings};
use commands::{CommandSource, Position};
use settings::{CursorForm, EVERY_MIN, LINE_BYTES_MAX, Output, Restart};

pub use line::LINE_TYPE;
pub use settings::ExecSource;

#[async_trait]
impl SourceSettings for ExecSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = command::check(&self.command, &self.env, self.cwd.as_ref());
        for (path, text) in command::texts(&self.command, &self.env, self.cwd.as_ref()) {
            if text.literal().is_some_and(is_template) {
                let problem = Problem::new(
                    "a source's command starts before there is an event, so a template has nothing \
                     to be filled in from",
                )
                .help(
                    "write the value, { env: NAME } or { file: path }; `<$` as a text belongs into \
                     a script",
                );
                problems.push(Problem { path, ..problem });
            }
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

    fn runs_on(&self) -> RunsOn {
        // Without a cursor, too: the command would bring the same on each.
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (program, command) = self.resolved()?;
        let folder = command.as_std().get_current_dir().unwrap_or(".".as_ref());
        command::found(&program, folder)
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
        let mut commands = CommandSource::new(self.clone(), context, owner);
        match position {
            Ok(position) => commands.start_from(position)?,
            Err(refused) => commands.refuse(refused),
        }
        Ok(Box::new(commands))
    }
}

#[cfg(test)]
mod tests;
