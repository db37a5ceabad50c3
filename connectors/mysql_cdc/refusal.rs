//! What a server refuses, and what to do about it.

use std::fmt;

use pointsman_schemas::Problem;

use super::take::{Take, Unreadable};
use crate::SourceError;

/// "Got fatal error from master when reading data from binary log", for whatever reason.
const FATAL_IN_LOG: u16 = 1236;

/// An error of the server: its number and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) message: String,
}

/// Why nothing was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused(Refusal),
    /// The connection cannot be made or has broken, or what is there does not do.
    Broken(Problem),
    /// What comes next in the log is not to be had any more.
    Lost(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                write!(f, "the server refuses: {refusal}")?;
                match refusal.advice() {
                    Some((_, help)) => write!(f, "; {help}"),
                    None => Ok(()),
                }
            }
            Self::Broken(problem) => f.write_str(&problem.message),
            Self::Lost(what) => f.write_str(what),
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(why: Unreadable) -> Self {
        Self::broken(format!("what came cannot be read: {why}"))
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(what) => Self::CursorMismatch(what),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl Failure {
    /// The connection broke, in these words.
    pub(super) fn broken(why: impl fmt::Display) -> Self {
        let message = format!("the connection to the server broke: {why}");
        Self::Broken(Problem::new(message).at("url"))
    }

    /// What stands at which setting.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Broken(problem) => problem,
            Self::Lost(what) => Problem::new(what).at("url"),
            Self::Refused(refusal) => {
                let problem = Problem::new(format!("the server refuses: {refusal}"));
                match refusal.advice() {
                    Some((at, help)) => problem.help(help).at(at),
                    None => problem.at("url"),
                }
            }
        }
    }
}

impl Refusal {
    /// Reads an error behind its first byte.
    pub(super) fn read(packet: &[u8]) -> Self {
        let mut left = Take(packet);
        let code = left.u16().unwrap_or_default();
        // Before the login there is no state in front of the words.
        let words = match left.0.strip_prefix(b"#") {
            Some(state) => state.get(5..).unwrap_or_default(),
            None => left.0,
        };
        Self {
            code,
            message: String::from_utf8_lossy(words).into_owned(),
        }
    }

    /// What it means for whoever reads the log: that its next part is not there, or no more than
    /// that it is refused.
    pub(super) fn of_log(self, position: &str) -> Failure {
        let has = |part: &str| self.message.contains(part);
        if self.code != FATAL_IN_LOG {
            return Failure::Refused(self);
        }
        if has("purged") || has("Could not find") || has("could not find") {
            return Failure::Lost(format!(
                "the server has purged what comes after {position} from its binary log, so changes \
                 are lost. Give the source another name, with which it begins with a snapshot, and \
                 have the server keep its log for longer (binlog_expire_logs_seconds). It says: {}",
                self.message
            ));
        }
        if has("not in the master's binlog") || has("has more GTIDs") || has("impossible position")
        {
            return Failure::Lost(format!(
                "the server's binary log does not have {position}, up to which it was read: it is \
                 another server, or one that lost some of its log. Name the one that has it, or give \
                 the source another name, with which it begins with a snapshot. It says: {}",
                self.message
            ));
        }
        Failure::Refused(self)
    }

    /// The setting at fault, and what to do; nothing where its own words say so.
    fn advice(&self) -> Option<(&'static str, &'static str)> {
        Some(match self.code {
            1045 | 1698 => ("password", "check username and password"),
            1130 => (
                "username",
                "the server lets this user in from other hosts alone: CREATE USER …@'host'",
            ),
            1227 => (
                "username",
                "give the user the rights: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO …",
            ),
            1044 | 1142 | 1143 => (
                "username",
                "give the user the right to SELECT from the tables",
            ),
            1040 | 1203 => (
                "url",
                "the server has no connection to spare: raise max_connections",
            ),
            3159 => ("url", "write ?ssl-mode=required behind the URL"),
            FATAL_IN_LOG if self.is_of_same_id() => (
                "server_id",
                "another replica has this server_id: give each its own",
            ),
            FATAL_IN_LOG if self.message.contains("max_allowed_packet") => {
                ("url", "raise max_allowed_packet at the server")
            }
            _ => return None,
        })
    }

    fn is_of_same_id(&self) -> bool {
        let words = &self.message;
        words.contains("same server_uuid") || words.contains("same server_id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        for (packet, expect) in [
            (
                &b"\x15\x04#28000Access denied for user 'u'"[..],
                "password: the server refuses: Access denied for user 'u' (1045)",
            ),
            (
                b"\x6a\x04Host '10.0.0.1' is not allowed",
                "username: the server refuses: Host '10.0.0.1' is not allowed (1130)",
            ),
            (
                b"\x51\x04#08S01something",
                "url: the server refuses: something (1105)",
            ),
            (b"", "url: the server refuses:  (0)"),
        ] {
            let told = Failure::Refused(Refusal::read(packet)).problem();
            assert!(told.to_string().starts_with(expect), "{told}");
        }
    }

    #[test]
    fn what_is_lost_is_told_from_what_passes() {
        for (message, is_lost) in [
            (
                "Could not find first log file name in binary log index file",
                true,
            ),
            (
                "The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but the \
                 master has purged binary logs containing GTIDs that the slave requires.",
                true,
            ),
            (
                "Error: connecting slave requested to start from GTID 0-1-9, which is not in the \
                 master's binlog",
                true,
            ),
            (
                "A slave with the same server_uuid/server_id as this slave has connected to the \
                 master",
                false,
            ),
            (
                "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on master",
                false,
            ),
        ] {
            let refusal = Refusal {
                code: FATAL_IN_LOG,
                message: message.to_owned(),
            };
            let failure = refusal.of_log("0-1-5");
            assert_eq!(matches!(failure, Failure::Lost(_)), is_lost, "{failure}");
            assert!(failure.to_string().contains(message), "{failure}");
        }
    }
}
