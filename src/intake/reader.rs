//! Messages of one source, as entries of the journal.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pointsman_connectors::{Acknowledgement, Arrival, Message, Plain, Verdict};
use pointsman_journal::{Entry, Guards, Identity, Key};
use pointsman_rules::{Document, EventMapping, Node};
use pointsman_schemas::http::encode_structured;
use pointsman_schemas::task_id::{TASK_ID, task_id};
use pointsman_schemas::trace::TraceId;
use pointsman_schemas::{Data, DataKind, Event, Name, PositionChange, Reject, SubscriptionNumber};

use crate::router::{Deduplicate, Matcher, NotTaken, Router};
use crate::telemetry::metrics::SourceMetrics;
use crate::telemetry::traces::{Received, Receiving};
use crate::waiting::{Asked, Waiting};

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
    /// What the rule file says of duplicates.
    keyed: Option<Deduplicate>,
    /// How long its events are kept, in the place of the journal's retention.
    retention: Option<Duration>,
    matcher: Matcher,
    /// Where callers wait for the ends of tasks.
    waiting: Arc<Waiting>,
}

/// What a trace is told of an event that is rejected: the reason itself may hold some of its data.
const REJECTED: &str = "it was rejected; its caller, or its dead letter, has the reason";

/// A message as it goes into the journal.
pub(crate) struct ReadMessage {
    pub(crate) entries: Vec<Entry>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) acknowledgement: Acknowledgement,
    pub(crate) positions: Vec<PositionChange>,
    /// Where its caller asked, what is made of it.
    pub(crate) asked: Option<Arc<Asked>>,
    /// Its events that are recorded in traces, by the places of their entries.
    pub(crate) traced: Vec<(usize, Box<Receiving>)>,
    /// When it came.
    pub(crate) arrived: Instant,
}

