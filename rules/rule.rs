//! Rules: which events they take, and from which sources.

use pointsman_schemas::Event;

use crate::condition::Condition;
use crate::document::{Document, Root};
use crate::fields::{FieldId, Fields, FieldsBuilder, ROOT};
use crate::filters::Filters;
use crate::origin::OriginSet;
use crate::pattern::{Evaluation, Pattern};
use crate::scratch::Scratch;

/// What an event must be like: all that is given must hold.
#[derive(Debug, Default)]
pub struct Filter {
    /// `match`.
    pub pattern: Option<Pattern>,
    /// `where`.
    pub condition: Option<Condition>,
    /// `filters`, which hold for events alone.
    pub filters: Option<Filters>,
}

/// A filter, and the sources whose events it looks at.
#[derive(Debug)]
pub struct Rule {
    /// The sources.
    pub from: OriginSet,
    /// What their events must be like.
    pub filter: Filter,
}

impl From<Pattern> for Filter {
    fn from(pattern: Pattern) -> Self {
        Self {
            pattern: Some(pattern),
            ..Self::default()
        }
    }
}

impl From<Condition> for Filter {
    fn from(condition: Condition) -> Self {
        Self {
            condition: Some(condition),
            ..Self::default()
        }
    }
}

impl From<Filters> for Filter {
    fn from(filters: Filters) -> Self {
        Self {
            filters: Some(filters),
            ..Self::default()
        }
    }
}

impl Filter {
    /// True where nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pattern.is_none() && self.condition.is_none() && self.filters.is_none()
    }

    /// Whether all of it holds for a document.
    #[must_use]
    pub fn holds(&self, document: &Document<'_>, scratch: &mut Scratch) -> bool {
        let event = match document.root() {
            Root::Event(event) => Some(event),
            _ => None,
        };
        self.filters
            .as_ref()
            .is_none_or(|filters| event.is_some_and(|event| filters.hold(event)))
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.matches(document, scratch))
            && self
                .condition
                .as_ref()
                .is_none_or(|condition| condition.holds(document, scratch))
    }

    /// As [`Filter::holds`], by the fields of a whole set of rules, which the scratch may have read
    /// already.
    pub(crate) fn holds_in(
        &self,
        fields: &Fields,
        event: &Event,
        document: &Document<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        // What looks at attributes alone comes first.
        self.filters
            .as_ref()
            .is_none_or(|filters| filters.hold(event))
            && self.pattern.as_ref().is_none_or(|pattern| {
                Evaluation::new(fields, document, scratch).pattern(&pattern.root)
            })
            && self
                .condition
                .as_ref()
                .is_none_or(|condition| condition.holds_in(fields, document, scratch))
    }

    /// Enters its fields into those of a set of rules, with provisional numbers.
    pub(crate) fn register(&mut self, builder: &mut FieldsBuilder) {
        if let Some(pattern) = &mut self.pattern {
            pattern.root.register(builder, ROOT);
        }
        if let Some(condition) = &mut self.condition {
            condition.register(builder);
        }
        if let Some(filters) = &self.filters {
            filters.register(builder);
        }
    }

    /// Replaces the provisional numbers by those of the set.
    pub(crate) fn renumber(&mut self, renumbered: &[FieldId]) {
        if let Some(pattern) = &mut self.pattern {
            pattern.root.renumber(renumbered);
            pattern.fields = Fields::default();
        }
        if let Some(condition) = &mut self.condition {
            condition.renumber(renumbered);
        }
    }
}
