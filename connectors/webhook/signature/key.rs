//! Secrets and keys, and what fits them.

use std::fmt;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use md5::Md5;
use pointsman_schemas::{Problem, Text};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::certificate::Signer;
use super::rsa::{BITS_MIN, RsaHash, RsaKey};
use super::scheme::{Algorithm, DigestAlgorithm, Encoding, KeyEncoding, Scheme};
use crate::credential;

/// Padding is left out by some senders.
const INDIFFERENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, INDIFFERENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, INDIFFERENT);

const EMPTY: &str = "the secret is empty: anybody could sign with it";

/// What a secret comes to; never shown.
pub(super) enum Key {
    Hmac(Vec<u8>),
    /// The hash of a token that is shown as it is.
    Token([u8; 32]),
    Ed25519(Box<VerifyingKey>),
    Rsa(RsaKey),
    /// A text beside a certificate, which signs by itself: part of what is signed, or shown as a
    /// token.
    Text(String),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a secret as each of the schemes writes it; none for a scheme that it is no key of. `text`
/// is where it comes from.
///
/// # Errors
/// It is a key of none, or begins with what a token's scheme puts before it. The message does not
/// repeat the secret.
pub(super) fn keys(
    schemes: &[Scheme],
    text: &Text,
    secret: &str,
) -> Result<Vec<Option<Key>>, Problem> {
    if secret.trim().is_empty() {
        return Err(Problem::new(EMPTY));
    }
    // With several schemes it is a mistake of one, and would else be taken for the key of another.
    let tokens = schemes
        .iter()
        .filter(|scheme| (scheme.algorithm, scheme.key) == (Algorithm::Token, KeyEncoding::Text));
    for scheme in tokens {
        credential::check(text, secret, &scheme.prefix, "secret: { env: TOKEN }")?;
    }
    let mut keys = Vec::with_capacity(schemes.len());
    let mut first = None;
    for scheme in schemes {
        match key(scheme, secret) {
            Ok(key) => keys.push(Some(key)),
            Err(message) => {
                first.get_or_insert(message);
                keys.push(None);
            }
        }
    }
    match first {
        Some(message) if keys.iter().all(Option::is_none) => Err(Problem::new(message)),
        _ => Ok(keys),
    }
}

fn key(scheme: &Scheme, secret: &str) -> Result<Key, &'static str> {
    if scheme.certificate.is_some() {
        return Ok(Key::Text(secret.to_owned()));
    }
    let bytes = match scheme.key {
        KeyEncoding::Whsec => return standard(secret),
        KeyEncoding::Pem => return rsa(secret).map(Key::Rsa),
        KeyEncoding::Text => secret.as_bytes().to_vec(),
        KeyEncoding::Hex => hex::decode(secret.trim()).map_err(|_| "is not hexadecimal")?,
        KeyEncoding::Base64 => BASE64.decode(secret.trim()).map_err(|_| "is not base64")?,
    };
    if bytes.is_empty() {
        return Err(EMPTY);
    }
    match scheme.algorithm {
        Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Sha512 => Ok(Key::Hmac(bytes)),
        Algorithm::Token => Ok(Key::Token(Sha256::digest(bytes).into())),
        Algorithm::Ed25519 => {
            let bytes: [u8; 32] = bytes.try_into().map_err(|_| {
                "is not an ed25519 public key of 32 bytes; say with key: hex or base64 how it is \
                 written"
            })?;
            ed25519(&bytes)
        }
        Algorithm::RsaSha1 | Algorithm::RsaSha256 => Err("is not a public key in PEM"),
        Algorithm::Jwt => Err("is not used: a JSON Web Token is signed by the issuer's key"),
    }
}

fn ed25519(bytes: &[u8; 32]) -> Result<Key, &'static str> {
    VerifyingKey::from_bytes(bytes)
        .map(|key| Key::Ed25519(Box::new(key)))
        .map_err(|_| "is not an ed25519 key")
}

/// Standard Webhooks 1.0, "Signature scheme"; a secret without a prefix is one for HMAC.
fn standard(secret: &str) -> Result<Key, &'static str> {
    let not_base64 = "is not base64 behind its whsec_ or whpk_";
    if secret.starts_with("whsk_") {
        return Err("is the sender's private key; take the public one, whpk_…");
    }
    if let Some(public) = secret.strip_prefix("whpk_") {
        let bytes: [u8; 32] = BASE64
            .decode(public)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(not_base64)?;
        return ed25519(&bytes);
    }
    match BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret)) {
        Ok(bytes) if !bytes.is_empty() => Ok(Key::Hmac(bytes)),
        _ => Err(not_base64),
    }
}

