//! A target: one message published for each delivery.

mod publisher;
mod sender;
mod settings;
mod unacknowledged;

use std::sync::Arc;

use async_nats::jetstream::ContextBuilder;
use async_nats::jetstream::context::GetStreamByNameErrorKind;
use async_trait::async_trait;
use pointsman_schemas::{Problem, TemplateText};
use publisher::Publisher;
use tower::util::BoxCloneSyncService;

use super::connection::ConnectError;
use super::consumer::API_TIMEOUT;
use super::names::is_subject;
use crate::parameter::{Parameter, called, is_template, resolve};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

pub use settings::NatsTarget;

#[async_trait]
impl TargetSettings for NatsTarget {
    fn files(&self) -> Files {
        self.connection().files()
    }

    fn check(&self) -> Vec<Problem> {
        let subject = self
            .subject
            .literal()
            .filter(|subject| !is_template(subject) && !is_subject(subject, false));
        let subject = subject.map(|_| {
            let problem = Problem::new(
                "this is no subject to publish to: its tokens between dots must hold some, and no \
                 space, * or >",
            );
            problem.at("subject")
        });
        self.connection().check().chain(subject).collect()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Self::templates(self).1.into_texts()
    }

    fn called(&self) -> Called {
        let (subject, _) = Self::templates(self);
        called([(&self.subject, subject)], |[subject]| {
            format!("publish to {subject}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let subject = resolve(&self.subject, &["subject".into()])?;
        let client = self
            .connection()
            .connect("check", |_| {})
            .await
            .map_err(|ConnectError { problem, .. }| problem)?;
        let version = client.server_info().version;
        if !self.acknowledge {
            return Ok(format!("nats-server {version} takes connections"));
        }
        let jetstream = ContextBuilder::new().timeout(API_TIMEOUT).build(client);
        let none = |message: String, help: &str| {
            Err(OpenError(Problem::new(message).at("subject").help(help)))
        };
        if is_template(&subject) {
            return match jetstream
                .request::<_, _, serde_json::Value>("INFO", &serde_json::json!({}))
                .await
            {
                Ok(account) if account.get("error").is_some() => none(
                    "the account has no JetStream".to_owned(),
                    "enable it, let the account use $JS.API.>, or set acknowledge: false",
                ),
                Ok(_) => Ok(format!(
                    "nats-server {version} has JetStream; the subject depends on the event"
                )),
                Err(error) => none(
                    format!("JetStream does not answer: {error}"),
                    "enable it, let the account use $JS.API.>, or set acknowledge: false",
                ),
            };
        }
        match jetstream.stream_by_subject(subject.as_str()).await {
            Ok(stream) => Ok(format!(
                "nats-server {version} keeps {subject} in the stream {stream}"
            )),
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => none(
                format!("no stream keeps {subject}"),
                "make one, or set acknowledge: false",
            ),
            Err(error) => none(
                format!("JetStream does not answer: {error}"),
                "enable it, let the account use $JS.API.>, or set acknowledge: false",
            ),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let (template, templates) = Self::templates(self);
        let subject = match template {
            Some(index) => Parameter::Filled(index),
            None => {
                let subject = resolve(&self.subject, &["subject".into()])?;
                if !is_subject(&subject, false) {
                    return Err(OpenError(
                        Problem::new("this is no subject to publish to").at("subject"),
                    ));
                }
                Parameter::Constant(subject.into())
            }
        };
        let publisher = Publisher::new(self.clone(), context.name, subject, templates.count())?;
        let publisher = Arc::new(publisher);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.attempt(&attempt).await }
            },
        )))
    }
}
