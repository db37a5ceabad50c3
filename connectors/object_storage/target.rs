//! Objects put into a bucket: one for each event.
//!
//! ```yaml
//! archive:
//!   object-storage: { endpoint: "http://127.0.0.1:9000", bucket: archive, key: "<$.type>/<$.id>.json", mode: structured }
//! ```
//!
//! **Put** is the event's data with its content type, or with `mode: structured` the whole event in
//! the JSON format. A key that is there already is replaced, so that an attempt made twice leaves
//! one object.
//!
//! **Answered** by status: 429 and 503 (`SlowDown`) are throttled, 502 and 504 and what keeps a
//! connection from being made unavailable, 401, 403 and a wrong region or token refused, 404 (no
//! such bucket), a timeout and the rest failed; other 4xx, a key that is empty or longer than 1,024
//! bytes rejected.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use pointsman_schemas::{Class, Event, Outcome, Placement, Problem, TemplateText, Text, json};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::connection::{Bucket, Connection};
use super::known::KEY_BYTES_MAX;
use crate::aws::{KeyPair, explain};
use crate::parameter::{Parameter, Templates, called, check_texts, resolve};
use crate::{
    Attempt, AttemptError, Called, Delivery, Files, OpenError, TargetContext, TargetService,
    TargetSettings,
};

/// Retries are the dispatcher's.
const ATTEMPTS: u32 = 1;

/// Puts an object into a bucket for each event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStorageTarget {
    /// The store's address; without it, AWS.
    endpoint: Option<Text>,
    /// The bucket.
    bucket: Text,
    /// Its region; else the SDK's own, and with an endpoint `us-east-1`.
    region: Option<Text>,
    /// The keys to show; without them, those that the SDK finds: environment, profile, web
    /// identity, instance.
    credentials: Option<KeyPair>,
    /// Whether the bucket stands in the path and not in the host; true with an endpoint unless it
    /// is given.
    path_style: Option<bool>,
    /// The object's key, which may hold templates.
    key: Text,
    /// The object's content type in place of the event's own.
    content_type: Option<Text>,
    /// What is put.
    #[serde(default)]
    mode: Mode,
}

/// What is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// The event's data as it came.
    #[default]
    Data,
    /// The event in the JSON format.
    Structured,
}

impl ObjectStorageTarget {
    fn connection(&self) -> Connection<'_> {
        Connection {
            endpoint: self.endpoint.as_ref(),
            bucket: &self.bucket,
            region: self.region.as_ref(),
            credentials: self.credentials.as_ref(),
            path_style: self.path_style,
        }
    }

    fn key(&self) -> (Option<usize>, Templates) {
        let mut templates = Templates::default();
        let index = templates.note(&self.key, Placement::Address, vec!["key".into()]);
        (index, templates)
    }
}

#[async_trait]
impl TargetSettings for ObjectStorageTarget {
    fn files(&self) -> Files {
        self.connection().access().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        if let (None, Some(Err(mistake))) = (self.key().0, self.key.literal().map(check_key)) {
            problems.push(Problem::new(mistake).at("key"));
        }
        if self.content_type.as_ref().and_then(Text::literal) == Some("") {
            problems.push(
                Problem::new("a content type must not be empty")
                    .at("content_type")
                    .help("leave it out"),
            );
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.key().1.into_texts()
    }

    fn called(&self) -> Called {
        let texts = [(&self.bucket, None), (&self.key, self.key().0)];
        called(texts, |[bucket, key]| format!("PUT {bucket}/{key}"))
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let bucket = self.connection().open(ATTEMPTS).await?;
        bucket.find().await?;
        Ok(format!(
            "the bucket {} is there; nothing was put into it",
            bucket.name
        ))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        // The SDK's client cannot be kept from an address that a name resolves to.
        if self.endpoint.is_some() && !context.allow_private_addresses {
            let problem =
                Problem::new("an address of a store's own may be private, and must not be called");
            return Err(OpenError(problem.at("endpoint").help(
                "let the operator allow private addresses, or leave it out for AWS",
            )));
        }
        let (index, templates) = self.key();
        let key = Parameter::open(&self.key, index, &["key".into()])?;
        let content_type = self
            .content_type
            .as_ref()
            .map(|text| resolve(text, &["content_type".into()]))
            .transpose()?;
        let bucket = self.connection().open(ATTEMPTS).await?;
        let putter = Arc::new(Putter {
            bucket,
            key,
            content_type,
            mode: self.mode,
            texts: templates.count(),
        });
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt: Attempt| {
                let putter = Arc::clone(&putter);
                async move {
                    let mut outcomes = Vec::with_capacity(attempt.deliveries.len());
                    for delivery in &attempt.deliveries {
                        outcomes.push(putter.put(delivery).await);
                    }
                    Ok::<_, AttemptError>(outcomes)
                }
            },
        )))
    }
}

