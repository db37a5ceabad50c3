//! Checking a signature: the secrets and keys of a webhook, and what fits them.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use pointsman_schemas::{Problem, Text, Timestamp};

use super::Signature;
use super::check::{Check, Fault, given};
use super::fetch::Fetcher;
use super::handshake::{Answered, Handshake, Moment, Registration};
use super::hosts::{self, Address};
use super::jwt::KeySet;
use super::key::{self, Key};
use super::keyring::{Keyring, Wanted};
use super::request::{Call, Scope};
use super::scheme::{Algorithm, Scheme};
use super::template::Template;
use crate::OpenError;
use crate::listener::Refusal;
use crate::net::tls::ClientTls;

/// A preset with its secrets, resolved.
#[derive(Debug)]
pub(in crate::webhook) struct Verifier {
    signature: Signature,
    schemes: Vec<Scheme>,
    /// Of each secret its key for each scheme.
    keys: Vec<Vec<Option<Key>>>,
    /// Of each scheme the issuer's keys, where the settings have them.
    sets: Vec<Option<Arc<KeySet>>>,
    /// Keys from elsewhere, where a scheme has some.
    keyring: Option<Keyring>,
    registrations: Vec<Registration>,
}

/// Why a call is not taken, yet.
#[derive(Debug, PartialEq)]
pub(in crate::webhook) enum Unverified {
    /// The signature is missing or does not fit.
    Refused(Refusal),
    /// A key must be fetched first.
    Wanted(Wanted),
}

#[cfg(test)]
impl Unverified {
    /// Why it is refused, where no key is to be fetched.
    pub(in crate::webhook) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Wanted(wanted) => panic!("{wanted:?} is wanted"),
        }
    }
}

impl Verifier {
    /// Resolves the secrets.
    ///
    /// # Errors
    /// One is missing or not as its scheme writes it.
    pub(in crate::webhook) fn open(signature: Signature) -> Result<Self, OpenError> {
        let name = signature.name();
        let within = |problem: Problem| OpenError(problem.at(name).at("signature"));
        let problem = |message: String| within(Problem::new(message));
        let at = |message: String, key: &str| within(Problem::new(message).at(key));
        let schemes = signature.schemes().map_err(problem)?;
        let read = |(name, text): (&'static str, &Text)| {
            let secret = text
                .resolve()
                .map_err(|error| at(error.to_string(), name))?;
            key::keys(&schemes, text, secret.expose()).map_err(|problem| within(problem.at(name)))
        };
        let keys = signature.secrets().map(read).collect::<Result<_, _>>()?;
        let register = |handshake: Handshake| -> Result<Registration, OpenError> {
            let resolved = handshake
                .verify_token
                .as_ref()
                .map(Text::resolve)
                .transpose();
            let token = resolved.map_err(|error| at(error.to_string(), "verify_token"))?;
            Ok(Registration {
                token: token.map(|token| Key::token(token.expose())),
                handshake,
            })
        };
        let registrations = signature
            .handshakes()
            .map_err(problem)?
            .into_iter()
            .map(register)
            .collect::<Result<_, _>>()?;
        let set = |scheme: &Scheme| -> Result<Option<Arc<KeySet>>, OpenError> {
            let Some(text) = scheme.jwt.as_ref().and_then(|jwt| jwt.keys.as_ref()) else {
                return Ok(None);
            };
            let set = text
                .resolve()
                .map_err(|error| at(error.to_string(), "jwt.keys"))?;
            let set = KeySet::read(set.expose().as_bytes())
                .map_err(|why| at(why.to_owned(), "jwt.keys"))?;
            Ok(Some(Arc::new(set)))
        };
        let sets = schemes.iter().map(set).collect::<Result<_, _>>()?;
        let keyring = keyring(&schemes).map_err(|OpenError(problem)| within(problem))?;
        Ok(Self {
            schemes,
            keys,
            sets,
            keyring,
            registrations,
            signature,
        })
    }

