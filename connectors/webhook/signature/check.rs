//! Looks at one call by one scheme.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_schemas::{Interval, Timestamp};
use serde_json::Value;

use super::certificate::Signer;
use super::hosts;
use super::jwt::{KeySet, Token};
use super::key::{self, Key};
use super::keyring::{Keyring, Wanted};
use super::request::{self, Call, Scope};
use super::rsa::RsaHash;
use super::scheme::{Algorithm, Certificate, Jwt, Scheme, Unit};

/// How many signatures of one request are tried: two for a rotation, in two versions, and room.
/// Each may cost a hash over the whole body.
pub(super) const SIGNATURES_MAX: usize = 8;

/// How many items of a body that signs each of them are looked at.
const ITEMS_MAX: usize = 1_000;

/// Why a scheme does not fit.
pub(super) enum Fault {
    /// There is no signature of this kind.
    Absent(String),
    /// There is one, and it or what belongs to it is wrong.
    Wrong(String),
    /// What the scheme requires besides is not met: how much of it was, and what is not.
    Unmet(usize, String),
    /// It cannot be told before a key is there.
    Wanted(Wanted),
}

/// A scheme with its keys.
#[derive(Clone, Copy)]
pub(super) struct Check<'v> {
    pub(super) scheme: &'v Scheme,
    /// Of its secrets.
    pub(super) keys: &'v [&'v Key],
    /// The issuer's, where the settings have them.
    pub(super) set: Option<&'v Arc<KeySet>>,
    pub(super) keyring: Option<&'v Keyring>,
    pub(super) now: Timestamp,
}

/// Where the signature should be, as it is there.
pub(super) fn given(
    scheme: &Scheme,
    call: &Call<'_>,
    item: Option<&Value>,
) -> Result<String, String> {
    if let Some(name) = &scheme.header {
        return in_header(name, scheme, call);
    }
    if let Some(name) = &scheme.query {
        return call
            .query(name)
            .ok_or_else(|| format!("the query parameter {name} is missing"));
    }
    let path = scheme.field.as_deref().unwrap_or_default();
    let found = request::at(item.unwrap_or_else(|| call.fields()), path.split('.'))
        .and_then(request::scalar);
    found.ok_or_else(|| format!("the body has no field {path}"))
}

fn in_header(name: &str, scheme: &Scheme, call: &Call<'_>) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    let values: Vec<_> = call
        .headers()
        .get_all(&name)
        .iter()
        .map(|value| value.to_str())
        .collect();
    match (values.as_slice(), &scheme.separator) {
        ([], _) => Err(format!("the header {name} is missing")),
        ([Ok(value)], _) => Ok((*value).to_owned()),
        // A list may come in several lines (RFC 9110, section 5.3).
        (_, Some(separator)) => {
            let lines: Result<Vec<_>, _> = values.into_iter().collect();
            lines
                .map(|lines| lines.join(separator))
                .map_err(|_| format!("the header {name} is not ASCII"))
        }
        ([Err(_)], None) => Err(format!("the header {name} is not ASCII")),
        // Of two, what is in front might have looked at the other one.
        (_, None) => Err(format!("the header {name} is there more than once")),
    }
}

impl<'v> Check<'v> {
    /// Whether a call is signed, and if the scheme says so each of its items.
    pub(super) fn call(self, call: &Call<'_>) -> Result<(), Fault> {
        let Some(each) = &self.scheme.each else {
            return self.one(call, None);
        };
        let list = request::at(call.fields(), each.split('.')).and_then(Value::as_array);
        match list.map(Vec::as_slice) {
            None | Some([]) => Err(Fault::Absent(format!(
                "the body has no list {each} with something in it"
            ))),
            Some(items) if items.len() > ITEMS_MAX => Err(Fault::Wrong(format!(
                "the list {each} has more than {ITEMS_MAX} items"
            ))),
            Some(items) => items.iter().try_for_each(|item| self.one(call, Some(item))),
        }
    }

