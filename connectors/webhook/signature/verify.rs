//! Checking a signature.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use pointsman_schemas::{Problem, Timestamp};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{Algorithm, Encoding, Signature};
use crate::OpenError;
use crate::http::Refusal;

/// How far a signed time may lie from ours, either way: what Stripe, Slack and Standard Webhooks advise.
const WINDOW_SECONDS: u64 = 5 * 60;

/// How many signatures of one request are tried: two for a rotation, in two versions, and room. Each may cost a hash over the whole body.
const SIGNATURES_MAX: usize = 8;

/// Padding is left out by some senders.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What a secret comes to; never shown.
pub(super) enum Key {
    Hmac(Vec<u8>),
    /// The hash of a token that is shown as it is.
    Token([u8; 32]),
    Ed25519(Box<VerifyingKey>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a secret as its scheme writes it.
///
/// The message does not repeat the secret.
pub(super) fn key(signature: &Signature, secret: &str) -> Result<Key, &'static str> {
    if secret.is_empty() {
        return Err("the secret is empty: anybody could sign with it");
    }
    match signature {
        Signature::Gitlab(_) => Ok(Key::Token(Sha256::digest(secret).into())),
        Signature::Standard(_) => standard_key(secret),
        _ => Ok(Key::Hmac(secret.as_bytes().to_vec())),
    }
}

/// Standard Webhooks 1.0, "Signature scheme"; a secret without a prefix is one for HMAC.
fn standard_key(secret: &str) -> Result<Key, &'static str> {
    let not_base64 = "is not base64 behind its whsec_ or whpk_";
    if secret.starts_with("whsk_") {
        return Err("is the sender's private key; take the public one, whpk_…");
    }
    if let Some(public) = secret.strip_prefix("whpk_") {
        let bytes: [u8; 32] = BASE64.decode(public).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(not_base64)?;
        return VerifyingKey::from_bytes(&bytes).map(|key| Key::Ed25519(Box::new(key))).map_err(|_| "is not an ed25519 key");
    }
    match BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret)) {
        Ok(bytes) if !bytes.is_empty() => Ok(Key::Hmac(bytes)),
        _ => Err(not_base64),
    }
}

/// A scheme with its secrets, resolved.
#[derive(Debug)]
pub(in crate::webhook) struct Verifier {
    signature: Signature,
    keys: Vec<Key>,
}

