//! A target's settings, and the command that they make.

use indexmap::IndexMap;
use pointsman_schemas::{Placement, Problem, Segment, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::OpenError;
use crate::hidden::Hidden;
use crate::parameter::{Parameter, Templates, resolve};

/// Runs a command for each event: the event on its standard input, its attributes as `CE_*`
/// variables.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecTarget {
    /// The program and its arguments, which may hold templates. No shell is involved.
    #[schemars(length(min = 1), extend("examples" = [["./convert.sh", "<$.data.key>"]], "prefixItems" = [{ "$ref": "#/$defs/Text", "minLength": 1, "not": { "type": "string", "pattern": "<\\$" } }]))]
    pub(super) command: Vec<Text>,
    /// Environment variables for it, which may hold templates. Few others are handed on to it.
    #[serde(default)]
    pub(super) env: IndexMap<String, Text>,
    /// The folder to run it in; without it, that of the rule file.
    pub(super) cwd: Option<Text>,
    /// What it reads from its standard input.
    #[serde(default)]
    pub(super) input: Input,
    /// What its standard output means.
    #[serde(default)]
    pub(super) output: Output,
}

/// What a command reads from its standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Input {
    /// The whole event in the JSON format.
    #[default]
    Structured,
    /// The event's data as it came.
    Data,
}

/// What a command's standard output means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Output {
    /// Nothing: it is kept as the response.
    #[default]
    Text,
    /// A CloudEvent in the JSON format that goes back onto the bus; nothing printed is none.
    Event,
}

impl ExecTarget {
    /// The command's words and its variables, every text resolved but for the templates.
    pub(super) fn parameters<T>(
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

    /// The command with everything known that no event decides.
    pub(super) fn resolved(&self) -> Result<ResolvedCommand, OpenError> {
        let mut templates = Templates::default();
        let mut error = None;
        let mut hidden = Hidden::default();
        let (mut resolved_command, variables) = self.parameters(|text, path| {
            if let Some(index) = templates.note(text, Placement::Argument, path.clone()) {
                return Parameter::Filled(index);
            }
            let value = resolve(text, &path).unwrap_or_else(|missing| {
                error.get_or_insert(missing);
                String::new()
            });
            if text.literal().is_none() {
                hidden.add(&value);
            }
            Parameter::Constant(value)
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
            hidden,
        })
    }
}

/// A command with every text resolved that does not depend on an event.
pub(super) struct ResolvedCommand {
    pub(super) program: String,
    pub(super) arguments: Vec<Parameter>,
    pub(super) variables: Vec<(String, Parameter)>,
    pub(super) cwd: Option<String>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
    /// What of it must not be told.
    pub(super) hidden: Hidden,
}
