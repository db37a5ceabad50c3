//! Messages of one source, as entries of the journal.

use std::sync::Arc;
use std::time::Duration;

use pointsman_connectors::{Acknowledgement, Arrival, Message, Plain, Verdict};
use pointsman_journal::Entry;
use pointsman_rules::{Document, EventMapping};
use pointsman_schemas::{Event, Name, Reject, SubscriptionNumber};

use crate::router::Matcher;
use crate::telemetry::metrics::SourceMetrics;

/// For how long an event with the same source and id is known again, where a source has stable ids.
const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the messages of one source: maps what is no event yet, and matches.
#[derive(Debug)]
pub struct MessageReader {
    pub(crate) tenant: Name,
    /// The source's name.
    pub(crate) origin: Name,
    pub(crate) metrics: SourceMetrics,
    mapping: Option<EventMapping>,
    deduplicate: Option<Duration>,
    matcher: Matcher,
}

/// A message as it goes into the journal.
pub(crate) struct ReadMessage {
    pub(crate) entries: Vec<Entry>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) acknowledgement: Acknowledgement,
}

impl MessageReader {
    /// A reader without a mapping, whose events are never taken for duplicates.
    #[must_use]
    pub fn new(tenant: Name, origin: Name, matcher: Matcher, metrics: SourceMetrics) -> Self {
        Self {
            tenant,
            origin,
            metrics,
            mapping: None,
            deduplicate: None,
            matcher,
        }
    }

    /// Sets the rule file's `event:` mapping.
    #[must_use]
    pub fn mapping(self, mapping: Option<EventMapping>) -> Self {
        Self { mapping, ..self }
    }

    /// Has the journal look for duplicates: only for a source that gives an event the same id
    /// whenever it hands it over.
    #[must_use]
    pub fn with_stable_ids(self, stable_ids: bool) -> Self {
        let deduplicate = stable_ids.then_some(DEDUPLICATION_WINDOW);
        Self {
            deduplicate,
            ..self
        }
    }

    /// The subscription of the pipe that the source feeds at present, if it feeds one.
    pub(crate) fn pipe(&self) -> Option<SubscriptionNumber> {
        self.matcher.pipe(&self.tenant, &self.origin)
    }

    /// Makes entries of a message; none where its caller has been told that it is rejected.
    pub(crate) fn read(&mut self, message: Message) -> Option<ReadMessage> {
        let Message {
            arrivals,
            mut rejects,
            acknowledgement,
        } = message;
        let mut entries = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let event = match arrival {
                Arrival::Event(event) => event,
                Arrival::Plain(plain) => {
                    let raw = plain.root.clone();
                    match self.map(*plain) {
                        Ok(event) => Arc::new(event),
                        Err(reason) => {
                            // A caller who waits can mend what he sends, so nothing is kept for
                            // him. Everybody else would hand the same over again for ever: it
                            // becomes a dead letter of the source, and the message is taken.
                            if let Acknowledgement::Caller(caller, _held) = acknowledgement {
                                self.metrics.rejects.inc();
                                drop(caller.send(Verdict::Rejected(reason)));
                                return None;
                            }
                            rejects.push(Reject { raw, reason });
                            continue;
                        }
                    }
                }
            };
            let (tenant, origin) = (&self.tenant, &self.origin);
            entries.push(self.matcher.entry(tenant, origin, event, self.deduplicate));
        }
        Some(ReadMessage {
            entries,
            rejects,
            acknowledgement,
        })
    }

    /// Makes an event of what is none, or says in one line why that cannot be.
    fn map(&self, plain: Plain) -> Result<Event, String> {
        let builder = match &self.mapping {
            None => plain.defaults,
            Some(mapping) => {
                let root = Document::json(&plain.root).map_err(|error| error.to_string())?;
                mapping
                    .apply(&root, plain.defaults)
                    .map_err(|error| error.to_string())?
            }
        };
        builder.build().map_err(|error| error.to_string())
    }
}
