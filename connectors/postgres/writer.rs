//! Inserts rows.
//!
//! | what happens | class |
//! |---|---|
//! | the row is there, or one that it conflicts with and that `on_conflict` leaves or writes over | delivered |
//! | no connection; a server that starts, stops, is full or reads alone; no such table or column | unavailable |
//! | too many connections | throttled |
//! | the login is refused, or the role may not | refused |
//! | a value that its column does not take, a constraint, a trigger that raises an error | rejected |
//! | a row that it refers to is missing; a deadlock; the connection breaks, or no answer comes in time | failed |
//!
//! What one attempt has goes with one pipeline as one transaction, which takes one write to the disk.
//! Where a row of it is refused, none is there, and each goes again by itself, so that the others do
//! not suffer.

use std::time::Duration;

use futures::future::{join_all, join3};
use pointsman_schemas::{Class, Outcome};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::client::{Client, Connected, Leased};
use super::refusal::{class, is_answer, lost, outcome, spoils, words};
use super::statement::Value;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery};

/// What inserts the rows of one target.
pub(super) struct Writer {
    pub(super) client: Client,
    /// The statement that inserts a row.
    pub(super) statement: String,
    /// Its values.
    pub(super) values: Vec<Parameter>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// The values of a row.
type Row<'d> = Vec<Value<'d>>;

impl Writer {
    /// Inserts the rows of an attempt, in their order.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        let rows: Vec<_> = attempt.deliveries.iter().map(|it| self.row(it)).collect();
        let sound: Vec<_> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
        let written = match sound.is_empty() {
            true => Vec::new(),
            false => self.write_in_time(&sound, attempt.timeout).await?,
        };
        let mut written = written.into_iter();
        let outcomes = rows.iter().map(|row| match row {
            Ok(_) => written.next().unwrap_or_else(|| lost("it says nothing")),
            Err(unsound) => unsound.clone(),
        });
        Ok(outcomes.collect())
    }

    fn row<'d>(&'d self, delivery: &'d Delivery) -> Result<Row<'d>, Outcome> {
        check_texts(delivery, self.texts)?;
        let value = |value: &'d Parameter| Value::filled(value.text(delivery));
        Ok(self.values.iter().map(value).collect())
    }

    async fn write_in_time(
        &self,
        rows: &[&Row<'_>],
        within: Duration,
    ) -> Result<Vec<Outcome>, AttemptError> {
        // Before the attempt is given up, so that a connection that does not answer is.
        let spare = (within / 10).min(Duration::from_secs(1));
        let until = Instant::now() + within.saturating_sub(spare);
        let unavailable = |why: &str| {
            let message = format!("{why}; nothing was sent");
            AttemptError::new(Class::Unavailable, message)
        };
        let prepared = timeout_at(until, self.prepared()).await;
        let none = |_elapsed| unavailable("there was no connection to PostgreSQL in time");
        let (leased, statement) = prepared.map_err(none)??;
        let written = timeout_at(until, write(&leased.connected, &statement, rows)).await;
        Ok(match written {
            Ok(Ok(written)) => {
                let mut errors = written.iter().filter_map(|written| written.as_ref().err());
                if !errors.any(spoils) {
                    leased.keep();
                }
                written.iter().map(settled).collect()
            }
            Ok(Err(error)) => vec![lost(&words(&error)); rows.len()],
            Err(_elapsed) => vec![lost("it does not answer in time"); rows.len()],
        })
    }

    /// A connection on which the statement is prepared.
    async fn prepared(&self) -> Result<(Leased<'_>, Statement), AttemptError> {
        let leased = self.client.lease().await;
        let mut leased = leased.map_err(|unreachable| {
            AttemptError::new(unreachable.class, unreachable.problem.to_string())
        })?;
        let connected = &mut leased.connected;
        let statement = match &connected.statement {
            Some(statement) => statement.clone(),
            None => {
                let prepared = connected.client.prepare(&self.statement).await;
                let statement = prepared.map_err(|error| {
                    let class = error.code().map_or(Class::Unavailable, class);
                    AttemptError::new(class, words(&error))
                })?;
                connected.statement.insert(statement).clone()
            }
        };
        Ok((leased, statement))
    }
}

/// Inserts rows, and returns what came of each.
///
/// # Errors
/// The connection was lost, and it is not known which of them are there.
async fn write(
    connected: &Connected,
    statement: &Statement,
    rows: &[&Row<'_>],
) -> Result<Vec<Result<u64, Error>>, Error> {
    if rows.len() > 1 && together(connected, statement, rows).await? {
        return Ok(rows.iter().map(|_| Ok(1)).collect());
    }
    // Each is a transaction of its own.
    Ok(join_all(rows.iter().map(|row| insert(connected, statement, row))).await)
}

/// Inserts rows as one transaction. Returns whether they are there; else none of them is.
async fn together(
    connected: &Connected,
    statement: &Statement,
    rows: &[&Row<'_>],
) -> Result<bool, Error> {
    let client = &connected.client;
    // They are sent in this order, without waiting for an answer. Of a transaction in which a row
    // was refused the commit ends in a rollback, and constraints that are deferred are looked at by
    // the commit.
    let (begun, written, committed) = join3(
        client.batch_execute("BEGIN"),
        join_all(rows.iter().map(|row| insert(connected, statement, row))),
        client.batch_execute("COMMIT"),
    )
    .await;
    let written = written.into_iter().filter_map(Result::err);
    let errors = begun
        .err()
        .into_iter()
        .chain(committed.err())
        .chain(written);
    let mut are_there = true;
    for error in errors {
        if !is_answer(&error) {
            return Err(error);
        }
        are_there = false;
    }
    Ok(are_there)
}

async fn insert(connected: &Connected, statement: &Statement, row: &Row<'_>) -> Result<u64, Error> {
    let values: Vec<_> = row
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect();
    connected.client.execute(statement, &values).await
}

fn settled(written: &Result<u64, Error>) -> Outcome {
    match written {
        Ok(_) => Outcome::delivered(),
        Err(error) => outcome(error),
    }
}
