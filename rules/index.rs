//! Which rules an event may satisfy, found without a look at the others.
//!
//! Each rule is entered under what an event must have for it ([`access`]): a text at a field, a
//! prefix, a range, an origin. An event is then read once: its attributes, and of its data the
//! fields that rules mention, straight from its bytes. Each scalar there is looked up among what is
//! asked of its field ([`field`]), and the rules behind what it hits are candidates; only those are
//! evaluated in full.
//!
//! ```text
//!                             ┌─ text is order.paid ──▶ 3, 17
//!   event ── type ────────────┼─ begins with com. ────▶ 4
//!         └─ data.total ──────┴─ is in 0..=100 ───────▶ 9        3, 4, 9 ──▶ evaluated ──▶ 3, 9
//! ```
//!
//! So the cost follows the event and the rules that come near it. A rule is entered once for each
//! alternative that it lists, whatever its operators: the memory is proportional to the rules'
//! text, and nothing multiplies. That is why this is not the automaton of event-ruler and quamina,
//! which leads from field to field and value to value and needs no evaluation behind it, but grows
//! with the combinations and suffers from wildcards that share beginnings. `aho-corasick` finds
//! what may stand anywhere in a text; texts, prefixes, suffixes, ranges and addresses need hardly
//! more than a search in a sorted list.
//!
//! What the index says is necessary, and sufficient for a rule that asks of one field alone. Of
//! others an array counts with all of its values, and that a pattern must hold within one element
//! is for the evaluation to see.

mod access;
mod field;
mod joined;
mod prefixes;
mod ranges;

use std::collections::HashMap;
use std::ops::Range;

use pointsman_schemas::event::JSON_DEPTH_MAX;
use pointsman_schemas::{AttributeValue, DataKind, Event};

use crate::document::{Document, Outlined};
use crate::fields::{FieldId, Fields, Found, Frame, Kind, ROOT, Slots};
use crate::hits::{List, Lists};
use crate::json::{self, Scalar};
use crate::origin::Origin;
use crate::pattern::Evaluation;
use crate::rule::Rule;
use crate::scratch::{Scratch, Workspace};

use access::Key;
use field::Values;
use joined::Joined;

/// Up to so many attributes that rules ask for are looked up in the event; of more, the event's own
/// are looked up among them.
const ATTRIBUTES_LISTED: usize = 16;

/// The index of a set of rules.
#[derive(Debug)]
pub(crate) struct Index {
    lists: Lists,
    rules: Joined,
    /// Of the rules of which nothing tells.
    always: List,
    origins: HashMap<Origin, List>,
    /// By number of the field.
    values: Vec<Option<Box<Values>>>,
    /// Whether anything is asked of the fields under a field.
    below: Vec<bool>,
    /// The attributes of which something is asked.
    attributes: Vec<(Box<str>, FieldId)>,
    /// Whether anything is asked of the data.
    data: Option<FieldId>,
    absent_attributes: Vec<(Box<str>, List)>,
    /// By the field and those above it, from the data on.
    absent_data: Vec<(Box<[FieldId]>, List)>,
}

