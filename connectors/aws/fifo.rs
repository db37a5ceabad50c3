//! Groups and deduplication, by which FIFO queues and topics keep an order and leave out what they
//! have already. What is not FIFO takes groups too, and shares itself out between them.

use pointsman_schemas::{Class, Outcome, Placement, Problem, Text};

use crate::parameter::{Parameter, Templates, is_template};
use crate::{Delivery, OpenError};

/// What the name of a FIFO queue or topic ends with.
pub(crate) const FIFO: &str = ".fifo";

/// The longest group or id for deduplication.
const ID_BYTES_MAX: usize = 128;

/// What the settings say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequencing<'s> {
    pub(crate) group: Option<&'s Text>,
    pub(crate) deduplication: Option<&'s Text>,
}

/// The templates among those, by their indexes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexes {
    group: Option<usize>,
    deduplication: Option<usize>,
}

impl Sequencing<'_> {
    /// Every mistake in what is written out, for a queue or topic of this name.
    pub(crate) fn check(self, name: &str) -> Vec<Problem> {
        let is_fifo = name.ends_with(FIFO);
        let mut problems = Vec::new();
        if is_fifo && self.group.is_none() {
            problems.push(
                Problem::new("what is FIFO needs a group, within which it keeps the order")
                    .at("group")
                    .help("write one such as <$.subject>"),
            );
        }
        if !is_fifo && self.deduplication.is_some() {
            problems.push(
                Problem::new("only what is FIFO leaves out duplicates: its name ends with .fifo")
                    .at("deduplication")
                    .help("leave it out"),
            );
        }
        for (at, text) in [("group", self.group), ("deduplication", self.deduplication)] {
            let text = text.and_then(Text::literal);
            if let Some(mistake) = text.filter(|text| !is_template(text)).and_then(mistake) {
                problems.push(Problem::new(mistake).at(at));
            }
        }
        problems
    }

    /// Notes what is to be filled in.
    pub(crate) fn note(self, templates: &mut Templates) -> Indexes {
        let mut note = |text: Option<&Text>, at: &str| {
            text.and_then(|text| templates.note(text, Placement::Address, vec![at.into()]))
        };
        Indexes {
            group: note(self.group, "group"),
            deduplication: note(self.deduplication, "deduplication"),
        }
    }

    /// Reads the settings, for a queue or topic of this name.
    ///
    /// # Errors
    /// One of them cannot be read, or does not fit the name.
    pub(crate) fn open(self, indexes: Indexes, name: &str) -> Result<Sequenced, OpenError> {
        if let Some(problem) = self.check(name).into_iter().next() {
            return Err(OpenError(problem));
        }
        let open = |text: Option<&Text>, index, at: &str| {
            text.map(|text| Parameter::open(text, index, &[at.into()]))
                .transpose()
        };
        Ok(Sequenced {
            is_fifo: name.ends_with(FIFO),
            group: open(self.group, indexes.group, "group")?,
            deduplication: open(self.deduplication, indexes.deduplication, "deduplication")?,
        })
    }
}

/// How the messages of a target are sequenced.
#[derive(Clone, Debug)]
pub(crate) struct Sequenced {
    is_fifo: bool,
    group: Option<Parameter>,
    deduplication: Option<Parameter>,
}

impl Sequenced {
    /// The group of a delivery's message, and the id that tells it from others.
    ///
    /// # Errors
    /// They cannot be sent.
    pub(crate) fn of(
        &self,
        delivery: &Delivery,
    ) -> Result<(Option<String>, Option<String>), Outcome> {
        let text = |parameter: &Option<Parameter>| {
            parameter
                .as_ref()
                .map(|text| text.text(delivery).to_owned())
        };
        let group = text(&self.group).filter(|group| self.is_fifo || !group.is_empty());
        let deduplication = match text(&self.deduplication) {
            None if self.is_fifo => Some(delivery.id.to_string()),
            deduplication => deduplication,
        };
        for (what, text) in [("group", &group), ("deduplication", &deduplication)] {
            if let Some(mistake) = text.as_deref().and_then(mistake) {
                let told = format!("the {what} {text:?} is none: {mistake}");
                return Err(Outcome::new(Class::Rejected, told));
            }
        }
        Ok((group, deduplication))
    }
}

fn mistake(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        return Some("it has 1 to 128 characters");
    }
    let is_allowed = text.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_allowed).then_some("it is made of the letters, digits and punctuation of ASCII")
}
