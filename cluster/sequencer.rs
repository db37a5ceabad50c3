//! How the owner's commits come into the log, each in its place or not at all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use pointsman_journal::disk::{Commit, CommitLog, Refused};
use pointsman_log::{Log, LogError, Next, Place, Shard};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fold::{Fold, Verdict};
use crate::heart::{Doing, Heart};
use crate::record::{CHANGES_BYTES_MAX, Changes, Owner, Part, VERSION_PACKED, What};

/// How long to wait for records that are there and have not been read yet, before the append is
/// tried once more.
const READING: Duration = Duration::from_secs(5);

/// A numbered record that is still to be numbered.
enum Draft {
    Walk,
    Part(Part),
}

/// Appends for the owner of a log, for as long as it is that.
///
/// Places have no holes: a record whose place is the one behind the last that is known follows it,
/// and holds. Where there is something in between, that is read: it may be a copy, or a claim.
pub(crate) struct Sequencer {
    log: Arc<dyn Log>,
    shard: Shard,
    owner: Owner,
    fold: Fold,
    heart: Arc<Heart>,
    /// Where the node says how far it has come.
    told: Arc<Doing>,
    /// What is left of a commit to be appended, the next one first.
    drafts: VecDeque<Draft>,
    /// The next one's bytes, where it may have been appended already.
    unsure: Option<Bytes>,
    /// Ends the ownership, for whatever reason.
    ended: CancellationToken,
    /// Why it has ended, where that was found out here.
    why: Option<String>,
}

impl Sequencer {
    /// Goes on where a fold has come to that says that `owner` owns the log.
    pub(crate) fn new(
        log: Arc<dyn Log>,
        shard: Shard,
        owner: Owner,
        mut fold: Fold,
        heart: Arc<Heart>,
        ended: CancellationToken,
    ) -> Self {
        fold.own();
        Self {
            log,
            shard,
            owner,
            fold,
            told: heart.doing(shard),
            heart,
            drafts: VecDeque::new(),
            unsure: None,
            ended,
            why: None,
        }
    }

