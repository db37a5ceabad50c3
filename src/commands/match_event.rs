//! `pointsman match`: holds one pattern against one event.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use pointsman_rules::{Document, Pattern, Scratch, explain};
use serde_json::{Value, json};

use super::check::{print, show_diagnostics};
use crate::config::diagnostic::{Diagnostic, File};
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::reader::{self, Piece};
use crate::config::yaml::{self, FILE_BYTES_MAX, Node, Span};

/// What `match` is told.
#[derive(Debug, clap::Args)]
pub struct MatchArgs {
    /// The event pattern, as JSON or as a rule file has it under `match`; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub pattern: PathBuf,
    /// The event: any JSON; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub event: PathBuf,
    /// Say why, field by field.
    #[arg(long)]
    pub explain: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it. Exit code 0 where the pattern matches, 1 where it does not, 2 where either is invalid.
#[must_use]
pub fn run(args: &MatchArgs) -> ExitCode {
    match try_match(args) {
        Ok(matches) => ExitCode::from(u8::from(!matches)),
        Err(diagnostics) => {
            show_diagnostics(&diagnostics, args.json);
            ExitCode::from(2)
        }
    }
}

fn try_match(args: &MatchArgs) -> Result<bool, Vec<Diagnostic>> {
    let is_stdin = |path: &Path| path.as_os_str() == "-";
    if is_stdin(&args.pattern) && is_stdin(&args.event) {
        return Err(vec![of_file(&args.event, "pattern and event cannot both come from standard input", "put one of them into a file")]);
    }
    let pattern = read_pattern(&args.pattern)?;
    let event = read_bytes(&args.event)?;
    let document = Document::json(&event)
        .map_err(|error| vec![of_file(&args.event, format!("this is not JSON: {error}"), "an event is one JSON value")])?;
    let matches = pattern.matches(&document, &mut Scratch::default());
    let explanation = args.explain.then(|| explain(Some(&pattern), None, &document));
    match (args.json, &explanation) {
        (true, Some(explanation)) => print(&format!("{:#}\n", json!(explanation))),
        (true, None) => print(&format!("{:#}\n", json!({ "matches": matches }))),
        (false, Some(explanation)) => print(&explanation.to_string()),
        (false, None) => print(if matches { "matches\n" } else { "does not match\n" }),
    }
    Ok(matches)
}

fn of_file(path: &Path, message: impl Into<String>, help: &str) -> Diagnostic {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    Diagnostic::of_file(name, message, help)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let cannot = |error: &dyn Display| vec![of_file(path, format!("cannot read this: {error}"), "name a file, or - for standard input")];
    let reader: Box<dyn Read> = match path.as_os_str() {
        name if name == "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(|error| cannot(&error))?),
    };
    let mut bytes = Vec::new();
    reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(cannot(&format!("it is larger than {} MiB", FILE_BYTES_MAX / (1024 * 1024))));
    }
    Ok(bytes)
}

fn read_pattern(path: &Path) -> Result<Pattern, Vec<Diagnostic>> {
    let text = String::from_utf8(read_bytes(path)?).map_err(|_| vec![of_file(path, "this is not UTF-8", "a pattern is JSON or YAML")])?;
    let file = Arc::new(File::new(path.display().to_string(), &text, &[]));
    let placed = |mistakes: Vec<Mistake>| {
        let mut diagnostics: Vec<_> = mistakes.into_iter().map(|mistake| Diagnostic { file: Arc::clone(&file), mistake }).collect();
        crate::config::diagnostic::sort(&mut diagnostics);
        diagnostics
    };
    // JSON is tried first: it may hold what YAML refuses, such as surrogate escapes. The tree is for the places then.
    let json = serde_json::from_str::<Value>(&text);
    let tree = yaml::read(&text);
    let mistakes = Mistakes::default();
    let (value, root) = match (json, tree) {
        (Ok(value), tree) => (value, tree.unwrap_or(Node { value: yaml::Value::Null, span: Span::default() })),
        (Err(_), Ok(root)) => {
            let piece = Piece { node: &root, entry: None, text: &text, mistakes: &mistakes };
            (reader::read::<Value>(piece).unwrap_or_default(), root)
        }
        (Err(_), Err(mistakes)) => return Err(placed(mistakes)),
    };
    let mut mistakes = mistakes.into_inner();
    if mistakes.is_empty() {
        match Pattern::compile_for_any_json(&value) {
            Ok(pattern) => return Ok(pattern),
            Err(problems) => mistakes.extend(problems.into_iter().map(|problem| Mistake::of(problem, None, &root, &text))),
        }
    }
    Err(placed(mistakes))
}
