//! API keys: RFC 6750, section 2.1. The key as a query parameter (section 2.3) is not taken,
//! because addresses end up in logs.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use pointsman_schemas::{Problem, Text};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Refusal;
use crate::OpenError;
use crate::credential::{self, BEARER};

/// The shortest API key that is let through: 22 characters of base64 are 128 random bits, as are 32
/// hexadecimal digits.
const KEY_BYTES_MIN: usize = 22;

/// The keys of which a caller must show one; none lets everybody in.
///
/// Kept as hashes: all of one length, and of no use to whoever reads the memory.
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Every mistake in the keys, as they stand under this name, that can be found without reading
    /// variables and files.
    pub fn check(name: &'static str, keys: &[Text]) -> impl Iterator<Item = Problem> {
        let wrong = move |(index, text): (usize, &Text)| {
            let problem = check(text, text.literal()?).err()?;
            Some(problem.at(index).at(name))
        };
        keys.iter().enumerate().filter_map(wrong)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// One cannot be read, or can be guessed; where is told from `name` on.
    pub fn resolve(name: &'static str, keys: &[Text]) -> Result<Self, OpenError> {
        let resolve = |(index, text): (usize, &Text)| -> Result<[u8; 32], OpenError> {
            let wrong = |problem: Problem| OpenError(problem.at(index).at(name));
            let key = text
                .resolve()
                .map_err(|error| wrong(Problem::new(error.to_string())))?;
            check(text, key.expose()).map_err(wrong)?;
            Ok(Sha256::digest(key.expose()).into())
        };
        let keys = keys.iter().enumerate().map(resolve);
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    /// A number for whoever sent a request that was let in: the same for each that shows the same
    /// key. None where nobody shows any.
    #[must_use]
    pub fn sender(&self, headers: &HeaderMap) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        let shown = bearer(headers.get(AUTHORIZATION)?.as_bytes())?;
        // Another digest than the one that is compared: this number is kept.
        let digest = Sha256::new_with_prefix("sender")
            .chain_update(shown)
            .finalize();
        let first = digest.iter().take(8);
        Some(first.fold(0, |number, byte| number << 8 | u64::from(*byte)))
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
        match self.find(shown) {
            Some(_) => Ok(()),
            None => Err(refuse(
                "the key is not one of this bus's",
                "Bearer error=\"invalid_token\"",
            )),
        }
    }

    /// Whether there are none, so that everybody is let in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of the keys a request shows, by its place among them.
    #[must_use]
    pub fn shown(&self, headers: &HeaderMap) -> Option<usize> {
        self.find(bearer(headers.get(AUTHORIZATION)?.as_bytes())?)
    }

    /// Which of the keys this is, likewise.
    #[must_use]
    pub fn find(&self, shown: &[u8]) -> Option<usize> {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        // Every key is looked at, so that the time taken does not tell which one was nearly right.
        let mut found = None;
        for (index, key) in self.0.iter().enumerate() {
            if key.ct_eq(&shown).into() {
                found = Some(index);
            }
        }
        found
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Refuses a key that a caller could not show, or others could guess.
fn check(text: &Text, key: &str) -> Result<(), Problem> {
    credential::check(text, key, BEARER, "auth: [{ env: KEY }]")?;
    if key.len() < KEY_BYTES_MIN {
        let message = format!("this key is shorter than {KEY_BYTES_MIN} characters");
        return Err(Problem::new(message).help("make one with: openssl rand -hex 32"));
    }
    Ok(())
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