impl ReadMessage {
    /// A trace that is recorded of it.
    pub(super) fn trace_id(&self) -> Option<TraceId> {
        self.traced.first().map(|(_, first)| first.trace_id())
    }
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
            keyed: None,
            retention: None,
            matcher,
            waiting: Arc::default(),
        }
    }

    /// Takes events of one key for duplicates.
    #[must_use]
    pub fn deduplicating(self, keyed: Option<Deduplicate>) -> Self {
        Self { keyed, ..self }
    }

    /// Has events kept for this time, in the place of the journal's retention.
    #[must_use]
    pub fn retaining(self, retention: Option<Duration>) -> Self {
        Self { retention, ..self }
    }

    /// Lets callers wait for the ends of the tasks that they make.
    #[must_use]
    pub fn waiting(self, waiting: Arc<Waiting>) -> Self {
        Self { waiting, ..self }
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

    /// The rules in force.
    pub(crate) fn router(&self) -> &Arc<ArcSwap<Router>> {
        self.matcher.router()
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
            mut acknowledgement,
            positions,
        } = message;
        let arrived = Instant::now();
        let (asked, sender) = match &acknowledgement {
            Acknowledgement::Inquiry(inquiry) => {
                let waiting = inquiry.waits.then(|| Arc::clone(&self.waiting));
                (Some(Asked::new(waiting)), inquiry.sender)
            }
            _ => (None, None),
        };
        let is_batch = arrivals.len() > 1;
        let mut entries = Vec::with_capacity(arrivals.len());
        let mut traced = Vec::new();
        for (index, arrival) in arrivals.into_iter().enumerate() {
            let (entry, receiving) = self.entry(arrival, sender);
            match (entry, acknowledgement) {
                (Ok(mut entry), waits) => {
                    acknowledgement = waits;
                    if self.retention.is_some() {
                        let terms = entry.terms.get_or_insert_default();
                        terms.retention.get_or_insert_default().instead = self.retention;
                    }
                    if let Some(asked) = &asked {
                        let terms = entry.terms.get_or_insert_default();
                        terms.watch = Some(asked.watch(entries.len()));
                    }
                    if let Some(mut receiving) = receiving {
                        receiving.matched(entry.deliveries.len());
                        traced.push((entries.len(), receiving));
                    }
                    entries.push(entry);
                }
                // A caller who waits can mend what he sends, so nothing is kept for him.
                (Err(not_taken), Acknowledgement::Caller(caller, _held)) if !not_taken.is_kept => {
                    drop(caller.send(self.rejected(not_taken, is_batch.then_some(index))));
                    return None;
                }
                (Err(not_taken), Acknowledgement::Inquiry(inquiry)) if !not_taken.is_kept => {
                    let rejected = self.rejected(not_taken, is_batch.then_some(index));
                    drop(inquiry.caller.send(Err(rejected)));
                    return None;
                }
                // Everybody else would hand the same over again for ever: it becomes a dead letter
                // of the source, and the message is taken.
                (Err(not_taken), waits) => {
                    acknowledgement = waits;
                    rejects.push(not_taken.reject);
                }
            }
        }
        Some(ReadMessage {
            entries,
            rejects,
            acknowledgement,
            positions,
            asked,
            traced,
            arrived,
        })
    }

    /// Makes an entry of what arrived, and notes it for a trace that it is recorded in.
    fn entry(
        &mut self,
        arrival: Arrival,
        sender: Option<u64>,
    ) -> (Result<Entry, NotTaken>, Option<Box<Receiving>>) {
        let event = match arrival {
            Arrival::Event(event) => Ok(event),
            Arrival::Plain(plain) => self.map(*plain).map(Arc::new),
        };
        let mut receiving = None;
        let entry = event.map_err(NotTaken::from).and_then(|event| {
            let (tenant, origin) = (&self.tenant, &self.origin);
            let traces = &self.metrics.traces;
            let (event, begun) = traces.receive(tenant, origin, event);
            receiving = begun;
            self.matcher.entry(tenant, origin, event, self.deduplicate)
        });
        let entry = entry.and_then(|entry| Ok(self.with_keys(entry, sender)?));
        if let (Err(_), Some(receiving)) = (&entry, &receiving) {
            let received = Received {
                refused: Some(REJECTED),
                ..Received::default()
            };
            self.metrics.traces.received(receiving, received);
        }
        (entry, receiving)
    }

    /// What a caller is told of an event that is not taken in, and which one of several it is.
    fn rejected(&self, not_taken: NotTaken, event: Option<usize>) -> Verdict {
        self.metrics.rejects.inc();
        let NotTaken { reject, .. } = not_taken;
        let reason = match event {
            Some(index) => format!("event {index} of the batch: {}", reject.reason),
            None => reject.reason,
        };
        Verdict::Rejected { reason, event }
    }

    /// Adds what the event is known by, beside its rules' keys.
    fn with_keys(&self, mut entry: Entry, sender: Option<u64>) -> Result<Entry, Reject> {
        let id = task_id(&entry.event).map_err(|error| Reject {
            raw: encode_structured(&entry.event).1,
            reason: format!("`{TASK_ID}`: {error}"),
        })?;
        if id.is_none() && self.keyed.is_none() {
            return Ok(entry);
        }
        let (tenant, origin) = (&self.tenant, &self.origin);
        let sender = sender.map_or_else(String::new, |sender| format!("{sender:016x}"));
        let mut keys = Vec::new();
        keys.extend(id.map(|id| {
            Key {
                identity: Identity::of_task(tenant, origin, &sender, &id),
                window: self
                    .keyed
                    .as_ref()
                    .map_or(DEDUPLICATION_WINDOW, |keyed| keyed.window),
                guards: Guards::Task,
            }
        }));
        if let Some(keyed) = &self.keyed {
            match keyed.key(&entry.event) {
                None => drop(self.matcher.counters().without_key.inc()),
                Some(key) => keys.push(Key {
                    identity: Identity::of_source(tenant, origin, &sender, &key),
                    window: keyed.window,
                    guards: Guards::Event,
                }),
            }
        }
        let terms = entry.terms.get_or_insert_default();
        terms.keys.append(&mut keys);
        Ok(entry)
    }

    /// Makes an event of what is none. Only where that fails the root is written as text, for the
    /// dead letter.
    fn map(&self, plain: Plain) -> Result<Event, Reject> {
        let Plain { fields, defaults } = plain;
        let data = defaults.data_ref().cloned();
        let body = data.as_ref().map_or(Node::Json(b"null"), body);
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_str(), Node::Value(value)));
        let root = Document::fields(iter::once(("body", body)).chain(fields).collect());
        let mapped = match &self.mapping {
            None => Ok(defaults),
            Some(mapping) => mapping.apply(&root, defaults),
        };
        let event = mapped
            .map_err(|error| error.to_string())
            .and_then(|event| event.build().map_err(|error| error.to_string()));
        event.map_err(|reason| {
            let mut raw = Vec::new();
            Node::Root(&root).write_json(&mut raw);
            Reject {
                raw: raw.into(),
                reason,
            }
        })
    }
}

