//! Where in a text the fields of a tree stand.

use std::ops::Range;

use super::{FieldId, Fields};
use crate::json::{self, Key, Members};

/// What stands at a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Nothing,
    Scalar,
    Array,
    Object,
}

/// Where in the text a field's value stands.
///
/// What a key with dots jumped over is an object without text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    /// True where the field was spelt with dots (`{"a.b": 1}`), which patterns take for nesting and JSONPath does not.
    pub(crate) dotted: bool,
    /// Of the frame that wrote it; to all others the slot is empty.
    stamp: u64,
    start: usize,
    end: usize,
}

impl Slot {
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The slots of one object's fields: of the document's, or of an array element's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    base: usize,
    origin: FieldId,
    stamp: u64,
    /// From where on what was found in it is listed.
    found: usize,
}

/// The slots of all frames in use, one behind the other. Reused from event to event, so that it seldom allocates.
///
/// A frame has a slot for every field under its own, and most of them stay empty: so slots are not cleared for a new frame but carry
/// the stamp of the frame that wrote them, and the fields that were written are listed.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// How many of them belong to open frames.
    top: usize,
    /// Of the frame that was opened last.
    stamp: u64,
    found: Vec<FieldId>,
    /// Room for a key with escapes.
    key: Vec<u8>,
}

impl Slots {
    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        self.top = 0;
        self.found.clear();
    }

    /// Opens a frame for a value that stands at a field, and reads it if it is an object. `at` is where the value begins.
    pub(crate) fn open(&mut self, fields: &Fields, field: FieldId, text: &[u8], at: usize) -> Frame {
        self.stamp += 1;
        let mut frame = Frame { base: self.top, origin: field, stamp: self.stamp, found: self.found.len() };
        self.top += fields.span(field);
        if self.slots.len() < self.top {
            self.slots.resize(self.top, Slot::default());
        }
        if self.read(fields, frame, field, text, at, false).is_none() {
            // This is no JSON: nothing of it is found.
            self.found.truncate(frame.found);
            self.stamp += 1;
            frame.stamp = self.stamp;
        }
        frame
    }

    /// Closes the frame that was opened last.
    pub(crate) fn close(&mut self, frame: Frame) {
        self.top = frame.base;
        self.found.truncate(frame.found);
    }

    pub(crate) fn get(&self, frame: Frame, field: FieldId) -> Slot {
        let slot = field.checked_sub(frame.origin).and_then(|offset| self.slots.get(frame.base + offset as usize));
        slot.copied().filter(|slot| slot.stamp == frame.stamp).unwrap_or_default()
    }

    /// The field that was found at this place among those of the frame that was opened last; each is listed once.
    pub(crate) fn found(&self, frame: Frame, place: usize) -> Option<FieldId> {
        self.found.get(frame.found + place).copied()
    }

    fn set(&mut self, frame: Frame, field: FieldId, slot: Slot) {
        if let Some(own) = field.checked_sub(frame.origin).and_then(|offset| self.slots.get_mut(frame.base + offset as usize)) {
            if own.stamp != frame.stamp {
                self.found.push(field);
            }
            *own = Slot { stamp: frame.stamp, ..slot };
        }
    }

    /// Empties what the value in a slot has written, by reading it again: the cost is that of its text, not of all fields under it.
    fn forget(&mut self, fields: &Fields, frame: Frame, field: FieldId, text: &[u8]) {
        let slot = self.get(frame, field);
        if slot.kind == Kind::Nothing {
            return;
        }
        self.set(frame, field, Slot::default());
        if slot.kind == Kind::Object && slot.start < slot.end && fields.has_children(field) {
            let mut members = Members::new(text, slot.start);
            while let Some(members) = &mut members
                && let Some(Some(key)) = members.next_key()
            {
                if let Some((child, _)) = Self::known(fields, field, key, &mut self.key) {
                    self.forget(fields, frame, child, text);
                }
                if members.skip().is_none() {
                    break;
                }
            }
        }
    }

    /// Reads the value at `at` into its slot and those under it; where it ends.
    ///
    /// The recursion is as deep as the tree of fields, which is bounded where patterns are compiled.
    fn read(&mut self, fields: &Fields, frame: Frame, field: FieldId, text: &[u8], at: usize, dotted: bool) -> Option<usize> {
        let before = self.get(frame, field);
        if before.kind != Kind::Nothing {
            // A duplicate key: the last one counts. A dotted spelling never hides a nested one, but stands beside it.
            if dotted {
                return json::value_end(text, at);
            }
            if !before.dotted {
                self.forget(fields, frame, field, text);
            }
        }
        let kind = match text.get(at)? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            _ => Kind::Scalar,
        };
        let end = if kind == Kind::Object && fields.has_children(field) {
            self.members(fields, frame, field, text, at)?
        } else {
            json::value_end(text, at)?
        };
        self.set(frame, field, Slot { kind, dotted, stamp: 0, start: at, end });
        Some(end)
    }

    fn members(&mut self, fields: &Fields, frame: Frame, parent: FieldId, text: &[u8], at: usize) -> Option<usize> {
        let mut members = Members::new(text, at)?;
        while let Some(key) = members.next_key()? {
            match Self::known(fields, parent, key, &mut self.key) {
                Some((child, dotted)) => {
                    let end = self.read(fields, frame, child, text, members.at(), dotted)?;
                    if dotted {
                        self.bridge(fields, frame, parent, child);
                    }
                    members.resume(end);
                }
                None => {
                    members.skip()?;
                }
            }
        }
        Some(members.at())
    }

    /// The field that a key means under a parent, and whether it took dots to get there.
    fn known(fields: &Fields, parent: FieldId, key: Key<'_>, buffer: &mut Vec<u8>) -> Option<(FieldId, bool)> {
        let name = if key.escaped {
            buffer.clear();
            json::unescape(key.raw, buffer);
            &buffer[..]
        } else {
            key.raw
        };
        if let Some(child) = fields.child(parent, name) {
            return Some((child, false));
        }
        if !fields.node(parent)?.nested {
            return None;
        }
        memchr::memchr(b'.', name)?;
        let field = name.split(|byte| *byte == b'.').try_fold(parent, |field, step| fields.child(field, step))?;
        Some((field, true))
    }

    /// Marks what a dotted key jumped over as objects, so that patterns go down through it.
    fn bridge(&mut self, fields: &Fields, frame: Frame, parent: FieldId, child: FieldId) {
        let mut at = parent;
        while let Some(next) = fields.toward(at, child).filter(|next| *next < child) {
            if self.get(frame, next).kind == Kind::Nothing {
                self.set(frame, next, Slot { kind: Kind::Object, dotted: true, ..Slot::default() });
            }
            at = next;
        }
    }
}