impl Index {
    /// Enters all rules, whose fields are numbered.
    pub(crate) fn new(rules: &[Rule], fields: &Fields) -> Self {
        let (mut lists, mut always) = (Lists::default(), Vec::new());
        let (mut origins, mut absent, mut tests) =
            (Vec::new(), Vec::new(), HashMap::<FieldId, Vec<_>>::new());
        let mut joined = Joined::default();
        for (rule, choice) in (0..).zip(access::choose(rules, fields)) {
            joined.add(choice.left, fields);
            for key in choice.way.unwrap_or_else(|| {
                always.push(rule);
                Vec::new()
            }) {
                match key {
                    Key::Origin(origin) => origins.push((origin, rule)),
                    Key::Absent(field) => absent.push((field, rule)),
                    Key::Scalar(field, test) => tests.entry(field).or_default().push((test, rule)),
                }
            }
        }
        let always = lists.add(always);
        let mut values: Vec<_> = (0..fields.len()).map(|_| None).collect();
        for (field, tests) in tests {
            if let Some(slot) = values.get_mut(field as usize) {
                *slot = Some(Box::new(Values::new(tests, &mut lists)));
            }
        }
        let asked = |field: FieldId| values.get(field as usize).is_some_and(Option::is_some);
        let below: Vec<_> = (0..fields.len() as FieldId)
            .map(|field| fields.below(field).any(asked))
            .collect();
        let data = fields.child(ROOT, b"data");
        let is_attribute = |field: FieldId| {
            data.is_none_or(|data| field != data && !fields.below(data).contains(&field))
        };
        let attributes = fields
            .children(ROOT)
            .iter()
            .filter(|(_, field)| is_attribute(*field) && asked(*field))
            .cloned()
            .collect();
        let (absent_attributes, absent_data): (Vec<_>, Vec<_>) = lists
            .group(absent)
            .into_iter()
            .partition(|(field, _)| is_attribute(*field));
        Self {
            rules: joined,
            always,
            origins: lists.group(origins).into_iter().collect(),
            data: data.filter(|data| {
                asked(*data) || fields.below(*data).any(asked) || !absent_data.is_empty()
            }),
            values,
            below,
            attributes,
            absent_attributes: absent_attributes
                .into_iter()
                .filter_map(|(field, list)| {
                    let (name, _) = fields.children(ROOT).get(fields.attribute(field)?)?;
                    Some((name.clone(), list))
                })
                .collect(),
            absent_data: absent_data
                .into_iter()
                .map(|(field, list)| (fields.way(field), list))
                .collect(),
            lists,
        }
    }

    /// Notes in the scratch which rules an event may satisfy. The scratch has been started for it.
    pub(crate) fn search(
        &self,
        fields: &Fields,
        origin: Origin,
        event: &Event,
        document: &Document<'_>,
        scratch: &mut Scratch,
    ) {
        let workspace = &mut scratch.workspace;
        workspace.hits.start(&self.lists, self.rules.len());
        self.hit(self.always, workspace);
        if let Some(list) = self.origins.get(&origin) {
            self.hit(*list, workspace);
        }
        self.attributes(fields, event, document, workspace);
        match event.data() {
            Some(data) if data.kind() == DataKind::Json && self.data.is_some() => {
                let mut evaluation = Evaluation::new(fields, document, scratch);
                let (frame, outlined) = (evaluation.frame(), evaluation.outlined());
                let mut walk = Walk {
                    index: self,
                    fields,
                    document,
                    outlined,
                    slots: &mut scratch.slots,
                    workspace: &mut scratch.workspace,
                };
                walk.absent(frame);
                walk.frame(frame);
            }
            data => {
                self.absent_data
                    .iter()
                    .for_each(|(_, list)| self.hit(*list, workspace));
                if let (Some(data), Some(field)) =
                    (data.filter(|data| data.kind() == DataKind::Text), self.data)
                {
                    self.scalar(field, Scalar::Text(data.bytes()), document, workspace);
                }
            }
        }
    }

    /// Whether a rule that was hit holds; none where only its evaluation tells.
    pub(crate) fn holds(
        &self,
        rule: u32,
        fields: &Fields,
        event: &Event,
        document: &Document<'_>,
        scratch: &mut Scratch,
    ) -> Option<bool> {
        self.rules.holds(rule, fields, event, document, scratch)
    }

    fn hit(&self, list: List, workspace: &mut Workspace) {
        workspace.hits.hit(&self.lists, list);
    }

