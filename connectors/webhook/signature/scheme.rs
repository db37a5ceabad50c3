//! The language that signatures are described in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, StatusCode};
use pointsman_schemas::{Interval, Problem, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

use super::handshake::Handshake;
use super::hosts::{self, HostPattern};
use super::issuer::Issuer;
use super::template::{Ref, Template};

/// How far a signed time may lie from ours, either way: what Stripe, Slack and Standard Webhooks
/// advise.
const TOLERANCE: Interval = Interval(std::time::Duration::from_secs(5 * 60));

/// A signature: where it is, what it is, and over what.
///
/// Texts with `<$…>` are filled in from the request: `<$.body>` (its raw bytes), `<$.timestamp>`
/// (as `timestamp` finds it), `<$.url>`, `<$.method>`, `<$.path>`, `<$.sorted_form>` (names and
/// values of a form, one after the other, sorted by name), `<$.headers.x-name>`, `<$.query.name>`,
/// `<$.fields.a.b>` (of a JSON body or a form), `<$.pairs.t>` (a `t=…` beside the signature),
/// `<$.crc32>` (of the body, in decimal), `<$.secret>`, `<$.aws_sns>` and `<$.alibaba_mns>` (the
/// texts that those services sign). What is missing refuses the request; with a `?` at its end
/// (`<$.fields.a?>`) it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scheme {
    /// The secret in force: what signs, the token, or the sender's public key.
    #[schemars(extend("writeOnly" = true))]
    pub secret: Option<Text>,
    /// The one before it, which is still taken.
    #[schemars(extend("writeOnly" = true))]
    pub previous: Option<Text>,
    /// The header with the signature; this, `query` or `field`.
    pub header: Option<String>,
    /// The parameter of the query with the signature.
    pub query: Option<String>,
    /// The field of the body (JSON or a form) with the signature, by its dotted path.
    pub field: Option<String>,
    /// A list in the body, by its dotted path, whose items are signed each on its own; paths of
    /// fields then begin at the item.
    pub each: Option<String>,
    /// What stands in front of the signature, such as `sha256=`, `v1=` or `Bearer `.
    pub prefix: String,
    /// What stands between several signatures and other pairs; any signature may fit, and those
    /// without the prefix are left out.
    pub separator: Option<String>,
    /// How the signature is written; by default hex, and a token as it is.
    pub encoding: Option<Encoding>,
    /// What the signature is; an HMAC with SHA-256 by default.
    pub algorithm: Algorithm,
    /// The signed text; `<$.body>` by default.
    pub signed: Template,
    /// Where the hash of the body is, which is signed in the body's place.
    pub digest: Option<Template>,
    /// What hash that is; SHA-256 by default.
    pub digest_algorithm: DigestAlgorithm,
    /// Where the certificate comes from by which an RSA signature is checked, in the place of a
    /// secret.
    pub certificate: Option<Certificate>,
    /// What a JSON Web Token must say, where the algorithm is `jwt`.
    pub jwt: Option<Jwt>,
    /// Where the secret itself is shown beside a signature by a certificate.
    pub token: Option<Template>,
    /// What in the request must have one of some values.
    pub require: Vec<Requirement>,
    /// Where the time is.
    pub timestamp: Option<Template>,
    /// What the time counts in; seconds since 1970 by default.
    pub unit: Unit,
    /// How far the time may lie from this clock, either way; 5m by default.
    pub tolerance: Interval,
    /// How the secret is written; as it is by default.
    pub key: KeyEncoding,
    /// Where the delivery's id is, by which one that was stored already is known.
    pub id: Option<Template>,
    /// How an address is registered: questions that are answered, and are no events.
    pub handshake: Vec<Handshake>,
    /// What is answered once the event is stored; 202 without a body by default.
    pub answer: Option<Answer>,
}

impl Default for Scheme {
    fn default() -> Self {
        Self {
            secret: None,
            previous: None,
            header: None,
            query: None,
            field: None,
            each: None,
            prefix: String::new(),
            separator: None,
            encoding: None,
            algorithm: Algorithm::default(),
            signed: Template::body(),
            digest: None,
            digest_algorithm: DigestAlgorithm::default(),
            certificate: None,
            jwt: None,
            token: None,
            require: Vec::new(),
            timestamp: None,
            unit: Unit::default(),
            tolerance: TOLERANCE,
            key: KeyEncoding::default(),
            id: None,
            handshake: Vec::new(),
            answer: None,
        }
    }
}

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

/// A text, or a list of them of which any will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(pub Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for Values {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Values".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl Values {
    /// Whether a text is one of them.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|value| value == text)
    }

    /// The mistake of a list with nothing in it.
    pub(super) fn check(&self, key: &str) -> Option<Problem> {
        let empty = self.0.is_empty() || self.0.iter().any(String::is_empty);
        empty.then(|| Problem::new("is empty: nothing would be taken").at(key))
    }
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

