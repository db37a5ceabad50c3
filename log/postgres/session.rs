//! One connection to PostgreSQL, checked and set up.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::Severity;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket, Statement};
use tokio_util::task::AbortOnDropHandle;

use super::durability::{self, Durability};
use super::tls::Tls;
use crate::{LogError, OpenError};

/// Said where PostgreSQL was told something and has not answered in time.
pub(super) const NO_ANSWER: &str = "PostgreSQL has not answered in time";

/// What a session is for does not change how it is opened; what follows holds for each.
///
/// A timeout of a statement ends before its commit begins, so that one that has run into it was not
/// carried out. In any stricter isolation, appends to one shard would fail instead of waiting for
/// each other. Statements are planned once, whatever is in the arrays that they are given: to plan
/// one costs more than to run it. The log's rows are read by index alone: a plan that was made while there were few
/// would sort all of them. Other plans are forbidden by what they are said to cost, and PostgreSQL
/// would compile those that it has to make all the same, for 15 ms each time.
fn set_up(timeout: Duration) -> String {
    format!(
        "SET statement_timeout = {}; SET default_transaction_isolation = 'read committed'; \
         SET default_transaction_read_only = off; SET client_min_messages = warning; \
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; \
         SET plan_cache_mode = force_generic_plan",
        timeout.as_millis()
    )
}

/// Opens sessions.
pub(super) struct Dialer {
    config: Config,
    tls: Option<Tls>,
    timeout: Duration,
    /// Which of several engines it is, counted from 1.
    engine: Option<u16>,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum DialError {
    Unavailable(String),
    Refused(OpenError),
}

impl From<DialError> for OpenError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unavailable(why) => Self::Unavailable(why),
            DialError::Refused(error) => error,
        }
    }
}

impl From<DialError> for LogError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unavailable(why) => Self::Unavailable(why),
            // Nothing was asked for yet; and it may be another server tomorrow.
            DialError::Refused(error) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<tokio_postgres::Error> for DialError {
    fn from(error: tokio_postgres::Error) -> Self {
        let told = format!("cannot connect to PostgreSQL: {}", said(&error));
        // Of these a person has to know at once: the password, the user, the database.
        let is_final = error.code().is_some_and(|code| {
            let class = code.code().get(..2);
            class.is_some_and(|class| ["28", "3D", "42"].contains(&class))
        });
        match is_final {
            true => Self::Refused(OpenError::Refused(told)),
            false => Self::Unavailable(told),
        }
    }
}

/// What an error says, without the client's own words around it.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

impl Dialer {
    pub(super) fn new(
        config: Config,
        tls: Option<rustls::ClientConfig>,
        timeout: Duration,
        engine: Option<u16>,
    ) -> Self {
        Self {
            config,
            tls: tls.map(Tls::new),
            timeout,
            engine,
        }
    }

    /// Which of several engines it opens sessions of, as the log shows it.
    pub(super) fn engine(&self) -> Option<u16> {
        self.engine
    }

    /// Opens a session, and refuses a server that would lose records.
    pub(super) async fn dial(&self, until: Instant) -> Result<Session, DialError> {
        let dial = async {
            match &self.tls {
                Some(tls) => self.dial_with(tls.clone()).await,
                None => self.dial_with(NoTls).await,
            }
        };
        let in_time = timeout_at(until, dial).await;
        in_time.unwrap_or_else(|_| Err(DialError::Unavailable(NO_ANSWER.to_owned())))
    }

    async fn dial_with<T>(&self, tls: T) -> Result<Session, DialError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = self.config.connect(tls).await?;
        let warned = Arc::new(AtomicU64::new(0));
        let driver = tokio::spawn(drive(connection, Arc::clone(&warned), self.engine));
        let driver = AbortOnDropHandle::new(driver);
        client.batch_execute(&set_up(self.timeout)).await?;
        let row = client.query_typed_one(durability::STATEMENT, &[]).await?;
        let durability = Durability {
            is_standby: row.try_get(0)?,
            fsync: row.try_get(1)?,
            synchronous_commit: row.try_get(2)?,
            full_page_writes: row.try_get(3)?,
            synchronous_standby_names: row.try_get(4)?,
        };
        durability.check().map_err(DialError::Refused)?;
        Ok(Session {
            client,
            warned,
            durability,
            statements: Mutex::default(),
            _driver: driver,
        })
    }
}

/// Moves the bytes of a connection, and counts the warnings among its notices.
async fn drive<S, T>(mut connection: Connection<S, T>, warned: Arc<AtomicU64>, engine: Option<u16>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Whoever waits for an answer is told of the end too.
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message
            && notice.parsed_severity() == Some(Severity::Warning)
        {
            tracing::warn!(notice = notice.message(), engine, "PostgreSQL warns");
            warned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A connection that was set up.
pub(super) struct Session {
    client: Client,
    /// How many warnings it has told of.
    warned: Arc<AtomicU64>,
    durability: Durability,
    statements: Mutex<Vec<(String, Statement)>>,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Prepares one of the few statements that this session is used for over and over: to plan
    /// one costs PostgreSQL several times what it costs to run it.
    pub(super) async fn prepared(&self, text: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = |statements: &[(String, Statement)]| {
            let found = statements.iter().find(|(known, _)| known == text);
            found.map(|(_, statement)| statement.clone())
        };
        if let Some(statement) = known(&self.statements.lock()) {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await?;
        self.statements
            .lock()
            .push((text.to_owned(), statement.clone()));
        Ok(statement)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Does something with it, and returns what is known of the outcome.
    pub(super) async fn run<T>(
        &self,
        until: Instant,
        work: impl AsyncFnOnce(&Self) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, LogError> {
        let warned = self.warned.load(Ordering::Relaxed);
        let Ok(done) = timeout_at(until, work(self)).await else {
            return Err(LogError::Unknown(NO_ANSWER.to_owned()));
        };
        let done = done.map_err(|error| failure(&error))?;
        // Whoever cancels a commit that waits for the standby makes it succeed with a warning.
        if self.warned.load(Ordering::Relaxed) != warned {
            return Err(LogError::Unknown(
                "PostgreSQL warns that the standby may not have it".to_owned(),
            ));
        }
        Ok(done)
    }
}

/// What is known of a statement that has failed: an error rolls it back, whereas a session that
/// ends, by a shutdown for instance, may end between its commit and the answer.
fn failure(error: &tokio_postgres::Error) -> LogError {
    let severity = error.as_db_error().map(|error| error.parsed_severity());
    match severity {
        Some(Some(Severity::Error)) => LogError::Refused(said(error)),
        _ => LogError::Unknown(said(error)),
    }
}