/// A bucket, ready to be put into.
struct Putter {
    bucket: Bucket,
    key: Parameter,
    content_type: Option<String>,
    mode: Mode,
    /// How many texts a delivery carries.
    texts: usize,
}

impl Putter {
    async fn put(&self, delivery: &Delivery) -> Outcome {
        if let Err(outcome) = check_texts(delivery, self.texts) {
            return outcome;
        }
        let key = self.key.text(delivery);
        if let Err(mistake) = check_key(key) {
            return Outcome::new(
                Class::Rejected,
                format!("the key {key:?} is none: {mistake}"),
            );
        }
        let (content, content_type) = self.content(&delivery.event);
        let request = self
            .bucket
            .client
            .put_object()
            .bucket(&self.bucket.name)
            .key(key)
            .body(ByteStream::from(content));
        match request
            .set_content_type(self.content_type.clone().or(content_type))
            .send()
            .await
        {
            Ok(_) => Outcome::delivered(),
            Err(error) => outcome(&self.bucket.name, &error),
        }
    }

    fn content(&self, event: &Event) -> (Bytes, Option<String>) {
        match self.mode {
            Mode::Data => (
                event
                    .data()
                    .map(|data| data.bytes().clone())
                    .unwrap_or_default(),
                event.datacontenttype().map(ToString::to_string),
            ),
            Mode::Structured => {
                let mut content = Vec::with_capacity(event.size_bytes());
                json::encode(event, &mut content);
                (
                    content.into(),
                    Some("application/cloudevents+json".to_owned()),
                )
            }
        }
    }
}

/// Refuses what no store takes as a key. All else is the store's to judge: to it a key is no path.
fn check_key(key: &str) -> Result<(), String> {
    match key.len() {
        0 => Err("an object's key must not be empty".to_owned()),
        length if length > KEY_BYTES_MAX => Err(format!(
            "an object's key has {KEY_BYTES_MAX} bytes at most, and this one {length}"
        )),
        _ => Ok(()),
    }
}

/// What a failed request means.
fn outcome<E: ProvideErrorMetadata + std::error::Error + 'static>(
    bucket: &str,
    error: &SdkError<E, HttpResponse>,
) -> Outcome {
    let message = explain(error);
    let Some(response) = error.raw_response() else {
        let class = match error {
            SdkError::TimeoutError(_) => Class::Failed,
            SdkError::DispatchFailure(failure)
                if failure.is_timeout() || failure.is_io() || failure.is_other() =>
            {
                Class::Unavailable
            }
            _ => Class::Failed,
        };
        return Outcome::new(
            class,
            format!("cannot put into the bucket {bucket}: {message}"),
        );
    };
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(Duration::from_secs);
    let code = error.code().unwrap_or_default();
    let class = match (status, code) {
        (401 | 403, _)
        | (
            _,
            "ExpiredToken" | "InvalidToken" | "PermanentRedirect" | "AuthorizationHeaderMalformed",
        ) => Class::Refused,
        (429 | 503, _) | (_, "SlowDown" | "TooManyRequests") => Class::Throttled,
        _ if retry_after.is_some() => Class::Throttled,
        (502 | 504, _) => Class::Unavailable,
        (404 | 408 | 409 | 425, _) | (_, "RequestTimeout") => Class::Failed,
        (300..=499, _) => Class::Rejected,
        _ => Class::Failed,
    };
    let mut outcome = Outcome::new(
        class,
        format!("the store refuses the object for the bucket {bucket}: {message}"),
    );
    outcome.code = Some(i32::from(status));
    outcome.retry_after = retry_after;
    outcome
}

#[cfg(test)]
mod tests;