impl Verifier {
    /// Resolves the secrets.
    ///
    /// # Errors
    /// One is missing or not as its scheme writes it.
    pub(in crate::webhook) fn open(signature: Signature) -> Result<Self, OpenError> {
        let read = |(name, text): (&str, &pointsman_schemas::Text)| {
            let problem = |message: String| OpenError(Problem::new(message).at(name).at(signature.name()).at("signature"));
            let secret = text.resolve().map_err(|error| problem(error.to_string()))?;
            key(&signature, secret.expose()).map_err(|message| problem(message.to_owned()))
        };
        let keys = signature.secrets().into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { signature, keys })
    }

    /// Which scheme it is.
    pub(in crate::webhook) fn scheme(&self) -> &Signature {
        &self.signature
    }

    /// The header without which there is no signature.
    fn header(&self) -> Option<&str> {
        Some(match &self.signature {
            Signature::Github(_) => "x-hub-signature-256",
            Signature::Gitlab(_) => "x-gitlab-token",
            Signature::Stripe(_) => "stripe-signature",
            Signature::Slack(_) => "x-slack-signature",
            Signature::Standard(_) => "webhook-signature",
            Signature::Hmac(own) => &own.header,
            Signature::None(_) => return None,
        })
    }

    /// Whether there is a signature at all.
    ///
    /// # Errors
    /// There is none where there should be one.
    pub(in crate::webhook) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.header().map_or(Ok(()), |header| text(headers, header).map(drop))
    }

    /// Checks the signature over the raw body.
    ///
    /// # Errors
    /// It is missing, too old, too new, or does not fit. What is told is what the sender can see himself.
    pub(in crate::webhook) fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let Some(header) = self.header() else { return Ok(()) };
        let given = text(headers, header)?;
        let fits = match &self.signature {
            Signature::Github(_) => self.hmac(Algorithm::Sha256, &[body], given.strip_prefix("sha256=").and_then(unhex)),
            Signature::Gitlab(_) => self.token(given),
            Signature::Stripe(_) => {
                let parts = || given.split(',').filter_map(|part| part.trim().split_once('='));
                let time = parts().find(|(key, _)| *key == "t").map_or("", |(_, time)| time);
                check_time(time, now)?;
                let signatures = parts().filter(|(key, _)| *key == "v1").take(SIGNATURES_MAX);
                any(signatures.map(|(_, hex)| self.hmac(Algorithm::Sha256, &[time.as_bytes(), b".", body], unhex(hex))))
            }
            Signature::Slack(_) => {
                let time = text(headers, "x-slack-request-timestamp")?;
                check_time(time, now)?;
                let signed = [b"v0:", time.as_bytes(), b":", body];
                self.hmac(Algorithm::Sha256, &signed, given.strip_prefix("v0=").and_then(unhex))
            }
            Signature::Standard(_) => {
                let (id, time) = (text(headers, "webhook-id")?, text(headers, "webhook-timestamp")?);
                check_time(time, now)?;
                let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body];
                let signatures = given.split(' ').filter_map(|part| part.split_once(',')).take(SIGNATURES_MAX);
                any(signatures.map(|(version, signature)| match version {
                    "v1" => self.hmac(Algorithm::Sha256, &signed, BASE64.decode(signature).ok()),
                    "v1a" => self.ed25519(&signed, BASE64.decode(signature).ok()),
                    _ => false,
                }))
            }
            Signature::Hmac(own) => {
                let written = given.strip_prefix(own.prefix.as_str());
                let signature = written.and_then(|written| match own.encoding {
                    Encoding::Hex => unhex(written),
                    Encoding::Base64 => BASE64.decode(written).ok(),
                });
                self.hmac(own.algorithm, &[body], signature)
            }
            Signature::None(_) => true,
        };
        if fits { Ok(()) } else { Err(unauthorized("the signature does not fit the body and the secret")) }
    }

    fn hmac(&self, algorithm: Algorithm, signed: &[&[u8]], signature: Option<Vec<u8>>) -> bool {
        let Some(signature) = signature else { return false };
        any(self.keys.iter().map(|key| match (key, algorithm) {
            (Key::Hmac(key), Algorithm::Sha256) => hmac_fits::<Sha256>(key, signed, &signature),
            (Key::Hmac(key), Algorithm::Sha512) => hmac_fits::<Sha512>(key, signed, &signature),
            _ => false,
        }))
    }

    fn token(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        any(self.keys.iter().map(|key| matches!(key, Key::Token(token) if token.ct_eq(&given).into())))
    }

    fn ed25519(&self, signed: &[&[u8]], signature: Option<Vec<u8>>) -> bool {
        let Some(signature) = signature.and_then(|bytes| Ed25519Signature::from_slice(&bytes).ok()) else { return false };
        let signed = signed.concat();
        any(self.keys.iter().map(|key| matches!(key, Key::Ed25519(key) if key.verify_strict(&signed, &signature).is_ok())))
    }
}

/// Looks at every one, so that the time taken does not tell which was right.
fn any(fits: impl Iterator<Item = bool>) -> bool {
    fits.fold(false, |any, fits| any | fits)
}

/// Compares in constant time, and the whole length: a shortened signature does not fit.
fn hmac_fits<D: EagerHash>(key: &[u8], signed: &[&[u8]], signature: &[u8]) -> bool
where
    Hmac<D>: KeyInit + Mac,
{
    // An HMAC takes a key of any length.
    let Ok(mut hmac) = <Hmac<D> as KeyInit>::new_from_slice(key) else { return false };
    for part in signed {
        hmac.update(part);
    }
    hmac.verify_slice(signature).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok()
}

