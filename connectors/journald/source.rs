//! An open source: `journalctl`, read line by line.

use async_trait::async_trait;
use pointsman_schemas::Cursor;

use super::entry::{LINE_BYTES_MAX, Mapper};
use super::settings::Reading;
use crate::process::{Lines, Run};
use crate::{Batch, OpenError, Source, SourceContext, SourceError};

/// How many entries a batch holds at most; of bytes it holds what is read at once, and one line.
pub(super) const BATCH_ENTRIES_MAX: usize = 1_000;

/// A journal that is followed.
pub(super) struct Journal {
    lines: Lines,
    mapper: Mapper,
    /// Where it begins, which has yet to be stored: so that what comes while nothing runs is not
    /// skipped at the next start.
    begins: Option<Cursor>,
    run: Result<Run, SourceError>,
}

impl Journal {
    /// Begins behind an entry, or at the beginning.
    pub(super) fn open(
        reading: Reading,
        mapper: Mapper,
        behind: Result<Option<String>, SourceError>,
        context: &SourceContext,
    ) -> Result<Self, OpenError> {
        let mut begins = None;
        let run = match behind {
            Err(refused) => Err(refused),
            Ok(behind) => {
                let command = reading.follow(behind.as_deref());
                let run = Run::start(command, &context.name);
                let run = run.map_err(|error| reading.unstarted(&error))?;
                begins = behind.map(|cursor| mapper.origin.behind(cursor));
                Ok(run)
            }
        };
        Ok(Self {
            lines: Lines::new(LINE_BYTES_MAX),
            mapper,
            begins: begins.filter(|_| context.cursor.is_none()),
            run,
        })
    }

    /// A batch of the lines that are there; none where there is none.
    fn batch(&mut self) -> Option<Batch> {
        let mut batch = Batch {
            messages: Vec::new(),
            cursor: self.begins.take(),
        };
        while batch.messages.len() < BATCH_ENTRIES_MAX {
            let Some(line) = self.lines.next() else { break };
            if let Some((message, behind)) = self.mapper.read(line) {
                batch.messages.push(message);
                batch.cursor = behind.or(batch.cursor);
            }
        }
        (!batch.messages.is_empty() || batch.cursor.is_some()).then_some(batch)
    }
}

#[async_trait]
impl Source for Journal {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            if let Some(batch) = self.batch() {
                return Ok(batch);
            }
            let run = self.run.as_mut().map_err(|refused| refused.clone())?;
            if !run.read(&mut self.lines).await {
                // What stands behind its last line break is printed again.
                let how = run.ended().await.how;
                let message = format!("journalctl has ended: it {how}");
                return Err(SourceError::Unavailable(message));
            }
        }
    }
}
