//! How much of the queues is in memory.

use std::collections::BTreeMap;

use pointsman_schemas::Timestamp;

use super::load::Loading;
use crate::Priority;
use crate::queue::ReadyKey;

/// The deliveries of one priority of a subscription, which are loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::disk) struct Lane {
    pub(in crate::disk) subscription: u32,
    pub(in crate::disk) priority: Priority,
}

/// How much of one lane is in memory.
#[derive(Debug)]
pub(super) struct Window {
    /// Rows from here on are on disk alone.
    pub(super) beyond: Option<ReadyKey>,
    pub(super) loading: Option<Loading>,
    /// Up to here rows that were due at once when they were made are due, whatever the clock says
    /// now.
    pub(super) immediate_until: Timestamp,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            beyond: None,
            loading: None,
            immediate_until: Timestamp(i64::MIN),
        }
    }
}

impl Window {
    /// Whether what is on disk alone may be due: it is so no earlier than `beyond`, unless it was
    /// made to be due at once.
    pub(super) fn is_due_beyond(&self, time: Timestamp) -> bool {
        let until = time.max(self.immediate_until);
        self.beyond.is_some_and(|beyond| beyond.due.time() <= until)
    }
}

/// The windows of a subscription: most have one.
#[derive(Debug, Default)]
pub(super) struct Windows {
    usual: Window,
    urgent: BTreeMap<Priority, Window>,
    /// There may be rows of priorities that have no window: nobody has looked yet.
    pub(super) is_unexplored: bool,
}

impl Windows {
    /// Says that all rows are on disk alone, and that it is not known which priorities they have.
    pub(super) fn unload(&mut self) {
        self.is_unexplored = true;
        self.usual.beyond = Some(ReadyKey::first(Priority::USUAL));
        for (priority, window) in &mut self.urgent {
            window.beyond = Some(ReadyKey::first(*priority));
        }
    }

    /// Rows of these priorities were found on disk, and no others that have no window. Returns those
    /// that are to be loaded.
    pub(super) fn explored(&mut self, found: &[Priority]) -> Vec<Priority> {
        let has_window = |priority: &Priority| self.get(*priority).is_some();
        let unknown = found.iter().copied().filter(|one| !has_window(one));
        let unknown: Vec<_> = unknown.collect();
        for priority in &unknown {
            self.of(*priority);
        }
        self.is_unexplored = false;
        unknown
    }

    /// What is being loaded may have read what has been removed since.
    pub(super) fn spoil_loading(&mut self) {
        let windows = self.urgent.values_mut().chain([&mut self.usual]);
        for loading in windows.filter_map(|window| window.loading.as_mut()) {
            loading.stale = true;
        }
    }

    pub(super) fn get(&self, priority: Priority) -> Option<&Window> {
        match priority {
            Priority::USUAL => Some(&self.usual),
            _ => self.urgent.get(&priority),
        }
    }

    /// The window of a priority, which is made where there is none, and whether it was, and is to be
    /// loaded.
    pub(super) fn of(&mut self, priority: Priority) -> (&mut Window, bool) {
        if priority == Priority::USUAL {
            return (&mut self.usual, false);
        }
        let beyond = self.is_unexplored.then(|| ReadyKey::first(priority));
        let is_low = beyond.is_some() && !self.urgent.contains_key(&priority);
        let anew = || Window {
            beyond,
            ..Window::default()
        };
        (self.urgent.entry(priority).or_insert_with(anew), is_low)
    }

    /// The windows with their priorities, the usual one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Priority, &Window)> {
        let urgent = self.urgent.iter();
        let usual = std::iter::once((Priority::USUAL, &self.usual));
        usual.chain(urgent.map(|(priority, window)| (*priority, window)))
    }

    pub(super) fn lanes(&self, subscription: u32) -> impl Iterator<Item = Lane> {
        self.iter().map(move |(priority, _)| Lane {
            subscription,
            priority,
        })
    }
}
