//! Why a call came to nothing.

use pointsman_schemas::{Class, Outcome};

use super::refusal::Refusal;
use super::subject::Subject;
use crate::OpenError;

/// Why a call came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No answer came, or none that can be read; with what follows from that.
    Unanswered(Box<Outcome>),
    /// The answer is no success.
    Refused(Refusal),
}

impl Failure {
    /// No request can be made.
    pub(crate) fn unmade(error: http::Error) -> Self {
        let told = format!("no request can be made: {error}");
        Self::Unanswered(Box::new(Outcome::new(Class::Rejected, told)))
    }

    /// An answer to what was taken cannot be read.
    pub(crate) fn unreadable(why: impl std::fmt::Display) -> Self {
        let told = format!("the answer cannot be read: {why}; it may have been taken");
        Self::Unanswered(Box::new(Outcome::new(Class::Failed, told)))
    }

    /// What follows for a delivery, of which `what` says what was done.
    pub(crate) fn outcome(self, what: &str) -> Box<Outcome> {
        match self {
            Self::Unanswered(mut outcome) => {
                outcome.message = format!("{what}: {}", outcome.message);
                outcome
            }
            Self::Refused(refusal) => Box::new(refusal.outcome(what)),
        }
    }

    /// What it means for who looks after the settings.
    pub(crate) fn problem(&self, subject: Subject<'_>) -> OpenError {
        match self {
            Self::Unanswered(outcome) => subject.unanswered(&outcome.message),
            Self::Refused(refusal) => subject.refused(refusal),
        }
    }
}
