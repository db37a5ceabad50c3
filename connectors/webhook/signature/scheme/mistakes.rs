//! The mistakes of a scheme that a user wrote.

use http::{HeaderName, StatusCode};
use pointsman_schemas::Problem;

use super::Scheme;
use super::parts::{Algorithm, Answer, Certificate, Encoding, Jwt, KeyEncoding};
use crate::webhook::signature::hosts::{self};
use crate::webhook::signature::issuer::Issuer;
use crate::webhook::signature::template::Ref;

impl Scheme {
    /// Every mistake of one that a user wrote.
    pub(in crate::webhook::signature) fn check(&self) -> Vec<Problem> {
        let mut problems = self.check_keys();
        problems.extend(self.check_place());
        problems.extend(self.check_items());
        let answer = self.answer.as_ref().and_then(Answer::check);
        problems.extend(answer.map(|problem| problem.at("answer")));
        problems.extend(self.check_signed());
        let hashes = self.secret.is_some() && self.algorithm.is_hmac();
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
            Some(certificate) if certificate.hmac_key.is_some() => self.algorithm.is_hmac(),
            Some(_) => self.algorithm.is_rsa(),
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
        let asymmetric = self.algorithm.is_rsa() && self.certificate.is_none();
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
        if self.algorithm.is_shown() {
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
