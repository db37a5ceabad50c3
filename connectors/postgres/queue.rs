//! An outbox as a queue that hands rows out.
//!
//! | a queue | of an outbox |
//! |---|---|
//! | receives | `SELECT` of the first rows, in their order, without those in hand |
//! | deletes | `DELETE`, or `UPDATE` of the mark |
//! | extends | nothing: what is in hand is known here |
//! | gives back | nothing, for a while: then all that was given back is read again, in its order |
//!
//! **One session reads a table** at a time: it has an advisory lock, which ends with it, so that no
//! row is locked, and no transaction open, for as long as the bus stores. A source that has gone
//! keeps its session until what it handed over is settled, and another waits for that.
//!
//! **What is stored and cannot be deleted now** is remembered, and is deleted before anything else
//! is read.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::Problem;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Error, Statement};

use super::client::{Client, Connected, Unreachable};
use super::outbox::{Misfit, Outbox, Plan, Read, untaken};
use super::refusal::{spoils, words};
use super::statement::{Value, array, quoted, table};
use crate::leased::{Answer, Failure, Hidden, Queue};
use crate::net::shared::SharedConnection;

/// How many rows one call brings.
pub(super) const CALL_ROWS_MAX: usize = 256;

/// How long an answer may take: less than whoever asks how many wait waits for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// The upper half of the number of the lock, whose lower half is the table's own.
const LOCK: i64 = 0x706f_696e;

/// How often the lock is asked for, and how long the pause between is.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What a session is set up with: that it is not ended because it waits, and that the server finds
/// out within 15 s that it is gone. Older servers lack some of it.
const SET_UP: [&str; 5] = [
    "SET idle_session_timeout = 0",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 3",
    "SET tcp_keepalives_count = 3",
    "SET statement_timeout = 0",
];

/// An outbox that is read. Clones are the same.
#[derive(Clone)]
pub(super) struct Table(Arc<Inner>);

struct Inner {
    outbox: Outbox,
    client: Client,
    /// The channel on which the application says that there is something.
    listen: Option<String>,
    session: SharedConnection<Session, Unreachable>,
    rows: Mutex<Rows>,
}

/// The rows in hand.
#[derive(Default)]
struct Rows {
    in_hand: HashSet<String>,
    /// Those of them that are stored, and not yet deleted.
    stored: HashSet<String>,
    /// Those of them that were given back, and when they may be read again.
    given_back: HashMap<String, Instant>,
}

/// A connection that reads.
struct Session {
    connected: Connected,
    plan: Plan,
    read: Statement,
    settle: Statement,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.0.outbox.table).finish()
    }
}

impl Table {
    pub(super) fn new(outbox: Outbox, client: Client, listen: Option<String>) -> Self {
        Self(Arc::new(Inner {
            outbox,
            client,
            listen,
            session: SharedConnection::default(),
            rows: Mutex::default(),
        }))
    }

