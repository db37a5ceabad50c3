//! What the errors of a server and of the client library mean for a delivery.

use lapin::ErrorKind;
use lapin::protocol::AMQPError;
use pointsman_schemas::{Class, Outcome, Problem};

use super::fault::Advice;
use crate::OpenError;
use crate::net::explain::explain;

/// Why a server could not be asked, or what it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerError {
    /// What it means for a delivery.
    pub(super) class: Class,
    /// The server's own code, where it gave one.
    pub(super) code: Option<u16>,
    /// One line for a person.
    pub(super) message: String,
    /// Where the mistake is, and what to do, where more is known of that than the class says.
    pub(super) advice: Option<Advice>,
}

impl BrokerError {
    /// The server cannot be reached.
    pub(super) fn unavailable(message: String) -> Self {
        Self {
            class: Class::Unavailable,
            code: None,
            message,
            advice: None,
        }
    }

    /// What an error of the client library means; `doing` says what was tried.
    pub(super) fn of(doing: &str, error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => {
                let code = error.get_id();
                let advice = Advice::of(error);
                Self {
                    class: class(code),
                    code: Some(code),
                    message: format!("{doing}: {}", server_message(error)),
                    advice,
                }
            }
            ErrorKind::IOError(error) => {
                Self::unavailable(format!("{doing}: {}", explain(&**error)))
            }
            _ => Self::unavailable(format!("{doing}: {error}")),
        }
    }

    /// The same, where more is known.
    pub(super) fn advised(self, doing: &str, advice: Option<Advice>) -> Self {
        let Some(advice) = advice else { return self };
        let message = match &advice.what {
            Some(what) => format!("{doing}: {what}"),
            None => self.message,
        };
        Self {
            message,
            advice: Some(advice),
            ..self
        }
    }

    /// The outcome of a delivery.
    pub(super) fn outcome(self) -> Outcome {
        Outcome {
            code: self.code.map(i32::from),
            ..Outcome::new(self.class, self.message)
        }
    }

    /// The problem of a source or target that cannot be opened.
    pub(super) fn problem(self, at: &str) -> OpenError {
        let (at, help) = match (self.class, self.code) {
            _ if let Some(advice) = self.advice => (advice.at.unwrap_or(at), advice.help),
            // The way to the server is at fault, and not what was looked for there.
            (Class::Unavailable, _) => ("url", "check that RabbitMQ runs and listens there"),
            (_, Some(530)) => ("vhost", "make the vhost, or let the user use it"),
            (Class::Refused, _) => (at, "check username, password and what the user may do"),
            _ => return OpenError(Problem::new(self.message).at(at)),
        };
        OpenError(Problem::new(self.message).help(help).at(at))
    }
}

/// AMQP 0.9.1, section 1.2, as RabbitMQ uses its codes.
fn class(code: u16) -> Class {
    match code {
        // Access refused, and not allowed: the vhost is not there or not ours.
        403 | 530 => Class::Refused,
        // Too large a message, and what the server can never do with this one.
        311 | 406 => Class::Rejected,
        // No such exchange, and a queue that somebody else has locked.
        404 | 405 => Class::Failed,
        _ => Class::Unavailable,
    }
}

/// The server's message, without its name in capitals.
fn server_message(error: &AMQPError) -> String {
    let text = error.get_message().as_str();
    match text.split_once(" - ") {
        Some((_, message)) if !message.is_empty() => format!("{message} (code {})", error.get_id()),
        _ => format!("{text} (code {})", error.get_id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, expect) in [
            (403, Class::Refused),
            (404, Class::Failed),
            (406, Class::Rejected),
            (320, Class::Unavailable),
            (530, Class::Refused),
            (541, Class::Unavailable),
        ] {
            assert_eq!(class(code), expect, "{code}");
        }
    }
}
