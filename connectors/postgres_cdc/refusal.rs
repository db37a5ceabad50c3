//! What a server refuses, and what to do about it.

use std::fmt;

use fallible_iterator::FallibleIterator;
use pointsman_schemas::Problem;
use postgres_protocol::message::backend::ErrorFields;

/// An error of the server: its SQLSTATE and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
}

/// Why nothing was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused(Refusal),
    /// The connection cannot be made or has broken.
    Broken(Problem),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                write!(f, "PostgreSQL refuses: {refusal}")?;
                match refusal.advice() {
                    Some((_, help)) => write!(f, "; {help}"),
                    None => Ok(()),
                }
            }
            Self::Broken(problem) => f.write_str(&problem.message),
        }
    }
}

impl Failure {
    /// The connection broke, in these words.
    pub(super) fn broken(why: impl fmt::Display) -> Self {
        let message = format!("the connection to PostgreSQL broke: {why}");
        Self::Broken(Problem::new(message).at("url"))
    }

    /// What stands at which setting.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Broken(problem) => problem,
            Self::Refused(refusal) => {
                let problem = Problem::new(format!("PostgreSQL refuses: {refusal}"));
                match refusal.advice() {
                    Some((at, help)) => problem.help(help).at(at),
                    None => problem.at("url"),
                }
            }
        }
    }
}

impl Refusal {
    /// Reads an error's fields.
    pub(super) fn read(mut fields: ErrorFields<'_>) -> Self {
        let (mut code, mut message) = (String::new(), String::new());
        // What follows a field that cannot be read is left out: the words alone depend on it.
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'C' => code = text.into_owned(),
                b'M' => message = text.into_owned(),
                b'D' => message = format!("{message} ({text})"),
                _ => {}
            }
        }
        Self { code, message }
    }

    /// The setting at fault, and what to do; nothing where its own words say so.
    fn advice(&self) -> Option<(&'static str, &'static str)> {
        Some(match self.code.as_str() {
            "28P01" => ("password", "check username and password"),
            "28000" => (
                "username",
                "check username and password, and that pg_hba.conf lets the user in from here",
            ),
            "3D000" => (
                "url",
                "name a database that is there: postgres://host/database",
            ),
            "42501" if self.is_of_replication() => (
                "username",
                "give the user the right: ALTER ROLE … REPLICATION",
            ),
            "42501" => (
                "username",
                "give the user the right to SELECT from the tables and to make the publication",
            ),
            "53300" => (
                "url",
                "the server has no connection to spare: raise max_wal_senders or max_connections",
            ),
            "53400" => (
                "slot",
                "raise max_replication_slots, or drop slots that nobody reads",
            ),
            _ => return None,
        })
    }

    fn is_of_replication(&self) -> bool {
        let words = self.message.to_ascii_lowercase();
        words.contains("replication") || words.contains("wal sender")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        for (code, message, at) in [
            ("28P01", "password authentication failed", "password: "),
            (
                "42501",
                "must be superuser or replication role to start walsender",
                "username: ",
            ),
            ("53400", "all replication slots are in use", "slot: "),
            ("XX000", "something", "url: "),
        ] {
            let refusal = Refusal {
                code: code.to_owned(),
                message: message.to_owned(),
            };
            let told = Failure::Refused(refusal).problem().to_string();
            assert!(told.starts_with(at) && told.contains(message), "{told}");
        }
    }
}
