//! Connections to the first of several servers that takes writes, a few of which are kept.
//!
//! They are dialled here and not by tokio-postgres: under the guard, with names looked up as
//! everywhere, and by the TLS that everything else uses. What the address and credentials are made
//! of is read again for each connection.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, Problem};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Config, NoTls, SimpleQueryMessage, Statement};
use tokio_util::task::AbortOnDropHandle;

use super::refusal::{class, words};
use super::url::Place;
use crate::OpenError;
use crate::net::Names;
use crate::net::dial::CONNECT_TIMEOUT;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::idle::Idle;
use crate::net::stream::{self, ConnectError, Stream};

/// How long a server may take to shake hands and take a login.
const LOGIN_WITHIN: Duration = Duration::from_secs(5);

/// How many connections a target has at most.
const CONNECTIONS_MAX: usize = 8;

/// What asks for TLS: the length of the message, and a number that no version of the protocol has.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The first version that ends a statement whose client has gone.
const NOTICES_THE_END: u32 = 140_000;

/// What is said and done about each fault on the way to a server.
const SETTINGS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write sslmode=disable, or have the server speak TLS",
    closed: "check that it is PostgreSQL that listens there",
};

/// Where servers are and who asks them. It holds secrets and shows none.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) places: Vec<Place>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether a server that has no TLS is none.
    pub(super) needs_tls: bool,
    pub(super) shows_certificate: bool,
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

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem.message)
    }
}

impl Address {
    /// A connection to the first server that takes writes.
    async fn connect(&self, guard: Guard, names: &Names) -> Result<Connected, Unreachable> {
        let mut why = Unreachable::from(Problem::new("there is no server"));
        for place in &self.places {
            let login = self.connect_to(place, guard, names.clone());
            let silent = "it takes the connection and says nothing";
            let connected = match timeout(CONNECT_TIMEOUT + LOGIN_WITHIN, login).await {
                Ok(connected) => connected,
                Err(_elapsed) => Err(self.unreachable(place, silent)),
            };
            match connected {
                Ok(connected) => return Ok(connected),
                Err(unreachable) => why = unreachable,
            }
        }
        Err(why)
    }

    async fn connect_to(
        &self,
        place: &Place,
        guard: Guard,
        names: Names,
    ) -> Result<Connected, Unreachable> {
        let stream = self
            .stream(place, guard, names)
            .await
            .map_err(|error| self.unreachable(place, &explain(&*error)))?;
        let login = self.config.connect_raw(stream, NoTls);
        let (client, mut connection) = match timeout(LOGIN_WITHIN, login).await {
            Ok(connected) => connected.map_err(|error| self.unwelcome(place, &error))?,
            Err(_elapsed) => {
                return Err(self.unreachable(place, "it takes the connection and says nothing"));
            }
        };
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        let driving = tokio::spawn(async move {
            // Whoever waits for an answer is told of the end, and why.
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(_) = message {
                    wake.notify_one();
                }
            }
        });
        let connected = Connected {
            client,
            place: place.to_string(),
            version: String::new(),
            statement: None,
            woken,
            driving: AbortOnDropHandle::new(driving),
        };
        match timeout(LOGIN_WITHIN, connected.set_up()).await {
            Ok(Ok(version)) => Ok(Connected {
                version,
                ..connected
            }),
            Ok(Err(Unfit::Standby)) => {
                let message = format!("PostgreSQL at {place} is read-only: it is a standby");
                let help = "name the server that takes writes, or all of them: \
                            postgres://a,b/database";
                Err(Problem::new(message).help(help).at("url").into())
            }
            Ok(Err(Unfit::Error(error))) => Err(self.unwelcome(place, &error)),
            Err(_elapsed) => Err(self.unreachable(place, "it takes the login and says nothing")),
        }
    }

    /// A connection on which the login may be spoken.
    async fn stream(
        &self,
        place: &Place,
        guard: Guard,
        names: Names,
    ) -> Result<Stream, ConnectError> {
        let (dialled, name) = match place {
            Place::Unix(path) if guard.allow_private_addresses => {
                return Ok(Box::new(UnixStream::connect(path).await?));
            }
            Place::Unix(_) => return Err("a socket of this machine must not be called".into()),
            Place::Tcp { dialled, name } => (dialled, name),
        };
        let mut stream = stream::connect(dialled, None, guard, names).await?;
        let Some(tls) = &self.tls else {
            return Ok(stream);
        };
        let shake_hands = async {
            stream.write_all(&SSL_REQUEST).await?;
            match (stream.read_u8().await?, self.needs_tls) {
                (b'S', _) => {
                    let secured = stream::secured(stream, name, Arc::clone(tls)).await?;
                    Ok(Box::new(secured) as Stream)
                }
                (b'N', false) => Ok(stream),
                (b'N', true) => Err("the server has no TLS, which sslmode asks for".into()),
                _ => Err("what answers is not PostgreSQL".into()),
            }
        };
        let silent = |_elapsed| Err("it takes the connection and says nothing".into());
        let shaken = timeout(LOGIN_WITHIN, shake_hands).await;
        shaken.unwrap_or_else(silent)
    }

    /// What is wrong where no connection was made.
    fn unreachable(&self, place: &Place, words: &str) -> Unreachable {
        let advice = fault::advice(words, &SETTINGS, self.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: "check that PostgreSQL runs and listens there",
        });
        let message = format!("cannot connect to PostgreSQL at {place}: {what}");
        Problem::new(message).help(help).at(at).into()
    }

    /// What is wrong where the server does not let us in.
    fn unwelcome(&self, place: &Place, error: &tokio_postgres::Error) -> Unreachable {
        let Some(code) = error.code() else {
            return self.unreachable(place, &words(error));
        };
        let message = format!("PostgreSQL at {place} does not let us in: {}", words(error));
        let problem = Problem::new(message);
        let class = class(code);
        let problem = match class {
            Class::Refused => problem
                .help("check the user and the password, and pg_hba.conf of the server")
                .at("password"),
            _ => problem.at("url"),
        };
        Unreachable { class, problem }
    }
}

