//! What a node has of a limit.

use tokio::time::Instant;

/// What this node has of a limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    /// The most that it wanted of late, and when it wanted that last.
    pub(super) wants: u64,
    pub(super) wanted: Option<Instant>,
    pub(super) in_use: u64,
    pub(super) granted: Option<Granted>,
    /// The most of what was granted that may be obeyed still, and what of it was told last.
    pub(super) obeyed: u64,
    pub(super) telling: u64,
    /// What was told last, the floor included.
    pub(super) told: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) amount: u64,
    /// When it lapses.
    pub(super) until: Instant,
}

impl Own {
    /// What it was granted, unless that has lapsed.
    pub(super) fn granted(&self, now: Instant) -> u64 {
        let granted = self.granted.filter(|granted| granted.until > now);
        granted.map_or(0, |granted| granted.amount)
    }

    /// What it holds.
    pub(super) fn held(&self, now: Instant) -> u64 {
        self.granted(now).max(self.obeyed).max(self.in_use)
    }
}
