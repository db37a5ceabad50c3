//! Answers that are no success, in words.

use std::fmt;

use http::StatusCode;
use pointsman_schemas::Problem;

use super::client::{Answered, ELEMENTS_MAX};
use super::place::Kind;
use crate::xml;

/// How much is shown of an answer that is not MNS's.
const SHOWN_CHARS: usize = 200;

/// Codes that mean that nobody is known by these keys.
const UNKNOWN_KEYS: [&str; 5] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidAuthorizationHeader",
    "InvalidSecurityToken",
    "SecurityTokenExpired",
];

/// What MNS says against a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Empty where it is not MNS that has answered.
    pub(super) code: String,
    pub(super) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

impl Refusal {
    /// What an answer says:
    /// <https://www.alibabacloud.com/help/en/mns/developer-reference/error-codes-1>.
    pub(super) fn read(answered: &Answered) -> Self {
        let text = String::from_utf8_lossy(&answered.body);
        let error = xml::read(&text, ELEMENTS_MAX).filter(|root| root.name == "Error");
        let (code, message) = match error {
            Some(error) => {
                let part = |name| error.text_of(name).unwrap_or_default().to_owned();
                (part("Code"), part("Message"))
            }
            None => (String::new(), text.chars().take(SHOWN_CHARS).collect()),
        };
        Self {
            status: answered.status,
            code,
            message,
        }
    }

    /// Whether nobody is known by these keys.
    pub(super) fn is_of_keys(&self) -> bool {
        UNKNOWN_KEYS.contains(&self.code.as_str())
    }

    /// Whether whoever is known may not do this.
    pub(super) fn is_forbidden(&self) -> bool {
        self.is_of_keys() || self.status == StatusCode::FORBIDDEN || self.code == "AccessDenied"
    }

    /// Whether the queue or topic is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.code.as_str(), "QueueNotExist" | "TopicNotExist")
    }

    /// What a user does about it who asks for a queue or a topic of this name.
    pub(super) fn problem(&self, kind: Kind, name: &str) -> Problem {
        let at = kind.setting();
        if self.code.is_empty() {
            return Problem::new(format!("what answers there is not MNS: {self}"))
                .at("endpoint")
                .help("check the address");
        }
        if self.is_missing() {
            return Problem::new(format!("there is no {at} {name}"))
                .at(at)
                .help("make it, or check its name, the account and the region in endpoint");
        }
        if self.is_of_keys() {
            return Problem::new(format!("MNS does not accept the credentials: {self}"))
                .at("credentials")
                .help("check the keys, and that they have not expired");
        }
        if self.is_forbidden() {
            return Problem::new(format!(
                "the credentials may not use the {at} {name}: {self}"
            ))
            .at("credentials")
            .help(kind.rights());
        }
        if self.code == "TimeExpired" {
            return Problem::new(format!("MNS finds the request too old: {self}"))
                .at("endpoint")
                .help("check the clock of this machine");
        }
        Problem::new(format!("cannot ask the {at} {name}: {self}"))
            .at(at)
            .help("check its name and the endpoint")
    }
}
