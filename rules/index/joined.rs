//! What a rule that was hit still has to show, where its pattern only joins what single fields must
//! hold.
//!
//! Most patterns do. What they ask for lies side by side here, texts in one buffer, so that a
//! candidate costs a look at a cache line or two instead of a walk through its tree.

use std::ops::Range;
use std::sync::Arc;

use pointsman_schemas::{AttributeValue, Event};

use super::access::Left;
use crate::document::Document;
use crate::fields::{FieldId, Fields, ROOT};
use crate::pattern::{Evaluation, Leaf, Operator};
use crate::scratch::Scratch;
use crate::workings::Workings;

/// Of each rule what is left to see of it.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Where the tests of each rule lie; none where the rule must be evaluated.
    rules: Vec<Option<Range<u32>>>,
    tests: Vec<Test>,
    texts: Vec<u8>,
}

#[derive(Debug)]
struct Test {
    place: Place,
    expected: Expected,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// By its place among the fields under the root.
    Attribute(usize),
    Data(FieldId),
}

#[derive(Debug)]
enum Expected {
    /// This text alone, in its quotes.
    Text(Range<u32>),
    Leaf(Arc<Leaf>),
}

impl Joined {
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Adds the next rule.
    pub(super) fn add(&mut self, left: Left<'_>, fields: &Fields) {
        let Left::Leaves(leaves) = left else {
            return self.rules.push(None);
        };
        let start = self.tests.len() as u32;
        for (field, leaf) in leaves {
            let place = fields
                .attribute(field)
                .map_or(Place::Data(field), Place::Attribute);
            let expected = match leaf.list.operators() {
                [Operator::Text(text)] if !text.iter().any(is_escaped) => {
                    let start = self.texts.len() as u32;
                    self.texts.extend([b"\"", &**text, b"\""].concat());
                    Expected::Text(start..self.texts.len() as u32)
                }
                _ => Expected::Leaf(Arc::clone(leaf)),
            };
            self.tests.push(Test { place, expected });
        }
        self.rules.push(Some(start..self.tests.len() as u32));
    }

    /// Whether a rule that was hit holds; none where only its evaluation tells.
    ///
    /// What single values of an object show is enough for a pattern that joins them. Where they do
    /// not, elements of arrays may.
    pub(super) fn holds(
        &self,
        rule: u32,
        fields: &Fields,
        event: &Event,
        document: &Document<'_>,
        scratch: &mut Scratch,
    ) -> Option<bool> {
        let tests = self.rules.get(rule as usize)?.clone()?;
        for test in self.tests.get(tests.start as usize..tests.end as usize)? {
            match test.place {
                Place::Attribute(name) => {
                    let (name, _) = fields.children(ROOT).get(name)?;
                    let value = event.attribute(name)?;
                    let workings = &mut scratch.workspace.workings;
                    if !self.attribute_fits(&test.expected, value, document, workings) {
                        return Some(false);
                    }
                }
                Place::Data(field) => {
                    let mut evaluation = Evaluation::new(fields, document, scratch);
                    let is_shown = match &test.expected {
                        Expected::Text(text) => evaluation.first_is(field, self.written(text)),
                        Expected::Leaf(leaf) => evaluation.first_fits(field, leaf),
                    };
                    if !is_shown {
                        return None;
                    }
                }
            }
        }
        Some(true)
    }

    fn attribute_fits(
        &self,
        expected: &Expected,
        value: AttributeValue<'_>,
        document: &Document<'_>,
        workings: &mut Workings,
    ) -> bool {
        match expected {
            Expected::Text(text) => {
                let AttributeValue::String(found) = value else {
                    return false;
                };
                let written = self.written(text);
                written.get(1..written.len() - 1) == Some(found.as_bytes())
            }
            Expected::Leaf(leaf) => leaf.list.fits(value.into(), document, workings),
        }
    }

    /// A text in its quotes.
    fn written(&self, text: &Range<u32>) -> &[u8] {
        let range = text.start as usize..text.end as usize;
        self.texts.get(range).unwrap_or_default()
    }
}

/// Whether JSON has another way, or no other way, to write a text with this byte in it.
fn is_escaped(byte: &u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}
