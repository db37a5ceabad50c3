//! Sends messages.
//!
//! | what happens | class |
//! |---|---|
//! | the server took the message (250 behind `DATA`) | delivered |
//! | no connection, none that can be trusted, no STARTTLS, or a server that takes no connection | unavailable |
//! | the login is refused (5xx to `AUTH`), or one is asked for (530) | refused |
//! | a transient answer (4xx); the connection breaks, or no answer comes in time | failed |
//! | a permanent answer (5xx); an address that is none; nobody to send it to | rejected |
//!
//! A message goes to all its recipients or to none: where one of them is not taken, it is not sent.
//! One that was sent and not answered may be there twice, both with the same `Message-ID`.

use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::Error;
use pointsman_schemas::{Class, Outcome};
use tokio::time::{Instant, timeout_at};

use super::client::{Client, words};
use super::letter::Letter;
use crate::Attempt;

/// What sends the messages of one target.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) letter: Letter,
}

impl Sender {
    /// Sends the messages of an attempt, one after the other.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        // Before the attempt is given up, and with it what is known of those that were sent.
        let spare = (attempt.timeout / 10).min(Duration::from_secs(1));
        let until = Instant::now() + attempt.timeout.saturating_sub(spare);
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            let without_server = outcomes
                .last()
                .filter(|last| matches!(last.class, Class::Unavailable | Class::Refused));
            let outcome = match (without_server, self.letter.write(delivery)) {
                (_, Err(rejected)) => rejected,
                // Nothing has changed since.
                (Some(same), Ok(_)) => same.clone(),
                (None, Ok(message)) => self.send(&message, until).await,
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn send(&self, message: &Message, until: Instant) -> Outcome {
        let Ok(connected) = timeout_at(until, self.client.connection()).await else {
            return Outcome::new(Class::Unavailable, "no connection was made in time");
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(unreachable) => {
                return Outcome::new(unreachable.class, unreachable.problem.to_string());
            }
        };
        let bytes = message.formatted();
        let sent = connection.send(message.envelope(), &bytes);
        match timeout_at(until, sent).await {
            Ok(Ok(_)) => {
                self.client.keep(connection);
                Outcome::delivered()
            }
            Ok(Err(error)) => outcome(&error),
            Err(_elapsed) => Outcome::new(
                Class::Failed,
                "the mail server does not answer in time; the message may have been sent",
            ),
        }
    }
}

fn outcome(error: &Error) -> Outcome {
    let words = words(error);
    let asks_for_login = error.status().is_some_and(|code| u16::from(code) == 530);
    match () {
        () if asks_for_login => Outcome::new(
            Class::Refused,
            format!("the mail server asks for a login: {words}; write auth"),
        ),
        () if error.is_permanent() => Outcome::new(
            Class::Rejected,
            format!("the mail server does not take the message: {words}"),
        ),
        () if error.is_transient() => Outcome::new(
            Class::Failed,
            format!("the mail server does not take the message now: {words}"),
        ),
        // The client finds out before anything is sent: an address that the server cannot have.
        () if error.is_client() => Outcome::new(Class::Rejected, words),
        () => Outcome::new(
            Class::Failed,
            format!(
                "the connection to the mail server broke: {words}; the message may have been sent"
            ),
        ),
    }
}
