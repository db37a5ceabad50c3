//! A queue of SQS, or of what speaks like it.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry as Extension,
    DeleteMessageBatchRequestEntry as Deletion, Message, MessageSystemAttributeName,
    QueueAttributeName,
};
use url::Url;

use super::error::explain;
use crate::leased::{self, Answer, Failure, Hidden};

/// By how much later a hidden message may be handed out again: queues count in seconds.
pub(crate) const ROUNDING: Duration = Duration::from_secs(1);

/// The longest that SQS keeps a message hidden, counted from when it was handed over.
pub(crate) const HIDDEN_MAX: Duration = Duration::from_secs(12 * 60 * 60);

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

#[async_trait]
impl leased::Queue for Queue {
    type Message = Message;

    const CALL_MESSAGES_MAX: usize = 10;

    const CALLS_MAX: usize = 16;

    fn name(&self) -> &str {
        &self.url
    }

    fn in_hand(&self) -> Duration {
        self.in_hand
    }

    fn receipt(message: &Message) -> Option<String> {
        message.receipt_handle.clone()
    }

    fn size(message: &Message) -> usize {
        let attributes = message.message_attributes.iter().flatten();
        let attributes = attributes.map(|(name, value)| {
            let text = value.string_value().map_or(0, str::len);
            let bytes = value.binary_value().map_or(0, |bytes| bytes.as_ref().len());
            name.len() + text + bytes
        });
        message.body.as_ref().map_or(0, String::len) + attributes.sum::<usize>()
    }

    async fn receive(&self, wait: Duration) -> Answer<Vec<Message>> {
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(Self::CALL_MESSAGES_MAX as i32)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(self.in_hand));
        call.send()
            .await
            .map(|told| told.messages.unwrap_or_default())
            .map_err(|error| explain(&error))
    }

    async fn delete(&self, receipts: &[&str]) -> Answer<Vec<Failure>> {
        let entries = receipts.iter().enumerate().filter_map(|(index, receipt)| {
            let entry = Deletion::builder()
                .id(index.to_string())
                .receipt_handle(*receipt);
            entry.build().ok()
        });
        let call = self.client.delete_message_batch().queue_url(&self.url);
        let told = call.set_entries(Some(entries.collect())).send().await;
        told.map(|told| failures(&told.failed))
            .map_err(|error| explain(&error))
    }

    async fn hide(&self, messages: &[(&str, Duration)]) -> Answer<Hidden> {
        let entries = messages.iter().enumerate();
        let entries = entries.filter_map(|(index, (receipt, hidden))| {
            let entry = Extension::builder()
                .id(index.to_string())
                .receipt_handle(*receipt)
                .visibility_timeout(seconds((*hidden).min(HIDDEN_MAX)));
            entry.build().ok()
        });
        let call = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url);
        let told = call.set_entries(Some(entries.collect())).send().await;
        let told = told.map_err(|error| explain(&error))?;
        Ok(Hidden {
            failed: failures(&told.failed),
            receipts: Vec::new(),
        })
    }

    async fn waiting(&self) -> Answer<Option<u64>> {
        match Self::waiting(self).await {
            Ok(waiting) => Ok(waiting),
            // Whoever may receive need not be allowed to ask for this.
            Err(SdkError::ServiceError(_)) => Ok(None),
            Err(error) => Err(explain(&error)),
        }
    }
}

fn failures(failed: &[BatchResultErrorEntry]) -> Vec<Failure> {
    let failures = failed.iter().filter_map(|one| {
        Some(Failure {
            index: one.id.parse().ok()?,
            error: format!("{}: {}", one.code, one.message().unwrap_or_default()),
            // A receipt that is none any more stays one.
            may_pass: !one.sender_fault,
        })
    });
    failures.collect()
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
