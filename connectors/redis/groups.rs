//! The groups of a source's streams: whether they are there, and making them.

use std::fmt;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};

use super::client::{Client, Unanswered};
use super::refusal::Refusal;
use super::trimmed::found;
use crate::OpenError;

/// How long an answer may take that does not wait for entries: less than who asks waits.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// One group of several streams.
pub(super) struct Groups {
    pub(super) client: Client,
    pub(super) streams: Vec<String>,
    /// The group's name, in each of them.
    pub(super) name: String,
}

/// Why nothing is known of them.
pub(super) enum GroupsError {
    Unanswered(Unanswered),
    Refused(Refusal),
}

impl fmt::Display for GroupsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(unanswered) => unanswered.fmt(f),
            Self::Refused(refusal) => f.write_str(&refusal.words()),
        }
    }
}

impl From<GroupsError> for OpenError {
    fn from(error: GroupsError) -> Self {
        match error {
            GroupsError::Unanswered(unanswered) => unanswered.problem(),
            GroupsError::Refused(refusal) => Self(refusal.problem("stream")),
        }
    }
}

impl Groups {
    /// What `XINFO GROUPS` says of each stream; nothing where there is none.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub(super) async fn look(&self) -> Result<Vec<Option<Value>>, GroupsError> {
        let mut commands = Pipeline::new();
        for stream in &self.streams {
            commands.add_command(xinfo("GROUPS", stream));
        }
        let asked = self.client.ask(&commands, ANSWER_WITHIN).await;
        let answers = asked.map_err(GroupsError::Unanswered)?;
        let told = answers.into_iter().map(|answer| match answer {
            Ok(groups) => Ok(Some(groups)),
            Err(refusal) if refusal.is_of_missing_key() => Ok(None),
            Err(refusal) => Err(GroupsError::Refused(refusal)),
        });
        told.collect()
    }

    /// Makes the group, and a stream, where they are not there; it begins behind this id.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub(super) async fn make(&self, start: &str) -> Result<(), GroupsError> {
        let there = match self.look().await {
            Ok(there) => there,
            // One may be allowed to make a group, and not to look at it.
            Err(GroupsError::Refused(_)) => vec![None; self.streams.len()],
            Err(unanswered) => return Err(unanswered),
        };
        let mut commands = Pipeline::new();
        for (stream, groups) in self.streams.iter().zip(&there) {
            let mut groups = groups.iter();
            if groups.any(|all| found(all, &self.name).is_some()) {
                continue;
            }
            let command = commands.cmd("XGROUP").arg("CREATE").arg(stream);
            command.arg(&self.name).arg(start).arg("MKSTREAM");
        }
        if commands.is_empty() {
            return Ok(());
        }
        let asked = self.client.ask(&commands, ANSWER_WITHIN).await;
        for answer in asked.map_err(GroupsError::Unanswered)? {
            match answer {
                // Somebody else has made it meanwhile.
                Err(refusal) if refusal.code == "BUSYGROUP" => {}
                Err(refusal) => return Err(GroupsError::Refused(refusal)),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

pub(super) fn xinfo(what: &str, stream: &str) -> Cmd {
    let mut command = cmd("XINFO");
    command.arg(what).arg(stream);
    command
}