    /// Connects, and makes sure that the table can be read and nobody else does.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn begin(&self) -> Result<(), Unreachable> {
        self.session().await.map(drop)
    }

    /// What there is, in a line for a person. Nobody is kept from reading it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn look(&self) -> Result<String, Unreachable> {
        let connected = self.0.client.connect().await?;
        let looked = timeout(ANSWER_WITHIN, self.prepared(connected)).await;
        let session = looked.unwrap_or_else(|_elapsed| Err(silent()))?;
        let (connected, plan) = (&session.connected, &session.plan);
        // It is planned, which takes the rights, and not run.
        let settle = plan.settle.replace("ANY($1)", "NULL");
        let settle = format!("EXPLAIN {settle}");
        let planned = connected.client.simple_query(&settle).await;
        planned.map_err(|error| Unreachable::from(untaken(&error, words(&error))))?;
        let waiting = self.count(connected, plan).await;
        let waiting = waiting.map_err(|error| Unreachable::from(untaken(&error, words(&error))))?;
        Ok(format!(
            "PostgreSQL {} at {}: {waiting} rows of {} wait",
            connected.version, connected.place, self.0.outbox.table
        ))
    }

    async fn session(&self) -> Result<Arc<Session>, Unreachable> {
        let connect = async {
            let connected = self.0.client.connect().await?;
            let begun = async {
                let session = self.prepared(connected).await?;
                self.lock(&session.connected).await?;
                Ok(session)
            };
            let begun = timeout(ANSWER_WITHIN, begun).await;
            begun.unwrap_or_else(|_elapsed| Err(silent()))
        };
        let is_usable = |session: &Session| session.connected.is_usable();
        self.0.session.get(is_usable, connect).await
    }

    async fn prepared(&self, connected: Connected) -> Result<Session, Unreachable> {
        let client = &connected.client;
        let place = &connected.place;
        let said = |error: &Error| format!("PostgreSQL at {place}: {}", words(error));
        let wrong = |error: Error| Unreachable::from(untaken(&error, said(&error)));
        let plan = match self.0.outbox.plan(client).await {
            Ok(plan) => plan,
            Err(Misfit::Problem(problem)) => {
                return Err(Unreachable::from(problem.at("outbox")));
            }
            Err(Misfit::Error(error)) => return Err(wrong(error)),
        };
        let read = client.prepare(&plan.read).await.map_err(wrong)?;
        let settle = client.prepare(&plan.settle).await.map_err(wrong)?;
        Ok(Session {
            connected,
            plan,
            read,
            settle,
        })
    }

    /// Keeps others from reading, and listens.
    async fn lock(&self, connected: &Connected) -> Result<(), Unreachable> {
        let client = &connected.client;
        for set in SET_UP {
            let _ = client.batch_execute(set).await;
        }
        let wrong = |error: Error| Unreachable::from(untaken(&error, words(&error)));
        let lock = format!(
            "SELECT pg_try_advisory_lock(({LOCK}::bigint << 32) | to_regclass($1)::oid::bigint)"
        );
        let name = table(&self.0.outbox.table);
        let mut left = LOCK_TRIES;
        loop {
            let locked = client.query_one(&lock, &[&name]).await.map_err(wrong)?;
            left -= 1;
            if locked.try_get::<_, bool>(0).map_err(wrong)? {
                break;
            }
            if left > 0 {
                // A session of one's own that was closed has yet to end there.
                sleep(LOCK_PAUSE).await;
                continue;
            }
            let message = format!(
                "another session reads the outbox {}, and one does at a time",
                self.0.outbox.table
            );
            let help = "this goes on once that has ended: another bus, or this one before a reload";
            return Err(Problem::new(message).help(help).at("outbox").into());
        }
        if let Some(channel) = &self.0.listen {
            let listen = format!("LISTEN {}", quoted(channel));
            client.batch_execute(&listen).await.map_err(wrong)?;
        }
        Ok(())
    }

    async fn count(&self, connected: &Connected, plan: &Plan) -> Result<u64, Error> {
        let counted = connected.client.query_one(&plan.count, &[]).await?;
        let counted: i64 = counted.try_get(0)?;
        Ok(counted.try_into().unwrap_or_default())
    }

    /// Has a session do something.
    async fn ask<T>(&self, work: impl AsyncFnOnce(&Session) -> Result<T, Error>) -> Answer<T> {
        let session = self.session().await.map_err(|error| error.to_string())?;
        let failed = match timeout(ANSWER_WITHIN, work(&session)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if !spoils(&error) => return Err(words(&error)),
            Ok(Err(error)) => words(&error),
            Err(_elapsed) => "PostgreSQL does not answer in time".to_owned(),
        };
        self.0.session.forget(&session).await;
        Err(failed)
    }

    /// Deletes what is stored.
    async fn settle(&self) -> Answer<()> {
        let stored: Vec<String> = self.0.rows.lock().stored.iter().cloned().collect();
        if stored.is_empty() {
            return Ok(());
        }
        let ids = array(&stored);
        let settle = async |session: &Session| {
            let client = &session.connected.client;
            client
                .execute(&session.settle, &[&Value::filled(&ids)])
                .await
        };
        self.ask(settle).await?;
        let mut rows = self.0.rows.lock();
        for id in &stored {
            rows.stored.remove(id);
            rows.in_hand.remove(id);
        }
        Ok(())
    }

    /// The first rows that are not in hand.
    async fn read(&self) -> Answer<Vec<Read>> {
        self.settle().await?;
        let in_hand: Vec<String> = self.0.rows.lock().in_hand.iter().cloned().collect();
        let ids = array(&in_hand);
        let limit = i64::try_from(CALL_ROWS_MAX).unwrap_or(i64::MAX);
        let read = async |session: &Session| {
            let client = &session.connected.client;
            let found = client
                .query(&session.read, &[&Value::filled(&ids), &limit])
                .await?;
            found.iter().map(|row| session.plan.row(row)).collect()
        };
        let found: Vec<Read> = self.ask(read).await?;
        // Nothing is waited for from here on: what is in hand is handed over.
        let mut rows = self.0.rows.lock();
        rows.in_hand.extend(found.iter().map(|row| row.id.clone()));
        Ok(found)
    }

    /// For how long nothing is read, because something that was given back comes first.
    fn held_back(&self) -> Option<Duration> {
        let mut rows = self.0.rows.lock();
        let until = *rows.given_back.values().max()?;
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        let given_back = std::mem::take(&mut rows.given_back);
        for id in given_back.keys() {
            rows.in_hand.remove(id);
        }
        None
    }

    /// Waits until there may be something, and so long at most.
    async fn pause(&self, wait: Duration) -> Answer<()> {
        let session = self.session().await.map_err(|error| error.to_string())?;
        // What was said before counts: it may have come after the last look.
        let _ = timeout(wait, session.connected.woken.notified()).await;
        Ok(())
    }
}

