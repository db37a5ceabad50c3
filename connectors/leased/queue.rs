//! What a queue has to be able to do.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

/// What a call for several messages came to, or why it has failed for all of them, in words.
pub(crate) type Answer<T> = Result<T, String>;

/// A queue that hands messages out for a time. Clones are the same queue.
#[async_trait]
pub(crate) trait Queue: fmt::Debug + Clone + Send + Sync + 'static {
    /// A message as it came.
    type Message: fmt::Debug + Send + 'static;

    /// How many messages a call brings, and how many are settled by one, at most.
    const CALL_MESSAGES_MAX: usize;

    /// How many calls to settle messages, and as many to extend them, are under way at most.
    const CALLS_MAX: usize;

    /// How many calls for messages are made at once while each comes back full.
    const RECEIVES_MAX: usize = 8;

    /// What kind of thing it is, as errors say it.
    const KIND: &'static str = "queue";

    /// What errors call it by.
    fn name(&self) -> &str;

    /// For how long what is in hand is kept from others each time.
    fn in_hand(&self) -> Duration;

    /// How often that is extended.
    fn beat(&self) -> Duration {
        self.in_hand() / 3
    }

    /// How many calls for messages wait where nothing is there: one at each of the places that a
    /// queue has its messages in.
    fn receives_min(&self) -> usize {
        1
    }

    /// What a message is deleted and hidden by. None is not taken in hand: no queue sends such.
    fn receipt(message: &Self::Message) -> Option<String>;

    /// How many bytes a message counts for.
    fn size(message: &Self::Message) -> usize;

    /// Asks for messages, and waits so long where nothing is there.
    async fn receive(&self, wait: Duration) -> Answer<Vec<Self::Message>>;

    /// Deletes up to [`Queue::CALL_MESSAGES_MAX`] messages; returns what has failed of it.
    async fn delete(&self, receipts: &[&str]) -> Answer<Vec<Failure>>;

    /// Keeps as many messages hidden for another while each.
    async fn hide(&self, messages: &[(&str, Duration)]) -> Answer<Hidden>;

    /// Keeps messages in hand hidden.
    async fn extend(&self, receipts: &[&str]) -> Answer<Hidden> {
        let in_hand = self.in_hand();
        let messages: Vec<_> = receipts.iter().map(|receipt| (*receipt, in_hand)).collect();
        self.hide(&messages).await
    }

    /// How many messages wait, where it says so. Fails where it does not answer.
    async fn waiting(&self) -> Answer<Option<u64>>;
}

/// What has failed of a call for several messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The message's place in the call.
    pub(crate) index: usize,
    /// Why, in words.
    pub(crate) error: String,
    /// Whether the queue's own fault, which may pass.
    pub(crate) may_pass: bool,
}

/// What came of hiding messages.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    /// What has failed.
    pub(crate) failed: Vec<Failure>,
    /// The receipts that messages have from now on, by their place in the call.
    pub(crate) receipts: Vec<(usize, String)>,
}
