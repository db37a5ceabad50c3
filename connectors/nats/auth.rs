//! Who connects, and how a server is shown that.
//!
//! What shows it is read from its files again before each connection, and a connection is made anew
//! once they have changed: passwords, tokens and JWTs that somebody renews beside a running bus are
//! taken over without a restart. Messages in hand stay so.

use std::future::ready;

use async_nats::{AuthError, Client, ConnectOptions};
use nkeys::KeyPair;
use pointsman_schemas::{Problem, Segment, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

use crate::OpenError;
use crate::files::Files;
use crate::parameter::resolve;

/// How the server is shown who connects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "NatsAuth")]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// A user and a password.
    Basic {
        /// The user.
        username: Text,
        /// The password.
        #[schemars(extend("writeOnly" = true))]
        password: Text,
    },
    /// A token.
    #[schemars(extend("writeOnly" = true))]
    Token(Text),
    /// The seed of an NKey, which begins with `SU`.
    #[schemars(extend("writeOnly" = true))]
    Nkey(Text),
    /// A credentials file's content, which holds a JWT and a seed: `{ file: ./app.creds }`.
    #[schemars(extend("writeOnly" = true))]
    Credentials(Text),
}

/// What a server is shown, as it was read.
enum Identity {
    Basic { username: String, password: String },
    Token(String),
    Nkey(KeyPair),
    Jwt(String, KeyPair),
}

impl Auth {
    pub(super) fn check(&self) -> Option<Problem> {
        let problem =
            |kind: &str, mistake: &str, help: &str| Some(Problem::new(mistake).help(help).at(kind));
        match self {
            Self::Nkey(seed) if seed.literal().is_some_and(|seed| !seed.starts_with("SU")) => {
                problem(
                    "nkey",
                    "this is no seed of a user's NKey, which begins with SU",
                    "write { env: NAME } or { file: path }",
                )
            }
            Self::Credentials(text)
                if text
                    .literal()
                    .is_some_and(|text| !text.contains("BEGIN NATS USER JWT")) =>
            {
                problem(
                    "credentials",
                    "these are no credentials, but perhaps the path of some",
                    "write { file: path }",
                )
            }
            _ => None,
        }
    }

    /// The texts that it is made of, each with its place.
    pub(super) fn texts(&self) -> Vec<(&Text, &'static [&'static str])> {
        match self {
            Self::Basic { username, password } => vec![
                (username, &["basic", "username"]),
                (password, &["basic", "password"]),
            ],
            Self::Token(token) => vec![(token, &["token"])],
            Self::Nkey(seed) => vec![(seed, &["nkey"])],
            Self::Credentials(text) => vec![(text, &["credentials"])],
        }
    }

    /// Their values as they are now.
    fn values(&self) -> Result<Vec<String>, OpenError> {
        let value = |(text, path): (&Text, &[&str])| {
            let path: Vec<Segment> = ["auth"]
                .iter()
                .chain(path)
                .map(|part| Segment::from(*part))
                .collect();
            resolve(text, &path)
        };
        self.texts().into_iter().map(value).collect()
    }

    fn read(&self) -> Result<Identity, OpenError> {
        let values = self.values()?;
        let mistake =
            |kind: &str, mistake: String| OpenError(Problem::new(mistake).at(kind).at("auth"));
        let key = |kind: &str, seed: &str| {
            KeyPair::from_seed(seed.trim())
                .map_err(|error| mistake(kind, format!("this is no seed of an NKey: {error}")))
        };
        Ok(match (self, values.as_slice()) {
            (Self::Basic { .. }, [username, password]) => Identity::Basic {
                username: username.clone(),
                password: password.clone(),
            },
            (Self::Token(_), [token]) => Identity::Token(token.clone()),
            (Self::Nkey(_), [seed]) => Identity::Nkey(key("nkey", seed)?),
            (_, values) => {
                let text = values.first().map(String::as_str).unwrap_or_default();
                let parts = block(text, "NATS USER JWT").zip(block(text, "USER NKEY SEED"));
                let (jwt, seed) = parts.ok_or_else(|| {
                    mistake(
                        "credentials",
                        "these are no credentials with a JWT and a seed".to_owned(),
                    )
                })?;
                Identity::Jwt(jwt.to_owned(), key("credentials", seed)?)
            }
        })
    }

    /// Options of a connection that reads it again each time.
    ///
    /// # Errors
    /// It cannot be read now.
    pub(super) fn options(&self) -> Result<ConnectOptions, OpenError> {
        self.read()?;
        let auth = self.clone();
        Ok(ConnectOptions::with_auth_callback(move |nonce| {
            let identity = auth.read().map_err(AuthError::new);
            ready(identity.and_then(|identity| identity.shown(&nonce)))
        }))
    }

    /// The files that it is taken from.
    pub(super) fn files(&self) -> Files {
        Files::of(self.texts().into_iter().map(|(text, _)| text))
    }

    /// Has a client connect anew whenever the files have changed since; none where nothing comes
    /// from a file.
    pub(super) fn renewal(mut files: Files, client: &Client) -> Option<Renewal> {
        let client = client.clone();
        (!files.is_empty()).then(|| {
            Renewal(AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    files.changed().await;
                    // A client that has closed is opened anew by its owner.
                    let _ = client.force_reconnect().await;
                }
            })))
        })
    }
}

/// Looks at the files for as long as it is kept.
pub(super) struct Renewal(
    #[expect(dead_code, reason = "dropping it ends the task")] AbortOnDropHandle<()>,
);

impl Identity {
    /// What a server is shown that gave this nonce.
    fn shown(self, nonce: &[u8]) -> Result<async_nats::Auth, AuthError> {
        let mut shown = async_nats::Auth::new();
        let sign = |key: &KeyPair| key.sign(nonce).map(Some).map_err(AuthError::new);
        match self {
            Self::Basic { username, password } => {
                (shown.username, shown.password) = (Some(username), Some(password))
            }
            Self::Token(token) => shown.token = Some(token),
            Self::Nkey(key) => {
                (shown.nkey, shown.signature) = (Some(key.public_key()), sign(&key)?)
            }
            Self::Jwt(jwt, key) => (shown.jwt, shown.signature) = (Some(jwt), sign(&key)?),
        }
        Ok(shown)
    }
}

/// The text between `---BEGIN name---` and the dashes behind it, however many there are.
fn block<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("BEGIN {name}"))?;
    let body = rest.trim_start_matches('-').split("---").next()?.trim();
    (!body.is_empty()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_credentials() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0.e30.x-_y\n------END NATS USER JWT------\n\n\
                    *** keep it ***\n-----BEGIN USER NKEY SEED-----\r\nSUAB\r\n------END USER NKEY \
                    SEED------\n";
        assert_eq!(block(text, "NATS USER JWT"), Some("eyJ0.e30.x-_y"));
        assert_eq!(block(text, "USER NKEY SEED"), Some("SUAB"));
        assert_eq!(
            block("-----BEGIN NATS USER JWT-----\n-----END", "NATS USER JWT"),
            None
        );
        assert_eq!(block("anything", "USER NKEY SEED"), None);
    }
}
