//! API keys: RFC 6750, section 2.1. The key as a query parameter (section 2.3) is not taken,
//! because addresses end up in logs.

use std::fmt;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use pointsman_schemas::{Problem, Text};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::OpenError;
use crate::listener::{KEY_BYTES_MIN, Refusal};

/// The keys of which one must be shown; none lets everybody in.
///
/// Kept as hashes: all of one length, and of no use to whoever reads the memory.
pub(super) struct Keys(Vec<[u8; 32]>);

impl Keys {
    pub(super) fn resolve(keys: &[Text]) -> Result<Self, OpenError> {
        let resolve = |(index, key): (usize, &Text)| {
            let problem = |message: String| OpenError(Problem::new(message).at(index).at("auth"));
            let key = key.resolve().map_err(|error| problem(error.to_string()))?;
            if key.expose().len() < KEY_BYTES_MIN {
                return Err(problem(format!(
                    "this key is shorter than {KEY_BYTES_MIN} characters; make one with: openssl rand -hex 32"
                )));
            }
            Ok(Sha256::digest(key.expose()).into())
        };
        Ok(Self(
            keys.iter()
                .enumerate()
                .map(resolve)
                .collect::<Result<_, _>>()?,
        ))
    }

    pub(super) fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let Some(shown) = head
            .headers
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
