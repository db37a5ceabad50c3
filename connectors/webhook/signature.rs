//! Who may call a webhook: the signature schemes.
//!
//! A signature is checked over the body's raw bytes, before anything in it is read. Each scheme knows two secrets at most: the one in force and
//! the one before it, so that a secret can be changed without losing what is signed with the old one.

mod verify;

use http::HeaderName;
use http::header::InvalidHeaderName;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use verify::Verifier;

/// How a webhook's caller proves himself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// GitHub: `X-Hub-Signature-256`, HMAC-SHA256 over the body.
    Github(Secrets),
    /// GitLab: the secret itself as `X-Gitlab-Token`. Use it over TLS only.
    Gitlab(Secrets),
    /// Stripe: `Stripe-Signature`, HMAC-SHA256 over time and body.
    Stripe(Secrets),
    /// Slack: `X-Slack-Signature`, HMAC-SHA256 over time and body.
    Slack(Secrets),
    /// Standard Webhooks 1.0: `webhook-signature`, over id, time and body; `v1` with a `whsec_…` secret, `v1a` with a `whpk_…` public key.
    Standard(Secrets),
    /// Any other HMAC over the body.
    Hmac(Hmac),
    /// None: whoever knows the path may call.
    None(Nothing),
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
    pub algorithm: Algorithm,
    /// How the signature is written; hex by default.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands in front of the signature, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// The header with the delivery's id, by which one that was stored already is known.
    pub id: Option<String>,
}

/// A hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, in either case.
    #[default]
    Hex,
    /// Base64 of the standard alphabet, with or without padding.
    Base64,
}

/// `{}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Signature {
    /// The scheme's name in the rule file.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Github(_) => "github",
            Self::Gitlab(_) => "gitlab",
            Self::Stripe(_) => "stripe",
            Self::Slack(_) => "slack",
            Self::Standard(_) => "standard",
            Self::Hmac(_) => "hmac",
            Self::None(_) => "none",
        }
    }

    /// Its secrets, by their keys.
    fn secrets(&self) -> Vec<(&'static str, &Text)> {
        let (secret, previous) = match self {
            Self::Github(own) | Self::Gitlab(own) | Self::Stripe(own) | Self::Slack(own) | Self::Standard(own) => {
                (&own.secret, &own.previous)
            }
            Self::Hmac(own) => (&own.secret, &own.previous),
            Self::None(_) => return Vec::new(),
        };
        std::iter::once(("secret", secret)).chain(previous.as_ref().map(|previous| ("previous", previous))).collect()
    }

    /// The header with an id that stays the same when the sender tries again, where there is one.
    pub(super) fn id_header(&self) -> Option<&str> {
        match self {
            Self::Github(_) => Some("x-github-delivery"),
            Self::Gitlab(_) => Some("idempotency-key"),
            Self::Standard(_) => Some("webhook-id"),
            Self::Hmac(own) => own.id.as_deref(),
            Self::Stripe(_) | Self::Slack(_) | Self::None(_) => None,
        }
    }

    /// Every mistake that can be found without reading a variable or a file.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, text) in self.secrets() {
            if let Some(Err(message)) = text.literal().map(|secret| verify::key(self, secret)) {
                problems.push(Problem::new(message).at(key).at(self.name()));
            }
        }
        if let Self::Hmac(own) = self {
            for (key, header) in [("header", Some(&own.header)), ("id", own.id.as_ref())] {
                let name: Option<Result<HeaderName, InvalidHeaderName>> = header.map(|header| header.parse());
                if name.is_some_and(|name| name.is_err()) {
                    problems.push(Problem::new("is not the name of a header").at(key).at("hmac").help("write one such as X-Signature"));
                }
            }
        }
        problems
    }
}
