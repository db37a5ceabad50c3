//! How likely events are to have what rules ask for, as far as the rules tell.

use std::collections::HashMap;

use ipnet::IpNet;

use super::key::{Key, Part, Test};
use crate::fields::FieldId;
use crate::number::Number;
use crate::origin::Origin;

/// How likely an event fits what tells nothing: `anything-but`, `exists`, a missing field. Anything
/// else is a better way.
const UNTOLD: f64 = 1.0;

/// How often the rules name what events may have.
#[derive(Default)]
pub(super) struct Statistics<'r> {
    origins: HashMap<Origin, u32>,
    /// Of all origins together.
    from: u32,
    texts: HashMap<(FieldId, bool, Part, &'r [u8]), u32>,
    networks: HashMap<(FieldId, IpNet), u32>,
    /// Of texts and networks together.
    named: HashMap<FieldId, u32>,
    numbers: HashMap<FieldId, Vec<Number>>,
}

impl<'r> Statistics<'r> {
    pub(super) fn count(&mut self, key: &Key<'r>) {
        match key {
            Key::Origin(origin) => {
                *self.origins.entry(*origin).or_default() += 1;
                self.from += 1;
            }
            Key::Scalar(field, test) => {
                let counted = match test {
                    Test::Text(part, bytes) => {
                        self.texts.entry((*field, false, *part, bytes)).or_default()
                    }
                    Test::Folded(part, bytes) => {
                        self.texts.entry((*field, true, *part, bytes)).or_default()
                    }
                    Test::Network(net) => self.networks.entry((*field, *net)).or_default(),
                    Test::Number(range) => {
                        let bounds = [range.from, range.to]
                            .into_iter()
                            .flatten()
                            .map(|(number, _)| number);
                        return self.numbers.entry(*field).or_default().extend(bounds);
                    }
                    Test::Boolean(_) | Test::Null | Test::Leaf(_) => return,
                };
                *counted += 1;
                *self.named.entry(*field).or_default() += 1;
            }
            Key::Absent(_) => {}
        }
    }

    pub(super) fn sort(&mut self) {
        for numbers in self.numbers.values_mut() {
            numbers.sort_unstable();
            numbers.dedup();
        }
    }

    /// The share of events that are expected to have a key.
    pub(super) fn likelihood(&self, key: &Key<'r>) -> f64 {
        let share = |count: Option<&u32>, total: u32| {
            f64::from(count.copied().unwrap_or_default()) / f64::from(total + 2)
        };
        let named = |field: &FieldId| self.named.get(field).copied().unwrap_or_default();
        let text = |field: &FieldId, folded, part, bytes: &'r [u8]| {
            let share = share(self.texts.get(&(*field, folded, part, bytes)), named(field));
            // What is short stands in many texts, whoever names it.
            if part == Part::Whole {
                share
            } else {
                share.max(0.5_f64.powi(bytes.len().min(64) as i32))
            }
        };
        match key {
            Key::Origin(origin) => share(self.origins.get(origin), self.from),
            Key::Absent(_) => UNTOLD,
            Key::Scalar(field, test) => match test {
                Test::Text(part, bytes) => text(field, false, *part, bytes),
                Test::Folded(part, bytes) => text(field, true, *part, bytes),
                Test::Network(net) => share(self.networks.get(&(*field, *net)), named(field))
                    .max(0.5_f64.powi(net.prefix_len().into())),
                Test::Number(range) => {
                    let bounds = self
                        .numbers
                        .get(field)
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    range.places(bounds).len() as f64 / (2 * bounds.len() + 1) as f64
                }
                Test::Boolean(_) | Test::Null => 0.5,
                Test::Leaf(_) => UNTOLD,
            },
        }
    }
}