/// Why a server that lets us in is of no use.
enum Unfit {
    Standby,
    Error(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Unfit {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Error(error)
    }
}

/// A connection. Dropped, it is closed, whatever waits for an answer.
pub(super) struct Connected {
    pub(super) client: tokio_postgres::Client,
    /// Which server it leads to.
    pub(super) place: String,
    /// The server's version.
    pub(super) version: String,
    /// What it is used for over and over, once that is prepared.
    pub(super) statement: Option<Statement>,
    /// Wakes whoever waits for what it listens to.
    pub(super) woken: Arc<Notify>,
    driving: AbortOnDropHandle<()>,
}

impl Connected {
    /// Makes the session ready, and returns the server's version.
    async fn set_up(&self) -> Result<String, Unfit> {
        const ASKED: &str = "SELECT current_setting('transaction_read_only'), \
                             current_setting('server_version_num'), \
                             current_setting('server_version')";
        let answers = self.client.simple_query(ASKED).await?;
        let row = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let said = |index: usize| row.and_then(|row| row.get(index)).unwrap_or_default();
        if said(0) == "on" {
            return Err(Unfit::Standby);
        }
        if said(1)
            .parse()
            .is_ok_and(|number: u32| number >= NOTICES_THE_END)
        {
            // Not every system can, and it is of no more use than that.
            let set = "SET client_connection_check_interval = '1s'";
            let _ = self.client.batch_execute(set).await;
        }
        Ok(said(2).to_owned())
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.driving.is_finished() && !self.client.is_closed()
    }
}

/// Makes connections, and keeps some.
pub(super) struct Client {
    resolve: Box<dyn Fn() -> Result<Address, OpenError> + Send + Sync>,
    guard: Guard,
    names: Names,
    permits: Semaphore,
    idle: Idle<Connected>,
}

/// A connection for one alone. Whoever has it may [`Leased::keep`] it; dropped, it is closed.
pub(super) struct Leased<'c> {
    pub(super) connected: Connected,
    client: &'c Client,
    _permit: Option<SemaphorePermit<'c>>,
}

impl Leased<'_> {
    /// Keeps the connection for the next.
    pub(super) fn keep(self) {
        if self.connected.is_usable() {
            self.client.idle.keep(self.connected);
        }
    }
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
    ) -> Result<Self, OpenError> {
        resolve()?;
        Ok(Self {
            resolve: Box::new(resolve),
            guard,
            names,
            permits: Semaphore::new(CONNECTIONS_MAX),
            idle: Idle::new(CONNECTIONS_MAX),
        })
    }

    /// A connection that nobody uses, or a new one, once there are few enough.
    ///
    /// # Errors
    /// Why there is none. Nothing was sent.
    pub(super) async fn lease(&self) -> Result<Leased<'_>, Unreachable> {
        // Nobody closes it.
        let permit = self.permits.acquire().await.ok();
        let mut kept = std::iter::from_fn(|| self.idle.take());
        let connected = match kept.find(Connected::is_usable) {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        Ok(Leased {
            connected,
            client: self,
            _permit: permit,
        })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&self) -> Result<Connected, Unreachable> {
        let address = (self.resolve)().map_err(|OpenError(problem)| Unreachable::from(problem))?;
        address.connect(self.guard, &self.names).await
    }
}
