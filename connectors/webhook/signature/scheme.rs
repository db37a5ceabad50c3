//! The language that signatures are described in.

use http::{HeaderName, StatusCode};
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::template::{Ref, Template};

/// How far a signed time may lie from ours, either way: what Stripe, Slack and Standard Webhooks advise.
const TOLERANCE: Interval = Interval(std::time::Duration::from_secs(5 * 60));

/// A signature: where it is, what it is, and over what.
///
/// Texts with `<$…>` are filled in from the request: `<$.body>` (its raw bytes), `<$.timestamp>` (as `timestamp` finds it), `<$.url>`,
/// `<$.method>`, `<$.path>`, `<$.sorted_form>` (names and values of a form, one after the other, sorted by name), `<$.headers.x-name>`,
/// `<$.query.name>`, `<$.fields.a.b>` (of a JSON body or a form), `<$.pairs.t>` (a `t=…` beside the signature). What is missing refuses the
/// request; with a `?` at its end (`<$.fields.a?>`) it is empty.
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
    /// A list in the body, by its dotted path, whose items are signed each on its own; paths of fields then begin at the item.
    pub each: Option<String>,
    /// What stands in front of the signature, such as `sha256=`, `v1=` or `Bearer `.
    pub prefix: String,
    /// What stands between several signatures and other pairs; any signature may fit, and those without the prefix are left out.
    pub separator: Option<String>,
    /// How the signature is written; by default hex, and a token as it is.
    pub encoding: Option<Encoding>,
    /// What the signature is; an HMAC with SHA-256 by default.
    pub algorithm: Algorithm,
    /// The signed text; `<$.body>` by default.
    pub signed: Template,
    /// Where the hexadecimal SHA-256 of the body is, which is signed in the body's place.
    pub digest: Option<Template>,
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
            timestamp: None,
            unit: Unit::default(),
            tolerance: TOLERANCE,
            key: KeyEncoding::default(),
            id: None,
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

impl Scheme {
    /// How the signature is written.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(if self.algorithm == Algorithm::Token { Encoding::Text } else { Encoding::Hex })
    }

    /// Every mistake of one that a user wrote.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.secret.is_none() {
            problems.push(Problem::new("the secret is missing").help("add secret: { env: NAME }"));
        }
        let places = [&self.header, &self.query, &self.field];
        if places.iter().filter(|place| place.is_some()).count() != 1 {
            let help = "write header: X-Signature, query: signature, or field: a.b";
            problems.push(Problem::new("exactly one of header, query and field says where the signature is").help(help));
        }
        if self.header.as_ref().is_some_and(|header| header.parse::<HeaderName>().is_err()) {
            problems.push(Problem::new("is not the name of a header").at("header").help("write one such as X-Signature"));
        }
        if self.each.is_some() && self.signed.refs().any(|part| *part == Ref::Body) && self.algorithm != Algorithm::Token {
            let help = "name the fields of an item that are signed, such as <$.fields.id>";
            problems.push(Problem::new("each item is signed on its own, and not by the whole body").at("signed").help(help));
        }
        if self.separator.as_deref() == Some("") {
            problems.push(Problem::new("is empty").at("separator").help("write one such as \",\", or leave it out"));
        }
        if let Some(answer) = &self.answer
            && !(200..300).contains(&answer.status)
        {
            let help = "write one from 200 to 299: the sender hears it where the event is stored";
            problems.push(Problem::new("is no status of success").at("status").at("answer").help(help));
        } else if self.answer.as_ref().is_some_and(|answer| StatusCode::NO_CONTENT == answer.status && !answer.body.is_empty()) {
            problems.push(Problem::new("an answer 204 has no body").at("body").at("answer").help("take status: 200"));
        }
        problems.extend(self.check_signed());
        problems
    }

    /// What is signed, and what is not though it looks so.
    fn check_signed(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let asymmetric = matches!(self.algorithm, Algorithm::RsaSha1 | Algorithm::RsaSha256);
        if asymmetric != (self.key == KeyEncoding::Pem) {
            let message = if asymmetric { "an RSA key is written in PEM" } else { "only an RSA key is written in PEM" };
            problems.push(Problem::new(message).at("key").help(if asymmetric { "add key: pem" } else { "take text, hex or base64" }));
        }
        if self.algorithm == Algorithm::Token {
            return problems;
        }
        if self.encoding() == Encoding::Text {
            let help = "take hex, base64 or base64url; only a token is shown as it is";
            problems.push(Problem::new("a signature is bytes").at("encoding").help(help));
        }
        let over = |wanted: fn(&Ref) -> bool| self.signed.refs().any(wanted);
        if !over(|part| matches!(part, Ref::Body | Ref::Field(_) | Ref::SortedForm)) && self.digest.is_none() {
            let help = "put <$.body> into it, unless the sender signs something else";
            problems.push(Problem::new("the body is not signed: whoever saw one call can send any other").at("signed").warn().help(help));
        }
        if let Some(timestamp) = &self.timestamp
            && !over(|part| matches!(part, Ref::Timestamp))
            // A time that is a field of a signed body is signed with it.
            && !timestamp.refs().all(|part| self.signed.refs().any(|signed| signed == part || matches!((signed, part), (Ref::Body, Ref::Field(_)))))
        {
            let help = "put <$.timestamp> into signed, as the sender does";
            problems.push(Problem::new("the time is not signed: whoever saw one call can send it again").at("signed").warn().help(help));
        } else if let Some(timestamp) = &self.timestamp
            && timestamp.refs().any(|part| matches!(part, Ref::Timestamp))
        {
            problems.push(Problem::new("says where the time is, and not again <$.timestamp>").at("timestamp"));
        }
        problems
    }
}
