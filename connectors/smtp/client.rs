//! Connections to a server, which are kept from one message to the next.
//!
//! What the address and credentials are made of is read again for each connection.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use pointsman_schemas::{Class, Problem};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::settings::Encryption;
use super::starttls::{Trouble, Wire, upgrade};
use crate::OpenError;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::idle::Idle;
use crate::net::stream::{self, Host};

/// How long a server may take to greet, shake hands and take a login. Some let whoever calls wait
/// before they greet.
const LOGIN_WITHIN: Duration = Duration::from_secs(15);

/// How long a server may take to say that a kept connection still works.
const CHECKED_WITHIN: Duration = Duration::from_secs(5);

/// How many connections are kept that nobody uses.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// What is said and done about each fault on the way to a server.
const SETTINGS: fault::Settings = fault::Settings {
    url: "server",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write encryption: starttls, or name the port that speaks TLS at once (465)",
    closed: "check that it is an SMTP server that listens there; where it speaks TLS at once, \
             write encryption: implicit",
};

/// Where a server is and who speaks to it. It holds secrets and shows none.
pub(super) struct Address {
    pub(super) host: Host,
    pub(super) encryption: Encryption,
    /// There unless nothing is encrypted.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) shows_certificate: bool,
    pub(super) hello: ClientId,
    pub(super) credentials: Option<Credentials>,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Unreachable {
    pub(super) class: Class,
    pub(super) problem: Problem,
}

impl From<Problem> for Unreachable {
    fn from(problem: Problem) -> Self {
        let class = Class::Unavailable;
        Self { class, problem }
    }
}

/// What a server answered, or why it did not, in words.
pub(super) fn words(error: &Error) -> String {
    match (error.status(), error.source()) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        _ => explain(error),
    }
}

impl Address {
    /// A connection that is ready to send.
    async fn connect(
        &self,
        guard: Guard,
        names: Names,
    ) -> Result<AsyncSmtpConnection, Unreachable> {
        let at_once = match self.encryption {
            Encryption::Implicit => self.tls.clone(),
            Encryption::Starttls | Encryption::None => None,
        };
        let stream = stream::connect(&self.host, at_once, guard, names)
            .await
            .map_err(|error| self.unreachable(&explain(&*error)))?;
        let login = async {
            let wire = match (self.encryption, &self.tls) {
                (Encryption::Starttls, Some(tls)) => {
                    upgrade(stream, &self.host, Arc::clone(tls), &self.hello)
                        .await
                        .map_err(|trouble| self.untrusted(trouble))?
                }
                _ => Wire::new(stream),
            };
            let connected =
                AsyncSmtpConnection::connect_with_transport(Box::new(wire), &self.hello).await;
            let mut connection = connected.map_err(|error| match error.status() {
                Some(_) => self.unwelcome(&words(&error)),
                None => self.unreachable(&words(&error)),
            })?;
            self.log_in(&mut connection).await?;
            Ok(connection)
        };
        let silent = "it takes the connection and says nothing";
        timeout(LOGIN_WITHIN, login)
            .await
            .unwrap_or_else(|_elapsed| Err(self.unreachable(silent)))
    }

    async fn log_in(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Unreachable> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let told = connection.auth(&mechanisms, credentials).await;
        let Err(error) = told else {
            return Ok(());
        };
        let (message, help) = match () {
            () if error.is_permanent() => (
                format!("does not let us in: {}", words(&error)),
                "check auth: the user and the password",
            ),
            () if error.is_client() => (
                "takes no login by user and password here".to_owned(),
                "leave auth out, or name the port that takes logins (587, 465)",
            ),
            () => return Err(self.unwelcome(&words(&error))),
        };
        let problem = Problem::new(format!("the mail server {} {message}", self.host));
        Err(Unreachable {
            class: Class::Refused,
            problem: problem.help(help).at("auth"),
        })
    }

    fn untrusted(&self, trouble: Trouble) -> Unreachable {
        match trouble {
            Trouble::NotOffered => {
                let message = format!("the mail server {} offers no STARTTLS", self.host);
                let help = "name the port that offers it (587), or write encryption: implicit \
                            (465); nothing was sent";
                Problem::new(message).help(help).at("encryption").into()
            }
            Trouble::Answer(answer) => self.unwelcome(&answer),
            Trouble::Broken(words) => self.unreachable(&words),
        }
    }

    /// What is wrong where no connection was made.
    fn unreachable(&self, words: &str) -> Unreachable {
        let advice = fault::advice(words, &SETTINGS, self.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "server",
            what: words.to_owned(),
            help: "check the server's name and port, and that it can be reached from here",
        });
        let message = format!("cannot connect to the mail server {}: {what}", self.host);
        Problem::new(message).help(help).at(at).into()
    }

    /// What is wrong where the server answers, but not as it should.
    fn unwelcome(&self, answer: &str) -> Unreachable {
        let host = &self.host;
        let message = format!("the mail server {host} does not take the connection: {answer}");
        Problem::new(message).at("server").into()
    }
}

/// Makes connections, and keeps some.
pub(super) struct Client {
    resolve: Box<dyn Fn() -> Result<Address, OpenError> + Send + Sync>,
    guard: Guard,
    names: Names,
    idle: Idle<AsyncSmtpConnection>,
}

impl Client {
    /// A client that reads by `resolve` whom to connect to.
    ///
    /// # Errors
    /// What is missing now.
    pub(super) fn open(
        resolve: impl Fn() -> Result<Address, OpenError> + Send + Sync + 'static,
        guard: Guard,
        names: Names,
    ) -> Result<(Self, Address), OpenError> {
        let address = resolve()?;
        let client = Self {
            resolve: Box::new(resolve),
            guard,
            names,
            idle: Idle::new(IDLE_CONNECTIONS_MAX),
        };
        Ok((client, address))
    }

    /// A connection for one message: a kept one that still works, or a new one. Whoever has it may
    /// [`Client::keep`] it afterwards; dropped, it is closed, and what was not sent wholly is not
    /// sent.
    ///
    /// # Errors
    /// Why there is none. Nothing was sent.
    pub(super) async fn connection(&self) -> Result<AsyncSmtpConnection, Unreachable> {
        while let Some(mut connection) = self.idle.take() {
            // A server closes connections when it likes, and says so once it is asked.
            // One that was cut off on the way says nothing.
            let works = timeout(CHECKED_WITHIN, connection.test_connected()).await;
            if works.unwrap_or(false) {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, Unreachable> {
        let address = (self.resolve)().map_err(|OpenError(problem)| Unreachable::from(problem))?;
        address.connect(self.guard, self.names.clone()).await
    }

    /// Keeps a connection for the next message.
    pub(super) fn keep(&self, connection: AsyncSmtpConnection) {
        if !connection.has_broken() {
            self.idle.keep(connection);
        }
    }
}
