//! A pattern held against a document.

use std::ops::Range;

use pointsman_schemas::DataKind;
use pointsman_schemas::event::JSON_DEPTH_MAX;

use super::{Body, Field, Group, Leaf};
use crate::document::{Document, Outlined, Root};
use crate::fields::{FieldId, Fields, Found, Frame, Kind, ROOT, Slots};
use crate::json::{self, Scalar};
use crate::scratch::Scratch;
use crate::workings::Workings;

/// How a part of a pattern holds.
///
/// The difference between the last two matters where objects lie in an array: what holds because
/// something is there needs one element, what holds because something is missing needs all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    No,
    ByAbsence,
    ByPresence,
}

/// What an object of the pattern is held against.
#[derive(Clone, Copy)]
enum Place {
    /// An event's top: attributes, and data that is read when first asked for.
    Event,
    /// An object whose fields are in slots.
    Frame(Frame),
}

/// The evaluation of patterns over one document, all of whose fields are numbered by one tree.
pub(crate) struct Evaluation<'d, 's> {
    fields: &'s Fields,
    document: &'d Document<'d>,
    root: Root<'d>,
    /// The text that slots point into: an event's JSON data, or the whole document.
    outlined: Outlined<'d>,
    slots: &'s mut Slots,
    buffer: &'s mut Vec<u8>,
    workings: &'s mut Workings,
    frame: &'s mut Option<Frame>,
}

impl<'d, 's> Evaluation<'d, 's> {
    /// Goes on with what the scratch has read of this document already.
    pub(crate) fn new(
        fields: &'s Fields,
        document: &'d Document<'d>,
        scratch: &'s mut Scratch,
    ) -> Self {
        Self {
            fields,
            document,
            root: document.root(),
            outlined: document.outlined(),
            slots: &mut scratch.slots,
            buffer: &mut scratch.buffer,
            workings: &mut scratch.workspace.workings,
            frame: &mut scratch.frame,
        }
    }

    /// Whether a whole pattern holds.
    pub(crate) fn pattern(&mut self, root: &Group) -> bool {
        let holds = if let Root::Event(_) = self.root {
            self.group(root, Place::Event)
        } else {
            let frame = self.read(ROOT);
            let absent = if root.holds_absent() {
                Holds::ByAbsence
            } else {
                Holds::No
            };
            self.under(root, absent, ROOT, frame)
        };
        holds != Holds::No
    }

