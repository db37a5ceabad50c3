//! Faults of the way to a server and of its answers, and what a user does about each.

use lapin::ErrorKind;
use lapin::protocol::AMQPError;

use super::greeting::Greeting;
use crate::net::explain::explain;
use crate::net::fault::{self, Settings};

/// What to do about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// The setting at fault; that which was being used where none is named.
    pub(super) at: Option<&'static str>,
    /// What has happened, where the client library's words do not say it.
    pub(super) what: Option<String>,
    /// What to do.
    pub(super) help: &'static str,
}

impl Advice {
    /// What a server's answer asks for, where its code alone would be misread.
    pub(super) fn of(error: &AMQPError) -> Option<Self> {
        let text = error.get_message().as_str();
        let (at, help) = match error.get_id() {
            403 if text.contains("in exclusive use") => (
                Some("queue"),
                "another reader has the queue for itself: end that one, or read another queue",
            ),
            405 => (
                Some("queue"),
                "the queue is exclusive to the connection that declared it: read another queue, or \
                 declare it without exclusive",
            ),
            403 if text.contains("Login was refused") => (
                None,
                "check username and password; guest may connect from the server's own machine only",
            ),
            403 if text.contains(" access to ") => (
                None,
                "give the user that permission in this vhost (rabbitmqctl set_permissions), or use \
                 another user",
            ),
            406 if text.contains("inequivalent arg") => (
                Some("declare"),
                "it is there already and differs: write under declare what it has, or delete it",
            ),
            406 if text.contains("x-stream-offset") => (
                Some("offset"),
                "only streams have offsets: leave offset out",
            ),
            530 if text.contains("not found") => {
                (Some("vhost"), "make the vhost, or name one that is there")
            }
            530 => (
                Some("vhost"),
                "let the user use the vhost (rabbitmqctl set_permissions), or name another",
            ),
            _ => return None,
        };
        Some(Self {
            at,
            what: None,
            help,
        })
    }
}

impl Greeting {
    /// What is wrong where a server greets like this and no connection was made.
    pub(super) fn advice(&self, by_certificate: bool) -> Option<Advice> {
        let (at, what, help) = match self {
            Self::Amqp { mechanisms, .. } => return without_mechanism(mechanisms, by_certificate),
            Self::Tls => (
                "url",
                "it speaks TLS there",
                "write amqps:// in the place of amqp://",
            ),
            Self::Other => (
                "url",
                "what answers there is no AMQP 0.9.1 server",
                "name the port of AMQP, which is 5672 and 5671 with TLS by default",
            ),
        };
        Some(Advice {
            at: Some(at),
            what: Some(what.to_owned()),
            help,
        })
    }
}

/// What is wrong where a server does not offer the mechanism to log in by: it closes the connection
/// without a word.
fn without_mechanism(offered: &str, by_certificate: bool) -> Option<Advice> {
    let is_offered = |name| offered.split_ascii_whitespace().any(|one| one == name);
    let (how, help) = match by_certificate {
        _ if offered.is_empty() => return None,
        true if !is_offered("EXTERNAL") => (
            "by their certificate",
            "write username and password, or enable the plugin rabbitmq_auth_mechanism_ssl and the \
             mechanism EXTERNAL at the server",
        ),
        false if !is_offered("PLAIN") => (
            "by a password",
            "leave out username and password and write tls: { certificate: { file: … }, key: { \
             file: … } }, or enable the mechanism PLAIN at the server",
        ),
        _ => return None,
    };
    Some(Advice {
        at: Some("username"),
        what: Some(format!(
            "it does not let clients log in {how}, only by {offered}"
        )),
        help,
    })
}

/// What is said and done about each fault on the way to a server without TLS.
const PLAIN: Settings = Settings {
    url: "url",
    tls: "tls",
    trust: TRUST,
    no_tls: NO_TLS,
    closed: "the port may speak TLS: write amqps:// in the place of amqp://; else check that it is \
             RabbitMQ that listens there",
};

/// The same with TLS.
const SECURE: Settings = Settings {
    closed: "the port may not speak TLS: write amqp:// in the place of amqps://; else check that \
             it is RabbitMQ that listens there",
    ..PLAIN
};

const TRUST: &str = "name that authority: tls: { ca: { file: … } }";
const NO_TLS: &str = "write amqp://, or the port that speaks TLS, which is 5671 by default";

/// What a connection failed of, and what to do.
pub(super) fn advice(
    is_secure: bool,
    shows_certificate: bool,
    error: &lapin::Error,
) -> Option<Advice> {
    let ErrorKind::IOError(error) = error.kind() else {
        return None;
    };
    let settings = if is_secure { &SECURE } else { &PLAIN };
    let advice = fault::advice(&explain(&**error), settings, shows_certificate)?;
    Some(Advice {
        at: Some(advice.at),
        what: Some(advice.what),
        help: advice.help,
    })
}
