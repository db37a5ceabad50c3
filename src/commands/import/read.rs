//! Files with JSON values one behind the other, or YAML documents.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::commands::error::CommandError;
use crate::config::diagnostic::{self, Diagnostic, File};
use crate::config::mistake::Mistakes;
use crate::config::reader::{self, Piece};
use crate::config::yaml::{self, FILE_BYTES_MAX};
use crate::output::Screen;

/// What a file holds.
pub(super) struct Documents {
    /// The file, as it is shown.
    pub(super) name: String,
    /// Its name without folder and extension.
    pub(super) stem: String,
    /// What is in it; empty documents are passed over.
    pub(super) values: Vec<Value>,
}

/// Reads a file; `-` is standard input.
pub(super) fn documents(path: &Path) -> Result<Documents, CommandError> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let cannot =
        |error: &dyn std::fmt::Display| CommandError::new(format!("cannot read {name}: {error}"));
    let reader: Box<dyn Read> = if is_stdin {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| cannot(&error))?)
    };
    let mut bytes = Vec::new();
    reader
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(cannot(&format!(
            "it is larger than {} MiB",
            FILE_BYTES_MAX / (1024 * 1024)
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| cannot(&"it is not UTF-8"))?;
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Documents {
        values: values(text.trim_start_matches('\u{feff}'), &name)?,
        name,
        stem,
    })
}

/// The values of a text.
pub(super) fn values(text: &str, name: &str) -> Result<Vec<Value>, CommandError> {
    let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    let values = match json {
        Ok(values) => values,
        // Templates have tags, and words that the reader of rule files takes for mistakes.
        Err(_) if is_template(text) => super::tagged::read(text)
            .map_err(|why| CommandError::new(format!("cannot import {name}: {why}")))?,
        Err(_) if is_hcl(text) => {
            let error = CommandError::new(format!(
                "cannot import {name}: it is written in Terraform's own language (HCL), of which \
                 only the JSON is read"
            ));
            return Err(error.help(
                "give what it plans: terraform plan -out plan && terraform show -json plan > \
                 plan.json",
            ));
        }
        // YAML may begin like JSON, and its reader says where a mistake is either way.
        Err(_) => yaml_values(text, name)?,
    };
    let values: Vec<Value> = values
        .into_iter()
        .filter(|value| !value.is_null())
        .collect();
    if values.is_empty() {
        return Err(CommandError::new(format!(
            "cannot import {name}: there is nothing in it"
        )));
    }
    Ok(values)
}

/// Whether a text looks like a template of CloudFormation or SAM.
fn is_template(text: &str) -> bool {
    let has_resources = text.lines().any(|line| {
        ["Resources:", "\"Resources\":"]
            .iter()
            .any(|key| line.starts_with(key))
    });
    has_resources && (text.contains("AWS::") || text.contains("AWSTemplateFormatVersion"))
}

/// Whether a text looks like Terraform's own language: it has blocks with labels, as in `resource
/// "aws_cloudwatch_event_rule" "nightly" {`.
fn is_hcl(text: &str) -> bool {
    const BLOCKS: [&str; 8] = [
        "resource ",
        "data ",
        "variable ",
        "provider ",
        "module ",
        "output ",
        "terraform {",
        "locals {",
    ];
    let is_block = |line: &str| {
        BLOCKS.iter().any(|block| line.starts_with(block)) && line.trim_end().ends_with(['{', '}'])
    };
    text.lines().any(is_block)
}

fn yaml_values(text: &str, name: &str) -> Result<Vec<Value>, CommandError> {
    let mut values = Vec::new();
    let mut before = 0;
    for document in split(text) {
        // Behind as many lines as stand before it, so that places are those of the file.
        let placed = format!("{}{document}", "\n".repeat(before));
        before += document.matches('\n').count();
        let mistakes = Mistakes::default();
        let found = match yaml::read(&placed) {
            Ok(root) => {
                let piece = Piece {
                    node: &root,
                    entry: None,
                    text: &placed,
                    mistakes: &mistakes,
                };
                let value = reader::read::<Value>(piece);
                let told = mistakes.into_inner();
                if told.is_empty() {
                    Ok(value)
                } else {
                    Err(told)
                }
            }
            Err(mistakes) => Err(mistakes),
        };
        match found {
            Ok(value) => values.extend(value),
            Err(mistakes) => {
                let file = Arc::new(File::new(name.to_owned(), &placed, &[]));
                let diagnostics: Vec<_> = mistakes
                    .into_iter()
                    .map(|mistake| Diagnostic {
                        file: Arc::clone(&file),
                        mistake,
                    })
                    .collect();
                return Err(CommandError::new(format!(
                    "cannot import {name}:\n{}",
                    diagnostic::render(&diagnostics, Screen::TEXT)
                )));
            }
        }
    }
    Ok(values)
}

/// The documents of a YAML text, their first line, `---`, emptied. It stands at the beginning of a
/// line, where no block text can.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let rest = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        match (rest, documents.last_mut()) {
            (Some(rest), _) => documents.push(rest.to_owned()),
            (None, Some(last)) if line.trim_end() != "..." => last.push_str(line),
            (None, _) => {}
        }
    }
    documents
}
