//! What a run may use up, and how values are charged for.

use std::cell::Cell;
use std::hint::black_box;

use jaq_core::data::HasLut;
use jaq_core::{DataT, Lut};
use jaq_json::{Num, Val};

use crate::document::Document;

use super::{DEPTH_MAX, JqError, LOOKS_AT_ALL};

/// Stack that a run may use, of the 2 MiB that a thread of the runtime has.
const STACK_BYTES_MAX: usize = 1280 * 1024;

/// Longest integer, in bits: calculating with longer ones takes more time than a step is worth.
const INTEGER_BITS_MAX: u64 = 4096;

/// Nodes of a value, and bytes of its texts, that one step pays for. A step stands for about a
/// tenth of a microsecond and, where the value is new, for no more than 64 bytes of texts or four
/// nodes, so that the steps bound the memory too.
const NODES_PER_STEP: u64 = 4;
const BYTES_PER_STEP: u64 = 64;

/// The values are jaq's, and each run has its budget with it.
pub(super) struct Bounded;

impl DataT for Bounded {
    type V<'a> = Val;
    type Data<'a> = Data<'a>;
}

/// What every filter of a run has at hand.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    pub(super) lut: &'a Lut<Bounded>,
    pub(super) budget: &'a Budget,
    /// What is looked at; it knows the time.
    pub(super) document: &'a Document<'a>,
}

impl<'a> HasLut<'a, Bounded> for Data<'a> {
    fn lut(&self) -> &'a Lut<Bounded> {
        self.lut
    }
}

/// What a run has left. A program can catch the error that says so, and then gets it again at its
/// next step.
pub(super) struct Budget {
    steps: Cell<u64>,
    /// Where the stack was when the run began.
    stack: usize,
    spent: Cell<Option<JqError>>,
}

/// About where the stack is.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(black_box(&here)).addr()
}

impl Budget {
    /// The budget of a run over an event: so many steps, and more where the event is large.
    pub(super) fn of(input: &Val, steps: u64) -> Self {
        let budget = Self {
            steps: Cell::new(u64::MAX),
            stack: stack_address(),
            spent: Cell::new(None),
        };
        let mut weight = Weight::default();
        // An event that is nested too deeply is told of when the program looks there.
        let _ = budget.add(input, 0, &mut weight);
        budget.spent.set(None);
        budget.steps.set(steps + LOOKS_AT_ALL * weight.steps());
        budget
    }

    /// Why the run had to end, where it had to.
    pub(super) fn spent(&self) -> Option<JqError> {
        let spent = self.spent.take();
        self.spent.set(spent.clone());
        spent
    }

    fn end(&self, why: JqError) -> jaq_json::Error {
        let message = why.to_string();
        self.spent.set(Some(why));
        jaq_json::Error::str(message)
    }

    /// Pays for some steps.
    pub(super) fn step(&self, steps: u64) -> Result<(), jaq_json::Error> {
        if self.stack.abs_diff(stack_address()) > STACK_BYTES_MAX {
            return Err(self.end(JqError::Deep));
        }
        match self.steps.get().checked_sub(steps) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => {
                self.steps.set(0);
                Err(self.end(JqError::Steps))
            }
        }
    }

    /// Pays for a value as large as this one. Refuses what is nested too deeply for those who walk
    /// through it without looking.
    pub(super) fn weigh(&self, value: &Val) -> Result<(), jaq_json::Error> {
        let mut weight = Weight::default();
        self.add(value, 0, &mut weight)?;
        self.step(weight.steps())
    }

    fn add(&self, value: &Val, depth: usize, weight: &mut Weight) -> Result<(), jaq_json::Error> {
        weight.nodes += 1;
        // Shared parts count as often as they are seen, so that this walk needs a bound itself.
        if weight.nodes / NODES_PER_STEP > self.steps.get() {
            return self.step(u64::MAX);
        }
        if depth > DEPTH_MAX {
            return Err(self.end(JqError::Deep));
        }
        match value {
            Val::TStr(text) | Val::BStr(text) => weight.bytes += text.len() as u64,
            Val::Num(Num::Dec(text)) => weight.bytes += text.len() as u64,
            Val::Num(Num::BigInt(integer)) if integer.bits() > INTEGER_BITS_MAX => {
                return Err(self.end(JqError::Number));
            }
            Val::Arr(items) => items
                .iter()
                .try_for_each(|item| self.add(item, depth + 1, weight))?,
            Val::Obj(entries) => entries.iter().try_for_each(|(key, item)| {
                self.add(key, depth + 1, weight)?;
                self.add(item, depth + 1, weight)
            })?,
            _ => {}
        }
        Ok(())
    }
}

#[derive(Default)]
struct Weight {
    nodes: u64,
    bytes: u64,
}

impl Weight {
    fn steps(&self) -> u64 {
        1 + self.nodes / NODES_PER_STEP + self.bytes / BYTES_PER_STEP
    }
}
