//! Checking a signature.

use std::borrow::Cow;

use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use pointsman_schemas::{Interval, Problem, Text, Timestamp};
use serde_json::Value;

use super::Signature;
use super::key::{self, Key};
use super::request::{self, Call, Scope};
use super::scheme::{Algorithm, Scheme, Unit};
use super::template::Template;
use crate::OpenError;
use crate::http::Refusal;

/// How many signatures of one request are tried: two for a rotation, in two versions, and room. Each may cost a hash over the whole body.
const SIGNATURES_MAX: usize = 8;

/// How many items of a body that signs each of them are looked at.
const ITEMS_MAX: usize = 1_000;

/// A preset with its secrets, resolved.
#[derive(Debug)]
pub(in crate::webhook) struct Verifier {
    signature: Signature,
    schemes: Vec<Scheme>,
    /// Of each secret its key for each scheme.
    keys: Vec<Vec<Option<Key>>>,
    /// What a registration must show.
    verify_token: Option<Key>,
}

/// Why a scheme does not fit.
enum Fault {
    /// There is no signature of this kind.
    Absent(String),
    /// There is one, and it or what belongs to it is wrong.
    Wrong(String),
}

impl Verifier {
    /// Resolves the secrets.
    ///
    /// # Errors
    /// One is missing or not as its scheme writes it.
    pub(in crate::webhook) fn open(signature: Signature) -> Result<Self, OpenError> {
        let problem = |message: String| Problem::new(message);
        let within = |problem: Problem| OpenError(problem.at(signature.name()).at("signature"));
        let schemes = signature.schemes().map_err(|message| within(problem(message)))?;
        let read = |(name, text): (&'static str, &Text)| {
            let secret = text.resolve().map_err(|error| within(problem(error.to_string()).at(name)))?;
            key::keys(&schemes, secret.expose()).map_err(|message| within(problem(message.to_owned()).at(name)))
        };
        let keys = signature.secrets().map(read).collect::<Result<_, _>>()?;
        let verify_token = match signature.verify_token() {
            Some(text) => {
                let token = text.resolve().map_err(|error| within(problem(error.to_string()).at("verify_token")))?;
                Some(Key::token(token.expose()))
            }
            None => None,
        };
        Ok(Self { schemes, keys, verify_token, signature })
    }

    /// Which preset it is.
    pub(in crate::webhook) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether there is a signature at all, as far as the head tells.
    ///
    /// # Errors
    /// There is none where there should be one.
    pub(in crate::webhook) fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let call = Call::new(head, &[], None);
        let mut absent = None;
        for scheme in &self.schemes {
            match given(scheme, &call, None) {
                Err(message) if scheme.field.is_none() => _ = absent.get_or_insert(message),
                _ => return Ok(()),
            }
        }
        absent.map_or(Ok(()), |message| Err(unauthorized(format!("{message}; sign the request"))))
    }

    /// Checks the signature, and returns the delivery's id where the scheme that fits signs one or says where it is.
    ///
    /// # Errors
    /// It is missing, too old, too new, or does not fit. What is told is what the sender can see himself.
    pub(in crate::webhook) fn verify(&self, call: &Call<'_>, now: Timestamp) -> Result<Option<String>, Refusal> {
        let (mut absent, mut wrong) = (None, None);
        for (index, scheme) in self.schemes.iter().enumerate() {
            let keys: Vec<_> = self.keys.iter().filter_map(|keys| keys.get(index)?.as_ref()).collect();
            match check(scheme, &keys, call, now) {
                Ok(()) => return Ok(scheme.id.as_ref().and_then(|id| delivery_id(call, id))),
                Err(Fault::Absent(message)) => _ = absent.get_or_insert(message),
                Err(Fault::Wrong(message)) => _ = wrong.get_or_insert(message),
            }
        }
        // A signature that is there and does not fit tells more than another kind's absence.
        match (wrong, absent) {
            (Some(message), _) => Err(unauthorized(message)),
            (None, Some(message)) => Err(unauthorized(format!("{message}; sign the request"))),
            (None, None) => Ok(None),
        }
    }

    /// Whether a registration shows the token that was agreed on.
    pub(in crate::webhook) fn is_verify_token(&self, token: &str) -> bool {
        self.verify_token.as_ref().is_some_and(|key| key.fits(Algorithm::Token, &[b""], token.as_bytes()))
    }

    /// The headers and parameters that show the secret itself.
    pub(in crate::webhook) fn shown(&self) -> Vec<&str> {
        let tokens = self.schemes.iter().filter(|scheme| scheme.algorithm == Algorithm::Token);
        tokens.filter_map(|scheme| scheme.header.as_deref().or(scheme.query.as_deref())).collect()
    }

    /// The HMAC of a registration's challenge, by the secret in force.
    pub(in crate::webhook) fn hmac_sha256_hex(&self, text: &str) -> Option<String> {
        self.keys.first()?.iter().flatten().find_map(|key| key.hmac_sha256_hex(text))
    }
}