    pub(crate) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Why the ownership has ended, as far as that was found out by appending.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Appends a commit.
    ///
    /// Cancel-safe in so far as [`Sequencer::resume`] goes on with it.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn append(&mut self, commit: &Commit) -> Result<Bytes, Refused> {
        self.drafts.clear();
        if commit.begins_carry {
            self.drafts.push_back(Draft::Walk);
        }
        let count = commit.changes.len().div_ceil(CHANGES_BYTES_MAX).max(1);
        let packs = self.heart.all_read(VERSION_PACKED);
        for at in 0..count {
            let from = at * CHANGES_BYTES_MAX;
            let to = commit.changes.len().min(from + CHANGES_BYTES_MAX);
            let changes = commit.changes.slice(from..to);
            self.drafts.push_back(Draft::Part(Part {
                format: commit.format,
                is_first: at == 0,
                is_last: at + 1 == count,
                ends_walk: commit.ends_carry,
                changes: match packs {
                    true => Changes::pack(changes),
                    false => Changes::Plain(changes),
                },
            }));
        }
        self.resume().await
    }

    /// Goes on with the commit that has not come to an end.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn resume(&mut self) -> Result<Bytes, Refused> {
        while let Some(draft) = self.drafts.front() {
            let was_unsure = self.unsure.is_some();
            let record = match self.unsure.clone() {
                Some(record) => record,
                None => {
                    let at = self.fold.next();
                    let what = match draft {
                        Draft::Walk => What::Walk {
                            at,
                            owner: self.owner.clone(),
                        },
                        Draft::Part(part) => What::Commit {
                            at,
                            part: part.clone(),
                        },
                    };
                    what.encode(self.fold.epoch())
                }
            };
            match self.place(record, was_unsure).await {
                Ok(()) => drop(self.drafts.pop_front()),
                Err(refused) => {
                    if !matches!(refused, Refused::Unknown(_)) {
                        self.drafts.clear();
                    }
                    return Err(refused);
                }
            }
        }
        Ok(self.fold.mark())
    }

    /// Says that this owner has stopped, so that another node need not wait.
    pub(crate) async fn release(&mut self) -> Result<(), LogError> {
        let release = What::Release.encode(self.fold.epoch());
        self.log.append(self.shard, release).await.map(drop)
    }

    /// Appends one record, and makes sure that it holds.
    async fn place(&mut self, record: Bytes, was_unsure: bool) -> Result<(), Refused> {
        // Until it is certain that it is nowhere, it may be somewhere.
        self.unsure = Some(record.clone());
        let ended = self.ended.clone();
        let appended = tokio::select! {
            biased;
            () = ended.cancelled() => return Err(self.end("this node has given the store up")),
            appended = self.log.append(self.shard, record.clone()) => appended,
        };
        match appended {
            Ok(place) => self.confirm(place, &record).await,
            Err(error) if error.is_unknown() || was_unsure => {
                Err(Refused::Unknown(error.to_string()))
            }
            Err(error) => {
                self.unsure = None;
                Err(Refused::NotAppended(error.to_string()))
            }
        }
    }

    /// Judges everything up to the place of a record that was appended, which must hold by then.
    async fn confirm(&mut self, place: Place, record: &Bytes) -> Result<(), Refused> {
        let mut holds = false;
        if place == self.fold.place().next() {
            holds = self.judge(place, record)?;
        } else {
            let mut follower = self.log.follow(self.shard, self.fold.place());
            while self.fold.place() < place {
                let ended = self.ended.clone();
                let next = tokio::select! {
                    biased;
                    () = ended.cancelled() => return Err(self.end("this node has given the store up")),
                    next = timeout(READING, follower.next()) => next,
                };
                match next {
                    Err(_) => {
                        let why = "the records before it cannot be read".to_owned();
                        return Err(Refused::Unknown(why));
                    }
                    Ok(Some(Ok(Next::Record { place, body }))) => {
                        let is_held = self.judge(place, &body)?;
                        holds |= is_held && body == *record;
                    }
                    Ok(Some(Ok(Next::Trimmed { first }))) => {
                        return Err(self.end(&format!(
                            "the log was trimmed up to {first} by somebody else"
                        )));
                    }
                    Ok(Some(Err(error))) => return Err(self.end(&error.to_string())),
                    Ok(None) => return Err(self.end("the log can be read no further")),
                }
            }
        }
        let is_mine = |owner: &Owner| owner.incarnation == self.owner.incarnation;
        if !self.fold.owner().is_some_and(is_mine) {
            return Err(self.end("another node has taken over"));
        }
        if !holds {
            return Err(self.end("a commit of its own is void in the log"));
        }
        self.unsure = None;
        self.told
            .place
            .store(self.fold.place().0, Ordering::Relaxed);
        Ok(())
    }

    fn judge(&mut self, place: Place, record: &Bytes) -> Result<bool, Refused> {
        match self.fold.judge(place, record) {
            Ok(Verdict::Commit(_) | Verdict::Holds) => Ok(true),
            Ok(Verdict::Void) => Ok(false),
            Err(broken) => Err(self.end(&broken.to_string())),
        }
    }

    /// Ends the ownership.
    pub(crate) fn end(&mut self, why: &str) -> Refused {
        if !self.ended.is_cancelled() {
            self.why = Some(why.to_owned());
        }
        self.ended.cancel();
        Refused::Ended(self.why.clone().unwrap_or_else(|| why.to_owned()))
    }
}

/// The owner's log as its store's writer sees it.
pub(crate) struct Appender {
    pub(crate) sequencer: Arc<Mutex<Sequencer>>,
    pub(crate) runtime: Handle,
}

impl CommitLog for Appender {
    fn append(&mut self, commit: &Commit) -> Result<Bytes, Refused> {
        let append = async { self.sequencer.lock().await.append(commit).await };
        self.runtime.block_on(append)
    }

    fn resume(&mut self) -> Result<Bytes, Refused> {
        let resume = async { self.sequencer.lock().await.resume().await };
        self.runtime.block_on(resume)
    }

    fn failed(&mut self, why: &str) {
        self.sequencer.blocking_lock().end(why);
    }
}
