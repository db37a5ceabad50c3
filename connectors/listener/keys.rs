//! API keys: RFC 6750, section 2.1. The key as a query parameter (section 2.3) is not taken,
//! because addresses end up in logs.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use pointsman_schemas::{Problem, Text};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Refusal;
use crate::OpenError;

/// The shortest API key that is let through: 22 characters of base64 are 128 random bits, as are 32
/// hexadecimal digits.
const KEY_BYTES_MIN: usize = 22;

/// The keys of which a caller must show one; none lets everybody in.
///
/// Kept as hashes: all of one length, and of no use to whoever reads the memory.
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Every mistake in the keys, as they stand under `auth`, that can be found without reading
    /// variables and files.
    pub fn check(keys: &[Text]) -> impl Iterator<Item = Problem> {
        let too_short = |key: &Text| key.literal().is_some_and(|key| key.len() < KEY_BYTES_MIN);
        (0..)
            .zip(keys)
            .filter(move |(_, key)| too_short(key))
            .map(|(index, _)| at(index, is_too_short()).help(MAKE_ONE))
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// One cannot be read, or can be guessed; where is told from `auth` on.
    pub fn resolve(keys: &[Text]) -> Result<Self, OpenError> {
        let resolve = |(index, key): (usize, &Text)| {
            let problem = |message| OpenError(at(index, message));
            let key = key.resolve().map_err(|error| problem(error.to_string()))?;
            if key.expose().len() < KEY_BYTES_MIN {
                return Err(problem(format!("{}; {MAKE_ONE}", is_too_short())));
            }
            Ok(Sha256::digest(key.expose()).into())
        };
        let keys = keys.iter().enumerate().map(resolve);
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// It shows no key, or another.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let Some(shown) = headers
            .get(AUTHORIZATION)
            .and_then(|value| bearer(value.as_bytes()))
        else {
            return Err(refuse(
                "this bus wants a key; send Authorization: Bearer and the key",
                "Bearer",
            ));
        };
        let shown: [u8; 32] = Sha256::digest(shown).into();
        // Every key is looked at, so that the time taken does not tell which one was nearly right.
        let known = self
            .0
            .iter()
            .fold(Choice::from(0), |found, key| found | key.ct_eq(&shown));
        if known.into() {
            Ok(())
        } else {
            Err(refuse(
                "the key is not one of this bus's",
                "Bearer error=\"invalid_token\"",
            ))
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

const MAKE_ONE: &str = "make one with: openssl rand -hex 32";

fn is_too_short() -> String {
    format!("this key is shorter than {KEY_BYTES_MIN} characters")
}

fn at(index: usize, message: String) -> Problem {
    Problem::new(message).at(index).at("auth")
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn refuse(detail: &'static str, challenge: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, detail)
        .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