fn body(data: &Data) -> Node<'_> {
    match (data.kind(), std::str::from_utf8(data.bytes())) {
        (DataKind::Json, Ok(text)) => Node::Json(text.trim_ascii().as_bytes()),
        (_, Ok(text)) => Node::Text(text),
        (_, Err(_)) => Node::Binary(data.bytes()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pointsman_rules::transform::RawMapping;
    use pointsman_schemas::Timestamp;
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};

    use super::*;
    use crate::router::testing::{matcher, shared};
    use crate::telemetry::Metrics;

    fn reader(mapping: Value) -> MessageReader {
        let raw: RawMapping = serde_json::from_value(mapping).unwrap();
        let metrics = Metrics::new(&mut Registry::default(), Timestamp(0));
        let (tenant, origin) = (Name::default_tenant(), Name::ingress());
        let metrics = metrics.source(&tenant, &origin);
        MessageReader::new(tenant, origin, matcher(&shared(vec![])), metrics)
            .mapping(Some(EventMapping::compile(&raw).unwrap()))
    }

    fn plain(id: &str, data: impl Into<Option<Data>>) -> Plain {
        let fields = Plain::fields([("headers", json!({ "x-a": "1" })), ("sequence", 42.into())]);
        let defaults = Event::builder(id, "/s", "t").data(data);
        Plain { fields, defaults }
    }

    #[test]
    fn a_mapping_sees_the_data_as_the_body_and_the_fields_beside_it() {
        let all =
            json!({ "subject": "<$.headers['x-a']>-<$.sequence>", "data": { "body": "<$.body>" } });
        let json_data = |text: &'static [u8]| Data::json(Bytes::from_static(text)).unwrap();
        let table = [
            (
                Some(json_data(b" {\"n\":12345678901234567890123,\"n\":1.10}\n")),
                r#"{"n":12345678901234567890123,"n":1.10}"#,
            ),
            (Some(json_data(b"\"a\"")), r#""a""#),
            (Some(Data::text("a\"b".into())), r#""a\"b""#),
            (
                Some(Data::binary(Bytes::from_static(b"plain"))),
                r#""plain""#,
            ),
            (
                Some(Data::binary(Bytes::from_static(b"\xff\xfe"))),
                r#""//4=""#,
            ),
        ];
        for (data, body) in table {
            let event = reader(all.clone()).map(plain("1", data)).unwrap();
            assert_eq!(event.subject(), Some("1-42"));
            let made = std::str::from_utf8(event.data().unwrap().bytes()).unwrap();
            assert_eq!(made, format!("{{\"body\":{body}}}"));
        }
        let nothing = json!({ "data": { "is": "<$.body>" } });
        let event = reader(nothing).map(plain("1", None)).unwrap();
        assert_eq!(&event.data().unwrap().bytes()[..], br#"{"is":null}"#);
    }

    #[test]
    fn what_cannot_be_mapped_is_kept_as_the_mapping_saw_it() {
        let reader = reader(json!({ "subject": "<$.sequence>" }));
        let data = Data::json(Bytes::from_static(br#"{"a":1,"a":2}"#)).unwrap();
        let reject = reader.map(plain("", data)).unwrap_err();
        assert!(reject.reason.contains("\"id\""), "{}", reject.reason);
        assert_eq!(
            std::str::from_utf8(&reject.raw).unwrap(),
            r#"{"body":{"a":1,"a":2},"headers":{"x-a":"1"},"sequence":42}"#
        );
    }
}
