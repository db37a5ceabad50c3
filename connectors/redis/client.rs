//! Connections to a server, and what is asked over them.
//!
//! A connection is made when it is first needed, and anew once it has broken, was not answered in
//! time, or leads to a server that refuses for as long as it does. What its address and credentials
//! are made of is read again for each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, Problem};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError,
    Value,
};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::refusal::Refusal;
use crate::OpenError;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::server::Server;
use crate::net::shared::SharedConnection;
use crate::net::stream::{self, Host};

/// How long a server may take to take a login.
const LOGIN_WITHIN: Duration = Duration::from_secs(5);

/// What is said and done about each fault on the way to a server.
const SETTINGS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write redis://, or name the port that speaks TLS",
    closed: "check that it is Redis that listens there; where it speaks TLS, write rediss://",
};

/// Where a server is and who asks it. It holds secrets and shows none.
pub(super) struct Address {
    pub(super) server: Server,
    pub(super) database: i64,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Unreachable {
    pub(super) class: Class,
    pub(super) problem: Problem,
}

impl Unreachable {
    fn unavailable(problem: Problem) -> Self {
        Self {
            class: Class::Unavailable,
            problem,
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem.message)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Unanswered {
    /// Nothing was sent.
    Unreachable(Unreachable),
    /// The connection broke, or nothing came in time: it may have been done.
    Cut(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(unreachable) => unreachable.fmt(f),
            Self::Cut(why) => f.write_str(why),
        }
    }
}

impl Unanswered {
    /// The problem of a source or target that cannot be opened.
    pub(super) fn problem(self) -> OpenError {
        OpenError(match self {
            Self::Unreachable(Unreachable { problem, .. }) => problem,
            Self::Cut(why) => Problem::new(why).at("url"),
        })
    }
}

impl Address {
    async fn connect(&self, guard: Guard, names: Names) -> Result<Connected, Unreachable> {
        let stream = stream::connect(&self.server.host, self.server.tls.clone(), guard, names)
            .await
            .map_err(|error| self.unreachable(&explain(&*error)))?;
        let info = self.info();
        // How long an answer may take is for whoever asks to say.
        let config = AsyncConnectionConfig::new();
        let login = MultiplexedConnection::new_with_config(&info, stream, config);
        match timeout(LOGIN_WITHIN, login).await {
            Ok(Ok((connection, driver))) => Ok(Connected {
                connection,
                driving: AbortOnDropHandle::new(tokio::spawn(driver)),
            }),
            Ok(Err(error)) => Err(self.unwelcome(&error)),
            Err(_elapsed) => Err(self.unreachable("it takes the connection and says nothing")),
        }
    }

    fn info(&self) -> RedisConnectionInfo {
        RedisConnectionInfo {
            db: self.database,
            username: self.server.user.clone(),
            password: self.server.password.clone(),
            protocol: ProtocolVersion::RESP2,
        }
    }

    /// What is wrong where no connection was made.
    fn unreachable(&self, words: &str) -> Unreachable {
        let advice = fault::advice(words, &SETTINGS, self.server.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: "check that Redis runs and listens there",
        });
        let message = format!("cannot connect to Redis at {}: {what}", self.server.host);
        Unreachable::unavailable(Problem::new(message).help(help).at(at))
    }

    /// What is wrong where the server does not let us in.
    fn unwelcome(&self, error: &RedisError) -> Unreachable {
        let host = &self.server.host;
        match error.kind() {
            ErrorKind::AuthenticationFailed => {
                let message = format!("Redis at {host} does not let us in: the login failed");
                Unreachable {
                    class: Class::Refused,
                    problem: Problem::new(message)
                        .help("check username and password")
                        .at("password"),
                }
            }
            ErrorKind::ParseError => Unreachable::unavailable(
                Problem::new(format!("what answers at {host} is not Redis"))
                    .help("check the port; where it speaks TLS, write rediss://")
                    .at("url"),
            ),
            ErrorKind::IoError => self.unreachable(&error.to_string()),
            _ => {
                let why = error.detail().unwrap_or_else(|| error.category());
                let message = format!("Redis at {host} does not take the connection: {why}");
                Unreachable::unavailable(Problem::new(message).at("url"))
            }
        }
    }
}

/// A connection. Dropped, it is closed, whatever waits for an answer.
pub(super) struct Connected {
    connection: MultiplexedConnection,
    driving: AbortOnDropHandle<()>,
}

impl Connected {
    /// The answers to several commands, of which each may be refused by itself.
    ///
    /// # Errors
    /// Why there are none, in words. The connection is of no use any more.
    pub(super) async fn ask(
        &self,
        commands: &Pipeline,
        within: Duration,
    ) -> Result<Vec<Result<Value, Refusal>>, String> {
        let mut connection = self.connection.clone();
        let asked = connection.send_packed_commands(commands, 0, commands.len());
        match timeout(within, asked).await {
            Ok(Ok(values)) if values.len() == commands.len() => {
                Ok(values.into_iter().map(Refusal::check).collect())
            }
            Ok(Ok(_)) => Err("the server does not answer each command".to_owned()),
            Ok(Err(error)) => Err(format!("the connection to Redis broke: {error}")),
            Err(_elapsed) => Err("Redis does not answer in time".to_owned()),
        }
    }
}

/// Makes connections, and keeps one that all share.
pub(super) struct Client {
    resolve: Box<dyn Fn() -> Result<Address, OpenError> + Send + Sync>,
    guard: Guard,
    names: Names,
    shared: SharedConnection<Connected, Unreachable>,
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
    ) -> Result<(Self, Host), OpenError> {
        let host = resolve()?.server.host;
        let client = Self {
            resolve: Box::new(resolve),
            guard,
            names,
            shared: SharedConnection::default(),
        };
        Ok((client, host))
    }

    /// A connection for one alone.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&self) -> Result<Connected, Unreachable> {
        let resolved = (self.resolve)();
        let address = resolved.map_err(|OpenError(problem)| Unreachable::unavailable(problem))?;
        address.connect(self.guard, self.names.clone()).await
    }

    /// The answers to several commands, over the connection that all share. What is asked at the
    /// same time is sent in the order in which this was called.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn ask(
        &self,
        commands: &Pipeline,
        within: Duration,
    ) -> Result<Vec<Result<Value, Refusal>>, Unanswered> {
        let connected = self.connected().await.map_err(Unanswered::Unreachable)?;
        let answer = connected.ask(commands, within).await;
        let is_spoilt = match &answer {
            Ok(answers) => answers
                .iter()
                .any(|answer| matches!(answer, Err(refusal) if refusal.ends_the_connection())),
            Err(_) => true,
        };
        if is_spoilt {
            self.shared.forget(&connected).await;
        }
        answer.map_err(Unanswered::Cut)
    }

    async fn connected(&self) -> Result<Arc<Connected>, Unreachable> {
        let is_usable = |connected: &Connected| !connected.driving.is_finished();
        self.shared.get(is_usable, self.connect()).await
    }
}