    fn one(self, call: &Call<'_>, item: Option<&Value>) -> Result<(), Fault> {
        let scheme = self.scheme;
        let given = given(scheme, call, item).map_err(Fault::Absent)?;
        let pairs = scheme
            .separator
            .as_deref()
            .map(|separator| (given.as_str(), separator));
        let mut scope = Scope {
            item,
            pairs,
            ..Scope::default()
        };
        let timestamp = match &scheme.timestamp {
            Some(place) => Some(call.text(place, scope).map_err(Fault::Wrong)?),
            None => None,
        };
        scope.timestamp = timestamp.as_deref();
        if let Some(timestamp) = &timestamp {
            check_time(timestamp, scheme.unit, scheme.tolerance, self.now).map_err(Fault::Wrong)?;
        }
        if let Some(digest) = &scheme.digest {
            let digest = call.text(digest, scope).map_err(Fault::Wrong)?;
            if !key::is_digest_of(&digest, scheme.digest_algorithm, call.body()) {
                return Err(Fault::Wrong("the digest does not fit the body".to_owned()));
            }
        }
        for (met, require) in scheme.require.iter().enumerate() {
            let found = call.text(&require.value, scope).map_err(Fault::Wrong)?;
            if !require.is.contains(&found) {
                return Err(Fault::Unmet(
                    met,
                    format!("{} is not one that is taken here", require.value.place()),
                ));
            }
        }
        match (&scheme.jwt, &scheme.certificate) {
            (Some(jwt), _) => self.jwt(jwt, &given),
            (None, Some(certificate)) => self.certificate(certificate, call, scope, &given),
            (None, None) => self.secrets(call, scope, &given),
        }
    }

    /// By secrets and pinned keys.
    fn secrets(self, call: &Call<'_>, scope: Scope<'_>, given: &str) -> Result<(), Fault> {
        let scheme = self.scheme;
        let signed = match scheme.algorithm {
            Algorithm::Token => Vec::new(),
            _ => call.pieces(&scheme.signed, scope).map_err(Fault::Wrong)?,
        };
        if any(
            candidates(scheme, given).map(|signature| fits(scheme, self.keys, &signed, signature))
        ) {
            return Ok(());
        }
        Err(Fault::Wrong(match scheme.algorithm {
            Algorithm::Token => "the token is not the one that is expected".to_owned(),
            _ => "the signature does not fit the body and the secret".to_owned(),
        }))
    }

    /// By the key of a certificate that is fetched.
    fn certificate(
        self,
        wanted: &Certificate,
        call: &Call<'_>,
        scope: Scope<'_>,
        given: &str,
    ) -> Result<(), Fault> {
        let scheme = self.scheme;
        let secrets = self.texts(call, scope)?;
        let signer = self.signer(wanted, call, scope)?;
        signer.check(wanted, self.now).map_err(Fault::Wrong)?;
        let wrong = || {
            Fault::Wrong(
                "the signature does not fit the body and the signer's certificate".to_owned(),
            )
        };
        let hmac = match &wanted.hmac_key {
            Some(place) => {
                let packed = call.text(place, scope).map_err(Fault::Wrong)?;
                let key = key::base64(&packed)
                    .and_then(|packed| signer.key.recover(&packed))
                    .ok_or_else(wrong)?;
                Some(Key::hmac(key))
            }
            None => None,
        };
        for secret in secrets {
            let signed = call
                .pieces(&scheme.signed, Scope { secret, ..scope })
                .map_err(Fault::Wrong)?
                .concat();
            let fits = |signature: &str| {
                let Some(signature) = key::decode(scheme.encoding(), signature) else {
                    return false;
                };
                match (&hmac, scheme.algorithm) {
                    (Some(key), algorithm) => key.fits(algorithm, &[&signed], &signature),
                    (None, Algorithm::RsaSha1) => {
                        signer.key.fits(RsaHash::Sha1, &signed, &signature)
                    }
                    (None, Algorithm::RsaSha256) => {
                        signer.key.fits(RsaHash::Sha256, &signed, &signature)
                    }
                    (None, _) => false,
                }
            };
            if candidates(scheme, given).any(fits) {
                return Ok(());
            }
        }
        Err(wrong())
    }

