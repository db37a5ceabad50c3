//! What a server refuses, and what that means.
//!
//! The word in front of an error says what it is: `OOM`, `READONLY`, `WRONGTYPE` and the like.

use std::fmt;

use pointsman_schemas::{Class, Problem};
use redis::Value;

/// The code of an error that has no word of its own.
const OTHER: &str = "ERR";

/// What a server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl Refusal {
    /// Tells what is answered from what is refused.
    pub(super) fn check(value: Value) -> Result<Value, Self> {
        match value {
            Value::ServerError(error) => Err(Self {
                code: error.code().to_owned(),
                message: error.details().unwrap_or_default().to_owned(),
            }),
            value => Ok(value),
        }
    }

    /// The group is not there, or its stream is not.
    pub(super) fn is_of_group(&self) -> bool {
        self.code == "NOGROUP"
    }

    /// The key is not there.
    pub(super) fn is_of_missing_key(&self) -> bool {
        self.code == OTHER && self.message.starts_with("no such key")
    }

    /// The credentials are missing, wrong, or may not do that.
    pub(super) fn is_of_credentials(&self) -> bool {
        matches!(self.code.as_str(), "NOAUTH" | "WRONGPASS" | "NOPERM")
    }

    /// Whether another connection may lead to a server that does not refuse: to one that is no
    /// replica, or as somebody who may.
    pub(super) fn ends_the_connection(&self) -> bool {
        self.is_of_credentials() || matches!(self.code.as_str(), "READONLY" | "MASTERDOWN")
    }

    /// What follows for a delivery.
    pub(super) fn class(&self) -> Class {
        match self.code.as_str() {
            "OOM" => Class::Throttled,
            // Nothing was done, and it passes by itself or by what an operator does: a replica that
            // is about to become the primary, one that reads its data, a cluster that moves a key, a
            // script that takes long, a disk that takes no snapshot, replicas that are missing.
            "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED"
            | "ASK" | "BUSY" | "MISCONF" | "NOREPLICAS" => Class::Unavailable,
            _ if self.is_of_credentials() => Class::Refused,
            // The key holds something else.
            "WRONGTYPE" => Class::Rejected,
            _ => Class::Failed,
        }
    }

    /// What to do about it; nothing where its own words say so.
    fn help(&self) -> Option<&'static str> {
        Some(match self.code.as_str() {
            "OOM" => "give the server more memory, or have streams trimmed: max_length",
            "READONLY" => "name the primary in url: this is a replica",
            "MOVED" | "ASK" => {
                "name in url the node of the cluster that holds the stream: redirections are not \
                 followed"
            }
            "NOAUTH" => {
                "write password: { env: NAME }, and username where it is not the default one"
            }
            "WRONGPASS" => "check username and password",
            "NOPERM" => "allow the user these commands and keys (ACL SETUSER)",
            "WRONGTYPE" => "name a key that is a stream, or is not there yet",
            "LOADING" => "the server reads its data and is ready soon",
            "MISCONF" | "NOREPLICAS" => "look into the log of the server",
            _ => return None,
        })
    }

    /// In words, with what to do.
    pub(super) fn words(&self) -> String {
        match self.help() {
            Some(help) => format!("{self}; {help}"),
            None => self.to_string(),
        }
    }

    /// The problem of a source or target that asked about this setting.
    pub(super) fn problem(&self, at: &'static str) -> Problem {
        let at = match self.code.as_str() {
            "NOAUTH" | "WRONGPASS" => "password",
            "NOPERM" => "username",
            "WRONGTYPE" => at,
            _ => "url",
        };
        let problem = Problem::new(format!("the server refuses: {self}")).at(at);
        match self.help() {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_follows() {
        for (code, class) in [
            ("OOM", Class::Throttled),
            ("READONLY", Class::Unavailable),
            ("LOADING", Class::Unavailable),
            ("MOVED", Class::Unavailable),
            ("CLUSTERDOWN", Class::Unavailable),
            ("MISCONF", Class::Unavailable),
            ("NOREPLICAS", Class::Unavailable),
            ("BUSY", Class::Unavailable),
            ("NOAUTH", Class::Refused),
            ("WRONGPASS", Class::Refused),
            ("NOPERM", Class::Refused),
            ("WRONGTYPE", Class::Rejected),
            ("ERR", Class::Failed),
            ("SOMETHING", Class::Failed),
        ] {
            let refusal = Refusal {
                code: code.to_owned(),
                message: "m".to_owned(),
            };
            assert_eq!(refusal.class(), class, "{code}");
        }
    }
}