    /// Which preset it is.
    pub(in crate::webhook) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Keys from elsewhere, where a scheme has some.
    pub(in crate::webhook) fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_ref()
    }

    /// Fetches the keys whose address the settings name; how many such addresses there are.
    ///
    /// # Errors
    /// They cannot be had.
    pub(in crate::webhook) async fn probe(&self) -> Result<usize, OpenError> {
        let problem = |message: String| OpenError(Problem::new(message).at("signature"));
        let mut count = 0;
        for jwt in self.schemes.iter().filter_map(|scheme| scheme.jwt.as_ref()) {
            if let (Some(wanted), Some(keyring)) =
                (Wanted::of(jwt).map_err(problem)?, &self.keyring)
            {
                keyring
                    .probe(&wanted)
                    .await
                    .map_err(|why| problem(format!("cannot fetch {}: {why}", wanted.url())))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// An address on one of the hosts that certificates come from.
    pub(in crate::webhook) fn on_certificate_host(&self, url: &str) -> Option<Address> {
        let certificate = self
            .schemes
            .iter()
            .find_map(|scheme| scheme.certificate.as_ref())?;
        hosts::allowed(url, &certificate.hosts, false).ok()
    }

    /// Whether nothing of a request is signed, but a token shows who sends it: then its headers are
    /// as good as its body.
    pub(in crate::webhook) fn is_by_jwt(&self) -> bool {
        self.schemes
            .iter()
            .all(|scheme| scheme.algorithm == Algorithm::Jwt)
            && !self.schemes.is_empty()
    }

    /// Whether there is a signature at all, as far as the head tells.
    ///
    /// # Errors
    /// There is none where there should be one.
    pub(in crate::webhook) fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let call = Call::new(head, &[], None);
        // What is asked before anything is signed may need the body to be told.
        if self
            .registrations
            .iter()
            .any(|registration| registration.may_be_asked(&call))
        {
            return Ok(());
        }
        let mut absent = None;
        for scheme in &self.schemes {
            match given(scheme, &call, None) {
                Err(message) if scheme.field.is_none() => _ = absent.get_or_insert(message),
                _ => return Ok(()),
            }
        }
        absent.map_or(Ok(()), |message| {
            Err(unauthorized(format!("{message}; sign the request")))
        })
    }

    /// Checks the signature, and returns the delivery's id where the scheme that fits signs one or
    /// says where it is.
    ///
    /// # Errors
    /// It is missing, too old, too new, or does not fit. What is told is what the sender can see
    /// himself. Or a key must be fetched first, since nothing else fits; then this is called again.
    pub(in crate::webhook) fn verify(
        &self,
        call: &Call<'_>,
        now: Timestamp,
    ) -> Result<Option<String>, Unverified> {
        let (mut absent, mut wrong, mut wanted) = (None, None, None);
        let mut unmet: Option<(usize, String)> = None;
        for (index, scheme) in self.schemes.iter().enumerate() {
            let keys: Vec<_> = self
                .keys
                .iter()
                .filter_map(|keys| keys.get(index)?.as_ref())
                .collect();
            let set = self.sets.get(index).and_then(Option::as_ref);
            match (Check {
                scheme,
                keys: &keys,
                set,
                keyring: self.keyring.as_ref(),
                now,
            })
            .call(call)
            {
                Ok(()) => return Ok(scheme.id.as_ref().and_then(|id| delivery_id(call, id))),
                Err(Fault::Absent(message)) => _ = absent.get_or_insert(message),
                Err(Fault::Wrong(message)) => _ = wrong.get_or_insert(message),
                Err(Fault::Unmet(met, message)) => {
                    if unmet.as_ref().is_none_or(|(most, _)| met > *most) {
                        unmet = Some((met, message));
                    }
                }
                Err(Fault::Wanted(key)) => _ = wanted.get_or_insert(key),
            }
        }
        // A signature that is there and does not fit tells more than another kind's absence.
        match (wanted, wrong.or(unmet.map(|(_, message)| message)), absent) {
            (Some(wanted), _, _) => Err(Unverified::Wanted(wanted)),
            (None, Some(message), _) => Err(Unverified::Refused(unauthorized(message))),
            (None, None, Some(message)) => Err(Unverified::Refused(unauthorized(format!(
                "{message}; sign the request"
            )))),
            (None, None, None) => Ok(None),
        }
    }

    /// What a call is answered that asks whether somebody is there.
    pub(in crate::webhook) fn answer(
        &self,
        call: &Call<'_>,
        moment: Moment,
    ) -> Option<Result<Answered, Refusal>> {
        self.registrations.iter().find_map(|registration| {
            registration.answer(call, moment, |challenge| self.hmac(challenge))
        })
    }

    /// The headers and parameters that show the secret itself.
    pub(in crate::webhook) fn shown(&self) -> Vec<&str> {
        let is_token =
            |scheme: &&Scheme| matches!(scheme.algorithm, Algorithm::Token | Algorithm::Jwt);
        let tokens = self
            .schemes
            .iter()
            .filter(is_token)
            .filter_map(|scheme| scheme.header.as_deref().or(scheme.query.as_deref()));
        tokens
            .chain(
                self.schemes
                    .iter()
                    .filter_map(|scheme| scheme.token.as_ref())
                    .flat_map(Template::names),
            )
            .collect()
    }

    /// The HMAC of a registration's challenge, by the secret in force.
    fn hmac(&self, text: &str) -> Option<Vec<u8>> {
        let keys = self.keys.first()?.iter().zip(&self.schemes);
        keys.filter_map(|(key, scheme)| Some((key.as_ref()?, scheme.algorithm)))
            .find_map(|(key, algorithm)| key.hmac_of(algorithm, text))
    }
}

/// What fetches keys, where a scheme has them fetched.
fn keyring(schemes: &[Scheme]) -> Result<Option<Keyring>, OpenError> {
    let fetched = schemes.iter().any(|scheme| {
        scheme.certificate.is_some() || scheme.jwt.as_ref().is_some_and(|jwt| jwt.keys.is_none())
    });
    if !fetched {
        return Ok(None);
    }
    let ca = schemes.iter().find_map(|scheme| {
        let certificate = scheme
            .certificate
            .as_ref()
            .and_then(|certificate| certificate.ca.as_ref());
        certificate.or_else(|| scheme.jwt.as_ref()?.ca.as_ref())
    });
    Ok(Some(Keyring::new(Fetcher::new(
        ClientTls {
            ca,
            ..ClientTls::default()
        }
        .config()?,
    ))))
}

fn delivery_id(call: &Call<'_>, id: &Template) -> Option<String> {
    call.text(id, Scope::default())
        .ok()
        .map(|id| id.trim().to_owned())
        .filter(|id| !id.is_empty())
}

fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Refusal {
    // RFC 9110, section 11.6.1, wants a challenge; there is no registered scheme for signatures
    // like these.
    Refusal::new(StatusCode::UNAUTHORIZED, detail)
        .with(WWW_AUTHENTICATE, HeaderValue::from_static("Signature"))
}

#[cfg(test)]
mod tests;