    /// The text of the value that nesting alone leads to, as a JSONPath query sees it.
    pub(crate) fn nested(&mut self, id: FieldId) -> Option<&'d [u8]> {
        let frame = self.frame();
        let found = self
            .slots
            .all(frame, id)
            .find(|found| found.kind != Kind::Nothing && !found.dotted)?;
        self.outlined.text.get(found.range())
    }

    /// The text that is looked into.
    pub(crate) fn outlined(&self) -> Outlined<'d> {
        self.outlined
    }

    /// Whether the value that is found first at a field is written like this.
    pub(crate) fn first_is(&mut self, field: FieldId, written: &[u8]) -> bool {
        let frame = self.frame();
        let found = self.slots.first_scalar(frame, field);
        found.is_some_and(|range| self.outlined.get(range) == written)
    }

    /// Whether the value that is found first at a field is a scalar that fits.
    pub(crate) fn first_fits(&mut self, field: FieldId, leaf: &Leaf) -> bool {
        let frame = self.frame();
        let found = self.slots.first_scalar(frame, field);
        found.is_some_and(|range| self.fits(leaf, range) == Some(true))
    }

    /// The frame of an event's data, or of the whole document.
    pub(crate) fn frame(&mut self) -> Frame {
        if let Some(frame) = *self.frame {
            return frame;
        }
        let origin = if let Root::Event(_) = self.root {
            self.fields.child(ROOT, b"data").unwrap_or(ROOT)
        } else {
            ROOT
        };
        self.read(origin)
    }

    /// The document's own frame, which is read at the first call.
    fn read(&mut self, origin: FieldId) -> Frame {
        *self
            .frame
            .get_or_insert_with(|| self.slots.open(self.fields, origin, self.outlined, 0))
    }

    fn group(&mut self, group: &Group, place: Place) -> Holds {
        let mut holds = Holds::ByAbsence;
        for field in &group.fields {
            match self.field(field, place) {
                Holds::No => return Holds::No,
                Holds::ByPresence => holds = Holds::ByPresence,
                Holds::ByAbsence => {}
            }
        }
        for alternatives in &group.any {
            let mut best = Holds::No;
            for alternative in alternatives {
                match self.group(alternative, place) {
                    Holds::ByPresence => {
                        best = Holds::ByPresence;
                        break;
                    }
                    Holds::ByAbsence => best = Holds::ByAbsence,
                    Holds::No => {}
                }
            }
            match best {
                Holds::No => return Holds::No,
                Holds::ByPresence => holds = Holds::ByPresence,
                Holds::ByAbsence => {}
            }
        }
        holds
    }

    fn field(&mut self, field: &Field, place: Place) -> Holds {
        let frame = match (place, self.root) {
            (Place::Frame(frame), _) => frame,
            (Place::Event, Root::Event(event)) if &*field.name == "data" => match event.data() {
                Some(data) if data.kind() == DataKind::Json => self.read(field.id),
                Some(data) if data.kind() == DataKind::Text => {
                    return self.scalar(field, Scalar::Text(data.bytes()));
                }
                _ => return absent(field),
            },
            (Place::Event, Root::Event(event)) => {
                return match event.attribute(&field.name) {
                    None => absent(field),
                    Some(value) => self.scalar(field, value.into()),
                };
            }
            (Place::Event, _) => return Holds::No,
        };
        match &field.body {
            Body::Group(group) => self.under(group, absent(field), field.id, frame),
            Body::Leaf(leaf) => {
                let (mut next, mut any) = (Some(self.slots.get(frame, field.id)), None);
                while let Some(slot) = next {
                    match self.found(leaf, slot.found) {
                        Some(true) => return Holds::ByPresence,
                        Some(false) => any = Some(false),
                        None => {}
                    }
                    next = self.slots.next(slot);
                }
                if any.is_some() {
                    Holds::No
                } else {
                    absent(field)
                }
            }
        }
    }

    /// An object of the pattern held against whatever stands at a field.
    ///
    /// All objects there, and what keys with dots lead to below it, are one: the frame has it. Each
    /// array is looked into by itself. How it holds for what is no object is given as `absent`.
    fn under(&mut self, group: &Group, absent: Holds, id: FieldId, frame: Frame) -> Holds {
        let first = self.slots.get(frame, id);
        let (mut all, mut is_object) = (absent, first.passed);
        let mut next = Some(first);
        while let Some(slot) = next {
            let holds = match slot.found.kind {
                Kind::Object => {
                    is_object = true;
                    all
                }
                Kind::Array => self.elements(group, absent, id, slot.found.item(), 0),
                Kind::Scalar | Kind::Nothing => all,
            };
            match holds {
                Holds::ByPresence => return holds,
                Holds::No => all = holds,
                Holds::ByAbsence => {}
            }
            next = self.slots.next(slot);
        }
        match is_object.then(|| self.group(group, Place::Frame(frame))) {
            Some(holds @ (Holds::ByPresence | Holds::No)) => holds,
            Some(Holds::ByAbsence) | None => all,
        }
    }

    /// An object of the pattern holds for an array where it holds within one element, or is about
    /// absence and holds for all of them.
    fn elements(
        &mut self,
        group: &Group,
        absent: Holds,
        id: FieldId,
        array: usize,
        depth: usize,
    ) -> Holds {
        let mut all = absent;
        if depth == JSON_DEPTH_MAX {
            return all;
        }
        let outlined = self.outlined;
        for (number, element) in outlined.inner(array) {
            let Range { start, end } = element.range();
            self.workings.steps += (end - start) as u64;
            let holds = match outlined.text.get(start) {
                Some(b'{') => {
                    let frame = self.slots.open(self.fields, id, outlined, number);
                    let holds = self.group(group, Place::Frame(frame));
                    self.slots.close(frame);
                    holds
                }
                Some(b'[') => self.elements(group, absent, id, number, depth + 1),
                _ => absent,
            };
            match holds {
                Holds::ByPresence => return Holds::ByPresence,
                Holds::No => all = Holds::No,
                Holds::ByAbsence => {}
            }
        }
        all
    }

    /// Whether one scalar of what was found fits; none where there is no scalar in it.
    fn found(&mut self, leaf: &Leaf, found: Found) -> Option<bool> {
        match found.kind {
            Kind::Nothing | Kind::Object => None,
            Kind::Scalar => self.fits(leaf, found.range()),
            Kind::Array => self.values(leaf, found.item(), 0),
        }
    }

    /// Whether one scalar of an array fits, or of an array in it.
    fn values(&mut self, leaf: &Leaf, array: usize, depth: usize) -> Option<bool> {
        if depth == JSON_DEPTH_MAX {
            return None;
        }
        let (outlined, mut any) = (self.outlined, None);
        for (number, element) in outlined.inner(array) {
            let Range { start, end } = element.range();
            self.workings.steps += (end - start) as u64;
            let fits = match outlined.text.get(start) {
                Some(b'{') => None,
                Some(b'[') => self.values(leaf, number, depth + 1),
                _ => self.fits(leaf, start..end),
            };
            match fits {
                Some(true) => return fits,
                Some(false) => any = fits,
                None => {}
            }
        }
        any
    }

    fn fits(&mut self, leaf: &Leaf, scalar: Range<usize>) -> Option<bool> {
        let scalar = json::scalar(self.outlined.get(scalar), self.buffer)?;
        Some(leaf.list.fits(scalar, self.document, self.workings))
    }

    fn scalar(&mut self, field: &Field, scalar: Scalar<'_>) -> Holds {
        match &field.body {
            Body::Leaf(leaf) if leaf.list.fits(scalar, self.document, self.workings) => {
                Holds::ByPresence
            }
            Body::Leaf(_) => Holds::No,
            Body::Group(_) => absent(field),
        }
    }
}

fn absent(field: &Field) -> Holds {
    if field.holds_absent {
        Holds::ByAbsence
    } else {
        Holds::No
    }
}
