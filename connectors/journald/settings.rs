//! The settings of a source, and the command that they make.

use std::process::Stdio;

use async_trait::async_trait;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::process::Command;

use super::entry::{Mapper, Origin, cursor_of};
use super::source::Journal;
use crate::existing::Existing;
use crate::parameter::resolve;
use crate::process::{inheriting, shown};
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceError, SourceSettings};

/// Follows the journal of systemd.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JournaldSource {
    /// Units whose entries are read, such as `nginx.service`, and patterns of them; all unless they
    /// are given.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    units: Vec<String>,
    /// Programs whose entries are read, by what they call themselves (`SYSLOG_IDENTIFIER`); all
    /// unless they are given.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    identifiers: Vec<String>,
    /// Fields that entries have, such as `_TRANSPORT=kernel`: of those of one name any, of different
    /// ones all.
    #[serde(default)]
    #[schemars(inner(length(min = 3)))]
    matches: Vec<String>,
    /// The least severity that is read; all unless it is given.
    priority: Option<Priority>,
    /// A folder of journal files, such as those of other machines, in place of this machine's.
    #[schemars(extend("examples" = ["/var/log/journal/remote"]))]
    directory: Option<Text>,
    /// What becomes of entries that are there at the very first start.
    #[serde(default)]
    existing: Existing,
    /// What is run, with what it needs in front: `[sudo, journalctl]`; `[journalctl]` unless it is
    /// given.
    #[serde(default = "journalctl")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    command: Vec<String>,
}

/// A severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Emerg,
    Alert,
    Crit,
    Err,
    Warning,
    Notice,
    Info,
    Debug,
}

fn journalctl() -> Vec<String> {
    vec!["journalctl".to_owned()]
}

impl Priority {
    fn as_str(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Err => "err",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// What is run to read a journal.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    program: String,
    arguments: Vec<String>,
}

impl Reading {
    /// Follows the journal behind an entry, or from its beginning.
    pub(super) fn follow(&self, behind: Option<&str>) -> Command {
        let mut more = vec![
            "--follow".to_owned(),
            "--no-tail".to_owned(),
            "--quiet".to_owned(),
        ];
        more.extend(behind.map(|cursor| format!("--after-cursor={cursor}")));
        self.command(more)
    }

    /// Prints the last entry.
    fn last(&self) -> Command {
        self.command(vec!["--lines=1".to_owned()])
    }

    fn command(&self, more: Vec<String>) -> Command {
        // In front of what is matched, which stands behind all else.
        let arguments = self.arguments.iter().cloned();
        let mut all: Vec<_> = arguments.collect();
        let at = all.iter().position(|one| one == "--").unwrap_or(all.len());
        all.splice(at..at, more);
        inheriting(&self.program, all)
    }

    /// What is wrong where it cannot be run.
    pub(super) fn unstarted(&self, error: &std::io::Error) -> OpenError {
        let problem = Problem::new(format!("cannot run {}: {error}", self.program));
        let help = "install systemd, which brings journalctl, or name it by command; where there is \
                    no journal, read a log by file, or take syslog";
        OpenError(problem.help(help).at("command"))
    }

    /// The last entry's line, where there is one, and what was said beside it.
    async fn look(&self) -> Result<(Option<Vec<u8>>, String), OpenError> {
        let mut command = self.last();
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await;
        let output = output.map_err(|error| self.unstarted(&error))?;
        let said = output.stderr.trim_ascii();
        if !output.status.success() {
            let message = format!("{} fails: {}", self.program, shown(said));
            let help = "try it by hand, as the user that runs pointsman";
            return Err(OpenError(Problem::new(message).help(help)));
        }
        let line = Some(output.stdout).filter(|line| !line.trim_ascii().is_empty());
        Ok((line, shown(said)))
    }