impl Answer {
    fn check(&self) -> Option<Problem> {
        if !(200..300).contains(&self.status) {
            let help = "write one from 200 to 299: the sender hears it where the event is stored";
            return Some(
                Problem::new("is no status of success")
                    .at("status")
                    .help(help),
            );
        }
        (StatusCode::NO_CONTENT == self.status && !self.body.is_empty()).then(|| {
            Problem::new("an answer 204 has no body")
                .at("body")
                .help("take status: 200")
        })
    }
}

impl Scheme {
    /// How the signature is written.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(
            if matches!(self.algorithm, Algorithm::Token | Algorithm::Jwt) {
                Encoding::Text
            } else {
                Encoding::Hex
            },
        )
    }

    /// Every mistake of one that a user wrote.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = self.check_keys();
        problems.extend(self.check_place());
        problems.extend(self.check_items());
        let answer = self.answer.as_ref().and_then(Answer::check);
        problems.extend(answer.map(|problem| problem.at("answer")));
        problems.extend(self.check_signed());
        let hashes = self.secret.is_some()
            && matches!(
                self.algorithm,
                Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Sha512
            );
        for (index, handshake) in self.handshake.iter().enumerate() {
            problems.extend(
                handshake
                    .check(hashes)
                    .into_iter()
                    .map(|problem| problem.at(index).at("handshake")),
            );
        }
        problems
    }

    /// Where the signature is.
    fn check_place(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let places = [&self.header, &self.query, &self.field];
        if places.iter().filter(|place| place.is_some()).count() != 1 {
            let help = "write header: X-Signature, query: signature, or field: a.b";
            problems.push(
                Problem::new("exactly one of header, query and field says where the signature is")
                    .help(help),
            );
        }
        if self
            .header
            .as_ref()
            .is_some_and(|header| header.parse::<HeaderName>().is_err())
        {
            problems.push(
                Problem::new("is not the name of a header")
                    .at("header")
                    .help("write one such as X-Signature"),
            );
        }
        problems
    }

    /// What is signed on its own: the items of a body, and the parts of a signature's header.
    fn check_items(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.each.is_some()
            && self.signed.refs().any(|part| *part == Ref::Body)
            && self.algorithm != Algorithm::Token
        {
            let help = "name the fields of an item that are signed, such as <$.fields.id>";
            problems.push(
                Problem::new("each item is signed on its own, and not by the whole body")
                    .at("signed")
                    .help(help),
            );
        }
        if self.separator.as_deref() == Some("") {
            problems.push(
                Problem::new("is empty")
                    .at("separator")
                    .help("write one such as \",\", or leave it out"),
            );
        }
        problems
    }

    /// Where keys come from.
    fn check_keys(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match (&self.certificate, &self.jwt) {
            (Some(_), Some(_)) => problems.push(
                Problem::new("a JSON Web Token is not signed by a certificate").at("certificate"),
            ),
            (None, None) if self.secret.is_none() => {
                problems
                    .push(Problem::new("the secret is missing").help("add secret: { env: NAME }"));
            }
            (None, Some(jwt)) => {
                problems.extend(jwt.check().into_iter().map(|problem| problem.at("jwt")))
            }
            (Some(certificate), None) => problems.extend(
                certificate
                    .check()
                    .into_iter()
                    .map(|problem| problem.at("certificate")),
            ),
            (None, None) => {}
        }
        if self.jwt.is_some() != (self.algorithm == Algorithm::Jwt) {
            let help = "write algorithm: jwt and jwt: { issuer: …, audience: …, jwks: https://… } \
                        together";
            problems.push(
                Problem::new("one of algorithm: jwt and jwt is missing")
                    .at("algorithm")
                    .help(help),
            );
        }
        let by_certificate = match &self.certificate {
            Some(certificate) if certificate.hmac_key.is_some() => {
                matches!(
                    self.algorithm,
                    Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Sha512
                )
            }
            Some(_) => matches!(self.algorithm, Algorithm::RsaSha1 | Algorithm::RsaSha256),
            None => true,
        };
        if !by_certificate {
            let help = "write rsa-sha256 or rsa-sha1; of an HMAC whose key is packed up, name it \
                        with hmac_key";
            problems.push(
                Problem::new("this is not signed with a certificate's key")
                    .at("algorithm")
                    .help(help),
            );
        }
        if self.token.is_some() && (self.certificate.is_none() || self.secret.is_none()) {
            let help = "it says where the secret is shown beside a certificate's signature; a \
                        token alone is algorithm: token";
            problems.push(
                Problem::new("there is no secret, or no certificate")
                    .at("token")
                    .help(help),
            );
        }
        let empty = self
            .require
            .iter()
            .filter_map(|require| require.is.check("is"));
        problems.extend(empty.map(|problem| problem.at("require")));
        problems
    }

    /// How the key is written.
    fn check_key_encoding(&self) -> Option<Problem> {
        let asymmetric = matches!(self.algorithm, Algorithm::RsaSha1 | Algorithm::RsaSha256)
            && self.certificate.is_none();
        let (message, help) = match (asymmetric, self.key == KeyEncoding::Pem) {
            (true, false) => ("an RSA key is written in PEM", "add key: pem"),
            (false, true) => (
                "only an RSA key is written in PEM",
                "take text, hex or base64",
            ),
            _ => return None,
        };
        Some(Problem::new(message).at("key").help(help))
    }

    /// What is signed, and what is not though it looks so.
    fn check_signed(&self) -> Vec<Problem> {
        let mut problems = Vec::from_iter(self.check_key_encoding());
        if matches!(self.algorithm, Algorithm::Token | Algorithm::Jwt) {
            return problems;
        }
        if self.encoding() == Encoding::Text {
            let help = "take hex, base64 or base64url; only a token is shown as it is";
            problems.push(
                Problem::new("a signature is bytes")
                    .at("encoding")
                    .help(help),
            );
        }
        let over = |wanted: fn(&Ref) -> bool| self.signed.refs().any(wanted);
        if over(|part| matches!(part, Ref::Secret))
            && (self.certificate.is_none() || self.secret.is_none())
        {
            let help = "it stands for a text that a certificate's key signs with the rest; an HMAC \
                        has the secret in it as it is";
            problems.push(
                Problem::new("<$.secret> is a secret beside a certificate")
                    .at("signed")
                    .help(help),
            );
        }
        if !over(|part| {
            matches!(
                part,
                Ref::Body | Ref::Field(_) | Ref::SortedForm | Ref::Crc32 | Ref::AwsSns
            )
        }) && self.digest.is_none()
        {
            let help = "put <$.body> into it, unless the sender signs something else";
            problems.push(
                Problem::new("the body is not signed: whoever saw one call can send any other")
                    .at("signed")
                    .warn()
                    .help(help),
            );
        }
        problems.extend(self.check_timestamp());
        problems
    }

    /// Whether the time is signed, and is where it says.
    fn check_timestamp(&self) -> Option<Problem> {
        let timestamp = self.timestamp.as_ref()?;
        let signs = |part: &Ref| {
            // A time that is a field of a signed body is signed with it.
            self.signed.refs().any(|signed| {
                signed == part || matches!((signed, part), (Ref::Body, Ref::Field(_)))
            })
        };
        let signs_time = self
            .signed
            .refs()
            .any(|part| matches!(part, Ref::Timestamp | Ref::AlibabaMns | Ref::AwsSns));
        if !signs_time && !timestamp.refs().all(signs) {
            let help = "put <$.timestamp> into signed, as the sender does";
            return Some(
                Problem::new("the time is not signed: whoever saw one call can send it again")
                    .at("signed")
                    .warn()
                    .help(help),
            );
        }
        let is_itself = timestamp.refs().any(|part| matches!(part, Ref::Timestamp));
        is_itself.then(|| {
            Problem::new("says where the time is, and not again <$.timestamp>").at("timestamp")
        })
    }
}

