//! What the settings of a source and of a target have in common.

use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::Plan;
use crate::OpenError;
use crate::net::server::{Protocol, ServerSettings};
use crate::parameter::resolve;

/// What a user may write.
const PROTOCOL: Protocol = Protocol {
    plain: &["amqp"],
    secure: &["amqps"],
    ports: (5672, 5671),
    check_path: |path| match path {
        "" => Ok(()),
        _ => Err("behind the host stands nothing; address and hostname are settings of their own"),
    },
};

/// What an address is, for brokers where it may be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AmqpKind")]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Each message goes to one of those who read.
    Queue,
    /// Each message goes to all who read.
    Topic,
}

impl Kind {
    /// The capability that asks for it.
    pub(super) fn capability(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Topic => "topic",
        }
    }
}

/// The settings of a source or a target that say how to connect.
#[derive(Clone, Copy)]
pub(super) struct Access<'s> {
    pub(super) server: ServerSettings<'s>,
    pub(super) host_name: Option<&'s Text>,
    pub(super) container: Option<&'s Text>,
}

impl Access<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = self.server.check(&PROTOCOL);
        for (text, at) in [
            (self.host_name, "hostname"),
            (self.container, "container_id"),
        ] {
            if text.and_then(Text::literal) == Some("") {
                let problem = Problem::new("an empty name is none").help("leave it out");
                problems.push(problem.at(at));
            }
        }
        problems
    }

    /// How to connect; `container` is the name that we have unless another is given.
    ///
    /// # Errors
    /// A text is missing or wrong, by its setting.
    pub(super) fn plan(&self, container: &str) -> Result<Plan, OpenError> {
        let text = |text: Option<&Text>, at: &str| {
            text.map(|text| resolve(text, &[at.into()])).transpose()
        };
        let given = text(self.container, "container_id")?;
        Ok(Plan {
            server: self.server.resolve(&PROTOCOL)?,
            container: given.unwrap_or_else(|| container.to_owned()),
            host_name: text(self.host_name, "hostname")?,
        })
    }
}
