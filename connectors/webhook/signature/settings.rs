//! What the presets are given in the rule file.

use http::HeaderName;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::provider::{self, EventBridge, Mns, Paypal, PubSub, Sns};
use super::scheme::{Algorithm, Encoding, Scheme};
use super::template::Template;

/// What a preset is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    Secrets(Secrets),
    Verified(Verified),
    Hmac(Hmac),
    Custom(Box<Scheme>),
    Sns(Sns),
    PubSub(PubSub),
    Paypal(Paypal),
    EventBridge(EventBridge),
    Mns(Mns),
    Unsigned(Unsigned),
}

/// Which settings a preset takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhook) enum Form {
    Secrets,
    Verified,
    Hmac,
    Custom,
    Sns,
    PubSub,
    Paypal,
    EventBridge,
    Mns,
    Unsigned,
}

/// The secret of a scheme.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The secret in force.
    #[schemars(extend("writeOnly" = true))]
    pub secret: Text,
    /// The one before it, which is still taken.
    #[schemars(extend("writeOnly" = true))]
    pub previous: Option<Text>,
}

/// The secret of a scheme, and the token of its registration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The secret in force.
    #[schemars(extend("writeOnly" = true))]
    pub secret: Text,
    /// The one before it, which is still taken.
    #[schemars(extend("writeOnly" = true))]
    pub previous: Option<Text>,
    /// What `hub.verify_token` must be where the address is registered.
    #[schemars(extend("writeOnly" = true))]
    pub verify_token: Option<Text>,
}

/// An HMAC over the body, in a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// The secret in force.
    #[schemars(extend("writeOnly" = true))]
    pub secret: Text,
    /// The one before it, which is still taken.
    #[schemars(extend("writeOnly" = true))]
    pub previous: Option<Text>,
    /// The header with the signature.
    pub header: String,
    /// The hash; sha256 by default.
    #[serde(default)]
    pub algorithm: Hash,
    /// How the signature is written; hex by default.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands in front of the signature, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// The header with the delivery's id, by which one that was stored already is known.
    pub id: Option<String>,
}

/// A hash under an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// `{}`: nothing is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsigned {}

impl Settings {
    /// Brings what a preset is given into its scheme.
    pub(super) fn apply(&self, scheme: &mut Scheme) {
        match self {
            Self::Sns(own) => own.apply(scheme),
            Self::PubSub(own) => own.apply(scheme),
            Self::Paypal(own) => provider::set_hosts(scheme, own.certificate_hosts.as_deref()),
            Self::EventBridge(own) => provider::set_hosts(scheme, own.certificate_hosts.as_deref()),
            Self::Mns(own) => own.apply(scheme),
            Self::Secrets(_)
            | Self::Verified(_)
            | Self::Hmac(_)
            | Self::Custom(_)
            | Self::Unsigned(_) => {}
        }
    }
}

impl Hmac {
    /// The same in the language of `custom`.
    pub(super) fn scheme(&self) -> Scheme {
        Scheme {
            header: Some(self.header.clone()),
            prefix: self.prefix.clone(),
            encoding: Some(self.encoding),
            id: self.id.as_ref().and_then(|id| Template::header(id).ok()),
            algorithm: match self.algorithm {
                Hash::Sha1 => Algorithm::Sha1,
                Hash::Sha256 => Algorithm::Sha256,
                Hash::Sha512 => Algorithm::Sha512,
            },
            ..Scheme::default()
        }
    }

    pub(super) fn check(&self) -> Vec<Problem> {
        let is_header = |header: &str| header.parse::<HeaderName>().is_ok();
        [("header", Some(&self.header)), ("id", self.id.as_ref())]
            .into_iter()
            .filter(|(_, header)| header.is_some_and(|header| !is_header(header)))
            .map(|(key, _)| {
                Problem::new("is not the name of a header")
                    .at(key)
                    .help("write one such as X-Signature")
            })
            .collect()
    }
}
