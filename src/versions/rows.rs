//! Where the versions of the rules are kept: in the journal of the first shard, as the position of a
//! source that nobody runs.
//!
//! | key | what |
//! |---|---|
//! | `a` | [`Kept`], which the shard's owner alone changes |
//! | `b` | how many shards each tenant has ([`TenantShards`]), which changes with it |
//! | `f` id row | a part of the files of a proposal |
//! | `p` time id | a proposal that waits to be looked at |
//! | `q` number node | a node that refuses a version |
//!
//! Any node may add the last two, and the owner removes them with what it makes of them, in one
//! append: so each counts once, whoever owns the shard meanwhile.

use bytes::Bytes;
use pointsman_journal::sharded::TenantShards;
use pointsman_journal::sharded::tenants::{CLUSTER, RULE_VERSIONS, TENANT_SHARDS};
use pointsman_journal::{JournalError, Shard};
use pointsman_schemas::{Name, PositionChange, PositionRow};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::kept::{Inbox, Kept, Objection, Proposal};
use crate::config::RuleFiles;

/// How large the files of a version may be in all: what one rule file may.
pub const FILES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of the files are in one row.
const ROW_BYTES: usize = 128 * 1024;

/// How many rows are read at once.
const PAGE: usize = 32;

const KEPT: &[u8] = b"a";
const FILES: u8 = b'f';
const PROPOSAL: u8 = b'p';
const OBJECTION: u8 = b'q';

/// The journal that keeps them, or the way to it.
pub struct Rows<'s>(pub &'s dyn Shard);

impl Rows<'_> {
    /// What is kept.
    ///
    /// # Errors
    /// As [`Journal::positions`](pointsman_journal::Journal::positions), and where it makes no sense.
    pub async fn kept(&self) -> Result<Kept, JournalError> {
        let rows = self.page(None, 2).await?;
        let row = |key: &[u8]| rows.iter().find(|row| row.key == key);
        let mut kept: Kept = row(KEPT).map_or_else(|| Ok(Kept::default()), read)?;
        if let Some(row) = row(TENANT_SHARDS) {
            kept.shards = TenantShards::decode(&row.value).map_err(|error| damaged(&error))?;
        }
        Ok(kept)
    }

    /// What waits to be looked at.
    ///
    /// # Errors
    /// As [`Rows::kept`].
    pub async fn inbox(&self) -> Result<(Inbox, Vec<Bytes>), JournalError> {
        let (mut inbox, mut keys) = (Inbox::default(), Vec::new());
        for row in self.page(Some(&[PROPOSAL]), PAGE).await? {
            match row.key.first() {
                Some(&PROPOSAL) => inbox.proposals.push(read(&row)?),
                _ => inbox.objections.push(read(&row)?),
            }
            keys.push(row.key);
        }
        Ok((inbox, keys))
    }

    /// Keeps files with their proposal, all or nothing.
    ///
    /// # Errors
    /// As [`Journal::append`](pointsman_journal::Journal::append).
    pub async fn propose(&self, proposal: Proposal, files: &RuleFiles) -> Result<(), JournalError> {
        let text = write(files)?;
        let rows = (0..).zip(text.chunks(ROW_BYTES));
        let rows = rows.map(|(row, part)| PositionChange {
            key: file_key(&proposal.id, row),
            value: Some(Bytes::copy_from_slice(part)),
        });
        let mut changes: Vec<_> = rows.collect();
        let rows = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        let proposal = Proposal { rows, ..proposal };
        let mut key = vec![PROPOSAL];
        key.extend(proposal.at.0.to_be_bytes());
        key.extend(proposal.id.as_bytes());
        changes.push(PositionChange {
            key: key.into(),
            value: Some(write(&proposal)?.into()),
        });
        self.change(changes).await
    }

    /// Says that a node cannot work with a version.
    ///
    /// # Errors
    /// As [`Rows::propose`].
    pub async fn object(&self, objection: &Objection) -> Result<(), JournalError> {
        let mut key = vec![OBJECTION];
        key.extend(objection.number.to_be_bytes());
        key.extend(objection.node.as_str().as_bytes());
        let value = Some(write(objection)?.into());
        let key = key.into();
        self.change(vec![PositionChange { key, value }]).await
    }

    /// Keeps what has become of what was kept, in the place of what was looked at and of the files
    /// of proposals that nobody needs any longer.
    ///
    /// # Errors
    /// As [`Rows::propose`].
    pub async fn record(
        &self,
        kept: &Kept,
        looked_at: Vec<Bytes>,
        dropped: &[Proposal],
    ) -> Result<(), JournalError> {
        let files = dropped.iter().flat_map(|one| {
            let rows = 0..one.rows;
            rows.map(|row| file_key(&one.id, row))
        });
        let gone = looked_at.into_iter().chain(files);
        let mut changes: Vec<_> = gone
            .map(|key| PositionChange { key, value: None })
            .collect();
        let own = [
            (KEPT, write(kept)?.into()),
            (TENANT_SHARDS, kept.shards.encode()),
        ];
        changes.extend(own.map(|(key, value)| PositionChange {
            key: Bytes::from_static(key),
            value: Some(value),
        }));
        self.change(changes).await
    }

    /// The files of a proposal; none where they are not kept any longer.
    ///
    /// # Errors
    /// As [`Rows::kept`].
    pub async fn files(&self, proposal: &Proposal) -> Result<Option<RuleFiles>, JournalError> {
        let (mut text, mut rows) = (Vec::new(), 0);
        let prefix = prefix(&proposal.id);
        let mut after = prefix.clone();
        'pages: while rows < proposal.rows {
            let page = self.page(Some(&after), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.key.to_vec();
            for row in page {
                if rows == proposal.rows || !row.key.starts_with(&prefix) {
                    break 'pages;
                }
                text.extend_from_slice(&row.value);
                rows += 1;
            }
        }
        if rows < proposal.rows {
            return Ok(None);
        }
        let files = serde_json::from_slice(&text);
        files.map(Some).map_err(|error| damaged(&error))
    }

    async fn page(
        &self,
        after: Option<&[u8]>,
        rows: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        let (tenant, source) = keeper()?;
        self.0.positions(&tenant, &source, after, rows).await
    }

    async fn change(&self, changes: Vec<PositionChange>) -> Result<(), JournalError> {
        let (tenant, source) = keeper()?;
        self.0.note(tenant, source, changes).await
    }
}

