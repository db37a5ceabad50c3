//! In which opening of the store a delivery was made.
//!
//! Sequences and runs come from counters in the store, so they begin again where commits are lost
//! or an older copy of the store is put back. An id must not: a function takes a second delivery of
//! one id for a repetition of the first. So each opening draws an epoch at random, and an id is its
//! epoch, sequence, subscription and run. Rows do not carry their epoch. It is found by their
//! numbers:
//!
//! ```text
//! opening       1st             2nd                      3rd
//! sequences     1 ……… 417       418 ……………… 9002          9003 …      first runs
//! runs          1 …… 3          (none)                   4 …         redrives, replays, moves, events sent on
//! ```
//!
//! A store of format 1 has no epochs: everything in it was made in one that has the journal's own
//! number.

use pointsman_schemas::{DeliveryId, Epoch, JournalId, Sequence, SubscriptionNumber};

use super::record::{Damage, Decoder, Encoder, Table, key_of};
use super::row::RowKey;

/// An opening, and what it made: these numbers and those behind, up to the next one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Era {
    epoch: Epoch,
    first_sequence: u64,
    first_run: u64,
}

/// The openings that made something, the earliest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    eras: Vec<Era>,
    /// The number of the database's file when it was last written here: a copy of it has another.
    file: u64,
}

impl Epochs {
    /// Those of a store of format 1.
    pub(super) fn of_format_1(journal: JournalId) -> Self {
        Self {
            eras: vec![Era {
                epoch: Epoch(journal.0),
                first_sequence: 0,
                first_run: 0,
            }],
            file: 0,
        }
    }

    /// Each epoch with its first sequence and its first run, as [`Epochs::of_eras`] takes them.
    pub(super) fn eras(&self) -> Vec<(u64, u64, u64)> {
        let era = |era: &Era| (era.epoch.0, era.first_sequence, era.first_run);
        self.eras.iter().map(era).collect()
    }

    /// Those of another store, in a file whose number is not known yet.
    pub(super) fn of_eras(eras: &[(u64, u64, u64)]) -> Self {
        let era = |&(epoch, first_sequence, first_run)| Era {
            epoch: Epoch(epoch),
            first_sequence,
            first_run,
        };
        let eras = eras.iter().map(era).collect();
        Self { eras, file: 0 }
    }

    /// Begins an epoch, whose numbers go on from the last ones given out. One that has made nothing
    /// leaves no trace.
    pub(super) fn begin(&mut self, epoch: Epoch, last_sequence: u64, last_run: u64, file: u64) {
        let (first_sequence, first_run) = (last_sequence + 1, last_run + 1);
        self.eras
            .retain(|era| era.first_sequence < first_sequence || era.first_run < first_run);
        self.eras.push(Era {
            epoch,
            first_sequence,
            first_run,
        });
        self.file = file;
    }

    /// The highest numbers that earlier epochs can have given out, as far as is known here.
    pub(super) fn given_out(&self) -> (u64, u64) {
        self.eras.last().map_or((0, 0), |era| {
            (
                era.first_sequence.saturating_sub(1),
                era.first_run.saturating_sub(1),
            )
        })
    }

    /// Whether the file of this number was there when the last epoch began, as far as that is
    /// known.
    pub(super) fn is_of(&self, file: u64) -> bool {
        self.file == 0 || self.file == file
    }

    /// The epoch that made a delivery, or what a source could not read.
    fn of(&self, sequence: u64, run: u64) -> Epoch {
        let later = match run {
            0 => self
                .eras
                .partition_point(|era| era.first_sequence <= sequence),
            run => self.eras.partition_point(|era| era.first_run <= run),
        };
        later
            .checked_sub(1)
            .and_then(|at| self.eras.get(at))
            .map_or(Epoch(0), |era| era.epoch)
    }

    /// The id of a delivery.
    pub(super) fn id(&self, subscription: u32, sequence: u64, run: u64) -> DeliveryId {
        let epoch = self.of(sequence, run);
        DeliveryId {
            epoch,
            sequence: Sequence(sequence),
            subscription: SubscriptionNumber(subscription),
            run,
        }
    }

    /// The key of the delivery with this id; none where that is a delivery of another store, or of
    /// a copy of this one.
    pub(super) fn key(&self, id: &DeliveryId) -> Option<RowKey> {
        let key = RowKey {
            subscription: id.subscription.0,
            sequence: id.sequence.0,
            run: id.run,
        };
        (self.of(key.sequence, key.run) == id.epoch).then_some(key)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(16 + self.eras.len() * 20);
        out.number(self.file).number(self.eras.len() as u64);
        let mut previous = (0, 0);
        for Era {
            epoch,
            first_sequence,
            first_run,
        } in &self.eras
        {
            out.number(epoch.0)
                .number(first_sequence - previous.0)
                .number(first_run - previous.1);
            previous = (*first_sequence, *first_run);
        }
        out.seal(Table::Meta, &[key_of("epochs")])
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Meta, &[key_of("epochs")], value)?;
        let (file, count) = (from.number()?, from.number()?);
        let mut epochs = Self {
            eras: Vec::new(),
            file,
        };
        let mut previous = (0_u64, 0_u64);
        for _ in 0..count {
            let (epoch, sequences, runs) = (Epoch(from.number()?), from.number()?, from.number()?);
            previous = (
                previous.0.saturating_add(sequences),
                previous.1.saturating_add(runs),
            );
            epochs.eras.push(Era {
                epoch,
                first_sequence: previous.0,
                first_run: previous.1,
            });
        }
        Ok(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_keeps_the_epoch_that_made_it() {
        let mut epochs = Epochs::of_format_1(JournalId(7));
        epochs.begin(Epoch(1), 10, 2, 99);
        epochs.begin(Epoch(2), 10, 2, 99);
        epochs.begin(Epoch(3), 20, 2, 99);
        epochs.begin(Epoch(4), 20, 5, 99);
        let read = Epochs::decode(&epochs.encode()).unwrap();
        assert_eq!(read, epochs);
        for (sequence, run, epoch) in [
            (1, 0, 7),
            (10, 0, 7),
            (11, 0, 2),
            (20, 0, 2),
            (21, 0, 4),
            (1, 2, 7),
            (30, 2, 7),
            (1, 3, 3),
            (1, 5, 3),
            (1, 6, 4),
        ] {
            let id = read.id(5, sequence, run);
            assert_eq!(id.epoch, Epoch(epoch), "sequence {sequence}, run {run}");
            assert_eq!(
                read.key(&id),
                Some(RowKey {
                    subscription: 5,
                    sequence,
                    run
                })
            );
            assert_eq!(
                read.key(&DeliveryId {
                    epoch: Epoch(8),
                    ..id
                }),
                None
            );
        }
        assert!(read.is_of(99) && !read.is_of(98) && Epochs::of_format_1(JournalId(7)).is_of(98));
    }
}
