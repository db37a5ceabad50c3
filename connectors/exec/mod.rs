//! Commands: as functions, one process for each attempt; and as sources, see [`ExecSource`].
//!
//! ```yaml
//! convert:
//!   exec: { command: [./convert.sh, "<$.data.key>"], env: { QUALITY: "80" }, cwd: ./functions }
//! ```
//!
//! **Started** without a shell. Without a `/` in it the command is looked for in `PATH`; a relative
//! path counts from `cwd`, and `cwd` from the folder of the rule file, which is Pointsman's own. `{
//! file: … }` is read again once the file has changed. Templates may stand in arguments and in
//! values of `env`, in this order in [`TargetSettings::templates`]; not in the command itself, lest
//! an event choose the program.
//!
//! **Given** the event on standard input, in the JSON format (`input: structured`, the default) or
//! its data alone (`input: data`), which it need not read. Its environment is not Pointsman's: it
//! holds [`INHERITED`], the event's attributes (`CE_ID`, `CE_TYPE`, … and extensions in capitals),
//! `POINTSMAN_TASK`, `POINTSMAN_ATTEMPT`, `POINTSMAN_RULE`, `POINTSMAN_DEADLINE`, and what `env`
//! sets. `{ env: NAME }` hands on a variable.
//!
//! **Answers** by its exit: 0 delivered, 75 throttled, 64 and 65 rejected, anything else or a
//! signal failed; a command that cannot be started is unavailable. The last 64 KiB of standard
//! output are the response, the last line of standard error the message. With `output: event` a
//! CloudEvent in the JSON format on standard output goes back onto the bus.
//!
//! **Ends** whole: a command runs in a process group of its own. When an attempt is given up the
//! group is asked to end (SIGTERM) and after two seconds killed; when the command has ended, what
//! it left in its group is killed. The attempt is over only once nothing of the group runs any
//! more, so that the next one begins after it; what left the session (`setsid`) goes on. After a
//! crash of Pointsman the first attempt of a target ends what its commands left behind: see
//! `group`.

mod group;
mod process;
mod source;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use indexmap::IndexMap;
use parking_lot::Mutex;
use pointsman_schemas::{
    Class, Name, Outcome, Placement, Problem, Replies, Segment, TemplateText, Text, json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tower::util::BoxCloneSyncService;

use crate::parameter::{Parameter, Templates, check_texts, is_template, resolve};
use crate::{
    Attempt, AttemptError, Delivery, Files, OpenError, TargetContext, TargetService, TargetSettings,
};
use process::CommandOutput;

pub use source::{ExecSource, LINE_TYPE};

/// What a command takes over of Pointsman's own environment: enough to find programs, a home and a
/// language, and no secrets.
pub const INHERITED: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
];

/// Runs a command for each event: the event on its standard input, its attributes as `CE_*`
/// variables.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecTarget {
    /// The program and its arguments, which may hold templates. No shell is involved.
    #[schemars(length(min = 1), extend("examples" = [["./convert.sh", "<$.data.key>"]], "prefixItems" = [{ "$ref": "#/$defs/Text", "minLength": 1, "not": { "type": "string", "pattern": "<\\$" } }]))]
    command: Vec<Text>,
    /// Environment variables for it, which may hold templates. Few others are handed on to it.
    #[serde(default)]
    env: IndexMap<String, Text>,
    /// The folder to run it in; without it, that of the rule file.
    cwd: Option<Text>,
    /// What it reads from its standard input.
    #[serde(default)]
    input: Input,
    /// What its standard output means.
    #[serde(default)]
    output: Output,
}

/// What a command reads from its standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Input {
    /// The whole event in the JSON format.
    #[default]
    Structured,
    /// The event's data as it came.
    Data,
}

/// What a command's standard output means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Output {
    /// Nothing: it is kept as the response.
    #[default]
    Text,
    /// A CloudEvent in the JSON format that goes back onto the bus; nothing printed is none.
    Event,
}

impl ExecTarget {
    /// The command's words and its variables, every text resolved but for the templates.
    fn parameters<T>(
        &self,
        mut each: impl FnMut(&Text, Vec<Segment>) -> T,
    ) -> (Vec<T>, Vec<(String, T)>) {
        let resolved_command = self
            .command
            .iter()
            .enumerate()
            .map(|(index, word)| each(word, vec!["command".into(), index.into()]))
            .collect();
        let variables = self
            .env
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    each(value, vec!["env".into(), name.as_str().into()]),
                )
            })
            .collect();
        (resolved_command, variables)
    }
}

impl ExecTarget {
    /// The command with everything known that no event decides.
    fn resolved(&self) -> Result<ResolvedCommand, OpenError> {
        let mut templates = Templates::default();
        let mut error = None;
        let (mut resolved_command, variables) = self.parameters(|text, path| {
            match templates.note(text, Placement::Argument, path.clone()) {
                Some(index) => Parameter::Filled(index),
                None => Parameter::Constant(resolve(text, &path).unwrap_or_else(|missing| {
                    error.get_or_insert(missing);
                    String::new()
                })),
            }
        });
        let cwd = self
            .cwd
            .as_ref()
            .map(|cwd| resolve(cwd, &["cwd".into()]))
            .transpose()?;
        if let Some(error) = error {
            return Err(error);
        }
        let arguments = resolved_command.split_off(1.min(resolved_command.len()));
        let Some(Parameter::Constant(program)) = resolved_command.pop() else {
            return Err(OpenError(
                Problem::new("a command needs a program that no event chooses").at("command"),
            ));
        };
        Ok(ResolvedCommand {
            program,
            arguments,
            variables,
            cwd,
            texts: templates.count(),
        })
    }
}

