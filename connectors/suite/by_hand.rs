//! One source, taken from and told by hand.

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Name, SystemClock};
use serde_json::Value;
use tokio::time::timeout;

use super::{Stored, next_within};
use crate::listener::Routes;
use crate::{
    Alarms, Arrival, Link, Message, OpenError, Source, SourceContext, SourceSettings, SourceState,
    Verdict,
};

/// Longer than anything takes; only a broken test waits for it.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Settings with others, and without those that are null.
pub(crate) fn with(mut settings: Value, more: Value) -> Value {
    let all = settings.as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        if value.is_null() {
            all.remove(key);
        } else {
            all.insert(key.clone(), value.clone());
        }
    }
    settings
}

/// Opens a source that begins anew, and tells where it tells of its connection.
pub(crate) async fn begin(
    settings: Box<dyn SourceSettings>,
) -> Result<(Box<dyn Source>, Link), OpenError> {
    let clock = Arc::new(SystemClock);
    let name = Name::new("orders").unwrap();
    let link = Link::new(name.clone(), clock.clone());
    let context = SourceContext {
        name,
        tenant: Name::default_tenant(),
        cursor: None,
        positions: Stored::default().positions(),
        mapped: false,
        alarms: Alarms::new(clock.clone()),
        clock,
        routes: Routes::default(),
        link: link.clone(),
    };
    let opened = settings.open(context).await;
    opened.map(|source| (source, link))
}

/// The next messages, of one batch or several, until there are so many.
pub(crate) async fn take(source: &mut dyn Source, count: usize) -> Vec<Message> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = next_within(source, LONG).await.expect("something comes");
        taken.extend(batch.unwrap().messages);
    }
    taken
}

/// The texts of messages' events.
pub(crate) fn bodies(messages: &[Message]) -> Vec<String> {
    let body = |message: &Message| match message.arrivals.first() {
        Some(Arrival::Event(event)) => {
            let bytes = event.data().unwrap().bytes();
            String::from_utf8(bytes.to_vec()).unwrap()
        }
        other => panic!("no event: {other:?}"),
    };
    messages.iter().map(body).collect()
}

/// Returns once a source tells this of its connection.
pub(crate) async fn turns(link: &Link, state: SourceState) {
    let turned = link.until(|now| now == state);
    timeout(LONG, turned).await.expect("it turns");
}

/// Tells all of them the same.
pub(crate) async fn settle(messages: Vec<Message>, verdict: &Verdict) {
    let acknowledgements = messages
        .into_iter()
        .map(|message| message.acknowledgement.send(verdict.clone()));
    futures::future::join_all(acknowledgements).await;
}