/// The tenant and the source under which the rows are kept.
fn keeper() -> Result<(Name, Name), JournalError> {
    let name = |text| Name::new(text).map_err(|error| JournalError::Io(error.to_string()));
    Ok((name(CLUSTER)?, name(RULE_VERSIONS)?))
}

fn prefix(id: &str) -> Vec<u8> {
    let mut key = vec![FILES];
    key.extend(id.as_bytes());
    key
}

fn file_key(id: &str, row: u32) -> Bytes {
    let mut key = prefix(id);
    key.extend(row.to_be_bytes());
    key.into()
}

fn read<T: DeserializeOwned>(row: &PositionRow) -> Result<T, JournalError> {
    serde_json::from_slice(&row.value).map_err(|error| damaged(&error))
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, JournalError> {
    serde_json::to_vec(value).map_err(|error| JournalError::Io(error.to_string()))
}

fn damaged(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Damaged(format!(
        "what is kept of the versions of the rules: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_journal::ShardNumber;
    use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
    use pointsman_schemas::Timestamp;

    use super::*;
    use crate::config::RuleFile;

    fn files(text: &str) -> RuleFiles {
        let name = "a.yaml".to_owned();
        let text = text.to_owned();
        RuleFiles(vec![RuleFile {
            name,
            text,
            schema: false,
        }])
    }

    fn proposal(id: u64, at: i64) -> Proposal {
        Proposal {
            id: format!("{id:016x}"),
            hash: String::new(),
            rows: 0,
            by: Name::new("a").unwrap(),
            at: Timestamp(at),
            is_first: false,
            shards: TenantShards::default(),
        }
    }

    #[tokio::test]
    async fn what_is_proposed_is_kept_until_it_has_been_looked_at_and_its_files_as_long_as_needed()
    {
        let clock = Arc::new(RuntimeClock::new(Timestamp(0)));
        let number = ShardNumber::new(0).unwrap();
        let journal = MemoryJournal::shard(clock, MemoryOptions::default(), number);
        let rows = Rows(&*journal);
        assert_eq!(rows.kept().await.unwrap(), Kept::default());
        // Several rows of characters of two bytes, cut anywhere, and of more than one page.
        let long = files(&"é".repeat(ROW_BYTES * (PAGE + 2) / 2));
        rows.propose(proposal(0xff, 2), &long).await.unwrap();
        rows.propose(proposal(0xfe, 3), &files("b")).await.unwrap();
        rows.propose(proposal(0xfd, 1), &files("c")).await.unwrap();
        let objection = Objection {
            number: 7,
            node: Name::new("b").unwrap(),
            why: vec!["no".to_owned()],
        };
        rows.object(&objection).await.unwrap();
        assert_eq!(rows.kept().await.unwrap(), Kept::default());

        let (inbox, looked_at) = rows.inbox().await.unwrap();
        let times: Vec<_> = inbox.proposals.iter().map(|one| one.at.0).collect();
        assert_eq!(
            (times, &inbox.objections),
            (vec![1, 2, 3], &vec![objection])
        );
        for (one, expect) in inbox.proposals.iter().zip([files("c"), long, files("b")]) {
            assert!(rows.files(one).await.unwrap() == Some(expect), "{one:?}");
        }
        let tenants = [Name::default_tenant(), Name::new("acme").unwrap()];
        let kept = Kept {
            revision: 5,
            shards: TenantShards::usual_of(&tenants),
            ..Kept::default()
        };
        let dropped = &inbox.proposals[1..2];
        rows.record(&kept, looked_at, dropped).await.unwrap();
        assert_eq!(rows.kept().await.unwrap(), kept);
        assert!(rows.inbox().await.unwrap().0.is_empty());
        let is_there = async |at: usize| rows.files(&inbox.proposals[at]).await.unwrap().is_some();
        assert_eq!(
            [is_there(0).await, is_there(1).await, is_there(2).await],
            [true, false, true]
        );
    }
}
