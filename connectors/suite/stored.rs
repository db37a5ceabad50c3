//! What is stored of a source, as the journal keeps it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::{Cursor, Name, PositionChange, PositionRow, SystemClock};

use crate::listener::Routes;
use crate::{Batch, Link, SourceContext, StoredPositions};

/// Cursor and rows of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
}

impl From<Option<Cursor>> for Stored {
    fn from(cursor: Option<Cursor>) -> Self {
        Self {
            cursor,
            rows: BTreeMap::new(),
        }
    }
}

impl Stored {
    /// Stores what a batch says, as one that is stored whole.
    pub(crate) fn store(&mut self, batch: &Batch) {
        for message in &batch.messages {
            self.change(&message.positions);
        }
        self.cursor = batch.cursor.clone().or(self.cursor.take());
    }

    /// Changes rows.
    pub(crate) fn change(&mut self, changes: &[PositionChange]) {
        for change in changes {
            match &change.value {
                Some(value) => drop(self.rows.insert(change.key.clone(), value.clone())),
                None => drop(self.rows.remove(&change.key)),
            }
        }
    }

    /// What a source is handed that opens with this.
    pub(crate) fn context(&self) -> SourceContext {
        let (name, clock) = (Name::new("suite").unwrap(), Arc::new(SystemClock));
        SourceContext {
            name: name.clone(),
            tenant: Name::default_tenant(),
            cursor: self.cursor.clone(),
            positions: self.positions(),
            mapped: false,
            clock: clock.clone(),
            alarms: crate::Alarms::new(clock.clone()),
            routes: Routes::default(),
            link: Link::new(name, clock),
        }
    }

    /// The rows, for a source that opens.
    pub(crate) fn positions(&self) -> Arc<dyn StoredPositions> {
        Arc::new(Rows(self.rows.clone()))
    }
}

#[derive(Debug)]
struct Rows(BTreeMap<Bytes, Bytes>);

#[async_trait]
impl StoredPositions for Rows {
    async fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<PositionRow>, String> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.0.range::<[u8], _>((from, Bound::Unbounded));
        let row = |(key, value): (&Bytes, &Bytes)| PositionRow {
            key: key.clone(),
            value: value.clone(),
        };
        Ok(rows.take(limit).map(row).collect())
    }
}
