//! What the bus asks of a target that runs commands.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Placement, Problem, TemplateText, Text};
use tower::util::BoxCloneSyncService;

use super::command;
use super::function::Function;
use super::settings::ExecTarget;
use crate::parameter::{Templates, called, is_template};
use crate::{AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

#[async_trait]
impl TargetSettings for ExecTarget {
    fn check(&self) -> Vec<Problem> {
        let mut problems = command::check(&self.command, &self.env, self.cwd.as_ref());
        let program = self.command.first().and_then(Text::literal);
        if program.is_some_and(is_template) {
            problems.push(
                Problem::new("an event must not choose the program")
                    .at(0)
                    .at("command")
                    .help("use templates in its arguments"),
            );
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        let mut templates = Templates::default();
        self.parameters(|text, path| templates.note(text, Placement::Argument, path));
        templates.into_texts()
    }

    /// The program alone: its arguments may be secret.
    fn called(&self) -> Called {
        let program = Text::Literal(String::new());
        let program = self.command.first().unwrap_or(&program);
        called([(program, None)], |[program]| program.to_owned())
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let resolved_command = self.resolved()?;
        let folder = resolved_command.cwd.as_deref().unwrap_or(".");
        command::found(&resolved_command.program, folder.as_ref())
    }

    fn files(&self) -> Files {
        let texts = command::texts(&self.command, &self.env, self.cwd.as_ref());
        Files::of(texts.map(|(_, text)| text))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        // Before they are read: what changes meanwhile is read again.
        let files = self.files();
        let resolved = self.resolved()?;
        let function = Arc::new(Function::new(self.clone(), resolved, files, context));
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let function = Arc::clone(&function);
                async move { Ok::<_, AttemptError>(function.attempt(&attempt).await) }
            },
        )))
    }
}
