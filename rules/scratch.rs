//! Room that is reused from event to event, so that nothing is allocated once it has grown.

use crate::fields::{Frame, Slots};
use crate::hits::Hits;
use crate::workings::Workings;

/// Room for evaluating rules, one per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) slots: Slots,
    pub(crate) buffer: Vec<u8>,
    pub(crate) second: Vec<u8>,
    /// The frame of the document at hand, once it has been read.
    pub(crate) frame: Option<Frame>,
    pub(crate) workspace: Workspace,
}

impl Scratch {
    /// How much work the last document took in patterns: values looked at, operators tried, bytes
    /// of arrays read. It must not grow faster than the document, whatever the rule.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.workspace.workings.steps
    }

    /// Forgets the document before.
    pub(crate) fn start(&mut self) {
        self.slots.clear();
        self.frame = None;
        self.workspace.workings.start();
    }
}

/// Room for the search for rules.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) hits: Hits,
    /// Of the evaluation that comes after, too.
    pub(crate) workings: Workings,
    pub(crate) room: Room,
    pub(crate) buffer: Vec<u8>,
}

/// Room for texts that are changed before they are looked up.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) reversed: Vec<u8>,
    pub(crate) folded: String,
}
