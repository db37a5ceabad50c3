//! Batches of what has changed in a folder, with the rows that say so.

use std::collections::HashSet;
use std::ops::Bound;

use bytes::Bytes;
use pointsman_schemas::{Cursor, Data, Event, EventBuilder, InvalidEvent, PositionChange, Reject};
use serde_json::json;
use tokio::time::Instant;

use super::{BATCH_ROWS_MAX, Folder};
use crate::directory::EVENT_TYPE_PREFIX;
use crate::directory::listing::{Key, Version};
use crate::directory::position::{CURSOR, Known};
use crate::readable::{encoded, readable, readable_path};
use crate::{Acknowledgement, Arrival, Batch, Message, Plain};

impl Folder {
    /// Makes a batch of what has changed, and of rows that are owed; none where there is neither.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if let Some(batch) = self.unwritten() {
            return Some(batch);
        }
        let mut messages = Vec::new();
        let mut told = HashSet::new();
        for (key, version) in std::mem::take(&mut self.changed) {
            if told.contains(&key) {
                // Its turn comes with the next batch, if the file is still so.
                self.looks.insert((Instant::now(), key.clone()));
                self.seen.insert(key, Some(version));
            } else if let Some((what, known)) = self.change(&key, version) {
                self.owed.remove(&key);
                let mut message = self.message(&key, what, known);
                message.positions.push(self.position.file_row(&key));
                messages.push(message);
                told.insert(key);
            }
        }
        let rows = self.rows_owed();
        match messages.first_mut() {
            Some(message) => message.positions.extend(rows),
            None if rows.is_empty() => return None,
            None => messages.push(Message::position(rows)),
        }
        let cursor = Some(self.cursor());
        Some(Batch { messages, cursor })
    }

    /// The next of the rows that have to be written before anything is told. The last go with the
    /// cursor that says that there are rows; a start that is cut off before begins anew.
    pub(super) fn unwritten(&mut self) -> Option<Batch> {
        let from = self.unwritten.take()?;
        let files = self.position.files.range((from, Bound::Unbounded));
        let keys = files.map(|(key, _)| key).take(BATCH_ROWS_MAX);
        let mut last = None;
        let mut rows: Vec<_> = keys
            .inspect(|key| last = Some(*key))
            .map(|key| self.position.file_row(key))
            .collect();
        let cursor = if let Some(last) = last.filter(|_| rows.len() == BATCH_ROWS_MAX) {
            self.unwritten = Some(Bound::Excluded(last.clone()));
            None
        } else {
            rows.push(self.folder_row());
            Some(self.cursor())
        };
        let messages = vec![Message::position(rows)];
        Some(Batch { messages, cursor })
    }

    /// Rows that are not as they should be, as many as may go with a batch.
    fn rows_owed(&mut self) -> Vec<PositionChange> {
        let mut rows = Vec::new();
        if self.folder_owed || self.generation != self.position.generation {
            rows.push(self.folder_row());
        }
        while rows.len() < BATCH_ROWS_MAX
            && let Some(key) = self.owed.pop_first()
        {
            rows.push(self.position.file_row(&key));
        }
        rows
    }

    fn folder_row(&mut self) -> PositionChange {
        self.position.generation = self.generation;
        self.folder_owed = false;
        self.position.folder_row()
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            fingerprint: self.setup.fingerprint,
            position: Bytes::from_static(CURSOR),
        }
    }

    /// Takes in what a file is now, and returns what is to be told of it, if anything is.
    fn change(&mut self, key: &Key, version: Option<Version>) -> Option<(&'static str, Known)> {
        let known = self.position.files.get(key).copied();
        let (what, now) = match (known, version) {
            (None, Some(version)) => (
                "created",
                Known {
                    version,
                    generation: self.position.generation,
                },
            ),
            (Some(known), Some(version)) if known.version.differs(version) => (
                "updated",
                Known {
                    version,
                    generation: known.generation.saturating_add(1),
                },
            ),
            (Some(known), None) => {
                self.generation = self.generation.max(known.generation.saturating_add(1));
                self.position.files.remove(key);
                return Some(("deleted", known));
            }
            (Some(known), Some(version)) => {
                if known.version != version {
                    self.position
                        .files
                        .insert(key.clone(), Known { version, ..known });
                    self.owed.insert(key.clone());
                }
                return None;
            }
            (None, None) => return None,
        };
        self.position.files.insert(key.clone(), now);
        Some((what, now))
    }

    fn message(&self, key: &[u8], what: &str, known: Known) -> Message {
        let (arrivals, rejects) = match self.arrival(key, what, known) {
            Ok(arrival) => ([arrival].into_iter().collect(), Vec::new()),
            Err(error) => {
                let reason = format!("the file's name makes no event: {error}");
                (
                    Default::default(),
                    vec![Reject {
                        raw: Bytes::copy_from_slice(key),
                        reason,
                    }],
                )
            }
        };
        Message {
            arrivals,
            rejects,
            acknowledgement: Acknowledgement::None,
            positions: Vec::new(),
        }
    }

    fn arrival(&self, key: &[u8], what: &str, known: Known) -> Result<Arrival, InvalidEvent> {
        let name = &self.setup.context.name;
        let Known {
            version,
            generation,
        } = known;
        let (subject, is_encoded) = readable(key);
        let time = |nanoseconds: i64| {
            jiff::Timestamp::from_nanosecond(nanoseconds.into())
                .unwrap_or_default()
                .to_string()
        };
        let path = readable_path(&self.setup.scope.path(key));
        let mut data = json!({ "key": subject, "path": path, "size": version.size, "modified": time(version.modified) });
        if let (true, Some(data)) = (is_encoded, data.as_object_mut()) {
            data.insert("encoded".into(), true.into());
        }
        let is_deleted = what == "deleted";
        let Version {
            modified,
            changed,
            size,
            inode,
            ..
        } = version;
        let suffix = if is_deleted { "-deleted" } else { "" };
        // Unlike in the subject `%` is always encoded, so that two names never give the same id.
        let id = format!(
            "{}/{modified:x}-{changed:x}-{size:x}-{inode:x}-{generation:x}{suffix}",
            encoded(key)
        );
        let happened = if is_deleted {
            self.setup.context.clock.now().to_string()
        } else {
            time(modified)
        };
        let defaults: EventBuilder = Event::builder(
            id,
            format!("/directories/{name}"),
            format!("{EVENT_TYPE_PREFIX}{what}"),
        )
        .subject(subject)
        .time(happened)
        .datacontenttype("application/json")
        .data(Data::json(Bytes::from(data.to_string()))?);
        let headers = || Plain::fields([("headers", json!({}))]);
        Arrival::made(defaults, self.setup.context.mapped.then(headers))
    }
}
