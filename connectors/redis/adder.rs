//! Adds entries to streams.
//!
//! | what happens | class |
//! |---|---|
//! | the entry has an id | delivered |
//! | no connection; a replica (`READONLY`), a server that reads its data (`LOADING`), a node that does not hold the stream (`MOVED`), and what else passes without anything done | unavailable |
//! | with `create: false`, there is no such stream | unavailable |
//! | the connection breaks, or no answer comes in time; an error of no known code | failed |
//! | the credentials are missing or wrong, or may not | refused |
//! | the server's memory is full (`OOM`) | throttled |
//! | the key is not a stream (`WRONGTYPE`), or the event cannot be written | rejected |
//!
//! What one attempt has goes with one pipeline, in its order. An entry that was sent and not
//! acknowledged may be there twice, both with the delivery's id.

use std::time::Duration;

use pointsman_schemas::{Class, Outcome};
use redis::{Pipeline, Value};

use super::client::{Client, Unanswered};
use super::mapping::{Fields, Mode, encode};
use super::refusal::Refusal;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery};

/// The longest key: the server takes 512 MiB.
pub(super) const STREAM_BYTES_MAX: usize = 4_096;

/// What adds the entries of one target.
pub(super) struct Adder {
    pub(super) client: Client,
    pub(super) stream: Parameter,
    /// The fields that are written; the event as its mode says, where there are none.
    pub(super) fields: Vec<(String, Parameter)>,
    pub(super) mode: Mode,
    pub(super) max_length: Option<u64>,
    pub(super) creates: bool,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

impl Adder {
    /// Adds the entries of an attempt, in their order.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        let mut commands = Pipeline::new();
        let mut unsent = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            let added = self.add(&mut commands, delivery, attempt.rule.as_str());
            unsent.push(added.err());
        }
        if commands.is_empty() {
            return Ok(unsent.into_iter().flatten().collect());
        }
        // Before the attempt is given up, so that a connection that does not answer is.
        let spare = (attempt.timeout / 10).min(Duration::from_secs(1));
        let within = attempt.timeout.saturating_sub(spare);
        let answers = self.client.ask(&commands, within).await;
        let answers = answers.map_err(|unanswered| match unanswered {
            Unanswered::Unreachable(unreachable) => {
                AttemptError::new(unreachable.class, unreachable.problem.to_string())
            }
            Unanswered::Cut(why) => {
                AttemptError::new(Class::Failed, format!("{why}; the entry may be there"))
            }
        })?;
        let mut answers = answers.into_iter().map(outcome);
        let outcomes = unsent
            .into_iter()
            .map(|unsent| unsent.or_else(|| answers.next()).unwrap_or_else(silent));
        Ok(outcomes.collect())
    }

    /// The command that adds a delivery's entry.
    fn add(&self, commands: &mut Pipeline, delivery: &Delivery, rule: &str) -> Result<(), Outcome> {
        check_texts(delivery, self.texts)?;
        let rejected = |why: String| Outcome::new(Class::Rejected, why);
        let stream = self.stream.text(delivery);
        if stream.is_empty() || stream.len() > STREAM_BYTES_MAX {
            let mistake = format!("a stream's key has 1 to {STREAM_BYTES_MAX} bytes");
            return Err(rejected(mistake));
        }
        let fields = self.fields(delivery, rule).map_err(rejected)?;
        let command = commands.cmd("XADD").arg(stream);
        if !self.creates {
            command.arg("NOMKSTREAM");
        }
        if let Some(max_length) = self.max_length {
            command.arg("MAXLEN").arg("~").arg(max_length);
        }
        command.arg("*");
        for (name, value) in fields {
            command.arg(name).arg(&*value);
        }
        Ok(())
    }

    fn fields(&self, delivery: &Delivery, rule: &str) -> Result<Fields, String> {
        if self.fields.is_empty() {
            return encode(delivery, rule, self.mode);
        }
        let text = |text: &Parameter| text.text(delivery).to_owned().into();
        let fields = self.fields.iter();
        Ok(fields
            .map(|(name, value)| (name.clone(), text(value)))
            .collect())
    }
}

fn outcome(answer: Result<Value, Refusal>) -> Outcome {
    match answer {
        Ok(Value::Nil) => Outcome::new(
            Class::Unavailable,
            "there is no such stream; make it, or leave out create: false",
        ),
        Ok(_) => Outcome::delivered(),
        Err(refusal) => Outcome::new(refusal.class(), refusal.words()),
    }
}

fn silent() -> Outcome {
    Outcome::new(
        Class::Failed,
        "the server does not say what became of the entry",
    )
}
