//! Where what a source brings goes: into the journal, or through its pipe.

use pointsman_connectors::{Source, SourceError};
use tokio_util::sync::CancellationToken;

use crate::intake::Intake;
use crate::pipes::PipeIntake;
use pointsman_journal::Journal;

/// A source's way in.
pub(super) enum Way {
    Bus(Box<Intake>),
    Pipe(Box<PipeIntake>),
}

impl Way {
    /// Where its cursors are kept.
    pub(super) fn journal(&self) -> &dyn Journal {
        match self {
            Self::Bus(intake) => intake.journal(),
            Self::Pipe(intake) => &**intake.journal(),
        }
    }

    /// Runs the source until it ends or is stopped, and then sees to what has come in.
    pub(super) async fn run(
        &mut self,
        source: &mut dyn Source,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        match self {
            Self::Bus(intake) => intake.run(source, stop).await,
            Self::Pipe(intake) => intake.run(source, stop).await,
        }
    }
}
