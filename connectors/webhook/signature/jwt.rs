//! JSON Web Tokens (RFC 7519) that are signed by an issuer's public keys, as OpenID Connect has
//! them.
//!
//! The algorithm that a token names only chooses among those of the key that it names: a public key
//! is never taken for an HMAC's, and `none` is no algorithm (RFC 8725, sections 3.1 and 3.2).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pointsman_schemas::Timestamp;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;

use super::request::scalar;
use super::rsa::RsaKey;
use super::scheme::Jwt;

/// How many keys of a set are read: an issuer has a handful.
const KEYS_MAX: usize = 100;

/// How many keys are tried for a token that does not say which.
const TRIED_MAX: usize = 4;

/// A set of keys: RFC 7517, section 5.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(Vec<PublicKey>);

#[derive(Clone)]
struct PublicKey {
    id: Option<String>,
    /// The one algorithm that it may be used for, where its owner says so.
    algorithm: Option<String>,
    key: Numbers,
}

#[derive(Clone)]
enum Numbers {
    Rsa(RsaKey),
    /// An uncompressed point (SEC 1, section 2.3.3).
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// RFC 7517, section 4, with the parameters of RFC 7518, section 6, and RFC 8037, section 2.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of other kinds, and keys that are not for signatures, are
    /// left out.
    ///
    /// # Errors
    /// It is none, or has no key that can be used.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|_| "is not a JSON Web Key Set")?;
        let read = |key| {
            serde_json::from_value::<Jwk>(key)
                .ok()
                .and_then(PublicKey::read)
        };
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .take(KEYS_MAX)
            .filter_map(read)
            .collect();
        if keys.is_empty() {
            Err("has no RSA, EC or Ed25519 key for signatures")
        } else {
            Ok(Self(keys))
        }
    }

    /// Whether there is a key for a token.
    pub(super) fn knows(&self, token: &Token<'_>) -> bool {
        self.of(token).next().is_some()
    }

    fn of<'s>(&'s self, token: &'s Token<'_>) -> impl Iterator<Item = &'s PublicKey> {
        let is_meant = move |key: &&PublicKey| token.key.is_none() || key.id == token.key;
        self.0
            .iter()
            .filter(is_meant)
            .filter(move |key| key.is_for(&token.algorithm))
            .take(TRIED_MAX)
    }

    /// Whether one of the keys has signed a token.
    pub(super) fn fits(&self, token: &Token<'_>) -> bool {
        self.of(token)
            .any(|key| key.fits(&token.algorithm, token.signed.as_bytes(), &token.signature))
    }
}

impl PublicKey {
    fn read(jwk: Jwk) -> Option<Self> {
        if jwk.r#use.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| {
            text.and_then(|text| {
                BASE64_URL_SAFE_NO_PAD
                    .decode(text.trim_end_matches('='))
                    .ok()
            })
        };
        let (x, y) = (bytes(jwk.x), bytes(jwk.y));
        let point = |length: usize| {
            let (x, y) = x.as_ref().zip(y.as_ref())?;
            (x.len() == length && y.len() == length).then(|| [&[4][..], x, y].concat())
        };
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Numbers::Rsa(RsaKey::new(&bytes(jwk.n)?, &bytes(jwk.e)?)?),
            ("EC", Some("P-256")) => Numbers::P256(point(32)?),
            ("EC", Some("P-384")) => Numbers::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Numbers::Ed25519(x.filter(|x| x.len() == 32)?),
            _ => return None,
        };
        Some(Self {
            id: jwk.kid,
            algorithm: jwk.alg,
            key,
        })
    }

    fn is_for(&self, algorithm: &str) -> bool {
        let kind = match self.key {
            Numbers::Rsa(_) => rsa(algorithm).is_some(),
            Numbers::P256(_) => algorithm == "ES256",
            Numbers::P384(_) => algorithm == "ES384",
            Numbers::Ed25519(_) => matches!(algorithm, "EdDSA" | "Ed25519"),
        };
        kind && self.algorithm.as_ref().is_none_or(|own| own == algorithm)
    }

    fn fits(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let plain = |by: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(by, key)
                .verify(signed, signature)
                .is_ok()
        };
        match &self.key {
            Numbers::Rsa(key) => {
                rsa(algorithm).is_some_and(|parameters| key.verify(parameters, signed, signature))
            }
            Numbers::P256(point) => plain(&ECDSA_P256_SHA256_FIXED, point),
            Numbers::P384(point) => plain(&ECDSA_P384_SHA384_FIXED, point),
            Numbers::Ed25519(key) => plain(&ED25519, key),
        }
    }
}

/// RFC 7518, sections 3.3 and 3.5.
fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    match algorithm {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// A token, read and not yet checked.
pub(super) struct Token<'t> {
    algorithm: String,
    key: Option<String>,
    claims: Value,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Reads a token in its compact form: RFC 7515, section 7.1.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(text: &'t str) -> Result<Self, &'static str> {
        /// RFC 7515, section 4.1.
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            crit: Option<Value>,
        }
        const NONE: &str = "the token is not a signed JSON Web Token";
        let (signed, signature) = text.trim().rsplit_once('.').ok_or(NONE)?;
        let (header, claims) = signed.split_once('.').ok_or(NONE)?;
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NONE);
        let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| NONE)?;
        if header.crit.is_some() {
            return Err("the token has critical extensions, of which none is known");
        }
        let claims: Value = serde_json::from_slice(&bytes(claims)?).map_err(|_| NONE)?;
        if !claims.is_object() {
            return Err(NONE);
        }
        Ok(Self {
            algorithm: header.alg,
            key: header.kid,
            claims,
            signed,
            signature: bytes(signature)?,
        })
    }

    /// Whether it says what it must, now.
    ///
    /// # Errors
    /// What it says or does not say, in words for the sender.
    pub(super) fn check(
        &self,
        wanted: &Jwt,
        leeway_seconds: f64,
        now: Timestamp,
    ) -> Result<(), String> {
        let text = |claim: &str| self.claims.get(claim).and_then(scalar);
        if !text("iss").is_some_and(|issuer| wanted.issuer.contains(&issuer)) {
            return Err("the token's issuer (iss) is not the one that is expected".to_owned());
        }
        let is_meant = |audience: &Value| {
            audience
                .as_str()
                .is_some_and(|audience| wanted.audience.contains(audience))
        };
        // RFC 7519, section 4.1.3: one, or a list of which any may be meant.
        let audience = match self.claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(is_meant),
            Some(audience) => is_meant(audience),
            None => false,
        };
        if !audience {
            return Err("the token is made out to another audience (aud)".to_owned());
        }
        let now = now.0 as f64 / 1e6;
        let time = |claim: &str| match self.claims.get(claim) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| format!("the token's {claim} is not a number of seconds")),
        };
        match time("exp")? {
            None => return Err("the token does not say when it expires (exp)".to_owned()),
            Some(expires) if now >= expires + leeway_seconds => {
                return Err("the token has expired (exp); send a new one".to_owned());
            }
            Some(_) => {}
        }
        for claim in ["nbf", "iat"] {
            if time(claim)?.is_some_and(|from| from > now + leeway_seconds) {
                return Err(format!(
                    "the token is not valid yet ({claim}); check both clocks"
                ));
            }
        }
        match wanted
            .claims
            .iter()
            .find(|(claim, values)| !text(claim).is_some_and(|value| values.contains(&value)))
        {
            None => Ok(()),
            Some((claim, _)) => Err(format!(
                "the token's {claim} is not the one that is expected"
            )),
        }
    }
}
