//! What the records of a log come to: who owns it, and which commits hold.
//!
//! Every node judges the same records in the same order by these rules, without a clock and without
//! anything else, so that all come to the same:
//!
//! 1. A **claim** holds where its epoch is the next one. From there on its node owns the log, its
//!    numbers begin at 1, and an unfinished commit before it is void.
//! 2. A **release** holds where its epoch is the current one: then nobody owns the log.
//! 3. A **commit** (or the beginning of a walk) holds where its epoch is the current one and its
//!    number the next. One with a smaller number is a copy, and one of another epoch comes too
//!    late: both are void. A larger number, or a chain that does not fit, says that the engine has
//!    lost or altered records: nothing behind it can be gone by.
//!
//! A store that begins in the middle of a log begins with a **walk**: from its first record to its
//! end every row that the owner's store has is put once more.

use bytes::{Bytes, BytesMut};
use pointsman_journal::disk::Commit;
use pointsman_log::Place;
use serde::{Deserialize, Serialize};

use crate::record::{Numbered, Owner, Part, Record, Unreadable, What};

/// What the records up to a place come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The last record that was judged.
    place: u64,
    epoch: u64,
    /// The number and the CRC of the last numbered record that holds.
    number: u64,
    chain: u32,
    owner: Option<Owner>,
    /// Who owned it before and may still act: since then nobody has appended anything, which takes
    /// that all of them have stopped.
    before: Vec<Owner>,
    /// Where the walk under way began.
    walk: Option<u64>,
    /// Where the last walk began that has ended.
    walked: Option<u64>,
    /// Bytes of the log since the one and since the other.
    walk_bytes: u64,
    walked_bytes: u64,
    /// Nothing is known but the place: the next record has to begin a walk.
    is_blank: bool,
    /// The store has every row.
    is_complete: bool,
    /// The store is the owner's own, in this epoch.
    is_own: bool,
    /// The format of the last commit.
    #[serde(default)]
    format: u16,
}

/// What a record comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A commit to be applied; without its changes where whoever judges has written it.
    Commit(Commit),
    /// It holds, and there is nothing to apply.
    Holds,
    /// It does not hold.
    Void,
}

/// The log cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The engine has lost or altered records.
    #[error(
        "record {0} of the log does not follow the one before it: the engine has lost or altered \
         records"
    )]
    Chain(u64),
    /// The engine has altered a record.
    #[error("record {0} of the log is damaged")]
    Damaged(u64),
    /// Somebody has removed records that are needed.
    #[error("the log begins at record {0}, where no store can begin")]
    Beginning(u64),
    /// A later version has written it.
    #[error(
        "record {0} of the log was written by a later version of pointsman, which this one does \
         not understand; run that version here too"
    )]
    Later(u64),
}

/// How far a store has come in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last record.
    pub place: u64,
    /// The epoch of the ownership that it says.
    pub epoch: u64,
    /// Whether the store has every row.
    pub is_complete: bool,
}

impl Progress {
    /// What the mark of a store says; none where it cannot be read.
    #[must_use]
    pub fn of(mark: &[u8]) -> Option<Self> {
        let state = Fold::resume(mark)?.state;
        Some(Self {
            place: state.place,
            epoch: state.epoch,
            is_complete: state.is_complete,
        })
    }
}

/// Judges records one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fold {
    state: State,
    /// The state before the first part of an unfinished commit, and its parts.
    unfinished: Option<(State, Vec<Bytes>)>,
    /// What is in commits is not wanted: whoever judges them has written them.
    is_writer: bool,
}

impl Fold {
    /// One that goes on where a mark was made; none where that is not readable.
    pub(crate) fn resume(mark: &[u8]) -> Option<Self> {
        let state = serde_json::from_slice(mark).ok()?;
        Some(Self {
            state,
            unfinished: None,
            is_writer: false,
        })
    }

    /// One of an empty store, before the record at `first`, behind others that are trimmed.
    pub(crate) fn blank_before(first: Place) -> Self {
        let state = State {
            place: first.0.saturating_sub(1),
            is_blank: true,
            ..State::default()
        };
        Self {
            state,
            unfinished: None,
            is_writer: false,
        }
    }

    /// What a store keeps with all that has been applied so far.
    pub(crate) fn mark(&self) -> Bytes {
        let before = self.unfinished.as_ref().map(|(before, _)| before);
        // It has nothing that JSON could not say.
        serde_json::to_vec(before.unwrap_or(&self.state))
            .unwrap_or_default()
            .into()
    }

    pub(crate) fn place(&self) -> Place {
        Place(self.state.place)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.state.epoch
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.state.owner.as_ref()
    }

    /// Who owned the log before, and may not know that that is over.
    pub(crate) fn before(&self) -> &[Owner] {
        &self.state.before
    }

    /// Whether the store has everything that the log has come to.
    pub(crate) fn is_complete(&self) -> bool {
        self.state.is_complete
    }

    /// Whether the store is the journal of whoever owns the log now.
    pub(crate) fn is_own(&self) -> bool {
        self.state.is_own
    }

    /// The format of the last commit: 0 where there was none.
    pub(crate) fn format(&self) -> u16 {
        self.state.format
    }