/// A public key or a certificate in PEM.
fn rsa(pem: &str) -> Result<RsaKey, &'static str> {
    let message =
        "is not an RSA public key or a certificate with one, in PEM (-----BEGIN PUBLIC KEY-----)";
    // Bytes in DER are no text, so that only PEM is read here.
    let key = Signer::read(pem.as_bytes()).map_err(|_| message)?.key;
    if key.bits() < BITS_MIN {
        Err("is an RSA key of fewer than 2048 bits, which others can break")
    } else {
        Ok(key)
    }
}

impl Key {
    /// A token that is shown as it is.
    pub(super) fn token(secret: &str) -> Self {
        Self::Token(Sha256::digest(secret).into())
    }

    /// The key of an HMAC.
    pub(super) fn hmac(key: Vec<u8>) -> Self {
        Self::Hmac(key)
    }

    /// Whether a signature fits what is signed. The time taken does not tell how much of it did.
    pub(super) fn fits(
        &self,
        algorithm: Algorithm,
        signed: &[impl AsRef<[u8]>],
        signature: &[u8],
    ) -> bool {
        let whole = || {
            signed
                .iter()
                .flat_map(AsRef::as_ref)
                .copied()
                .collect::<Vec<_>>()
        };
        match (self, algorithm) {
            (Self::Hmac(key), Algorithm::Sha1) => hmac_fits::<Sha1>(key, signed, signature),
            (Self::Hmac(key), Algorithm::Sha256) => hmac_fits::<Sha256>(key, signed, signature),
            (Self::Hmac(key), Algorithm::Sha512) => hmac_fits::<Sha512>(key, signed, signature),
            (Self::Token(token), Algorithm::Token) => {
                token.ct_eq(&Sha256::digest(signature)).into()
            }
            (Self::Ed25519(key), Algorithm::Ed25519) => Ed25519Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(&whole(), &signature).is_ok()),
            (Self::Rsa(key), Algorithm::RsaSha1) => key.fits(RsaHash::Sha1, &whole(), signature),
            (Self::Rsa(key), Algorithm::RsaSha256) => {
                key.fits(RsaHash::Sha256, &whole(), signature)
            }
            // A public key is no secret: nobody signs with it by HMAC.
            _ => false,
        }
    }

    /// The text beside a certificate.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The HMAC of a text, where this is a key for one.
    pub(super) fn hmac_of(&self, algorithm: Algorithm, text: &str) -> Option<Vec<u8>> {
        let Self::Hmac(key) = self else { return None };
        match algorithm {
            Algorithm::Sha1 => hmac_of::<Sha1>(key, text),
            Algorithm::Sha256 => hmac_of::<Sha256>(key, text),
            Algorithm::Sha512 => hmac_of::<Sha512>(key, text),
            _ => None,
        }
    }
}

fn hmac_of<D: EagerHash>(key: &[u8], text: &str) -> Option<Vec<u8>>
where
    Hmac<D>: KeyInit + Mac,
{
    let mut hmac = <Hmac<D> as KeyInit>::new_from_slice(key).ok()?;
    hmac.update(text.as_bytes());
    Some(hmac.finalize().into_bytes().to_vec())
}

/// Compares in constant time, and the whole length: a shortened signature does not fit.
fn hmac_fits<D: EagerHash>(key: &[u8], signed: &[impl AsRef<[u8]>], signature: &[u8]) -> bool
where
    Hmac<D>: KeyInit + Mac,
{
    // An HMAC takes a key of any length.
    let Ok(mut hmac) = <Hmac<D> as KeyInit>::new_from_slice(key) else {
        return false;
    };
    for part in signed {
        hmac.update(part.as_ref());
    }
    hmac.verify_slice(signature).is_ok()
}

/// Reads a signature as it is written.
pub(super) fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => hex::decode(text).ok(),
        Encoding::Base64 => BASE64.decode(text).ok(),
        Encoding::Base64url => BASE64_URL.decode(text).ok(),
        Encoding::Text => Some(text.as_bytes().to_vec()),
    }
}

/// Whether two texts are the same, in a time that depends on their length alone.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    Sha256::digest(one).ct_eq(&Sha256::digest(other)).into()
}

/// Base64 of the standard alphabet, with or without padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.trim()).ok()
}

/// Whether a text is the hash of a body.
pub(super) fn is_digest_of(text: &str, algorithm: DigestAlgorithm, body: &[u8]) -> bool {
    match algorithm {
        DigestAlgorithm::Sha256 => hex::decode(text)
            .is_ok_and(|digest| digest.as_slice().ct_eq(&Sha256::digest(body)).into()),
        DigestAlgorithm::Md5 => {
            // RFC 1864 has base64 of the 16 bytes; Alibaba sends base64 of their hexadecimal, or
            // that itself.
            let digest = Md5::digest(body);
            let is_hex = |text: &[u8]| hex::decode(text).is_ok_and(|bytes| bytes == digest[..]);
            is_hex(text.as_bytes())
                || base64(text).is_some_and(|bytes| bytes == digest[..] || is_hex(&bytes))
        }
    }
}
