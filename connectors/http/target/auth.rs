//! How a call says who calls.

use std::fmt::Display;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman_schemas::{Problem, Segment, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Sha256;

use super::address;
use super::oauth2::{OAuth2, TokenRequest};
use crate::OpenError;
use crate::credential::{self, BEARER};
use crate::net::dial::Way;
use crate::net::guard::Guard;
use crate::net::names::Names;
use crate::net::tls::ClientTls;
use crate::parameter::{located, resolve};

/// How the target is shown who calls.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// A fixed token: `Authorization: Bearer …`.
    #[schemars(extend("writeOnly" = true))]
    Bearer(Text),
    /// A user and a password: `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user.
        username: Text,
        /// The password.
        #[schemars(extend("writeOnly" = true))]
        password: Text,
    },
    /// A secret in a header of its own, such as `X-Api-Key`.
    Header {
        /// The header's name.
        name: String,
        /// The secret.
        #[schemars(extend("writeOnly" = true))]
        value: Text,
    },
    /// A token from a token endpoint, by client credentials (RFC 6749, section 4.4), kept until
    /// shortly before it expires.
    OAuth2 {
        /// The token endpoint.
        token_url: Text,
        /// The client.
        client_id: Text,
        /// Its secret.
        #[schemars(extend("writeOnly" = true))]
        client_secret: Text,
        /// The scopes to ask for.
        #[serde(default)]
        scopes: Vec<String>,
        /// The audience to ask for, where the endpoint wants one.
        audience: Option<String>,
        /// Where the client's id and secret stand in the request.
        #[serde(default)]
        credentials: CredentialsIn,
    },
    /// A signature over id, time and body: Standard Webhooks, `v1`.
    Signature {
        /// The secret: `whsec_` and 24 to 64 bytes in base64.
        #[schemars(extend("writeOnly" = true))]
        secret: Text,
    },
}

/// A token has no space in it (RFC 6750, section 2.1), so that one which begins with the scheme is
/// the whole value of a header.
fn check_bearer(text: &Text, token: &str) -> Result<(), Problem> {
    credential::check(text, token, BEARER, "bearer: { env: TOKEN }")
}

/// Where a client's id and secret stand in a token request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialsIn {
    /// In the header `Authorization`, which every endpoint understands.
    #[default]
    Header,
    /// In the form.
    Body,
}

/// A way to authenticate, ready to be used.
pub(super) enum Credentials {
    /// None.
    Anonymous,
    /// A header that never changes.
    Fixed(HeaderName, HeaderValue),
    /// A token that expires.
    OAuth2(Box<OAuth2>),
    /// A signature.
    Signature(Signer),
}

impl Auth {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let under = |kind: &str, field: &str, problem: Problem| problem.at(field).at(kind);
        match self {
            Self::Header { name, .. } => HeaderName::try_from(name.as_str())
                .err()
                .map(|_| {
                    under(
                        "header",
                        "name",
                        Problem::new(format!("{name:?} is no header's name")),
                    )
                })
                .into_iter()
                .collect(),
            Self::OAuth2 { token_url, .. } => {
                let template = address::varies(token_url).then(|| {
                    Problem::new("no template can stand here: a token is for every event")
                });
                address::check(token_url)
                    .or(template)
                    .map(|problem| under("oauth2", "token_url", problem))
                    .into_iter()
                    .collect()
            }
            Self::Signature { secret } => secret
                .literal()
                .and_then(|secret| Signer::new(secret).err())
                .map(|mistake| under("signature", "secret", Problem::new(mistake)))
                .into_iter()
                .collect(),
            Self::Bearer(text) => text
                .literal()
                .and_then(|token| check_bearer(text, token).err())
                .map(|problem| problem.at("bearer"))
                .into_iter()
                .collect(),
            Self::Basic { .. } => Vec::new(),
        }
    }

    /// The settings that may be taken from elsewhere.
    pub(super) fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Bearer(text)
            | Self::Header { value: text, .. }
            | Self::Signature { secret: text } => vec![text],
            Self::Basic { username, password } => vec![username, password],
            Self::OAuth2 {
                token_url,
                client_id,
                client_secret,
                ..
            } => vec![token_url, client_id, client_secret],
        }
    }

    /// Resolves the secrets. Paths of problems begin at the auth settings.
    pub(super) fn open(
        &self,
        guard: Guard,
        names: &Names,
        files: ClientTls<'_>,
    ) -> Result<Credentials, OpenError> {
        match self {
            Self::Bearer(text) => {
                let at = path(&["bearer"]);
                let token = resolve(text, &at)?;
                check_bearer(text, &token).map_err(|problem| OpenError(located(problem, &at)))?;
                Ok(Credentials::Fixed(
                    AUTHORIZATION,
                    secret_header(&format!("Bearer {token}"), &at)?,
                ))
            }
            Self::Basic { username, password } => {
                let username = resolve(username, &path(&["basic", "username"]))?;
                let password = resolve(password, &path(&["basic", "password"]))?;
                Ok(Credentials::Fixed(
                    AUTHORIZATION,
                    basic(&username, &password),
                ))
            }
            Self::Header { name, value } => {
                let at = path(&["header", "value"]);
                let name = HeaderName::try_from(name.as_str()).map_err(|_| {
                    OpenError(
                        Problem::new(format!("{name:?} is no header's name"))
                            .at("name")
                            .at("header"),
                    )
                })?;
                Ok(Credentials::Fixed(
                    name,
                    secret_header(&resolve(value, &at)?, &at)?,
                ))
            }
            Self::OAuth2 {
                token_url,
                client_id,
                client_secret,
                scopes,
                audience,
                credentials,
            } => {
                let url = resolve(token_url, &path(&["oauth2", "token_url"]))?;
                let request = TokenRequest {
                    client_id: resolve(client_id, &path(&["oauth2", "client_id"]))?,
                    client_secret: resolve(client_secret, &path(&["oauth2", "client_secret"]))?,
                    scope: scopes.join(" "),
                    audience: audience.clone(),
                    credentials: *credentials,
                };
                oauth2(&url, &request, guard, names, files)
            }
            Self::Signature { secret } => {
                let at = path(&["signature", "secret"]);
                let signer = Signer::new(&resolve(secret, &at)?);
                Ok(Credentials::Signature(signer.map_err(|mistake| {
                    OpenError(located(Problem::new(mistake), &at))
                })?))
            }
        }
    }
}

