//! What the settings of a source and of a target have in common.

use pointsman_schemas::{Problem, Text};

use super::client::Place;
use super::proto::Resource;
use crate::OpenError;
use crate::alibaba::{AccessKey, Signer};
use crate::net::server::{Protocol, ServerSettings};
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;

/// What a user may write.
pub(super) const PROTOCOL: Protocol = Protocol {
    plain: &["rocketmq", "grpc"],
    secure: &["rocketmqs", "grpcs"],
    ports: (8081, 8081),
    check_path: |path| match path {
        "" => Ok(()),
        _ => Err("behind the host stands nothing; topics have a setting of their own"),
    },
};

/// The longest name of a topic, and of a group.
const TOPIC_BYTES_MAX: usize = 127;
const GROUP_BYTES_MAX: usize = 255;

/// How to connect, and as whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'s> {
    pub(super) url: &'s Text,
    pub(super) tls: Option<&'s TlsSettings>,
    pub(super) credentials: Option<&'s AccessKey>,
    pub(super) namespace: Option<&'s Text>,
}

impl Access<'_> {
    pub(super) fn server(&self) -> ServerSettings<'_> {
        ServerSettings {
            url: self.url,
            username: None,
            password: None,
            tls: self.tls,
        }
    }

    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let parts = self.url.literal().map(|url| PROTOCOL.parse(url));
        let mut problems = match parts {
            Some(Ok(parts)) if parts.user.is_some() || parts.password.is_some() => {
                vec![has_user().at("url")]
            }
            _ => self.server().check(&PROTOCOL),
        };
        problems.extend(self.credentials.into_iter().flat_map(AccessKey::check));
        problems
    }

    /// What reads the keys, where there are some.
    pub(super) fn signer(&self) -> Result<Option<Signer>, OpenError> {
        self.credentials.map(Signer::written).transpose()
    }

    /// Resolves the texts.
    ///
    /// # Errors
    /// One is missing or wrong, by its setting.
    pub(super) fn resolve(&self, signer: Option<Signer>) -> Result<Place, OpenError> {
        let server = self.server().resolve(&PROTOCOL)?;
        if server.user.is_some() || server.password.is_some() {
            return Err(OpenError(has_user().at("url")));
        }
        Ok(Place {
            server,
            namespace: self.namespace()?,
            signer,
        })
    }

    pub(super) fn namespace(&self) -> Result<String, OpenError> {
        let namespace = self.namespace;
        let namespace = namespace.map(|text| resolve(text, &["namespace".into()]));
        Ok(namespace.transpose()?.unwrap_or_default())
    }

    /// A topic or a group of the namespace.
    pub(super) fn resource(&self, name: String) -> Result<Resource, OpenError> {
        Ok(Resource {
            resource_namespace: self.namespace()?,
            name,
        })
    }
}

fn has_user() -> Problem {
    Problem::new("the URL must not hold a user or a password")
        .help("write credentials: { access_key: …, secret_key: { env: NAME } }")
}

/// What is wrong with the name of a topic (`TopicValidator.java` of RocketMQ).
pub(super) fn check_topic(name: &str) -> Result<(), String> {
    check_name("topic", name, TOPIC_BYTES_MAX)
}

/// What is wrong with the name of a group.
pub(super) fn check_group(name: &str) -> Result<(), String> {
    check_name("group", name, GROUP_BYTES_MAX)
}

fn check_name(what: &str, name: &str, bytes_max: usize) -> Result<(), String> {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'-' | b'_');
    if name.is_empty() || name.len() > bytes_max {
        return Err(format!(
            "the name of a {what} has 1 to {bytes_max} characters"
        ));
    }
    match name.bytes().all(is_allowed) {
        true => Ok(()),
        false => Err(format!(
            "the name of a {what} is made of letters, digits, %, |, - and _"
        )),
    }
}