fn check_time(seconds: &str, now: Timestamp) -> Result<(), Refusal> {
    let now = now.0.div_euclid(1_000_000);
    match seconds.parse::<i64>() {
        Ok(seconds) if seconds.abs_diff(now) <= WINDOW_SECONDS => Ok(()),
        Ok(_) => Err(unauthorized("the signed time lies more than 5 minutes from this clock; send it anew, and check both clocks")),
        Err(_) => Err(unauthorized("the signed time is missing or not in seconds since 1970")),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refusal> {
    let missing = || unauthorized(format!("the header {name} is missing; sign the request"));
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or_else(missing)
}

fn unauthorized(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    // RFC 9110, section 11.6.1, wants a challenge; there is no registered scheme for signatures like these.
    Refusal::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, HeaderValue::from_static("Signature"))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn verifier(json: &str) -> Verifier {
        Verifier::open(serde_json::from_str(json).unwrap()).unwrap()
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    struct Vector {
        scheme: &'static str,
        headers: Vec<(&'static str, &'static str)>,
        body: &'static str,
        seconds: i64,
    }

    const STANDARD_ID: (&str, &str) = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    const STANDARD_TIME: (&str, &str) = ("webhook-timestamp", "1614265330");

    /// The last header of each is the one with the signature.
    fn vectors() -> Vec<Vector> {
        vec![
            // GitHub's documentation, "Testing the webhook payload validation".
            Vector {
                scheme: r#"{"github":{"secret":"It's a Secret to Everybody"}}"#,
                headers: vec![("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
                body: "Hello, World!",
                seconds: 0,
            },
            // Slack's documentation, "Verifying requests from Slack".
            Vector {
                scheme: r#"{"slack":{"secret":"8f742231b10e8888abcd99yyyzzz85a5"}}"#,
                headers: vec![
                    ("x-slack-request-timestamp", "1531420618"),
                    ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
                ],
                body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
                seconds: 1_531_420_618,
            },
            // The reference libraries of Standard Webhooks.
            Vector {
                scheme: r#"{"standard":{"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}"#,
                headers: vec![STANDARD_ID, STANDARD_TIME, ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")],
                body: r#"{"test": 2432232314}"#,
                seconds: 1_614_265_330,
            },
            // The same message, signed by OpenSSL with the first key of RFC 8032, section 7.1.
            Vector {
                scheme: r#"{"standard":{"secret":"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}}"#,
                headers: vec![
                    STANDARD_ID,
                    STANDARD_TIME,
                    ("webhook-signature", "v1a,fldxM4gAKugP6nnt1hdz3sgGfZ6d99nzrMFnZOELIxbzEHoVmAb2ADpkJK7zgPePmPsle0zV9jSeGlHFG2NVAw=="),
                ],
                body: r#"{"test": 2432232314}"#,
                seconds: 1_614_265_330,
            },
            // Stripe publishes the recipe and no vector: computed by Python's hmac.
            Vector {
                scheme: r#"{"stripe":{"secret":"whsec_test_secret"}}"#,
                headers: vec![(
                    "stripe-signature",
                    "t=1492774577,v1=125e110db325735d5e136ec2c6ee782021c14d02f1a6818d9b24f748c024b797,v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39",
                )],
                body: r#"{"id":"evt_1MqqbKLt4dXK03v5qaIbiNCC","object":"event","type":"invoice.paid"}"#,
                seconds: 1_492_774_577,
            },
            Vector {
                scheme: r#"{"hmac":{"secret":"k1","header":"X-Sign","prefix":"s=","id":"X-Id"}}"#,
                headers: vec![("x-sign", "s=6755cc564cc051cb17cbbaf8102fdb8fbb5811fe8061d98c165d4f9ed525a00b")],
                body: "body",
                seconds: 0,
            },
            Vector {
                scheme: r#"{"hmac":{"secret":"k1","header":"X-Sign","algorithm":"sha512","encoding":"base64"}}"#,
                headers: vec![("x-sign", "d8VqVALQR3noup+j/mqnIIQ9+tSOZ3lz6JdAk1X9XhvL5GduBaby2GsZFq1T5otkhXBs0Ne6Ofy/xKiyrDya6g")],
                body: "body",
                seconds: 0,
            },
            Vector { scheme: r#"{"gitlab":{"secret":"tanuki"}}"#, headers: vec![("x-gitlab-token", "tanuki")], body: "", seconds: 0 },
        ]
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn published_vectors_fit_and_nothing_near_them_does() {
        for vector in vectors() {
            let (own, now) = (verifier(vector.scheme), at(vector.seconds));
            let signed = headers(&vector.headers);
            assert_eq!(own.verify(&signed, vector.body.as_bytes(), now), Ok(()), "{}", vector.scheme);
            assert_eq!(own.admit(&signed), Ok(()));
            let refused = |headers: &HeaderMap, body: &[u8], why: &str| {
                let refusal = own.verify(headers, body, now).expect_err(why);
                assert_eq!(refusal.status, StatusCode::UNAUTHORIZED, "{why}: {}", vector.scheme);
            };
            // GitLab's token does not depend on the body.
            if !vector.scheme.contains("gitlab") {
                refused(&signed, format!("{} ", vector.body).as_bytes(), "longer body");
                refused(&signed, b"", "no body");
            }
            let (name, signature) = vector.headers[vector.headers.len() - 1];
            let with = |value: &str| {
                let mut changed = signed.clone();
                changed.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
                changed
            };
            for (value, why) in [
                (signature.split(",v0=").next().unwrap().trim_end_matches('=').split_at(signature.len() / 2).0.to_owned(), "cut short"),
                (format!("x{signature}"), "something in front"),
                (signature.chars().rev().collect(), "reversed"),
                (String::new(), "empty"),
            ] {
                refused(&with(&value), vector.body.as_bytes(), why);
            }
            let other = vector.scheme.replace("Secret to", "Segret to").replace("8f74", "8f75").replace("whsec_M", "whsec_N");
            let other =
                other.replace("test_s", "test_z").replace("\"k1\"", "\"k2\"").replace("tanuki", "tanukj").replace("whpk_11qY", "whpk_21qY");
            assert_ne!(other, vector.scheme);
            if let Ok(other) = Verifier::open(serde_json::from_str(&other).unwrap()) {
                assert!(other.verify(&signed, vector.body.as_bytes(), now).is_err(), "another secret: {}", vector.scheme);
            }
            for (gone, _) in &vector.headers {
                let mut without = signed.clone();
                without.remove(*gone);
                refused(&without, vector.body.as_bytes(), gone);
            }
            assert!(own.admit(&HeaderMap::new()).is_err());
        }
    }

    #[test]
    fn a_signed_time_counts_for_five_minutes_each_way() {
        for vector in vectors().into_iter().filter(|vector| vector.seconds != 0) {
            let (own, signed) = (verifier(vector.scheme), headers(&vector.headers));
            for (offset, fits) in
                [(-301, false), (-300, true), (300, true), (301, false), (-vector.seconds, false), (i64::MAX / 4_000_000, false)]
            {
                let verified = own.verify(&signed, vector.body.as_bytes(), at(vector.seconds + offset));
                assert_eq!(verified.is_ok(), fits, "{offset}: {}", vector.scheme);
            }
        }
    }

    #[test]
    fn two_secrets_are_alive_in_a_rotation() {
        for vector in vectors() {
            let scheme: serde_json::Value = serde_json::from_str(vector.scheme).unwrap();
            let (name, own) = scheme.as_object().unwrap().iter().next().unwrap();
            let mut rotated = own.clone();
            let new = if name == "standard" { "whsec_bmV3IHNlY3JldCBuZXcgc2VjcmV0" } else { "new" };
            (rotated["previous"], rotated["secret"]) = (own["secret"].clone(), new.into());
            let rotated = serde_json::json!({ name: rotated }).to_string();
            let verified = verifier(&rotated).verify(&headers(&vector.headers), vector.body.as_bytes(), at(vector.seconds));
            assert_eq!(verified, Ok(()), "{rotated}");
        }
    }

    #[test]
    fn one_signature_of_a_list_is_enough() {
        let own = verifier(r#"{"standard":{"secret":"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}"#);
        let list = "v1,AAAA v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let verify = |list: &str| {
            let signed = headers(&[STANDARD_ID, STANDARD_TIME, ("webhook-signature", list)]);
            own.verify(&signed, br#"{"test": 2432232314}"#, at(1_614_265_330)).is_ok()
        };
        assert!(verify(list));
        assert!(!verify(list.rsplit_once(' ').unwrap().0), "of an unknown version");
        assert!(!verify(&format!("{}{list}", "v1,AAAA ".repeat(SIGNATURES_MAX))), "past the bound");
        // A public key is no secret: nobody can sign with it by HMAC.
        let public = verifier(r#"{"standard":{"secret":"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}}"#);
        let signed = headers(&[STANDARD_ID, STANDARD_TIME, ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")]);
        assert!(public.verify(&signed, br#"{"test": 2432232314}"#, at(1_614_265_330)).is_err());
    }

    #[test]
    fn secrets_that_cannot_be_used_are_told_and_none_is_shown() {
        let told = |json: &str| Verifier::open(serde_json::from_str(json).unwrap()).unwrap_err().to_string();
        assert_eq!(told(r#"{"github":{"secret":""}}"#), "signature.github.secret: the secret is empty: anybody could sign with it");
        assert!(told(r#"{"slack":{"secret":"a","previous":{"file":"/nowhere"}}}"#).starts_with("signature.slack.previous: cannot read"));
        for bad in ["whsec_hunter2!", "whpk_aGVsbG8=", "whsk_aGVsbG8=", "whsec_===="] {
            let message = told(&serde_json::json!({ "standard": { "secret": bad } }).to_string());
            assert!(message.starts_with("signature.standard.secret: ") && !message.contains(bad), "{message}");
        }
        for vector in vectors() {
            let secret: serde_json::Value = serde_json::from_str(vector.scheme).unwrap();
            let secret = secret.as_object().unwrap().values().next().unwrap()["secret"].as_str().unwrap().to_owned();
            assert!(!format!("{:?}", verifier(vector.scheme)).contains(&secret));
        }
    }
}
