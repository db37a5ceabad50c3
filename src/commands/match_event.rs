//! `pointsman match`: holds one pattern against one event.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use miette::IntoDiagnostic;
use pointsman_rules::{
    Document, Explanation, Filter, Origin, OriginSet, Pattern, Rule, RuleSet, Scratch, explain,
};
use pointsman_schemas::{Event, InvalidEvent};
use serde_json::json;

use super::check::show;
use crate::config::Diagnostic;
use crate::config::loose::Loose;
use crate::config::yaml::FILE_BYTES_MAX;
use crate::output::{self, OutputArgs};

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
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs it. Exit code 0 where the pattern matches, 1 where it does not, 2 where either is invalid.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &MatchArgs) -> Result<ExitCode, miette::Report> {
    let (text, code) = report(args)?;
    output::print(&text).into_diagnostic()?;
    Ok(ExitCode::from(code))
}

fn report(args: &MatchArgs) -> Result<(String, u8), miette::Report> {
    let is_stdin = |path: &Path| path.as_os_str() == "-";
    let event = if is_stdin(&args.pattern) && is_stdin(&args.event) {
        Err(vec![of_file(
            &args.event,
            "pattern and event cannot both come from standard input",
            "put one of them into a file",
        )])
    } else {
        read_bytes(&args.event)
    };
    let event = event.and_then(|bytes| {
        AnyEvent::read(bytes).map_err(|error| {
            vec![of_file(
                &args.event,
                format!("this is not JSON: {error}"),
                "an event is one JSON value",
            )]
        })
    });
    match (read_pattern(&args.pattern), event) {
        (Ok(pattern), Ok(event)) => {
            let (matches, explanation) = event.hold(pattern, args.explain);
            Ok((verdict(args, matches, explanation)?, u8::from(!matches)))
        }
        (pattern, event) => {
            let diagnostics: Vec<_> = pattern
                .err()
                .into_iter()
                .chain(event.err())
                .flatten()
                .collect();
            Ok((show(&diagnostics, args.output.json)?, 2))
        }
    }
}

/// An event as it lies in a file: any JSON.
struct AnyEvent {
    bytes: Bytes,
    /// As a bus would read it; none where it is no CloudEvent.
    cloud_event: Option<Event>,
}

/// A pattern, in both of its meanings.
struct AnyPattern {
    of_json: Pattern,
    /// None where a CloudEvent can have nothing of the kind, as of EventBridge's `detail-type`.
    of_cloudevents: Option<Pattern>,
}

impl AnyEvent {
    fn read(bytes: Vec<u8>) -> Result<Self, InvalidEvent> {
        let bytes = Bytes::from(bytes);
        let cloud_event = pointsman_schemas::json::decode(&bytes).ok();
        if cloud_event.is_none() {
            Document::json(&bytes)?;
        }
        Ok(Self { bytes, cloud_event })
    }

    /// Whether the pattern matches, and why where that is asked for. A CloudEvent is held against
    /// it as in a running bus that has this one rule.
    fn hold(&self, pattern: AnyPattern, explains: bool) -> (bool, Option<Explanation>) {
        if let (Some(event), Some(pattern)) = (&self.cloud_event, pattern.of_cloudevents) {
            let rule = Rule {
                from: OriginSet::all_but(&[]),
                filter: pattern.into(),
            };
            let (rules, mut taken) = (RuleSet::compile(vec![rule]), Vec::new());
            rules.matches_into(Origin(0), event, &mut Scratch::default(), &mut taken);
            return (
                !taken.is_empty(),
                explains
                    .then(|| rules.explain(0, Origin(0), event))
                    .flatten(),
            );
        }
        let Ok(document) = Document::json(&self.bytes) else {
            return (false, None);
        };
        let filter = Filter::from(pattern.of_json);
        let matches = filter.holds(&document, &mut Scratch::default());
        (matches, explains.then(|| explain(&filter, &document)))
    }
}

fn verdict(
    args: &MatchArgs,
    matches: bool,
    explanation: Option<Explanation>,
) -> Result<String, miette::Report> {
    match (args.output.json, &explanation) {
        (true, Some(explanation)) => output::json(explanation).into_diagnostic(),
        (true, None) => output::json(&json!({ "matches": matches })).into_diagnostic(),
        (false, Some(explanation)) => Ok(output::plain(&explanation.to_string()).into_owned()),
        (false, None) => Ok(if matches {
            "matches\n"
        } else {
            "does not match\n"
        }
        .to_owned()),
    }
}

fn of_file(path: &Path, message: impl Into<String>, help: &str) -> Diagnostic {
    Diagnostic::of_file(shown(path), message, help)
}

fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let cannot = |error: &dyn Display| {
        vec![of_file(
            path,
            format!("cannot read this: {error}"),
            "name a file, or - for standard input",
        )]
    };
    let reader: Box<dyn Read> = match path.as_os_str() {
        name if name == "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(|error| cannot(&error))?),
    };
    let mut bytes = Vec::new();
    reader
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(cannot(&format!(
            "it is larger than {} MiB",
            FILE_BYTES_MAX / (1024 * 1024)
        )));
    }
    Ok(bytes)
}