impl Certificate {
    fn check(&self) -> Vec<Problem> {
        let missing = self.hosts.is_empty().then(|| {
            let help = "write hosts: [keys.example.com]: whoever chooses the host chooses the key";
            Problem::new("there is no host that the certificate may be fetched from")
                .at("hosts")
                .help(help)
        });
        missing.into_iter().collect()
    }
}

impl Jwt {
    fn check(&self) -> Vec<Problem> {
        let mut problems: Vec<_> =
            [("issuer", &self.issuer), ("audience", &self.audience)]
                .into_iter()
                .filter_map(|(key, values)| values.check(key))
                .chain(self.claims.iter().filter_map(|(key, values)| {
                    values.check(key).map(|problem| problem.at("claims"))
                }))
                .collect();
        match (&self.jwks, &self.keys) {
            (Some(_), Some(_)) => {
                let help = "leave one of them out";
                problems.push(
                    Problem::new(
                        "one of jwks and keys says where the issuer's keys are, and not both",
                    )
                    .help(help),
                );
            }
            (Some(jwks), None) => problems.extend(
                hosts::own(jwks)
                    .err()
                    .map(|message| Problem::new(message).at("jwks")),
            ),
            (None, Some(_)) => {}
            (None, None) => {
                let help =
                    "write jwks: https://… to have them fetched, or keys: { file: keys.json }";
                problems.extend(
                    Issuer::of(&self.issuer)
                        .err()
                        .map(|message| Problem::new(message).at("issuer").help(help)),
                );
            }
        }
        problems
    }
}
