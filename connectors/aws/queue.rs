//! Reading a queue of SQS, or of what speaks like it.
//!
//! A message is deleted once everything in it is stored. Until then a heartbeat keeps it from being
//! handed to anybody else; what cannot be stored comes again after a while, and what a crash leaves
//! when its time in hand is over.
//!
//! | file | |
//! |---|---|
//! | `reading.rs` | asks for messages, as many calls at once as there is use for |
//! | `held.rs` | what is in hand, and its bound |
//! | `keeper.rs` | extends what is in hand, deletes it and gives it back |
//! | `settling.rs` | one such call for up to ten messages |
//! | `watch.rs` | how many messages wait, and whether the queue answers |

mod held;
mod keeper;
mod reading;
mod settling;
mod watch;

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::types::QueueAttributeName;
use url::Url;

pub(crate) use held::Bounds;
pub(crate) use reading::{Reading, Received};

/// By how much later a hidden message may be handed out again: queues count in seconds.
pub(crate) const ROUNDING: Duration = Duration::from_secs(1);

/// The longest that SQS keeps a message hidden, counted from when it was handed over.
pub(crate) const HIDDEN_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// SQS's own bound on the messages of one call.
pub(crate) const CALL_MESSAGES_MAX: usize = 10;

/// One queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) client: Client,
    pub(crate) url: String,
    /// For how long a message is in our hand before the queue hands it to another, unless the
    /// heartbeat extends it.
    pub(crate) in_hand: Duration,
}

impl Queue {
    /// How many messages wait in it.
    ///
    /// # Errors
    /// What the queue says, or that nobody answers.
    pub(crate) async fn waiting(
        &self,
    ) -> Result<Option<u64>, SdkError<GetQueueAttributesError, HttpResponse>> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let told = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(name.clone())
            .send()
            .await?;
        Ok(told
            .attributes()
            .and_then(|all| all.get(&name)?.parse().ok()))
    }
}

/// The region that the address of a queue of AWS tells:
/// `https://sqs.eu-west-1.amazonaws.com/123456789012/uploads`.
pub(crate) fn region_of(url: &Url) -> Option<String> {
    let (region, _) = url
        .host_str()?
        .strip_prefix("sqs.")?
        .split_once(".amazonaws.com")?;
    Some(region.to_owned())
}

/// As SQS is told a time.
fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
