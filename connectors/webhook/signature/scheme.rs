//! The language that signatures are described in.

mod mistakes;
mod parts;
mod values;

use pointsman_schemas::{Interval, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::handshake::Handshake;
use super::template::Template;

pub use parts::{
    Algorithm, Answer, Certificate, DigestAlgorithm, Encoding, Jwt, KeyEncoding, Requirement, Unit,
};
pub use values::Values;

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

impl Scheme {
    /// How the signature is written.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(match self.algorithm.is_shown() {
            true => Encoding::Text,
            false => Encoding::Hex,
        })
    }
}