    /// Whether no walk has ever ended: nothing in the log has been acknowledged to anybody, as the
    /// first owner serves nobody before its first walk has ended.
    pub(crate) fn is_unborn(&self) -> bool {
        self.state.walked.is_none() && !self.state.is_blank && !self.state.is_complete
    }

    /// Whether a walk has ended, so that other stores can begin.
    pub(crate) fn has_walked(&self) -> bool {
        self.state.walked.is_some()
    }

    /// Where the last walk began that has ended: what lies before it can be trimmed.
    pub(crate) fn walked(&self) -> Option<Place> {
        self.state.walked.map(Place)
    }

    /// Bytes of the log since then, or since its beginning.
    pub(crate) fn bytes_since_walked(&self) -> u64 {
        self.state.walked_bytes
    }

    /// What the next numbered record says.
    pub(crate) fn next(&self) -> Numbered {
        Numbered {
            number: self.state.number + 1,
            chain: self.state.chain,
        }
    }

    /// The store becomes the journal of the owner, with everything in it: that a commit holds is all
    /// that is told of it from here on.
    pub(crate) fn own(&mut self) {
        self.is_writer = true;
        (self.state.is_own, self.state.is_complete) = (true, true);
    }

    /// Judges the record at the next place.
    pub(crate) fn judge(&mut self, place: Place, body: &Bytes) -> Result<Verdict, Broken> {
        let record = Record::decode(body).map_err(|unreadable| match unreadable {
            Unreadable::Damaged => Broken::Damaged(place.0),
            Unreadable::Later => Broken::Later(place.0),
        })?;
        let bytes = body.len() as u64;
        if self.state.is_blank {
            let What::Walk { at, owner } = record.what else {
                return Err(Broken::Beginning(place.0));
            };
            self.state = State {
                place: place.0,
                epoch: record.epoch,
                number: at.number,
                chain: record.check,
                owner: Some(owner),
                walk: Some(place.0),
                walk_bytes: bytes,
                walked_bytes: bytes,
                ..State::default()
            };
            return Ok(Verdict::Holds);
        }
        let before = matches!(&record.what, What::Commit { part, .. } if part.is_first)
            .then(|| self.state.clone());
        self.state.place = place.0;
        self.state.walked_bytes += bytes;
        self.state.walk_bytes += bytes;
        let state = &mut self.state;
        match record.what {
            What::Claim(owner) if record.epoch == state.epoch + 1 => {
                (state.epoch, state.number, state.walk) = (record.epoch, 0, None);
                let before = state.owner.replace(owner);
                state.before.extend(before);
                state.is_own = false;
                self.unfinished = None;
                Ok(Verdict::Holds)
            }
            What::Release if record.epoch == state.epoch && state.owner.is_some() => {
                (state.owner, state.walk, state.is_own) = (None, None, false);
                state.before.clear();
                self.unfinished = None;
                Ok(Verdict::Holds)
            }
            What::Claim(_) | What::Release => Ok(Verdict::Void),
            What::Walk { at, .. } => {
                if !self.follows(record.epoch, at, record.check)? {
                    return Ok(Verdict::Void);
                }
                (self.state.walk, self.state.walk_bytes) = (Some(place.0), bytes);
                self.unfinished = None;
                Ok(Verdict::Holds)
            }
            What::Commit { at, part } => {
                if !self.follows(record.epoch, at, record.check)? {
                    return Ok(Verdict::Void);
                }
                self.gather(place, part, before)
            }
        }
    }

    /// Whether a numbered record holds; then it is the last one.
    fn follows(&mut self, epoch: u64, at: Numbered, check: u32) -> Result<bool, Broken> {
        let next = self.next();
        let state = &mut self.state;
        if epoch != state.epoch || state.owner.is_none() || at.number < next.number {
            return Ok(false);
        }
        if at != next {
            return Err(Broken::Chain(state.place));
        }
        (state.number, state.chain) = (at.number, check);
        state.before.clear();
        Ok(true)
    }

    /// Takes a part of a commit, which may make it whole.
    fn gather(
        &mut self,
        place: Place,
        part: Part,
        before: Option<State>,
    ) -> Result<Verdict, Broken> {
        let Part {
            format,
            is_last,
            ends_walk,
            changes,
            ..
        } = part;
        // The first one begins anew: what its owner had begun before came to nothing.
        let (before, mut parts) = match before {
            Some(before) => (before, Vec::new()),
            None => self.unfinished.take().ok_or(Broken::Chain(place.0))?,
        };
        let changes = match self.is_writer {
            true => Bytes::new(),
            false => changes.unpack().map_err(|_| Broken::Damaged(place.0))?,
        };
        if !is_last {
            parts.push(changes);
            self.unfinished = Some((before, parts));
            return Ok(Verdict::Holds);
        }
        self.unfinished = None;
        self.state.format = format;
        if ends_walk && let Some(walk) = self.state.walk.take() {
            self.state.walked = Some(walk);
            self.state.walked_bytes = self.state.walk_bytes;
            self.state.is_complete = true;
        }
        let changes = if parts.is_empty() {
            changes
        } else {
            parts.push(changes);
            let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            for part in &parts {
                whole.extend_from_slice(part);
            }
            whole.freeze()
        };
        Ok(Verdict::Commit(Commit {
            format,
            begins_carry: false,
            ends_carry: ends_walk,
            changes,
        }))
    }
}

#[cfg(test)]
mod tests;
