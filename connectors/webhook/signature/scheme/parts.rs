//! What the keys of a scheme may say.

use std::collections::BTreeMap;

use pointsman_schemas::Text;
use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Values;
use crate::webhook::signature::hosts::HostPattern;
use crate::webhook::signature::template::Template;

/// What a signature is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// An HMAC with SHA-1.
    Sha1,
    /// An HMAC with SHA-256.
    #[default]
    Sha256,
    /// An HMAC with SHA-512.
    Sha512,
    /// Ed25519; the secret is the sender's public key.
    Ed25519,
    /// RSA (PKCS #1 v1.5) with SHA-1; the secret is the sender's public key.
    RsaSha1,
    /// RSA (PKCS #1 v1.5) with SHA-256; the secret is the sender's public key.
    RsaSha256,
    /// None: the secret itself is shown.
    Token,
    /// A JSON Web Token, signed by one of an issuer's public keys (RFC 7519).
    Jwt,
}

impl Algorithm {
    /// Whether it is an HMAC, made with a secret.
    pub(in crate::webhook::signature) fn is_hmac(self) -> bool {
        matches!(self, Self::Sha1 | Self::Sha256 | Self::Sha512)
    }

    /// Whether it is RSA, checked with a public key.
    pub(in crate::webhook::signature) fn is_rsa(self) -> bool {
        matches!(self, Self::RsaSha1 | Self::RsaSha256)
    }

    /// Whether what is shown is itself what is checked, and nothing is signed beside.
    pub(in crate::webhook::signature) fn is_shown(self) -> bool {
        matches!(self, Self::Token | Self::Jwt)
    }
}

/// A hash of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DigestAlgorithm {
    /// SHA-256, in hexadecimal.
    #[default]
    Sha256,
    /// MD5, in hexadecimal or base64 of either.
    Md5,
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
    /// Base64 of the alphabet for URLs, with or without padding.
    Base64url,
    /// As it is: a token.
    Text,
}

/// What a time counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds since 1970.
    #[default]
    S,
    /// Milliseconds since 1970.
    Ms,
    /// A date and time such as `2026-01-02T03:04:05Z`.
    Rfc3339,
    /// A date of HTTP's, such as `Fri, 02 Jan 2026 03:04:05 GMT`.
    Http,
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// Its text is the key.
    #[default]
    Text,
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
    /// A public key in PEM (`-----BEGIN PUBLIC KEY-----`).
    Pem,
    /// Standard Webhooks: `whsec_…`, or a public `whpk_…`.
    Whsec,
}

/// From where the certificate of who signs is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The address, as the request says it, such as `<$.headers.x-cert-url>`.
    pub url: Template,
    /// True where that address is written in base64.
    #[serde(default)]
    pub base64: bool,
    /// The hosts that may be asked: `api.example.com`, `*.example.com`, or `http://127.0.0.1:9000`
    /// on this machine.
    pub hosts: Vec<HostPattern>,
    /// How the address ends.
    #[serde(default)]
    pub suffix: String,
    /// The names that the certificate may be made out to; any by default.
    #[serde(default)]
    pub names: Vec<HostPattern>,
    /// Whether it counts beyond its dates; it does not by default.
    #[serde(default)]
    pub allow_expired: bool,
    /// Whether an RSA key of fewer than 2048 bits will do; it will not by default.
    #[serde(default)]
    pub allow_weak_key: bool,
    /// Where the key of an HMAC is, in base64, packed up with the certificate's private key.
    pub hmac_key: Option<Template>,
    /// Certificates to trust when asking, in the place of the system's, in PEM.
    pub ca: Option<Text>,
}

/// What a JSON Web Token must say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Who may have issued it.
    pub issuer: Values,
    /// Whom it may be made out to.
    pub audience: Values,
    /// The address of the issuer's JSON Web Key Set (RFC 7517); as its OpenID Connect configuration
    /// says by default.
    pub jwks: Option<String>,
    /// That set itself, such as `{ file: keys.json }`.
    pub keys: Option<Text>,
    /// Other claims that must have one of some values.
    #[serde(default)]
    pub claims: BTreeMap<String, Values>,
    /// Certificates to trust when asking, in the place of the system's, in PEM.
    pub ca: Option<Text>,
}

/// What must be in a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Where it is, such as `<$.fields.TopicArn>`.
    pub value: Template,
    /// The values that are taken.
    pub is: Values,
}

/// What a sender hears.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The status, from 200 to 299.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 299))]
    pub status: u16,
    /// The body, as `text/plain`.
    #[serde(default)]
    pub body: String,
}

fn ok() -> u16 {
    200
}