fn delivery_id(call: &Call<'_>, id: &Template) -> Option<String> {
    call.text(id, Scope::default()).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Where the signature should be, as it is there.
fn given(scheme: &Scheme, call: &Call<'_>, item: Option<&Value>) -> Result<String, String> {
    if let Some(name) = &scheme.header {
        let value = call.headers().get(name).and_then(|value| value.to_str().ok());
        return value.map(str::to_owned).ok_or_else(|| format!("the header {} is missing", name.to_ascii_lowercase()));
    }
    if let Some(name) = &scheme.query {
        return call.query(name).ok_or_else(|| format!("the query parameter {name} is missing"));
    }
    let path = scheme.field.as_deref().unwrap_or_default();
    let found = request::at(item.unwrap_or_else(|| call.fields()), path.split('.')).and_then(request::scalar);
    found.ok_or_else(|| format!("the body has no field {path}"))
}

fn check(scheme: &Scheme, keys: &[&Key], call: &Call<'_>, now: Timestamp) -> Result<(), Fault> {
    let Some(each) = &scheme.each else { return check_one(scheme, keys, call, None, now) };
    let list = request::at(call.fields(), each.split('.')).and_then(Value::as_array);
    match list.map(Vec::as_slice) {
        None | Some([]) => Err(Fault::Absent(format!("the body has no list {each} with something in it"))),
        Some(items) if items.len() > ITEMS_MAX => Err(Fault::Wrong(format!("the list {each} has more than {ITEMS_MAX} items"))),
        Some(items) => items.iter().try_for_each(|item| check_one(scheme, keys, call, Some(item), now)),
    }
}

fn check_one(scheme: &Scheme, keys: &[&Key], call: &Call<'_>, item: Option<&Value>, now: Timestamp) -> Result<(), Fault> {
    let given = given(scheme, call, item).map_err(Fault::Absent)?;
    let pairs = scheme.separator.as_deref().map(|separator| (given.as_str(), separator));
    let mut scope = Scope { item, pairs, timestamp: None };
    let timestamp = match &scheme.timestamp {
        Some(place) => Some(call.text(place, scope).map_err(Fault::Wrong)?),
        None => None,
    };
    scope.timestamp = timestamp.as_deref();
    if let Some(timestamp) = &timestamp {
        check_time(timestamp, scheme.unit, scheme.tolerance, now).map_err(Fault::Wrong)?;
    }
    if let Some(digest) = &scheme.digest {
        let digest = call.text(digest, scope).map_err(Fault::Wrong)?;
        if !key::is_sha256_of(&digest, call.body()) {
            return Err(Fault::Wrong("the digest does not fit the body".to_owned()));
        }
    }
    let signed = match scheme.algorithm {
        Algorithm::Token => Vec::new(),
        _ => call.pieces(&scheme.signed, scope).map_err(Fault::Wrong)?,
    };
    if any(candidates(scheme, &given).map(|signature| fits(scheme, keys, &signed, signature))) {
        return Ok(());
    }
    Err(Fault::Wrong(match scheme.algorithm {
        Algorithm::Token => "the token is not the one that is expected".to_owned(),
        _ => "the signature does not fit the body and the secret".to_owned(),
    }))
}

/// The signatures that may fit, without what stands in front of them.
fn candidates<'g>(scheme: &'g Scheme, given: &'g str) -> impl Iterator<Item = &'g str> {
    let whole = scheme.separator.is_none().then_some(given);
    let parts = scheme.separator.as_deref().into_iter().flat_map(|separator| given.split(separator).map(str::trim));
    // RFC 9110, section 11.1: the name of an authentication scheme is of either case. That of another prefix is, too: nothing hangs on it.
    let behind = |part: &'g str| {
        let (prefix, rest) = part.split_at_checked(scheme.prefix.len())?;
        prefix.eq_ignore_ascii_case(&scheme.prefix).then_some(rest)
    };
    whole.into_iter().chain(parts).filter_map(behind).take(SIGNATURES_MAX)
}

fn fits(scheme: &Scheme, keys: &[&Key], signed: &[Cow<'_, [u8]>], signature: &str) -> bool {
    let Some(signature) = key::decode(scheme.encoding(), signature) else { return false };
    any(keys.iter().map(|key| key.fits(scheme.algorithm, signed, &signature)))
}

/// Looks at every one, so that the time taken does not tell which was right.
fn any(fits: impl Iterator<Item = bool>) -> bool {
    fits.fold(false, |any, fits| any | fits)
}

fn check_time(text: &str, unit: Unit, tolerance: Interval, now: Timestamp) -> Result<(), String> {
    let (micros, spelling) = match unit {
        Unit::S => (text.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000)), "in seconds since 1970"),
        Unit::Ms => (text.parse::<i64>().ok().and_then(|millis| millis.checked_mul(1_000)), "in milliseconds since 1970"),
        Unit::Rfc3339 => (text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond), "a date and time of RFC 3339"),
    };
    let micros = match (micros, text.parse::<i64>()) {
        (Some(micros), _) => micros,
        // A number that is too large to count with is far from every clock.
        (None, Ok(_)) if unit != Unit::Rfc3339 => i64::MAX,
        (None, _) => return Err(format!("the signed time is not {spelling}")),
    };
    // Senders that count seconds have left out what is below one, and so does the comparison.
    let now = if unit == Unit::S { now.0.div_euclid(1_000_000) * 1_000_000 } else { now.0 };
    if u128::from(micros.abs_diff(now)) <= tolerance.0.as_micros() {
        return Ok(());
    }
    Err(format!("the signed time lies more than {tolerance} from this clock; send it anew, and check both clocks"))
}

fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Refusal {
    // RFC 9110, section 11.6.1, wants a challenge; there is no registered scheme for signatures like these.
    Refusal::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, HeaderValue::from_static("Signature"))
}

#[cfg(test)]
mod tests;
