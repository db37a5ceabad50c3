//! Where in a text the fields of a tree stand.
//!
//! A field can have several values: `{"a": {"b": 1}, "a.b": 2}` has two at `a.b`. A slot holds one
//! of them and leads to the others, which hardly any event has. Nothing of what is found depends on
//! what else is in the tree: rules share it, and must not see one another.

use std::ops::Range;

use pointsman_schemas::json::Item;

use super::{FieldId, Fields, first_bit};
use crate::document::Outlined;
use crate::json::{self, Key};

/// What stands at a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Nothing,
    Scalar,
    Array,
    Object,
}

/// A value that stands at a field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    /// True where dots in keys were taken for nesting on the way (`{"a.b": 1}`), which patterns do
    /// and JSONPath does not.
    pub(crate) dotted: bool,
    start: usize,
    end: usize,
    /// The number of its item.
    item: usize,
    /// Where the object begins that this is a member of. Two values at a field with one owner come
    /// from a duplicate key.
    owner: usize,
}

impl Found {
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    pub(crate) fn item(&self) -> usize {
        self.item
    }
}

/// What was found at a field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// One value; nothing where there is none.
    pub(crate) found: Found,
    /// True where a key with dots leads past the field to one below it: then the frame has what an
    /// object would have there.
    pub(crate) passed: bool,
    /// Where the next value is listed, counted from 1.
    more: usize,
    /// Of the frame that wrote it; to all others the slot is empty.
    stamp: u64,
}

/// The slots of one object's fields: of the document's, or of an array element's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    base: usize,
    origin: FieldId,
    stamp: u64,
    /// From where on what was found in it is listed.
    found: usize,
    /// From where on its further values are listed.
    more: usize,
}

/// The slots of all frames in use, one behind the other. Reused from event to event, so that it
/// seldom allocates.
///
/// A frame has a slot for every field under its own, and most of them stay empty: so slots are not
/// cleared for a new frame but carry the stamp of the frame that wrote them, and the fields that
/// were written are listed.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// How many of them belong to open frames.
    top: usize,
    /// Of the frame that was opened last.
    stamp: u64,
    found: Vec<FieldId>,
    /// Values at fields that have more than one, each with the place of the next one.
    more: Vec<(Found, usize)>,
    /// Where objects stand that were taken out since the last frame was opened.
    dropped: Vec<Range<usize>>,
    /// Room for a key with escapes.
    key: Vec<u8>,
}

/// The owner of what a frame was opened for.
const NOBODY: usize = usize::MAX;

/// A text that is read into a frame.
struct Reading<'r> {
    fields: &'r Fields,
    frame: Frame,
    outlined: Outlined<'r>,
}

/// An object that values are members of.
#[derive(Clone, Copy)]
struct Owner {
    start: usize,
    dotted: bool,
}

