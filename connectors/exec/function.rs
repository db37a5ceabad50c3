//! A target at work: one process for each delivery, and what its end means.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::{Class, Name, Outcome, Replies, json};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::process::{self, CommandOutput};
use super::settings::{ExecTarget, Input, Output, ResolvedCommand};
use crate::parameter::{Parameter, check_texts};
use crate::process::{group, how, inheriting};
use crate::{Attempt, Delivery, Files, TargetContext, trace};

/// A command, ready to be run.
pub(super) struct Function {
    name: Name,
    settings: ExecTarget,
    /// By what the files said when they were looked at last.
    resolved_command: Mutex<(Arc<ResolvedCommand>, Files)>,
    /// Owns what still watches over processes whose attempts were given up; each ends within the
    /// grace.
    processes: TaskTracker,
    /// Whose commands these are, and of which process.
    owner: String,
    bus: String,
    /// Set once nothing is left of an earlier life of Pointsman.
    is_clear: OnceCell<()>,
}

impl Function {
    pub(super) fn new(
        settings: ExecTarget,
        resolved: ResolvedCommand,
        files: Files,
        context: TargetContext,
    ) -> Self {
        Self {
            settings,
            resolved_command: Mutex::new((Arc::new(resolved), files)),
            processes: TaskTracker::new(),
            owner: group::owner(&format!("{}/{}", context.tenant, context.name)),
            bus: group::this_bus(),
            is_clear: OnceCell::new(),
            name: context.name,
        }
    }

    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            outcomes.push(self.deliver(attempt, delivery).await);
        }
        outcomes
    }

    async fn deliver(&self, attempt: &Attempt, delivery: &Delivery) -> Outcome {
        let clear = async || {
            if group::end_left_behind(&self.owner).await {
                Ok(())
            } else {
                Err(())
            }
        };
        if self.is_clear.get_or_try_init(clear).await.is_err() {
            return Outcome::new(
                Class::Unavailable,
                "a command that was started before Pointsman's last start still runs",
            );
        }
        let resolved_command = self.resolved_command();
        if let Err(outcome) = check_texts(delivery, resolved_command.texts) {
            return outcome;
        }
        let input = match self.settings.input {
            Input::Structured => {
                let mut input = Vec::with_capacity(delivery.event.size_bytes());
                json::encode(&delivery.event, &mut input);
                input.into()
            }
            Input::Data => delivery
                .event
                .data()
                .map(|data| data.bytes().clone())
                .unwrap_or_default(),
        };
        match process::run(
            self.command(&resolved_command, attempt, delivery),
            input,
            &attempt.end.see_to_it(),
            &self.processes,
        )
        .await
        {
            Ok(ended) => {
                let outcome = outcome(ended, self.settings.output);
                let message = resolved_command.hidden.hide(outcome.message);
                Outcome { message, ..outcome }
            }
            Err(error) => {
                let class = match error.kind() {
                    // These come of the event: a NUL or too much in an argument or a variable.
                    std::io::ErrorKind::InvalidInput | std::io::ErrorKind::ArgumentListTooLong => {
                        Class::Rejected
                    }
                    _ => Class::Unavailable,
                };
                let why = format!("cannot start {}: {error}", resolved_command.program);
                Outcome::new(class, resolved_command.hidden.hide(why))
            }
        }
    }

    /// What the command is made of now: files are read again once they have changed.
    fn resolved_command(&self) -> Arc<ResolvedCommand> {
        let mut current = self.resolved_command.lock();
        let (resolved_command, files) = &mut *current;
        if files.have_changed(true) {
            match self.settings.resolved() {
                Ok(changed) => *resolved_command = Arc::new(changed),
                Err(error) => {
                    tracing::warn!(
                        target = %self.name, %error,
                        "the target goes on with what its settings were before"
                    )
                }
            }
        }
        Arc::clone(resolved_command)
    }

    fn command(
        &self,
        resolved_command: &ResolvedCommand,
        attempt: &Attempt,
        delivery: &Delivery,
    ) -> Command {
        let text = |parameter: &Parameter| match parameter {
            Parameter::Constant(text) => text.clone(),
            Parameter::Filled(index) => delivery.texts.get(*index).cloned().unwrap_or_default(),
        };
        let arguments = resolved_command.arguments.iter().map(text);
        let mut command = inheriting(&resolved_command.program, arguments);
        let trace = trace::headers(delivery);
        command.envs(trace.map(|(name, value)| (name.to_ascii_uppercase(), value)));
        command.envs(
            resolved_command
                .variables
                .iter()
                .map(|(name, value)| (name, text(value))),
        );
        for (name, value) in delivery.event.attributes() {
            command.env(
                format!("CE_{}", name.to_ascii_uppercase()),
                value.to_string(),
            );
        }
        command
            .env("POINTSMAN_TASK", delivery.id.to_string())
            .env("POINTSMAN_ATTEMPT", delivery.attempt.to_string())
            .env("POINTSMAN_RULE", attempt.rule.as_str())
            .env("POINTSMAN_DEADLINE", attempt.deadline.to_string())
            .env(group::OWNER, &self.owner)
            .env(group::BUS, &self.bus);
        if let Some(cwd) = &resolved_command.cwd {
            command.current_dir(cwd);
        }
        command
    }
}

/// What an ended process means; the codes are those of `sysexits.h`.
pub(super) fn outcome(ended: CommandOutput, output: Output) -> Outcome {
    const EX_USAGE: i32 = 64;
    const EX_DATAERR: i32 = 65;
    const EX_TEMPFAIL: i32 = 75;
    let code = ended.status.code();
    let class = match code {
        Some(0) => Class::Delivered,
        Some(EX_TEMPFAIL) => Class::Throttled,
        Some(EX_USAGE | EX_DATAERR) => Class::Rejected,
        Some(_) | None => Class::Failed,
    };
    let mut outcome = Outcome {
        code,
        ..Outcome::new(class, "")
    };
    if class == Class::Delivered {
        if output == Output::Event && !ended.stdout.is_blank() {
            match ended.reply() {
                Ok(event) => outcome.replies = Some(Box::new(Replies::one(event))),
                Err(error) => {
                    outcome.message = format!("its standard output is no CloudEvent: {error}");
                    outcome.replies = Some(Box::new(Replies::unreadable(
                        ended.stdout.bytes(),
                        &*outcome.message,
                    )));
                }
            }
        }
    } else {
        outcome.message = how(ended.status);
        if let Some(line) = ended.stderr.last_line() {
            outcome.message = format!("{}: {line}", outcome.message);
        }
    }
    outcome.is_response_cut = ended.stdout.cut;
    outcome.response = Bytes::from(ended.stdout.into_bytes());
    outcome
}
