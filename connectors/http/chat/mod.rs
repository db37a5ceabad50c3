//! Chats and on-call services that take messages by HTTP: Slack, Microsoft Teams, Discord and
//! PagerDuty.
//!
//! ```yaml
//! targets:
//!   team:
//!     slack: { url: { env: SLACK_URL }, text: "order <$.subject> is paid" }
//! ```
//!
//! **Each is the target `http`**, which is given the message as the data of its event: connections,
//! timeouts and what an answer means are the same (`net/classify.rs`), but for a 404. It says that
//! the webhook in the URL is not known, as 401 does of a token: refused.
//!
//! **A message** says what the event is, unless the settings have texts of their own or the whole
//! `body`. A text that is too long for the service is cut and ends with `…`.
//!
//! **No event speaks to everybody**: what it holds is escaped for Slack, and Discord is told that
//! nobody is mentioned.

mod discord;
mod message;
mod pagerduty;
mod slack;
mod teams;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Class, Outcome, Placement, Problem, TemplateText, Text};
use serde_json::{Map, Value};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::target::HttpTarget;
use crate::parameter::is_template;
use crate::{
    Attempt, AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings,
};
use message::Message;
use writer::{Renewed, Writer, templates};

pub use discord::DiscordTarget;
pub use pagerduty::PagerdutyTarget;
pub use slack::SlackTarget;
pub use teams::TeamsTarget;

/// The settings of a service that takes messages by HTTP.
pub(crate) trait Service: Clone + Debug + Send + Sync + 'static {
    /// Its name, as a person reads it.
    const NAME: &'static str;

    /// How many bytes the longest message has.
    const BYTES_MAX: usize = usize::MAX;

    /// How what an event fills in is escaped.
    const PLACEMENT: Placement = Placement::Argument;

    /// What is asked for in the URL's query, unless it stands there.
    const QUERY: Option<(&'static str, &'static str)> = None;

    /// The text that goes with a `body`, which takes the place of all others.
    const BESIDE_BODY: Option<&'static str> = None;

    /// Where messages are posted, which may be a secret.
    fn url(&self) -> Text;

    /// The texts that are given, by their settings, in a fixed order.
    fn texts(&self) -> Vec<(&'static str, &Text)>;

    /// The message in the place of any other, if it is given.
    fn body(&self) -> Option<&Map<String, Value>>;

    /// What is wrong that is not wrong with every service.
    fn mistakes(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Writes a message.
    ///
    /// # Errors
    /// The service never would take it, in words.
    fn write(&self, message: &Message<'_>) -> Result<Value, String>;

    /// Adds to a body what it does not say and has to.
    ///
    /// # Errors
    /// The service never would take it, in words.
    fn complete(&self, _: &mut Map<String, Value>, _: &Message<'_>) -> Result<(), String> {
        Ok(())
    }

    /// What an answer means where its status does not say that.
    fn judge(outcome: Outcome) -> Outcome {
        outcome
    }
}

fn http<S: Service>(service: &S) -> HttpTarget {
    HttpTarget::posting(service.url(), S::QUERY)
}

/// What is wrong with texts: one without anything in it, and one beside a body.
fn mistakes_in_texts<S: Service>(service: &S) -> impl Iterator<Item = Problem> {
    let has_body = service.body().is_some();
    service.texts().into_iter().filter_map(move |(name, text)| {
        let problem = if text.literal() == Some("") {
            Problem::new("there is nothing in it").help("leave it out")
        } else if has_body && S::BESIDE_BODY != Some(name) {
            let message = format!("`body` is the whole message, and {name} a part of another");
            Problem::new(message).help("leave one of them out")
        } else {
            return None;
        };
        Some(problem.at(name))
    })
}

/// What an answer means. A service that does not know the webhook does not know us.
fn judged<S: Service>(outcome: Outcome) -> Outcome {
    let mut outcome = S::judge(outcome);
    if outcome.code == Some(404) && outcome.class == Class::Failed {
        outcome.class = Class::Refused;
        outcome.message = format!("{} knows no such webhook (404): check url", S::NAME);
    }
    outcome
}

/// Posts the messages of an attempt.
async fn attempt<S: Service>(
    writer: Arc<Writer<S>>,
    http: TargetService,
    mut attempt: Attempt,
) -> Result<Vec<Outcome>, AttemptError> {
    let written: Vec<_> = attempt
        .deliveries
        .iter()
        .map(|delivery| writer.write(delivery))
        .collect();
    attempt.deliveries = written.iter().flatten().cloned().collect();
    let mut answers = match attempt.deliveries.is_empty() {
        true => Vec::new(),
        false => http.oneshot(attempt).await?,
    }
    .into_iter();
    let outcome = |written| match written {
        Err(rejected) => rejected,
        Ok(_) => answers.next().map_or_else(
            || Outcome::new(Class::Failed, "nothing says what became of the message"),
            judged::<S>,
        ),
    };
    Ok(written.into_iter().map(outcome).collect())
}

#[async_trait]
impl<S: Service> TargetSettings for S {
    fn check(&self) -> Vec<Problem> {
        let mut problems = http(self).check();
        if self.url().literal().is_some_and(is_template) {
            let problem = Problem::new("no event decides where messages go");
            problems.push(problem.help("write { env: NAME }").at("url"));
        }
        problems.extend(mistakes_in_texts(self));
        problems.extend(self.mistakes());
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        templates(self).1.into_texts()
    }

    /// Without the address, which lets in whoever knows it.
    fn called(&self) -> Called {
        Called::always(format!("post to {}", S::NAME))
    }

    fn files(&self) -> Files {
        let url = self.url();
        let texts = self.texts().into_iter().map(|(_, text)| text);
        Files::of(texts.chain([&url]))
    }

    async fn probe(&self) -> Result<String, OpenError> {
        Writer::open(self)?;
        http(self).probe().await
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let renewed = Arc::new(Renewed::open(self.clone(), &context)?);
        let http = http(self).open(context).await?;
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempted| attempt(renewed.writer(), http.clone(), attempted),
        )))
    }
}
