//! What nodes say of limits in their beats. Written as arrays: there may be hundreds of them in a
//! beat.

use serde::{Deserialize, Serialize};

/// What a node says of limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Other processes, with the number of the last beat of each that was heard.
    pub(super) heard: Vec<(u64, u64)>,
    /// What the node holds and wants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) says: Vec<Statement>,
    /// What it grants to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) grants: Vec<Grant>,
    /// What it has found to be open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) open: Vec<u64>,
}

impl Words {
    /// The place of a process among those that were heard, and its last beat that was.
    pub(super) fn hears(&self, process: u64) -> Option<(usize, u64)> {
        let mut heard = self.heard.iter().enumerate();
        let (place, (_, number)) = heard.find(|(_, (heard, _))| *heard == process)?;
        Some((place, *number))
    }

    /// Whether somebody has to hear this before the next beat would tell: it is more than signs of
    /// life.
    pub(super) fn differs(&self, other: &Self) -> bool {
        (&self.says, &self.grants, &self.open) != (&other.says, &other.grants, &other.open)
    }
}

/// What a node holds of a limit, and what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement(u64, u64, u64);

impl Statement {
    pub(super) fn new(key: u64, held: u64, wants: u64) -> Self {
        Self(key, held, wants)
    }

    pub(super) fn key(&self) -> u64 {
        self.0
    }

    pub(super) fn held(&self) -> u64 {
        self.1
    }

    pub(super) fn wants(&self) -> u64 {
        self.2
    }
}

/// What a grantor grants of a limit to others, by their places among those that it hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant(u64, Vec<(usize, u64)>);

impl Grant {
    pub(super) fn new(key: u64, to: Vec<(usize, u64)>) -> Self {
        Self(key, to)
    }

    pub(super) fn key(&self) -> u64 {
        self.0
    }

    /// What the process at this place is granted.
    pub(super) fn to(&self, place: usize) -> Option<u64> {
        let mut all = self.1.iter();
        all.find(|(to, _)| *to == place).map(|(_, amount)| *amount)
    }
}