#[async_trait]
impl TargetSettings for ExecTarget {
    fn check(&self) -> Vec<Problem> {
        let mut problems = check_command(&self.command, &self.env);
        if self
            .command
            .first()
            .and_then(Text::literal)
            .is_some_and(is_template)
        {
            problems.push(
                Problem::new("an event must not choose the program")
                    .at(0)
                    .at("command")
                    .help("use templates in its arguments"),
            );
        }
        let (resolved_command, variables) = self.parameters(|text, path| {
            text.literal()
                .is_some_and(|text| text.contains('\0'))
                .then_some(path)
        });
        let nul = resolved_command
            .into_iter()
            .chain(variables.into_iter().map(|(_, found)| found))
            .flatten();
        problems.extend(nul.map(|path| Problem {
            path,
            ..Problem::new("a NUL cannot be handed to a command")
        }));
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        let mut templates = Templates::default();
        self.parameters(|text, path| templates.note(text, Placement::Argument, path));
        templates.into_texts()
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let resolved_command = self.resolved()?;
        let folder = resolved_command.cwd.as_deref().unwrap_or(".");
        found(&resolved_command.program, folder.as_ref())
    }

    fn files(&self) -> Files {
        Files::of(
            self.command
                .iter()
                .chain(self.env.values())
                .chain(&self.cwd),
        )
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        // Before they are read: what changes meanwhile is read again.
        let files = self.files();
        let function = Arc::new(Function {
            resolved_command: Mutex::new((Arc::new(self.resolved()?), files)),
            settings: self.clone(),
            processes: TaskTracker::new(),
            owner: group::owner(&format!("{}/{}", context.tenant, context.name)),
            bus: group::this_bus(),
            is_clear: OnceCell::new(),
            name: context.name,
        });
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let function = Arc::clone(&function);
                async move { Ok::<_, AttemptError>(function.attempt(&attempt).await) }
            },
        )))
    }
}

/// Looks for a program as a start from this folder would.
fn found(program: &str, folder: &Path) -> Result<String, OpenError> {
    let found = which::which_in(program, std::env::var_os("PATH"), folder).map_err(|error| {
        let problem = Problem::new(format!("cannot run {program}: {error}"));
        OpenError(
            problem
                .help("check its name, its place and that it is executable")
                .at(0)
                .at("command"),
        )
    })?;
    Ok(format!("{} can be run", found.display()))
}

/// The mistakes that a command has whatever it is for.
fn check_command(command: &[Text], env: &IndexMap<String, Text>) -> Vec<Problem> {
    let mut problems = Vec::new();
    match command.first().map(Text::literal) {
        None => problems.push(
            Problem::new("a command needs a program")
                .at("command")
                .help("write [./convert.sh]"),
        ),
        Some(Some("")) => problems.push(
            Problem::new("the program's name is empty")
                .at(0)
                .at("command"),
        ),
        Some(_) => {}
    }
    for name in env.keys() {
        let mistake = if name.is_empty() || name.contains(['=', '\0']) {
            "is no name of an environment variable"
        } else if name.starts_with("CE_") || name.starts_with("POINTSMAN_") {
            "is set by pointsman itself"
        } else {
            continue;
        };
        problems.push(
            Problem::new(format!("{name:?} {mistake}"))
                .at(name.as_str())
                .at("env")
                .key(),
        );
    }
    problems
}

/// A command with every text resolved that does not depend on an event.
struct ResolvedCommand {
    program: String,
    arguments: Vec<Parameter>,
    variables: Vec<(String, Parameter)>,
    cwd: Option<String>,
    /// How many texts a delivery carries.
    texts: usize,
}

/// A command, ready to be run.
struct Function {
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
    async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
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
            Ok(ended) => outcome(ended, self.settings.output),
            Err(error) => {
                let class = match error.kind() {
                    // These come of the event: a NUL or too much in an argument or a variable.
                    std::io::ErrorKind::InvalidInput | std::io::ErrorKind::ArgumentListTooLong => {
                        Class::Rejected
                    }
                    _ => Class::Unavailable,
                };
                Outcome::new(
                    class,
                    format!("cannot start {}: {error}", resolved_command.program),
                )
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
        let mut command = Command::new(&resolved_command.program);
        command
            .args(resolved_command.arguments.iter().map(text))
            .env_clear();
        command.envs(
            INHERITED
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        );
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
fn outcome(ended: CommandOutput, output: Output) -> Outcome {
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
        outcome.message = process::how(ended.status);
        if let Some(line) = ended.stderr.last_line() {
            outcome.message = format!("{}: {line}", outcome.message);
        }
    }
    outcome.response = Bytes::from(ended.stdout.into_bytes());
    outcome
}

#[cfg(test)]
mod tests;