fn read_pattern(path: &Path) -> Result<AnyPattern, Vec<Diagnostic>> {
    let text = String::from_utf8(read_bytes(path)?).map_err(|_| {
        vec![of_file(
            path,
            "this is not UTF-8",
            "a pattern is JSON or YAML",
        )]
    })?;
    let read = Loose::read(shown(path), text)?;
    let of_json = Pattern::compile_for_any_json(&read.value);
    Ok(AnyPattern {
        of_json: of_json.map_err(|problems| read.mistakes(problems))?,
        of_cloudevents: Pattern::compile(&read.value).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(pattern: &str, event: &str, explain: bool, json: bool) -> (String, u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let args = MatchArgs {
            pattern: path("pattern", pattern),
            event: path("event", event),
            explain,
            output: OutputArgs { json },
        };
        let (text, code) = report(&args).unwrap();
        (text.replace(&folder.path().display().to_string(), ""), code)
    }

    #[test]
    fn the_exit_code_is_the_verdict() {
        for (pattern, event, expect) in [
            (r#"{"a": [1]}"#, r#"{"a": 1}"#, 0),
            ("a: [1]\n", r#"{"a": 1}"#, 0),
            (r#"{"a": ["\ud83d\ude00"]}"#, "{\"a\": \"\u{1F600}\"}", 0),
            (r#"{"detail-type": ["x"]}"#, r#"{"detail-type": "x"}"#, 0),
            (r#"{"a": [1]}"#, r#"{"a": 2}"#, 1),
            (r#"{"a": [1]}"#, "[]", 1),
            (r#"{"a": 1}"#, r#"{"a": 1}"#, 2),
            (r#"{"a": [1]}"#, r#"{"a": 1"#, 2),
            (r#"{"a": [1]"#, "{}", 2),
            ("a: [0x10]", "{}", 2),
            ("", "{}", 2),
            (r#"{"a": [1]}"#, "", 2),
        ] {
            assert_eq!(
                report_of(pattern, event, false, false).1,
                expect,
                "{pattern} {event}"
            );
        }
    }

    #[test]
    fn an_event_gets_the_answer_that_it_gets_on_the_bus() {
        let deep = |levels: usize| format!("{}7{}", "[".repeat(levels), "]".repeat(levels));
        let cloud_event = |members: &str| {
            format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members}}}"#)
        };
        for (pattern, event, expect) in [
            // Numbers beyond all doubles, and halves of surrogate pairs, are what the bus takes
            // them for.
            (
                r#"{"a": [{"numeric": [">", 5]}], "b": [1]}"#,
                r#"{"a":1e400,"b":1}"#.to_owned(),
                0,
            ),
            (
                r#"{"a": [{"numeric": ["<", 5]}]}"#,
                r#"{"a":-1e400}"#.to_owned(),
                0,
            ),
            (
                r#"{"a": [{"prefix": "x"}]}"#,
                r#"{"a":"x\ud800"}"#.to_owned(),
                0,
            ),
            (
                r#"{"a": [{"suffix": "\ufffdy"}]}"#,
                r#"{"a":"x\ud800y"}"#.to_owned(),
                0,
            ),
            (
                r#"{"data": {"a": [{"exists": true}]}}"#,
                cloud_event(r#""data":{"a":"\udc00\ud800"}"#),
                0,
            ),
            (
                r#"{"data": {"n": [{"numeric": [">", 1e308]}]}}"#,
                cloud_event(r#""data":{"n":1e400}"#),
                0,
            ),
            // 128 levels, of the data or of the whole.
            (
                r#"{"data": [7]}"#,
                cloud_event(&format!(r#""data":{}"#, deep(128))),
                0,
            ),
            (
                r#"{"data": [7]}"#,
                cloud_event(&format!(r#""data":{}"#, deep(129))),
                2,
            ),
            (r#"{"a": [7]}"#, format!(r#"{{"a":{}}}"#, deep(127)), 0),
            (r#"{"a": [7]}"#, format!(r#"{{"a":{}}}"#, deep(128)), 2),
            // What a CloudEvent's members mean.
            (
                r#"{"data": {"a": [1]}}"#,
                cloud_event(r#""data_base64":"eyJhIjoxfQ==""#),
                0,
            ),
            (
                r#"{"data_base64": ["eyJhIjoxfQ=="]}"#,
                cloud_event(r#""data_base64":"eyJhIjoxfQ==""#),
                0,
            ),
            (
                r#"{"subject": [{"exists": false}]}"#,
                cloud_event(r#""subject":null"#),
                0,
            ),
            (
                r#"{"subject": [null]}"#,
                cloud_event(r#""subject":null"#),
                1,
            ),
            (
                r#"{"subject": [null]}"#,
                r#"{"subject":null}"#.to_owned(),
                0,
            ),
            ("{\"a\": [1]}", "\u{feff}{\"a\":1}".to_owned(), 0),
        ] {
            let (told, code) = report_of(pattern, &event, false, false);
            assert_eq!(code, expect, "{pattern} {event}: {told}");
        }
    }

    #[test]
    fn it_says_why() {
        let told = [
            report_of(
                r#"{"a": [{"numeric": [">", 5]}]}"#,
                r#"{"a": 1}"#,
                true,
                false,
            )
            .0,
            report_of(r#"{"a": [1]}"#, r#"{"a": 1}"#, false, true).0,
            report_of("{\"a\": [\n  {\"prefx\": 1}]}", "{", false, false).0,
        ];
        insta::assert_snapshot!("reasons", told.join("\n"));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_in_json_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pattern.json");
        for (text, twice) in [
            (r#"{"type":["a"],"type":["b"]}"#, true),
            (r#"{"type":[{"prefix":"x","prefix":"y"}]}"#, true),
            (r#"{"type":["a"],"source":["\ud800"]}"#, false),
            (r#"{"type":["a"],"data":{"type":["a"]}}"#, false),
        ] {
            std::fs::write(&path, text).unwrap();
            let told = read_pattern(&path).err().unwrap_or_default();
            let says = told
                .iter()
                .any(|one| one.mistake.message.contains("a second time"));
            assert_eq!(says, twice, "{text}: {told:?}");
        }
    }
}
