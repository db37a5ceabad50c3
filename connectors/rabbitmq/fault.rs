//! Faults of the way to a server and of its answers, and what a user does about each.

use std::error::Error;

use lapin::ErrorKind;
use lapin::protocol::AMQPError;
use rustls::{AlertDescription, CertificateError};

use super::greeting::Greeting;

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// The setting at fault; that which was being used where none is named.
    pub(super) at: Option<&'static str>,
    /// What has happened, where the client library's words do not say it.
    pub(super) what: Option<&'static str>,
    /// What to do.
    pub(super) help: &'static str,
}

impl Advice {
    /// What a server's answer asks for, where its code alone would be misread.
    pub(super) fn of(told: &AMQPError) -> Option<Self> {
        let text = told.get_message().as_str();
        let (at, help) = match told.get_id() {
            403 if text.contains("in exclusive use") => (
                Some("queue"),
                "another reader has the queue for itself: end that one, or read another queue",
            ),
            405 => (
                Some("queue"),
                "the queue is exclusive to the connection that declared it: read another queue, or declare it without exclusive",
            ),
            403 if text.contains("Login was refused") => (None, "check username and password"),
            403 if text.contains(" access to ") => (
                None,
                "give the user that permission in this vhost (rabbitmqctl set_permissions), or use another user",
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
    /// What is wrong where a server greets like this and no connection was made without TLS.
    pub(super) fn advice(&self) -> Option<Advice> {
        let what = match self {
            Self::Amqp(_) => return None,
            Self::Tls => "it speaks TLS there",
            Self::Other => "what answers there is no AMQP 0.9.1 server",
        };
        let help = match self {
            Self::Tls => "write amqps:// in the place of amqp://",
            _ => "name the port of AMQP, which is 5672 and 5671 with TLS by default",
        };
        Some(Advice {
            at: Some("url"),
            what: Some(what),
            help,
        })
    }
}

/// What the TLS of a connection failed of; none where it did not.
pub(super) fn advice(secure: bool, error: Option<&lapin::Error>) -> Option<Advice> {
    if !secure {
        return None;
    }
    let (at, what, help) = match tls_error(error?)? {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => (
                "tls",
                "the server's certificate is signed by nobody who is trusted here",
                "name that authority: tls: { ca: { file: … } }",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (
                    "url",
                    "the server's certificate is for another host name",
                    "write the name that the certificate has into the URL",
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "tls",
                "the server's certificate has expired",
                "have it renewed at the server, and check the clock of this machine",
            ),
            _ => (
                "tls",
                "the server's certificate is not valid",
                "check the server's certificate and tls.ca",
            ),
        },
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => (
            "tls",
            "the server asks for a client certificate",
            "write tls: { certificate: { file: … }, key: { file: … } }",
        ),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => (
            "tls",
            "the server does not take the client's certificate",
            "have tls.certificate signed by an authority that the server trusts",
        ),
        rustls::Error::InvalidMessage(_) => (
            "url",
            "it does not speak TLS there",
            "write amqp://, or the port that speaks TLS, which is 5671 by default",
        ),
        _ => return None,
    };
    Some(Advice {
        at: Some(at),
        what: Some(what),
        help,
    })
}

/// The error of the TLS that lies within another.
fn tls_error(error: &lapin::Error) -> Option<&rustls::Error> {
    let ErrorKind::IOError(error) = error.kind() else {
        return None;
    };
    let mut error: &(dyn Error + 'static) = &**error;
    loop {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An IO error keeps what it was made of beside its cause.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        error = match inner {
            Some(inner) => inner,
            None => error.source()?,
        };
    }
}