    /// The cursor of the last entry, where there is one.
    pub(super) async fn end(&self) -> Result<Option<String>, OpenError> {
        let (line, _) = self.look().await?;
        let cursor = line.map(|line| cursor_of(&line)).transpose();
        cursor.map_err(|why| {
            let message = format!("{} prints what is no entry: {why}", self.program);
            OpenError(Problem::new(message).at("command"))
        })
    }
}

impl JournaldSource {
    fn directory(&self) -> Result<Option<String>, OpenError> {
        let directory = self.directory.as_ref();
        let directory = directory.map(|text| resolve(text, &["directory".into()]));
        directory.transpose()
    }

    fn reading(&self) -> Result<Reading, OpenError> {
        let [program, first @ ..] = self.command.as_slice() else {
            return Err(OpenError(
                Problem::new("a command needs a program").at("command"),
            ));
        };
        let mut arguments = first.to_vec();
        // Without --all a long field is null. Without --merge those who follow see nothing of what
        // was before the machine started, whatever cursor they name.
        let always = ["--output=json", "--all", "--merge", "--no-pager"];
        arguments.extend(always.map(str::to_owned));
        let directory = self.directory()?;
        arguments.extend(directory.map(|directory| format!("--directory={directory}")));
        arguments.extend(self.units.iter().map(|unit| format!("--unit={unit}")));
        let identifiers = self.identifiers.iter();
        arguments.extend(identifiers.map(|name| format!("--identifier={name}")));
        let priority = self.priority.map(Priority::as_str);
        arguments.extend(priority.map(|least| format!("--priority={least}")));
        if !self.matches.is_empty() {
            arguments.push("--".to_owned());
            arguments.extend(self.matches.iter().cloned());
        }
        Ok(Reading {
            program: program.clone(),
            arguments,
        })
    }
}

/// Whether a text is `FIELD=value`, as the journal names fields.
fn is_match(text: &str) -> bool {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split_once('=').is_some_and(|(name, _)| is_name(name))
}

#[async_trait]
impl SourceSettings for JournaldSource {
    fn check(&self) -> Vec<Problem> {
        let lists = [
            ("units", &self.units),
            ("identifiers", &self.identifiers),
            ("matches", &self.matches),
            ("command", &self.command),
        ];
        let mut problems = Vec::new();
        for (key, list) in lists {
            let mistaken = |text: &String| text.is_empty() || text.contains('\0');
            let at = list.iter().position(mistaken);
            problems.extend(at.map(|at| Problem::new("this is empty, or no text").at(at).at(key)));
        }
        if let Some(at) = self.matches.iter().position(|text| !is_match(text)) {
            let problem = Problem::new("this is no field with its value")
                .at(at)
                .at("matches");
            problems
                .push(problem.help("write _TRANSPORT=kernel, with the field's name in capitals"));
        }
        if self.command.is_empty() {
            let problem = Problem::new("a command needs a program").at("command");
            problems.push(problem.help("leave it out, or write [sudo, journalctl]"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (line, said) = self.reading()?.look().await?;
        let found = match line {
            Some(_) => "the journal can be read",
            None => "the journal can be read, and has no such entry yet",
        };
        Ok(match said.is_empty() {
            true => found.to_owned(),
            // That it does not show everything, as it does who is in no group for that.
            false => format!("{found}; journalctl says: {said}"),
        })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (reading, directory) = (self.reading()?, self.directory()?);
        let mapper = Mapper {
            name: context.name.clone(),
            mapped: context.mapped,
            origin: Origin::new(directory.as_deref()),
        };
        let behind = match &context.cursor {
            None if self.existing == Existing::Tell => Ok(None),
            None => Ok(reading.end().await?),
            Some(stored) => mapper.origin.cursor(stored).map(Some).ok_or_else(|| {
                let name = &context.name;
                SourceError::CursorMismatch(format!(
                    "the position stored for {name} is of another journal; give the source \
                     another name"
                ))
            }),
        };
        let journal = Journal::open(reading, mapper, behind, &context)?;
        Ok(Box::new(journal))
    }
}
