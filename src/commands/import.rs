//! `pointsman import`: a rule file of what other systems' rules say.
//!
//! What is made passes `pointsman check`, and no rule in it takes more than it did elsewhere: one
//! of which a condition has no counterpart is left out, and told of. The list of what has none goes
//! to standard error and, as comments, into the file.

mod argo;
mod draft;
mod eventbridge;
mod file;
mod knative;
mod read;
mod tagged;
mod template;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use miette::IntoDiagnostic;
use serde_json::{Value, json};

use self::draft::{Draft, Note};
use super::error::{CommandError, write_new};
use crate::output::{self, OutputArgs};

/// What `import` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// What to import; `-` is standard input. EventBridge rules as `aws events describe-rule`,
    /// `list-rules` and `list-targets-by-rule` print them (targets belong to the rule read before
    /// them), CloudFormation and SAM templates and Knative Triggers and Argo Sensors and
    /// EventSources as YAML or JSON, and Terraform's JSON
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Where to write the rule file; standard output where left out
    #[arg(long, short, value_name = "FILE", conflicts_with = "json")]
    pub output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long, requires = "output")]
    pub force: bool,
    /// How
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Runs it. Exit code 1 where there was nothing to import.
///
/// # Errors
/// A file cannot be read or written, or is none of these.
pub fn run(args: &ImportArgs) -> Result<ExitCode, miette::Report> {
    let mut draft = Draft::default();
    for file in &args.files {
        import(&read::documents(file)?, &mut draft)?;
    }
    let imported = draft.finish();
    if args.printing.json {
        let whole = json!({ "rule_file": imported.text, "no_counterpart": imported.notes });
        output::print(&output::json(&whole).into_diagnostic()?).into_diagnostic()?;
    } else {
        for Note {
            of,
            message,
            left_out,
        } in &imported.notes
        {
            eprintln!(
                "{}{}: {}",
                if *left_out { "left out: " } else { "" },
                output::line(of),
                output::line(message)
            );
        }
        match &args.output {
            Some(path) => write_new(path, &imported.text, args.force)?,
            None => output::print(&imported.text).into_diagnostic()?,
        }
    }
    Ok(if imported.made == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Takes what a file holds into the draft.
fn import(documents: &read::Documents, draft: &mut Draft) -> Result<(), CommandError> {
    for value in &documents.values {
        take(value, documents, draft)?;
    }
    Ok(())
}

fn take(value: &Value, documents: &read::Documents, draft: &mut Draft) -> Result<(), CommandError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let group = version.split('/').next().unwrap_or_default();
    match (group, kind) {
        ("", "") if eventbridge::is_one(value) => eventbridge::take(value, &documents.stem, draft),
        ("", "") if template::is_one(value) => template::take(value, draft),
        ("", "") if template::is_terraform(value) => template::take_terraform(value, draft),
        ("eventing.knative.dev", "Trigger") => knative::take(value, draft),
        ("argoproj.io", "Sensor") => argo::take(value, draft),
        ("argoproj.io", "EventSource") => argo::take_source(value, draft),
        ("v1", "List") => value
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .try_for_each(|item| take(item, documents, draft))?,
        ("", "") => {
            let what = match value {
                Value::Object(map) => {
                    format!(
                        "an object with {}",
                        map.keys()
                            .take(5)
                            .map(|key| format!("`{key}`"))
                            .collect::<Vec<_>>()
                            .join(", ")
                    )
                }
                other => format!("the value {}", output::shortened(&other.to_string(), 40)),
            };
            let error =
                CommandError::new(format!("cannot import {}: it holds {what}", documents.name));
            return Err(error.help(
                "EventBridge rules and targets as the AWS CLI prints them, CloudFormation, SAM and \
                 Terraform JSON, Knative Triggers and Argo Sensors can be imported",
            ));
        }
        _ => draft.left_out(
            &format!(
                "{kind} {}",
                value
                    .pointer("/metadata/name")
                    .and_then(Value::as_str)
                    .unwrap_or("?")
            ),
            "only Triggers, Sensors and EventSources are imported",
        ),
    }
    Ok(())
}
