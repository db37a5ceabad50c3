//! Appends that go over together.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::{join_all, maybe_done};
use futures::poll;
use parking_lot::Mutex;
use pointsman_journal::{Append, Appended, JournalError, MadeDelivery, Watch};
use pointsman_schemas::Sequence;
use serde::{Deserialize, Serialize};
use tokio::task::unconstrained;

/// An append as it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Without whoever watches its entries.
    pub(crate) append: Append,
    /// The places of the entries that somebody watches.
    pub(crate) watched: Vec<u32>,
}

/// What came of an append that is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// What became of each entry.
    pub(crate) appended: Vec<Appended>,
    /// What whoever watches an entry is to be told, in the order in which it was.
    pub(crate) told: Vec<Told>,
}

/// What whoever watches an entry is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The place of the entry in its append.
    pub(crate) place: u32,
    pub(crate) sequence: Sequence,
    pub(crate) made: Vec<MadeDelivery>,
}

/// Who watches the entries of an append, by their places.
pub(crate) fn watches(append: &Append) -> HashMap<u32, Arc<dyn Watch>> {
    let entries = (0..).zip(&append.entries);
    let watched = entries.filter_map(|(place, entry)| {
        let watch = entry.terms.as_ref()?.watch.as_ref()?;
        Some((place, Arc::clone(watch)))
    });
    watched.collect()
}

/// Notes what is told of one entry.
#[derive(Debug)]
struct Note {
    place: u32,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Watch for Note {
    fn made(&self, sequence: Sequence, made: Vec<MadeDelivery>) {
        let place = self.place;
        self.told.lock().push(Told {
            place,
            sequence,
            made,
        });
    }
}

/// Stores appends with `append`: each is begun before the next one, and all are waited for together,
/// so that they share a commit.
pub(crate) async fn store<F>(
    sent: Vec<Sent>,
    append: impl Fn(Append) -> F,
) -> Vec<Result<Made, JournalError>>
where
    F: Future<Output = Result<Vec<Appended>, JournalError>>,
{
    // Past its share of the thread a future of tokio's waits for no reason, and then not in order.
    let begin = |sent| maybe_done(unconstrained(Box::pin(store_one(sent, &append))));
    let mut begun: Vec<_> = sent.into_iter().map(begin).collect();
    // `join_all` alone promises no order.
    for one in &mut begun {
        let _ = poll!(one);
    }
    join_all(&mut begun).await;
    let made = begun.iter_mut().map(|one| Pin::new(one).take_output());
    // Each of them is done by now.
    made.map(|made| made.unwrap_or(Err(JournalError::Closed)))
        .collect()
}

async fn store_one<F>(sent: Sent, append: impl Fn(Append) -> F) -> Result<Made, JournalError>
where
    F: Future<Output = Result<Vec<Appended>, JournalError>>,
{
    let (mut own, told) = (sent.append, Arc::default());
    for place in sent.watched {
        if let Some(entry) = own.entries.get_mut(place as usize) {
            let told = Arc::clone(&told);
            entry.terms.get_or_insert_default().watch = Some(Arc::new(Note { place, told }));
        }
    }
    let appended = append(own).await?;
    let told = std::mem::take(&mut *told.lock());
    Ok(Made { appended, told })
}