/// The path of a field of the auth settings.
fn path(fields: &[&str]) -> Vec<Segment> {
    fields.iter().map(|field| Segment::from(*field)).collect()
}

/// Credentials whose tokens an endpoint issues.
fn oauth2(
    url: &str,
    request: &TokenRequest,
    guard: Guard,
    names: &Names,
    files: ClientTls<'_>,
) -> Result<Credentials, OpenError> {
    let endpoint = address::parse(url, guard).map_err(|mistake| {
        OpenError(located(
            Problem::new(mistake),
            &path(&["oauth2", "token_url"]),
        ))
    })?;
    let way = Way {
        guard,
        names: names.clone(),
        tls: files.config_for(address::is_https(url))?,
    };
    Ok(Credentials::OAuth2(Box::new(OAuth2::new(
        endpoint, request, way,
    ))))
}

/// A header's value that is not shown.
fn secret_header(text: &str, path: &[Segment]) -> Result<HeaderValue, OpenError> {
    let problem = |_| {
        OpenError(located(
            Problem::new("the secret has characters in it that cannot stand in a header"),
            path,
        ))
    };
    let mut value = HeaderValue::try_from(text).map_err(problem)?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 7617, in UTF-8.
pub(super) fn basic(username: &str, password: &str) -> HeaderValue {
    // Base64 always fits a header.
    let encoded = format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    );
    let mut value =
        HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// Signs by Standard Webhooks, `v1`: HMAC-SHA256 over id, time and body.
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    /// Reads a secret, with or without its prefix.
    ///
    /// # Errors
    /// It is not base64 of 24 to 64 bytes; the message does not repeat it.
    fn new(secret: &str) -> Result<Self, String> {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap_or(secret))
            .ok()
            .filter(|key| (24..=64).contains(&key.len()));
        let key = key
            .ok_or("a signing secret is whsec_ and 24 to 64 random bytes in base64; this is not")?;
        Hmac::new_from_slice(&key)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Adds the three headers.
    pub(super) fn sign(
        &self,
        id: &impl Display,
        now: SystemTime,
        body: &Bytes,
        headers: &mut HeaderMap,
    ) {
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let id = id.to_string();
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let pairs = [
            ("webhook-id", HeaderValue::try_from(id)),
            ("webhook-signature", HeaderValue::try_from(signature)),
        ];
        for (name, value) in pairs {
            if let Ok(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers.insert(
            HeaderName::from_static("webhook-timestamp"),
            HeaderValue::from(seconds),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_of_the_standard_webhooks_specification() {
        // The example of the reference libraries' tests: msg id, time and body fixed.
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = signer.0.clone();
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        assert_eq!(
            STANDARD.encode(mac.finalize().into_bytes()),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_signing_secret_is_long_enough_and_never_repeated() {
        for bad in [
            "",
            "whsec_",
            "whsec_aHVudGVyMg==",
            "whsec_***not base64***",
            &format!("whsec_{}", STANDARD.encode([0; 65])),
        ] {
            let error = Signer::new(bad).err().unwrap();
            assert!(!error.contains("aHVudGVyMg"), "{error}");
        }
        assert!(Signer::new(&STANDARD.encode([0; 24])).is_ok());
    }
}
