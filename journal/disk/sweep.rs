//! What happens to events while retention looks at them.

use std::collections::HashSet;

/// What is committed while retention looks at some events.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    /// The last of them.
    pub(super) until: u64,
    /// Events that got a new reference, other than by their own append.
    pub(super) pinned: HashSet<u64>,
    /// Events up to the last of which a reference has ended.
    pub(super) freed: HashSet<u64>,
}
