//! Which queue, and where it is.

use std::time::Duration;

use aws_sdk_sqs::error::SdkError;
use pointsman_schemas::{Problem, Text};

use super::probe::is_forbidden;
use crate::OpenError;
use crate::aws::fifo::FIFO;
use crate::aws::queue::{Queue, region_of};
use crate::aws::{Access, check_url};
use crate::parameter::resolve;

/// The longest name of a queue.
const NAME_BYTES_MAX: usize = 80;

/// Which queue, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'s> {
    pub(super) queue: &'s Text,
    pub(super) access: Access<'s>,
}

/// A queue that can be asked.
#[derive(Clone, Debug)]
struct Found {
    client: aws_sdk_sqs::Client,
    url: String,
    name: String,
}

/// What the text of a setting says.
#[derive(Clone, Debug)]
pub(super) enum Named {
    Name(String),
    Url { url: String, name: String },
}

impl Named {
    /// Reads what the setting says.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        if text.starts_with("arn:") {
            return Err(Problem::new("this is the ARN of a queue")
                .help("write its name, which is the last part, or its URL"));
        }
        if !text.contains("://") {
            return match name_mistake(text) {
                Some(mistake) => Err(Problem::new(mistake)),
                None => Ok(Self::Name(text.to_owned())),
            };
        }
        let url = check_url(text)?;
        let name = url.path_segments().and_then(|mut parts| parts.next_back());
        match name {
            Some(name) if name_mistake(name).is_none() => Ok(Self::Url {
                url: text.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(
                Problem::new("this URL does not end with the name of a queue").help(
                    "write one such as https://sqs.eu-west-1.amazonaws.com/123456789012/orders",
                ),
            ),
        }
    }
}

impl Named {
    /// The queue's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Url { name, .. } => name,
        }
    }

    /// The region and the address of the service, where a URL tells them.
    ///
    /// # Errors
    /// The URL is none.
    pub(super) fn service(&self) -> Result<(Option<String>, Option<String>), OpenError> {
        let Self::Url { url, .. } = self else {
            return Ok((None, None));
        };
        let url = check_url(url).map_err(|problem| OpenError(problem.at("queue")))?;
        let endpoint = url.origin().ascii_serialization();
        Ok((region_of(&url), Some(endpoint)))
    }
}

fn name_mistake(name: &str) -> Option<&'static str> {
    let stem = name.strip_suffix(FIFO).unwrap_or(name);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if stem.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some("a queue's name has 1 to 80 characters");
    }
    if !stem.bytes().all(is_allowed) {
        return Some(
            "a queue's name is made of a-z, A-Z, 0-9, _ and -, and that of a FIFO queue ends with \
             .fifo",
        );
    }
    None
}

impl Place<'_> {
    /// Every mistake in what is written out.
    pub(super) fn check(self) -> Vec<Problem> {
        let mut problems = self.access.check();
        match self.queue.literal().map(Named::read) {
            Some(Err(problem)) => problems.push(problem.at("queue")),
            Some(Ok(Named::Name(_))) if self.knows_no_region() => problems.push(
                Problem::new("the region of the queue is missing")
                    .at("region")
                    .help("write one such as eu-west-1, or the queue's URL"),
            ),
            _ => {}
        }
        problems
    }

    /// Where keys are written out, the machine's own configuration is not looked at.
    fn knows_no_region(self) -> bool {
        let access = self.access;
        access.region.is_none() && access.endpoint.is_none() && access.credentials.is_some()
    }

    /// What the setting says, once it is resolved.
    ///
    /// # Errors
    /// It cannot be, or names no queue.
    pub(super) fn named(self) -> Result<Named, OpenError> {
        let text = resolve(self.queue, &["queue".into()])?;
        Named::read(&text).map_err(|problem| OpenError(problem.at("queue")))
    }

    /// The queue, which keeps messages from others for so long, its name, and how many messages wait
    /// in it, where the credentials may ask for that.
    ///
    /// # Errors
    /// As [`Place::find`], and that the queue cannot be asked.
    pub(super) async fn look(
        self,
        attempts: u32,
        in_hand: Duration,
    ) -> Result<(Queue, String, Option<u64>), OpenError> {
        let Found { client, url, name } = self.find(attempts).await?;
        let queue = Queue {
            client,
            url,
            in_hand,
        };
        match queue.waiting().await {
            Ok(waiting) => Ok((queue, name, waiting)),
            // Whoever may receive or send need not be allowed to ask for this.
            Err(SdkError::ServiceError(told)) if is_forbidden(told.err()) => {
                Ok((queue, name, None))
            }
            Err(error) => Err(self.problem(&name, &error)),
        }
    }

    /// As [`Place::look`], told in a line for a person.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn probe(self, attempts: u32) -> Result<String, OpenError> {
        let (Queue { url, .. }, _, waiting) = self.look(attempts, Duration::ZERO).await?;
        Ok(match waiting {
            Some(waiting) => format!("{waiting} messages wait in the queue {url}"),
            None => format!(
                "the queue {url} is there; how much waits in it may not be asked \
                 (sqs:GetQueueAttributes)"
            ),
        })
    }

    /// Looks for the queue; each request is tried by the SDK so many times.
    ///
    /// # Errors
    /// A text cannot be resolved, or there is no such queue.
    async fn find(self, attempts: u32) -> Result<Found, OpenError> {
        let named = self.named()?;
        let (region, endpoint) = named.service()?;
        let (shared, written) = self.access.open(attempts, region).await?;
        let mut config = aws_sdk_sqs::config::Builder::from(&shared);
        if let Some(endpoint) = written.or(endpoint) {
            config = config.endpoint_url(endpoint);
        }
        let client = aws_sdk_sqs::Client::from_conf(config.build());
        match named {
            Named::Url { url, name } => Ok(Found { client, url, name }),
            Named::Name(name) => {
                let asked = client.get_queue_url().queue_name(&name).send().await;
                let told = asked.map_err(|error| self.problem(&name, &error))?;
                Ok(Found {
                    client,
                    url: told.queue_url.unwrap_or_default(),
                    name,
                })
            }
        }
    }
}
