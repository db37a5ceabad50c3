//! Connecting to the servers: where, as whom, and what the client reports of the connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{
    Client, ClientError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError,
};
use pointsman_schemas::{Backoff, Problem, Text, backoff::spread};
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Auth, Renewal};
use super::urls::Urls;
use crate::OpenError;
use crate::files::Files;
use crate::net::fault::{self, Advice};
use crate::net::tls::ClientTls;

/// How long one server may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the server is asked whether it is there. The third question without an answer ends the
/// connection, so that one that nobody closed is known to be dead within 15 seconds.
pub(super) const PING_EVERY: Duration = Duration::from_secs(5);

/// First and longest pause before the client connects anew, of which at least half is waited:
/// clients that lost a server together come back one by one.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(8));

/// Messages that a subscription may hold before the client drops some: more than a source ever asks
/// a stream for, and what a core subscription may lag behind in a burst.
pub(super) const SUBSCRIPTION_MESSAGES_MAX: usize = 10_240;

/// Why a client is given up that still works.
pub(super) const RENEWED: &str =
    "the files of url or tls have changed; it is opened anew with them";

/// How the connection is encrypted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "NatsTls")]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates to trust in place of the system's, in PEM.
    ca: Option<Text>,
    /// The certificate chain to show to the server, in PEM, one's own first.
    certificate: Option<Text>,
    /// Its key, in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Option<Text>,
    /// Whether to refuse a server without TLS; yes unless it is given.
    #[serde(default = "yes")]
    required: bool,
    /// Whether TLS begins at once, before the server has said anything, as a server with
    /// `handshake_first` wants it.
    #[serde(default)]
    handshake_first: bool,
}

fn yes() -> bool {
    true
}

impl Tls {
    fn files(&self) -> ClientTls<'_> {
        ClientTls {
            ca: self.ca.as_ref(),
            certificate: self.certificate.as_ref(),
            key: self.key.as_ref(),
            insecure: false,
            any_name: false,
        }
    }

    fn check(&self) -> Option<Problem> {
        let first = (self.handshake_first && !self.required).then(|| {
            Problem::new("a server that is to begin with TLS has to have it")
                .help("leave out required: false")
                .at("handshake_first")
        });
        self.files().check().or(first)
    }
}

/// What TLS is made of; without settings it trusts what the system trusts.
fn tls_config(tls: Option<&Tls>) -> Result<ClientConfig, OpenError> {
    let files = tls.map(Tls::files).unwrap_or_default();
    files
        .config()
        .map_err(|OpenError(problem)| OpenError(problem.at("tls")))
}

/// Where to connect to and as whom: the settings that a source and a target share.
#[derive(Clone, Copy)]
pub(super) struct Connection<'s> {
    pub(super) url: &'s Urls,
    pub(super) auth: Option<&'s Auth>,
    pub(super) tls: Option<&'s Tls>,
    /// How often a server is asked whether it is still there: one that does not answer is given up
    /// with the third time.
    pub(super) ping_every: Duration,
}

/// Why there is no connection.
pub(super) struct ConnectError {
    /// True where the server rejects the credentials.
    pub(super) refused: bool,
    /// What is wrong, with the setting that it concerns.
    pub(super) problem: OpenError,
}

impl Connection<'_> {
    pub(super) fn check(&self) -> impl Iterator<Item = Problem> {
        let url = self
            .url
            .check()
            .into_iter()
            .map(|problem| problem.at("url"));
        let auth = self
            .auth
            .and_then(Auth::check)
            .map(|problem| problem.at("auth"));
        let tls = self
            .tls
            .and_then(Tls::check)
            .map(|problem| problem.at("tls"));
        url.chain(auth).chain(tls)
    }

    /// Everything of the settings that has to be there before a connection is tried.
    pub(super) fn plan(&self, name: impl fmt::Display) -> Result<Plan, OpenError> {
        let (shown_files, fixed_files) = (self.auth.map(Auth::files), self.fixed_files());
        let servers = self.url.resolve()?;
        let base = self
            .auth
            .map_or_else(|| Ok(ConnectOptions::new()), Auth::options)?;
        let mut options = base
            .name(format!("pointsman {name}"))
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(self.ping_every)
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .reconnect_delay_callback(pauses());
        if let (None, Some(server)) = (self.auth, servers.first()) {
            options = match (server.username(), server.password()) {
                (Some(user), Some(password)) => {
                    options.user_and_password(decoded(user), decoded(password))
                }
                (Some(token), None) => options.token(decoded(token)),
                _ => options,
            };
        }
        if self.tls.is_some() || servers.iter().any(ServerAddr::tls_required) {
            options = options
                .tls_client_config(tls_config(self.tls)?)
                .require_tls(self.tls.is_some_and(|tls| tls.required));
        }
        if self.tls.is_some_and(|tls| tls.handshake_first) {
            options = options.tls_first();
        }
        let certificate = self.tls.is_some_and(|tls| tls.certificate.is_some());
        Ok(Plan {
            servers,
            options,
            shown_files,
            fixed_files,
            certificate,
        })
    }

    /// Connects; the client then connects again by itself, for ever.
    pub(super) async fn connect(
        &self,
        name: impl fmt::Display,
        on_event: impl Fn(ConnectionEvent) + Clone + Send + Sync + 'static,
    ) -> Result<Client, ConnectError> {
        self.plan(name)
            .map_err(|problem| ConnectError {
                refused: false,
                problem,
            })?
            .connect(on_event)
            .await
    }

    /// Hosts and ports of the servers.
    pub(super) fn hosts(&self) -> Result<String, OpenError> {
        self.url.resolve().map(|servers| hosts(&servers))
    }

    /// All files that a client is made of.
    pub(super) fn files(&self) -> Files {
        let shown = self
            .auth
            .into_iter()
            .flat_map(Auth::texts)
            .map(|(text, _)| text);
        Files::of(self.fixed_texts().chain(shown))
    }

    /// What a client is made of and cannot exchange: where its servers are, and its certificates.
    fn fixed_files(&self) -> Files {
        Files::of(self.fixed_texts())
    }

    fn fixed_texts(&self) -> impl Iterator<Item = &Text> {
        let tls = self.tls.map(Tls::files).unwrap_or_default();
        self.url
            .0
            .iter()
            .chain([tls.ca, tls.certificate, tls.key].into_iter().flatten())
    }
}

