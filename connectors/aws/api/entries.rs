//! The entries of an attempt in as few calls as the service allows.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use pointsman_schemas::{Class, Outcome};
use tokio::time::{Instant, timeout_at};

use super::refusal::Refusal;
use crate::net::answer::Deadlines;
use crate::{Attempt, Delivery};

/// Entries in one call: as many as each of these services takes.
const ENTRIES_MAX: usize = 10;

/// Bytes in one call, which each of these services takes; a larger entry goes alone, and is the
/// service's to judge.
const BYTES_MAX: usize = 256 << 10;

/// What takes one entry for each delivery, and several of them with one call.
pub(crate) trait Entries: Sync {
    /// What is sent for a delivery.
    type Entry: Sync + Send;

    /// Makes the entry of a delivery, and tells how many bytes it has.
    ///
    /// # Errors
    /// There can be none.
    fn entry(
        &self,
        attempt: &Attempt,
        delivery: &Delivery,
    ) -> Result<(Self::Entry, usize), Outcome>;

    /// Sends some entries, at least one, and tells what became of each.
    ///
    /// # Errors
    /// What holds for all of them.
    fn send(
        &self,
        entries: &[Self::Entry],
        deadlines: Deadlines,
    ) -> impl Future<Output = Result<Vec<Outcome>, Box<Outcome>>> + Send;
}

/// Makes an attempt: the entries in their order, so that what is behind one that could not be sent
/// does not overtake it.
///
/// Where a call of several is rejected as a whole, one of them may be why: then each goes alone.
/// Where a call shows that nothing can be sent now, the rest is not tried.
pub(crate) async fn deliver<E: Entries>(to: &E, attempt: &Attempt) -> Vec<Outcome> {
    let deadlines = Deadlines::new(Instant::now(), attempt.timeout);
    let made = attempt.deliveries.iter().map(|one| to.entry(attempt, one));
    let (mut entries, mut sizes, mut unmade) = (Vec::new(), Vec::new(), HashMap::new());
    for (index, made) in made.enumerate() {
        match made {
            Ok((entry, bytes)) => {
                entries.push(entry);
                sizes.push(bytes);
            }
            Err(outcome) => {
                unmade.insert(index, outcome);
            }
        }
    }
    let mut sent = send_all(to, &entries, calls(&sizes), deadlines)
        .await
        .into_iter();
    let indexes = 0..attempt.deliveries.len();
    let outcome = |index| unmade.remove(&index).or_else(|| sent.next());
    indexes
        .map(outcome)
        .map(|outcome| outcome.unwrap_or_else(untold))
        .collect()
}

async fn send_all<E: Entries>(
    to: &E,
    entries: &[E::Entry],
    mut calls: VecDeque<Range<usize>>,
    deadlines: Deadlines,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(entries.len());
    let mut stopped: Option<Outcome> = None;
    while let Some(range) = calls.pop_front() {
        let count = range.len();
        if let Some(stopped) = &stopped {
            outcomes.extend(std::iter::repeat_n(stopped.clone(), count));
            continue;
        }
        let call = entries.get(range.clone()).unwrap_or_default();
        match send(to, call, deadlines).await {
            Ok(told) => outcomes.extend(told),
            Err(outcome) if outcome.class == Class::Rejected && count > 1 => {
                for alone in range.rev() {
                    calls.push_front(alone..alone + 1);
                }
            }
            Err(outcome) => {
                outcomes.extend(std::iter::repeat_n((*outcome).clone(), count));
                stopped = match outcome.class {
                    Class::Throttled | Class::Unavailable | Class::Refused => Some(*outcome),
                    _ => None,
                };
            }
        }
    }
    outcomes
}

/// One call, with one outcome for each of its entries.
async fn send<E: Entries>(
    to: &E,
    entries: &[E::Entry],
    deadlines: Deadlines,
) -> Result<Vec<Outcome>, Box<Outcome>> {
    if Instant::now() >= deadlines.answered {
        let told = "no time was left of the attempt; it was not sent";
        return Err(Box::new(Outcome::new(Class::Unavailable, told)));
    }
    match timeout_at(deadlines.answered, to.send(entries, deadlines)).await {
        Ok(Ok(mut outcomes)) => {
            outcomes.resize_with(entries.len(), untold);
            Ok(outcomes)
        }
        Ok(Err(outcome)) => Err(outcome),
        Err(_elapsed) => Err(Box::new(Outcome::new(
            Class::Failed,
            "no answer came in time; it may have been taken",
        ))),
    }
}

/// Cuts entries of these sizes into calls.
fn calls(sizes: &[usize]) -> VecDeque<Range<usize>> {
    let mut calls: VecDeque<Range<usize>> = VecDeque::new();
    let mut bytes = 0;
    for (index, size) in sizes.iter().enumerate() {
        match calls.back_mut() {
            Some(call) if call.len() < ENTRIES_MAX && bytes + size <= BYTES_MAX => {
                call.end += 1;
                bytes += size;
            }
            _ => {
                calls.push_back(index..index + 1);
                bytes = *size;
            }
        }
    }
    calls
}

/// The outcomes of so many entries, whose ids are their numbers.
pub(crate) fn by_id<'i>(
    count: usize,
    taken: impl IntoIterator<Item = &'i str>,
    refused: impl IntoIterator<Item = (&'i str, Refusal)>,
    what: &str,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = std::iter::repeat_with(untold).take(count).collect();
    let mut tell = |id: &str, outcome: Outcome| {
        let told = id
            .parse()
            .ok()
            .and_then(|index: usize| outcomes.get_mut(index));
        if let Some(told) = told {
            *told = outcome;
        }
    };
    for id in taken {
        tell(id, Outcome::delivered());
    }
    for (id, refusal) in refused {
        tell(id, refusal.outcome(what));
    }
    outcomes
}

fn untold() -> Outcome {
    Outcome::new(
        Class::Failed,
        "the answer does not say what became of it; it may have been taken",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_cut_into_calls_by_their_number_and_their_bytes() {
        for (sizes, expect) in [
            (&[][..], &[][..]),
            (&[1], &[(0, 1)]),
            (&[1; 10], &[(0, 10)]),
            (&[1; 12], &[(0, 10), (10, 12)]),
            (&[BYTES_MAX, 1, BYTES_MAX - 1, 1], &[(0, 1), (1, 3), (3, 4)]),
            (&[1, 3 * BYTES_MAX, 1], &[(0, 1), (1, 2), (2, 3)]),
        ] {
            let found = calls(sizes).into_iter().map(|call| (call.start, call.end));
            assert_eq!(found.collect::<Vec<_>>(), expect, "{sizes:?}");
        }
    }
}