#[async_trait]
impl Queue for Table {
    type Message = Read;

    const CALL_MESSAGES_MAX: usize = CALL_ROWS_MAX;

    const CALLS_MAX: usize = 1;

    // Rows are handed over in their order.
    const RECEIVES_MAX: usize = 1;

    const KIND: &'static str = "outbox";

    fn name(&self) -> &str {
        &self.0.outbox.table
    }

    fn in_hand(&self) -> Duration {
        // Nobody takes anything back.
        Duration::from_secs(3_600)
    }

    fn receipt(row: &Read) -> Option<String> {
        Some(row.id.clone())
    }

    fn size(row: &Read) -> usize {
        let attributes = row.attributes.iter();
        let attributes = attributes.map(|(_, value)| value.as_ref().map_or(0, String::len));
        row.data.as_ref().map_or(0, Vec::len) + attributes.sum::<usize>()
    }

    async fn receive(&self, wait: Duration) -> Answer<Vec<Read>> {
        if let Some(left) = self.held_back() {
            sleep(left.min(wait)).await;
            return Ok(Vec::new());
        }
        let found = self.read().await?;
        if found.is_empty() {
            self.pause(wait).await?;
        }
        Ok(found)
    }

    async fn delete(&self, receipts: &[&str]) -> Answer<Vec<Failure>> {
        let ids = receipts.iter().map(|id| (*id).to_owned());
        self.0.rows.lock().stored.extend(ids);
        self.settle().await.map(|()| Vec::new())
    }

    async fn hide(&self, messages: &[(&str, Duration)]) -> Answer<Hidden> {
        let now = Instant::now();
        let given_back = messages
            .iter()
            .map(|(id, after)| ((*id).to_owned(), now + *after));
        self.0.rows.lock().given_back.extend(given_back);
        Ok(Hidden::default())
    }

    async fn extend(&self, _: &[&str]) -> Answer<Hidden> {
        Ok(Hidden::default())
    }

    async fn waiting(&self) -> Answer<Option<u64>> {
        let count = async |session: &Session| self.count(&session.connected, &session.plan).await;
        let counted = self.ask(count).await?;
        let in_hand = self.0.rows.lock().in_hand.len();
        Ok(Some(counted.saturating_sub(in_hand as u64)))
    }
}

fn silent() -> Unreachable {
    Problem::new("PostgreSQL takes the login and says nothing")
        .at("url")
        .into()
}