    fn attributes(
        &self,
        fields: &Fields,
        event: &Event,
        document: &Document<'_>,
        workspace: &mut Workspace,
    ) {
        let mut look = |field: FieldId, value: AttributeValue<'_>| {
            self.scalar(field, value.into(), document, workspace);
        };
        if self.attributes.len() <= ATTRIBUTES_LISTED {
            for (name, field) in &self.attributes {
                if let Some(value) = event.attribute(name) {
                    look(*field, value);
                }
            }
        } else {
            for (name, value) in event.attributes() {
                if let Some(field) = fields.child(ROOT, name.as_bytes()) {
                    look(field, value);
                }
            }
        }
        for (name, list) in &self.absent_attributes {
            if event.attribute(name).is_none() {
                self.hit(*list, workspace);
            }
        }
    }

    fn scalar(
        &self,
        field: FieldId,
        scalar: Scalar<'_>,
        document: &Document<'_>,
        workspace: &mut Workspace,
    ) {
        if let Some(values) = self.asked(field) {
            let Workspace {
                hits,
                workings,
                room,
                ..
            } = workspace;
            values.hit(scalar, document, workings, room, &self.lists, hits);
        }
    }

    fn asked(&self, field: FieldId) -> Option<&Values> {
        self.values.get(field as usize)?.as_deref()
    }

    fn below(&self, field: FieldId) -> bool {
        self.below.get(field as usize).copied().unwrap_or_default()
    }
}

/// A walk over what was found of an event's data, into the elements of arrays too.
struct Walk<'i, 's> {
    index: &'i Index,
    fields: &'i Fields,
    document: &'i Document<'i>,
    outlined: Outlined<'i>,
    slots: &'s mut Slots,
    workspace: &'s mut Workspace,
}

impl Walk<'_, '_> {
    /// Where an array is on the way, one of its elements may lack what another one has.
    fn absent(&mut self, frame: Frame) {
        let outlined = self.outlined;
        for (path, list) in &self.index.absent_data {
            let there = path.split_last().is_some_and(|(field, above)| {
                let buffer = &mut self.workspace.buffer;
                let is_scalar = |found: Found| {
                    found.kind == Kind::Scalar
                        && json::scalar(outlined.get(found.range()), buffer).is_some()
                };
                self.slots.all(frame, *field).any(is_scalar)
                    && above.iter().all(|field| {
                        self.slots
                            .all(frame, *field)
                            .all(|found| found.kind != Kind::Array)
                    })
            });
            if !there {
                self.index.hit(*list, self.workspace);
            }
        }
    }

    /// The frame must be the one that was opened last.
    fn frame(&mut self, frame: Frame) {
        let mut place = 0;
        while let Some(field) = self.slots.found(frame, place) {
            place += 1;
            let mut next = Some(self.slots.get(frame, field));
            while let Some(slot) = next {
                match slot.found.kind {
                    Kind::Scalar => self.scalar(field, slot.found.range()),
                    Kind::Array if self.index.below(field) || self.index.asked(field).is_some() => {
                        self.array(field, slot.found.item(), 0)
                    }
                    Kind::Array | Kind::Object | Kind::Nothing => {}
                }
                next = self.slots.next(slot);
            }
        }
    }

    fn scalar(&mut self, field: FieldId, value: Range<usize>) {
        let Some(values) = self.index.asked(field) else {
            return;
        };
        let Workspace {
            hits,
            workings,
            room,
            buffer,
        } = &mut *self.workspace;
        if let Some(scalar) = json::scalar(self.outlined.get(value), buffer) {
            values.hit(
                scalar,
                self.document,
                workings,
                room,
                &self.index.lists,
                hits,
            );
        }
    }

    /// As deep as the evaluation goes.
    fn array(&mut self, field: FieldId, array: usize, depth: usize) {
        if depth == JSON_DEPTH_MAX {
            return;
        }
        let outlined = self.outlined;
        for (number, element) in outlined.inner(array) {
            match outlined.text.get(element.range().start) {
                Some(b'{') if self.index.below(field) => {
                    let frame = self.slots.open(self.fields, field, outlined, number);
                    self.frame(frame);
                    self.slots.close(frame);
                }
                Some(b'{') => {}
                Some(b'[') => self.array(field, number, depth + 1),
                _ => self.scalar(field, element.range()),
            }
        }
    }
}