impl Slots {
    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        self.top = 0;
        self.found.clear();
        self.more.clear();
    }

    /// Opens a frame for the value of an item that stands at a field, and reads it if it is an
    /// object. Where there is no such item nothing is found.
    pub(crate) fn open(
        &mut self,
        fields: &Fields,
        field: FieldId,
        outlined: Outlined<'_>,
        item: usize,
    ) -> Frame {
        self.stamp += 1;
        let frame = Frame {
            base: self.top,
            origin: field,
            stamp: self.stamp,
            found: self.found.len(),
            more: self.more.len(),
        };
        self.top += fields.span(field);
        if self.slots.len() < self.top {
            self.slots.resize(self.top, Slot::default());
        }
        if let Some(value) = outlined.item(item) {
            self.read(
                &Reading {
                    fields,
                    frame,
                    outlined,
                },
                field,
                (item, value),
                Owner {
                    start: NOBODY,
                    dotted: false,
                },
            );
        }
        if !self.dropped.is_empty() {
            self.sweep(frame);
        }
        frame
    }

    /// Closes the frame that was opened last.
    pub(crate) fn close(&mut self, frame: Frame) {
        self.top = frame.base;
        self.found.truncate(frame.found);
        self.more.truncate(frame.more);
    }

    #[inline]
    pub(crate) fn get(&self, frame: Frame, field: FieldId) -> Slot {
        self.written(frame, field).copied().unwrap_or_default()
    }

    /// The value that is found first at a field, if it is a scalar.
    #[inline]
    pub(crate) fn first_scalar(&self, frame: Frame, field: FieldId) -> Option<Range<usize>> {
        // Looked at where it lies: parts that were just written are slow to be copied as a whole.
        let found = &self.written(frame, field)?.found;
        (found.kind == Kind::Scalar).then(|| found.range())
    }

    /// The slot of a field, if the frame has written it.
    #[inline]
    fn written(&self, frame: Frame, field: FieldId) -> Option<&Slot> {
        self.slots
            .get(frame.base + field.checked_sub(frame.origin)? as usize)
            .filter(|slot| slot.stamp == frame.stamp)
    }

    /// The value behind the one in a slot, in the form of a slot; none behind the last one.
    #[inline]
    pub(crate) fn next(&self, slot: Slot) -> Option<Slot> {
        let (found, more) = self.more.get(slot.more.checked_sub(1)?)?;
        Some(Slot {
            found: *found,
            more: *more,
            ..slot
        })
    }

    /// All values at a field.
    pub(crate) fn all(&self, frame: Frame, field: FieldId) -> impl Iterator<Item = Found> {
        std::iter::successors(Some(self.get(frame, field)), |slot| self.next(*slot))
            .map(|slot| slot.found)
    }

    /// The field that was found at this place among those of the frame that was opened last; each
    /// is listed once.
    pub(crate) fn found(&self, frame: Frame, place: usize) -> Option<FieldId> {
        self.found.get(frame.found + place).copied()
    }

    /// The slot of a field, which belongs to the frame from now on.
    fn own(&mut self, frame: Frame, field: FieldId) -> Option<&mut Slot> {
        let slot = self
            .slots
            .get_mut(frame.base + field.checked_sub(frame.origin)? as usize)?;
        if slot.stamp != frame.stamp {
            self.found.push(field);
            *slot = Slot {
                stamp: frame.stamp,
                ..Slot::default()
            };
        }
        Some(slot)
    }

    /// Enters a value before those that are there: a duplicate of it comes next, if at all.
    fn add(&mut self, frame: Frame, field: FieldId, found: Found) {
        let further = self.more.len() + 1;
        let Some(slot) = self.own(frame, field) else {
            return;
        };
        // Only a look at the kind: see `first_scalar`.
        if slot.found.kind == Kind::Nothing {
            slot.found = found;
        } else {
            let before = (std::mem::replace(&mut slot.found, found), slot.more);
            slot.more = further;
            self.more.push(before);
        }
    }

    /// Takes out the value with this owner, which is being read.
    ///
    /// What was entered since the owner began belongs to it or to objects within it, and what is
    /// older to objects that began before. So the search ends at the first one of those, and looks
    /// at a value once for each object around it.
    fn remove(&mut self, frame: Frame, field: FieldId, owner: usize) -> Option<Found> {
        let first = self.written(frame, field)?;
        if first.found.kind == Kind::Nothing {
            return None;
        }
        let first = *first;
        if first.found.owner == owner {
            let next = self.next(first).unwrap_or_default();
            let slot = self.own(frame, field)?;
            (slot.found, slot.more) = (next.found, next.more);
            return Some(first.found);
        }
        let (mut before, mut last, mut place) = (None::<usize>, first.found, first.more);
        while last.owner > owner
            && let Some((found, next)) = place
                .checked_sub(1)
                .and_then(|at| self.more.get(at))
                .copied()
        {
            if found.owner == owner {
                match before {
                    None => self.own(frame, field)?.more = next,
                    Some(at) => self.more.get_mut(at)?.1 = next,
                }
                return Some(found);
            }
            (before, last, place) = (Some(place - 1), found, next);
        }
        None
    }

    /// Takes out a value that is a duplicate. What is in it goes once all has been read.
    fn forget(&mut self, reading: &Reading<'_>, field: FieldId, owner: usize) {
        if let Some(found) = self.remove(reading.frame, field, owner)
            && found.kind == Kind::Object
        {
            self.dropped.push(found.range());
        }
    }

    /// Takes out what objects hold that were taken out themselves.
    fn sweep(&mut self, frame: Frame) {
        let mut dropped = std::mem::take(&mut self.dropped);
        // Of objects within one another the outer one comes first, and is enough.
        dropped.sort_unstable_by_key(|range| range.start);
        dropped.dedup_by(|next, before| next.end <= before.end);
        let is_dropped = |found: Found| {
            let after = dropped.partition_point(|range| range.start <= found.owner);
            after
                .checked_sub(1)
                .and_then(|at| dropped.get(at))
                .is_some_and(|range| range.contains(&found.owner))
        };
        for place in frame.found..self.found.len() {
            let Some(field) = self.found.get(place).copied() else {
                break;
            };
            let mut slot = self.get(frame, field);
            while slot.found.kind != Kind::Nothing && is_dropped(slot.found) {
                slot = self.next(slot).unwrap_or(Slot {
                    found: Found::default(),
                    more: 0,
                    ..slot
                });
            }
            let (mut last, mut at) = (None::<usize>, slot.more);
            while let Some((found, next)) =
                at.checked_sub(1).and_then(|at| self.more.get(at)).copied()
            {
                match (
                    is_dropped(found),
                    last.and_then(|last| self.more.get_mut(last)),
                ) {
                    (false, _) => last = Some(at - 1),
                    (true, Some((_, more))) => *more = next,
                    (true, None) => slot.more = next,
                }
                at = next;
            }
            if let Some(own) = self.own(frame, field) {
                *own = slot;
            }
        }
        dropped.clear();
        self.dropped = dropped;
    }

    /// Reads the value of an item into its slot and those under it.
    ///
    /// The recursion is as deep as the tree of fields, which is bounded where patterns are
    /// compiled.
    fn read(
        &mut self,
        reading: &Reading<'_>,
        field: FieldId,
        (number, item): (usize, Item),
        owner: Owner,
    ) {
        let Reading {
            fields,
            frame,
            outlined,
        } = *reading;
        // A duplicate key: the last one counts.
        self.forget(reading, field, owner.start);
        let Range { start, end } = item.range();
        let kind = match outlined.text.get(start) {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            _ => Kind::Scalar,
        };
        if kind == Kind::Object && fields.has_children(field) {
            self.members(reading, field, number, Owner { start, ..owner });
        }
        self.add(
            frame,
            field,
            Found {
                kind,
                dotted: owner.dotted,
                start,
                end,
                item: number,
                owner: owner.start,
            },
        );
    }

    /// Reads the members of an object that stands at a field.
    fn members(&mut self, reading: &Reading<'_>, field: FieldId, number: usize, owner: Owner) {
        let outlined = reading.outlined;
        let Some(node) = reading.fields.node(field) else {
            return;
        };
        for (number, member) in outlined.inner(number) {
            let key = Key {
                raw: outlined.get(member.key()),
                escaped: member.is_escaped(),
            };
            if !key.escaped && !node.may_know(key.raw) {
                continue;
            }
            if let Some((child, dotted)) = Self::known(reading.fields, field, key, &mut self.key) {
                if dotted {
                    self.pass(reading, field, child);
                }
                self.read(
                    reading,
                    child,
                    (number, member),
                    Owner {
                        dotted: owner.dotted || dotted,
                        ..owner
                    },
                );
            }
        }
    }

    /// The field that a key means under a parent, and whether it took dots to get there. No field
    /// has a dot in its name.
    fn known(
        fields: &Fields,
        parent: FieldId,
        key: Key<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<(FieldId, bool)> {
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
        if fields.node(parent)?.nested & first_bit(*name.first()?) == 0 {
            return None;
        }
        memchr::memchr(b'.', name)?;
        let field = name
            .split(|byte| *byte == b'.')
            .try_fold(parent, |field, step| fields.child(field, step))?;
        Some((field, true))
    }

    /// Marks what a key with dots leads past, so that patterns go down through it.
    ///
    /// The mark stays if the key turns out to be a duplicate: with nothing below it, it says no
    /// more than a field without a value.
    fn pass(&mut self, reading: &Reading<'_>, parent: FieldId, child: FieldId) {
        let mut at = parent;
        while let Some(next) = reading
            .fields
            .toward(at, child)
            .filter(|next| *next < child)
        {
            if let Some(slot) = self.own(reading.frame, next) {
                slot.passed = true;
            }
            at = next;
        }
    }
}