/// Hosts and ports, for a person.
fn hosts(servers: &[ServerAddr]) -> String {
    let hosts: Vec<_> = servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()))
        .collect();
    hosts.join(", ")
}

/// What a URL spells with escapes.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part)
        .decode_utf8_lossy()
        .into_owned()
}

/// The pauses before each try: none before the very first.
fn pauses() -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    let begun = AtomicBool::new(false);
    move |attempt| {
        if !begun.swap(true, Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let earlier = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        spread(RECONNECT.after(earlier), rand::random())
    }
}

/// A connection that could be made.
#[derive(Clone)]
pub(super) struct Plan {
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    /// What shows who connects; a client reads it again by itself.
    shown_files: Option<Files>,
    /// Once these have changed, another plan has to be made.
    pub(super) fixed_files: Files,
    /// Whether a certificate is shown to the server.
    certificate: bool,
}

impl Plan {
    /// Has a client of this plan connect anew whenever the files have changed that show who
    /// connects.
    pub(super) fn renewal(&self, client: &Client) -> Option<Renewal> {
        Auth::renewal(self.shown_files.clone()?, client)
    }

    /// Connects; the client then connects again by itself, for ever.
    pub(super) async fn connect(
        &self,
        on_event: impl Fn(ConnectionEvent) + Clone + Send + Sync + 'static,
    ) -> Result<Client, ConnectError> {
        let options = self.options.clone().event_callback(move |event| {
            let on_event = on_event.clone();
            async move {
                if let Some(event) = ConnectionEvent::of(event) {
                    on_event(event);
                }
            }
        });
        options
            .connect(self.servers.clone())
            .await
            .map_err(|error| {
                let refused = matches!(
                    error.kind(),
                    ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication
                );
                let at = hosts(&self.servers);
                let problem = if refused {
                    Problem::new(format!(
                        "the NATS server at {at} does not let us in: {}",
                        error.kind()
                    ))
                    .help("check auth")
                    .at("auth")
                } else {
                    let Advice {
                        at: key,
                        what,
                        help,
                    } = advice(&error.to_string(), self.certificate);
                    Problem::new(format!("cannot connect to NATS at {at}: {what}"))
                        .help(help)
                        .at(key)
                };
                ConnectError {
                    refused,
                    problem: OpenError(problem),
                }
            })
    }
}

/// What is said and done about each fault on the way to a server.
const SETTINGS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write nats:// and leave out tls:, or name the port that speaks TLS; where the server \
             greets before TLS begins, leave out handshake_first",
    closed: "check that it is NATS that listens there; where the server begins with TLS, set tls: \
             { handshake_first: true }",
};

/// What is wrong where a connection cannot be made, and what to do. The client has for that no more
/// than the words of rustls and of the system.
fn advice(error: &str, shows_certificate: bool) -> Advice {
    if let Some(advice) = fault::advice(error, &SETTINGS, shows_certificate) {
        return advice;
    }
    let is_silent = ["timed out", "got nothing"]
        .iter()
        .any(|words| error.contains(words));
    let (what, help) = match is_silent {
        true => (
            "the server accepts the connection and says nothing",
            "check the port; where the server begins with TLS, set tls: { handshake_first: true }",
        ),
        false => (error, "check that the server runs and listens there"),
    };
    Advice {
        at: "url",
        what: what.to_owned(),
        help,
    }
}

/// What the client reports of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConnectionEvent {
    /// It is connected, again or for the first time.
    Up,
    /// It is not, or could not be made again.
    Down(String),
    /// A message was dropped because it was not read in time.
    Dropped,
    /// The server reports an error, a missing permission for instance.
    ServerError(String),
}

impl ConnectionEvent {
    fn of(event: Event) -> Option<Self> {
        match event {
            Event::Connected => Some(Self::Up),
            Event::Disconnected => Some(Self::Down("the connection to NATS is lost".to_owned())),
            // The client keeps the cause to itself, and says `IO error` where nobody listens.
            Event::ClientError(ClientError::Other(error))
                if error.contains("authorization violation") =>
            {
                Some(Self::Down(
                    "the NATS server does not let us in any more: authorization violation; check \
                     auth"
                        .to_owned(),
                ))
            }
            Event::ClientError(ClientError::Other(error)) => {
                // Whether a certificate is shown is not known here, and matters little to one that
                // was let in before.
                let Advice { what, help, .. } = advice(&error, true);
                Some(Self::Down(format!(
                    "cannot connect to NATS again: {what}; {help}"
                )))
            }
            Event::ClientError(error) => {
                Some(Self::Down(format!("cannot connect to NATS again: {error}")))
            }
            Event::ServerError(ServerError::AuthorizationViolation) => Some(Self::Down(
                "the NATS server does not let us in any more: authorization violation".to_owned(),
            )),
            Event::SlowConsumer(_) => Some(Self::Dropped),
            Event::ServerError(ServerError::Other(complaint)) => Some(Self::ServerError(complaint)),
            Event::ServerError(ServerError::SlowConsumer(_))
            | Event::LameDuckMode
            | Event::Draining
            | Event::Closed => None,
        }
    }
}
