//! A target's settings, and the connection and templates in them.

use pointsman_schemas::{Placement, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::nats::auth::Auth;
use crate::nats::connection::{Connection, PING_EVERY, Tls};
use crate::nats::message::Mode;
use crate::nats::urls::Urls;
use crate::parameter::Templates;

/// Publishes each event to a subject.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsTarget {
    /// The server, or several of one cluster, such as `nats://127.0.0.1:4222`; `tls://` asks for
    /// TLS.
    pub(super) url: Urls,
    /// The subject, which may hold templates.
    pub(super) subject: Text,
    /// How the event is written: as headers and payload, as one JSON document, or its data alone.
    #[serde(default)]
    pub(super) mode: Mode,
    /// Whether a stream has to acknowledge the message; yes unless it is given. Else it has been
    /// delivered once it is sent.
    #[serde(default = "yes")]
    pub(super) acknowledge: bool,
    /// How the server is shown who connects.
    pub(super) auth: Option<Auth>,
    /// How the connection is encrypted; without it TLS is spoken where the server asks for it.
    pub(super) tls: Option<Tls>,
}

fn yes() -> bool {
    true
}

impl NatsTarget {
    pub(super) fn connection(&self) -> Connection<'_> {
        Connection {
            url: &self.url,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
            ping_every: PING_EVERY,
        }
    }

    pub(super) fn templates(&self) -> (Option<usize>, Templates) {
        let mut templates = Templates::default();
        (
            templates.note(&self.subject, Placement::Subject, vec!["subject".into()]),
            templates,
        )
    }
}