    /// The secrets that may be part of what is signed: those that the call shows, where it must;
    /// one that is none where there are none.
    fn texts(self, call: &Call<'_>, scope: Scope<'_>) -> Result<Vec<Option<&'v str>>, Fault> {
        let mut secrets: Vec<_> = self.keys.iter().filter_map(|key| key.text()).collect();
        if let Some(place) = &self.scheme.token {
            let shown = call.text(place, scope).map_err(Fault::Wrong)?;
            secrets.retain(|secret| key::is_same(secret, &shown));
            if secrets.is_empty() {
                return Err(Fault::Wrong(
                    "the token is not the one that is expected".to_owned(),
                ));
            }
        }
        Ok(if secrets.is_empty() {
            vec![None]
        } else {
            secrets.into_iter().map(Some).collect()
        })
    }

    fn signer(
        self,
        wanted: &Certificate,
        call: &Call<'_>,
        scope: Scope<'_>,
    ) -> Result<Arc<Signer>, Fault> {
        let elsewhere = || {
            Fault::Wrong(
                "the address of the signer's certificate is not one that is allowed".to_owned(),
            )
        };
        let mut address = call.text(&wanted.url, scope).map_err(Fault::Wrong)?;
        if wanted.base64 {
            address = key::base64(&address)
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(elsewhere)?;
        }
        let address =
            hosts::allowed(&address, &wanted.hosts, wanted.base64).map_err(Fault::Wrong)?;
        if !address.url.path().ends_with(&wanted.suffix) {
            return Err(elsewhere());
        }
        self.keyring
            .ok_or_else(elsewhere)?
            .certificate(address)
            .map_err(Fault::Wanted)
    }

    /// By a token of an issuer's.
    fn jwt(self, wanted: &Jwt, given: &str) -> Result<(), Fault> {
        let absent = || Fault::Absent("there is no token where it should be".to_owned());
        let text = candidates(self.scheme, given).next().ok_or_else(absent)?;
        let token = Token::read(text).map_err(|message| Fault::Wrong(message.to_owned()))?;
        // What can be told without a key is: nothing is fetched for the sake of a token that would
        // not be taken.
        token
            .check(wanted, self.scheme.tolerance.0.as_secs_f64(), self.now)
            .map_err(Fault::Wrong)?;
        let keys = match (
            self.set,
            Wanted::of(wanted).map_err(Fault::Wrong)?,
            self.keyring,
        ) {
            (Some(set), _, _) => Arc::clone(set),
            (None, Some(wanted), Some(keyring)) => {
                keyring.keys(wanted, &token).map_err(Fault::Wanted)?
            }
            _ => return Err(absent()),
        };
        if !keys.knows(&token) {
            return Err(Fault::Wrong(
                "the token is signed by a key that its issuer does not name, or by an algorithm \
                 that is not taken"
                    .to_owned(),
            ));
        }
        if keys.fits(&token) {
            Ok(())
        } else {
            Err(Fault::Wrong(
                "the token's signature does not fit".to_owned(),
            ))
        }
    }
}

/// The signatures that may fit, without what stands in front of them.
fn candidates<'g>(scheme: &'g Scheme, given: &'g str) -> impl Iterator<Item = &'g str> {
    let whole = scheme.separator.is_none().then_some(given);
    let parts = scheme
        .separator
        .as_deref()
        .into_iter()
        .flat_map(|separator| given.split(separator).map(str::trim));
    // RFC 9110, section 11.1: the name of an authentication scheme is of either case. That of
    // another prefix is, too: nothing hangs on it.
    let behind = |part: &'g str| {
        let (prefix, rest) = part.split_at_checked(scheme.prefix.len())?;
        prefix.eq_ignore_ascii_case(&scheme.prefix).then_some(rest)
    };
    whole
        .into_iter()
        .chain(parts)
        .filter_map(behind)
        .take(SIGNATURES_MAX)
}

fn fits(scheme: &Scheme, keys: &[&Key], signed: &[Cow<'_, [u8]>], signature: &str) -> bool {
    let Some(signature) = key::decode(scheme.encoding(), signature) else {
        return false;
    };
    any(keys
        .iter()
        .map(|key| key.fits(scheme.algorithm, signed, &signature)))
}

/// Looks at every one, so that the time taken does not tell which was right.
fn any(fits: impl Iterator<Item = bool>) -> bool {
    fits.fold(false, |any, fits| any | fits)
}

fn check_time(text: &str, unit: Unit, tolerance: Interval, now: Timestamp) -> Result<(), String> {
    let (micros, spelling) = match unit {
        Unit::S => (
            text.parse::<i64>()
                .ok()
                .and_then(|seconds| seconds.checked_mul(1_000_000)),
            "in seconds since 1970",
        ),
        Unit::Ms => (
            text.parse::<i64>()
                .ok()
                .and_then(|millis| millis.checked_mul(1_000)),
            "in milliseconds since 1970",
        ),
        Unit::Rfc3339 => (
            text.parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_microsecond),
            "a date and time of RFC 3339",
        ),
        Unit::Http => (
            httpdate::parse_http_date(text).ok().and_then(micros_of),
            "a date of HTTP's",
        ),
    };
    let micros = match (micros, text.parse::<i64>()) {
        (Some(micros), _) => micros,
        // A number that is too large to count with is far from every clock.
        (None, Ok(_)) if matches!(unit, Unit::S | Unit::Ms) => i64::MAX,
        (None, _) => return Err(format!("the signed time is not {spelling}")),
    };
    // Senders that count seconds have left out what is below one, and so does the comparison.
    let now = if matches!(unit, Unit::S | Unit::Http) {
        now.0.div_euclid(1_000_000) * 1_000_000
    } else {
        now.0
    };
    if u128::from(micros.abs_diff(now)) <= tolerance.0.as_micros() {
        return Ok(());
    }
    Err(format!(
        "the signed time lies more than {tolerance} from this clock; send it anew, and check both \
         clocks"
    ))
}

fn micros_of(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}
