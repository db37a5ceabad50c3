//! Texts of a target's settings, some of which are filled in from each event.

use std::sync::Arc;

pub(crate) use pointsman_schemas::template::lexer::is_template;
use pointsman_schemas::{Class, Outcome, Placement, Problem, Segment, TemplateText, Text};

use crate::{Called, Delivery, OpenError};

/// A text that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parameter<C = String> {
    /// The same for every delivery, brought into its final form when the target opened.
    Constant(C),
    /// The text of this index in [`Delivery::texts`].
    Filled(usize),
}

impl Parameter {
    /// A text of the settings, which is a template where it has an index.
    ///
    /// # Errors
    /// It cannot be resolved.
    pub(crate) fn open(
        text: &Text,
        index: Option<usize>,
        path: &[Segment],
    ) -> Result<Self, OpenError> {
        match index {
            Some(index) => Ok(Self::Filled(index)),
            None => resolve(text, path).map(Self::Constant),
        }
    }

    /// The text for a delivery.
    pub(crate) fn text<'d>(&'d self, delivery: &'d Delivery) -> &'d str {
        match self {
            Self::Constant(text) => text,
            Self::Filled(index) => delivery.texts.get(*index).map_or("", String::as_str),
        }
    }
}

/// Collects a target's templates in the order in which [`crate::TargetSettings::templates`]
/// declares them.
#[derive(Debug, Default)]
pub(crate) struct Templates(Vec<TemplateText>);

impl Templates {
    /// Notes a text if it is a template, and tells its index.
    pub(crate) fn note(
        &mut self,
        text: &Text,
        placement: Placement,
        path: Vec<Segment>,
    ) -> Option<usize> {
        let template = text.literal().filter(|text| is_template(text))?;
        self.0.push(TemplateText {
            path,
            text: template.to_owned(),
            placement,
        });
        Some(self.0.len() - 1)
    }

    /// What was noted.
    pub(crate) fn into_texts(self) -> Vec<TemplateText> {
        self.0
    }

    /// How many were noted.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// What is called where texts of the settings say so, some of which are filled in: each with its
/// index if it is. `say` makes one line of them. A value that the settings do not show is not shown
/// here either, but where it comes from.
pub(crate) fn called<const N: usize>(
    texts: [(&Text, Option<usize>); N],
    say: impl Fn([&str; N]) -> String + Send + Sync + 'static,
) -> Called {
    let shown = texts.map(|(text, _)| match text {
        Text::Literal(text) => text.clone(),
        Text::Env(name) => format!("{{env: {name}}}"),
        Text::File(path) => format!("{{file: {}}}", path.display()),
    });
    let filled = texts.map(|(_, index)| index);
    let of = move |given: &[String]| {
        let mut parts = [""; N];
        for ((part, shown), index) in parts.iter_mut().zip(&shown).zip(filled) {
            let found = index.and_then(|index| given.get(index));
            *part = found.unwrap_or(shown);
        }
        say(parts)
    };
    if filled.iter().all(Option::is_none) {
        Called::always(of(&[]))
    } else {
        Called::Filled(Arc::new(of))
    }
}

/// The value of a setting, or where and why there is none.
pub(crate) fn resolve(text: &Text, path: &[Segment]) -> Result<String, OpenError> {
    let problem = |error: pointsman_schemas::setting::UnresolvedText| {
        OpenError(located(Problem::new(error.to_string()), path))
    };
    text.resolve()
        .map(|secret| secret.expose().to_owned())
        .map_err(problem)
}

/// Puts a path in front of a problem.
pub(crate) fn located(problem: Problem, path: &[Segment]) -> Problem {
    path.iter()
        .rev()
        .fold(problem, |problem, segment| problem.at(segment.clone()))
}

/// Refuses a delivery that does not carry the texts that were asked for.
pub(crate) fn check_texts(delivery: &Delivery, expected: usize) -> Result<(), Outcome> {
    let found = delivery.texts.len();
    let message =
        || format!("the delivery carries {found} filled-in texts where {expected} were declared");
    if found == expected {
        Ok(())
    } else {
        Err(Outcome::new(Class::Failed, message()))
    }
}
