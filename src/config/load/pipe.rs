//! Pipes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use pointsman_schemas::Name;

use super::connector::TargetLayers;
use super::names::{BUILT_IN_SOURCES, Section};
use super::{Document, Loader};
use crate::config::mistake::Mistake;
use crate::config::raw::RawPipe;
use crate::config::reader::{Piece, read};
use crate::config::yaml::{Entry, Span, Value};
use crate::config::{Config, Rule};

/// Which pipe each source feeds.
pub(super) struct Fed<'d>(HashMap<(&'d Name, &'d str), (&'d Document<'d>, &'d Entry)>);

impl<'d> Fed<'d> {
    /// Collects them; of two pipes with one source the first counts.
    pub(super) fn collect(documents: &'d [Document<'d>]) -> Self {
        let mut fed = HashMap::new();
        for document in documents {
            for entry in document.section("pipes") {
                if let Some(source) = document
                    .entity(entry)
                    .get("from")
                    .and_then(|at| at.node.text())
                {
                    fed.entry((&document.tenant, source))
                        .or_insert((document, entry));
                }
            }
        }
        Self(fed)
    }

    /// The pipe that a source of the document's tenant feeds.
    pub(super) fn pipe_of(&self, document: &Document<'_>, source: &Name) -> Option<&'d str> {
        self.0
            .get(&(&document.tenant, source.as_str()))
            .map(|(_, entry)| entry.key.as_str())
    }

    /// Where the source of a pipe feeds another one first: that one's name and place.
    fn first(
        &self,
        document: &Document<'_>,
        source: &Name,
        pipe: &Entry,
    ) -> Option<(&'d str, &'d Document<'d>, Span)> {
        let (first, entry) = *self.0.get(&(&document.tenant, source.as_str()))?;
        (!std::ptr::eq(entry, pipe)).then_some((entry.key.as_str(), first, entry.key_span))
    }
}

impl Loader<'_, '_> {
    pub(super) fn pipe(
        &self,
        document: &Document<'_>,
        entry: &Entry,
        layers: &TargetLayers<'_>,
    ) -> Option<Rule> {
        let piece = document.entity(entry);
        if piece.node.value == Value::Null {
            piece.report(
                format!("the pipe `{}` is empty", entry.key),
                "give it a source and a target: { from: a-source, to: a-target }",
            );
            return None;
        }
        let raw = read::<RawPipe>(piece)?;
        let from = self.source_of(document, entry, piece);
        for delivery in [Some(piece), piece.get("to")]
            .into_iter()
            .flatten()
            .filter_map(|at| at.get("delivery"))
        {
            if let Some(at) = delivery.get("backlog") {
                at.report_key(
                    "a pipe has no backlog",
                    "remove it: what a pipe has no room for waits in its source",
                );
            }
            if let Some(at) = delivery.get("history") {
                at.report_key(
                    "of what a pipe delivers no history is kept",
                    "remove it, or make a rule of the pipe, whose tasks are kept in the store",
                );
            }
            let is_template =
                |at: &Piece<'_>| at.node.text().is_some_and(|text| text.contains("<$"));
            if let Some(at) = delivery.get("priority").filter(is_template) {
                at.report_key(
                    "a pipe takes events as its source gives them, whatever they say",
                    "give all of them one `priority`, a number, or make a rule of the pipe",
                );
            }
            if let Some(at) = delivery.get("delay") {
                at.report_key(
                    "a pipe delays nothing: its source would have to keep what waits",
                    "remove it, or make a rule of the pipe, for which events wait in the store",
                );
            }
        }
        let rule = self.compiled_rule(
            document,
            entry,
            raw.into(),
            Some(from.into_iter().collect()),
            layers,
        )?;
        Some(Rule { pipe: true, ..rule })
    }

    fn source_of(&self, document: &Document<'_>, entry: &Entry, piece: Piece<'_>) -> Option<Name> {
        let Some(at) = piece.get("from") else {
            if !piece.mistakes.was_meant(piece.node, "from") {
                let mistake = Mistake::new(
                    entry.key_span,
                    "this pipe has no `from`: nothing ever comes",
                );
                piece.mistakes.report(mistake.help("add from: a-source"));
            }
            return None;
        };
        let text = at.node.text()?;
        if BUILT_IN_SOURCES.contains(&text) {
            at.report(
                format!("`{text}` feeds rules alone"),
                "write a rule: what comes there is stored before anybody is answered",
            );
            return None;
        }
        let name = self.resolve(Section::Sources, document, text, at)?;
        if let Some((pipe, first, span)) = self.fed.first(document, &name, entry) {
            let place = first.place(span);
            at.report(
                format!("`{name}` feeds the pipe `{pipe}` already"),
                format!("that is at {place}; a source feeds one pipe"),
            );
        }
        Some(name)
    }
}

/// Marks the sources that feed pipes. One that comes to feed another pipe or target counts as
/// changed: what it has handed over and is not acknowledged has to come again.
pub(super) fn connect(config: &mut Config) {
    for pipe in config.rules.iter().filter(|rule| rule.pipe) {
        let feeds = |source: &Name| pipe.from.as_ref().is_some_and(|from| from.contains(source));
        for source in config
            .sources
            .iter_mut()
            .filter(|source| source.tenant == pipe.tenant && feeds(&source.name))
        {
            let mut hasher = DefaultHasher::new();
            let targets: Vec<&Name> = pipe.to.iter().map(|to| &to.target).collect();
            (source.fingerprint, &pipe.name, targets).hash(&mut hasher);
            (source.pipe, source.fingerprint) = (true, hasher.finish());
        }
    }
}

/// Marks the sources whose messages somebody takes in an order, once those that feed pipes are
/// marked: they feed nothing else.
pub(super) fn mark_ordered(config: &mut Config) {
    let is_ordered = |rule: &&Rule| rule.to.iter().any(|to| to.delivery.order_by.is_some());
    for rule in config.rules.iter().filter(is_ordered) {
        for source in &mut config.sources {
            let is_fed = match &rule.from {
                Some(from) => from.contains(&source.name),
                None => !source.pipe,
            };
            source.is_ordered |= is_fed && rule.tenant == source.tenant;
        }
    }
}
