//! What goes wrong in the writing: a comment that swallows a template, a template as a key, a
//! password in the open.

use std::ops::Range;

use pointsman_schemas::template::lexer;

use super::Document;
use crate::config::mistake::Mistake;
use crate::config::yaml::{Entry, Node, Span, Style, Value};

/// Looks through a file and tells what it finds. Returns what must not be shown.
pub(super) fn lint(document: &Document<'_>) -> Vec<Span> {
    odd_spaces(document);
    let mut secrets = Vec::new();
    for section in ["listen", "sources", "targets", "rules", "pipes"] {
        let Some(section) = document.top().get(section) else {
            continue;
        };
        section.node.walk(&mut |entry, node| {
            swallowed(document, entry, node);
            if let Some(entry) = entry.filter(|entry| lexer::has_slot(&entry.key)) {
                let mistake = Mistake::new(entry.key_span, "a template cannot be a key");
                document.mistakes.report(mistake.help("write the key out"));
            }
            secrets.extend(password(document, entry, node));
        });
    }
    // There it is allowed, and not shown all the same.
    if let Some(store) = document.top().get("store") {
        store.node.walk(&mut |_, node| {
            secrets.extend(password_in(document, node).map(|(_, hidden)| hidden));
        });
    }
    for section in ["sources", "targets", "rules", "pipes", "tests"] {
        let Some(section) = document.top().get(section) else {
            continue;
        };
        looks_like(document, section.node, Within::default());
    }
    secrets
}

/// What a value stands in.
#[derive(Clone, Copy, Default)]
struct Within {
    /// Values of any kind are compared with an event's, or become a part of one.
    data: bool,
    /// Who reads the text behind us.
    read_by: Reader,
}

/// Who reads a text, and may fill something in.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Reader {
    /// Nobody does.
    #[default]
    Nobody,
    /// A program whose arguments it is: `docker ps --format '{{.Names}}'`.
    Program,
    /// A shell.
    Shell,
    /// It is jq.
    Jq,
}

/// Warns of texts that say something in other languages: booleans of older YAML, variables of a
/// shell, templates of other systems.
fn looks_like(document: &Document<'_>, node: &Node, within: Within) {
    match &node.value {
        Value::Map(entries) => {
            for below in entries {
                let key = below.key.as_str();
                let data = within.data
                    || matches!(
                        key,
                        "match" | "data" | "set" | "event" | "expect" | "filters"
                    );
                let read_by = match key {
                    "command" => reader_of(&below.value),
                    "jq" => Reader::Jq,
                    _ => within.read_by,
                };
                looks_like(document, &below.value, Within { data, read_by });
            }
        }
        Value::List(items) => items
            .iter()
            .for_each(|item| looks_like(document, item, within)),
        Value::Text(text, style) => {
            let of_data = (within.data && *style == Style::Plain)
                .then(|| other_quotes(text).or_else(|| old_boolean(text)))
                .flatten();
            if let Some((message, help)) = of_data.or_else(|| not_filled_in(text, within.read_by)) {
                document
                    .mistakes
                    .report(Mistake::new(node.span, message).help(help).warn());
            }
        }
        _ => {}
    }
}

/// What a text looks like, and what to write in its place.
type Warning = (String, String);

/// A text in quotes that are none to YAML.
fn other_quotes(text: &str) -> Option<Warning> {
    has_typographic_quotes(text).then(|| {
        let inner = text.trim_matches(TYPOGRAPHIC);
        (
            "these quotes are a part of the text: YAML knows none but \" and '".to_owned(),
            format!("write \"{inner}\", or quote all of it"),
        )
    })
}

/// A boolean of older YAML.
fn old_boolean(text: &str) -> Option<Warning> {
    is_old_boolean(text).then(|| {
        let boolean = matches!(&*text.to_lowercase(), "yes" | "y" | "on");
        (
            format!("`{text}` is a text here, and no boolean"),
            format!("write `{boolean}`, or \"{text}\" to say that it is one"),
        )
    })
}

/// A variable or a template that nobody fills in: neither we nor who reads the text behind us.
fn not_filled_in(text: &str, reader: Reader) -> Option<Warning> {
    if reader == Reader::Jq {
        return None;
    }
    match (reader, variable(text), foreign_template(text)) {
        (Reader::Nobody, Some(variable), _) => {
            let help = if variable.len() == text.len() {
                format!("write `{{ env: {} }}`", name_of(variable))
            } else {
                "only a whole text can be taken from a variable, by `{ env: NAME }`".to_owned()
            };
            Some((format!("nothing is filled in for `{variable}`"), help))
        }
        (Reader::Program, Some(variable), _) => Some((
            format!("nothing is filled in for `{variable}`: the program is run without a shell"),
            format!(
                "write `{{ env: {} }}` for all of a word, or run a shell: [sh, -c, \"…\"]",
                name_of(variable)
            ),
        )),
        (reader, _, Some(foreign)) if reader == Reader::Nobody || is_of_event(foreign) => {
            let path = foreign.trim_matches(['{', '}', ' ', '.', '$']);
            let path = path.strip_prefix("event.").unwrap_or(path);
            Some((
                format!("nothing is filled in for `{foreign}`"),
                format!("a template is written `<$.{path}>`"),
            ))
        }
        _ => None,
    }
}

/// Who reads the words of a command: a shell, where it is one that is run.
fn reader_of(command: &Node) -> Reader {
    const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "busybox"];
    let Value::List(words) = &command.value else {
        return Reader::Program;
    };
    let program = |word: &Node| {
        word.text()
            .is_some_and(|text| SHELLS.contains(&text.rsplit('/').next().unwrap_or_default()))
    };
    // Behind `env` and its like, the shell is a later word.
    if words.iter().take(3).any(program) {
        Reader::Shell
    } else {
        Reader::Program
    }
}

/// Whether a template of another system looks as if it meant the event: what a program has for
/// itself, such as docker's `{{.Names}}`, does not.
fn is_of_event(foreign: &str) -> bool {
    let path = foreign.trim_matches(['{', '}', ' ', '.', '$']);
    let first = path.split(['.', '[', ' ', '|']).next().unwrap_or_default();
    match first {
        "data" | "event" | "detail" => path.len() > first.len(),
        "subject" | "source" | "type" | "id" | "time" => path == first && !foreign.contains('.'),
        _ => false,
    }
}

/// Quotes as a word processor makes them.
const TYPOGRAPHIC: [char; 8] = [
    '\u{201C}', '\u{201D}', '\u{201E}', '\u{2018}', '\u{2019}', '\u{201A}', '\u{AB}', '\u{BB}',
];

fn has_typographic_quotes(text: &str) -> bool {
    text.chars().count() > 1 && text.starts_with(TYPOGRAPHIC) && text.ends_with(TYPOGRAPHIC)
}

/// Reports spaces that are none to YAML, which takes them for a part of what stands behind them.
fn odd_spaces(document: &Document<'_>) {
    let text = &document.file.text;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let blank = line.len() - line.trim_start().len();
        let odd = line.get(..blank).and_then(|blank| {
            blank
                .char_indices()
                .find(|(_, c)| !c.is_ascii_whitespace() && *c != '\u{FEFF}')
        });
        if let Some((at, c)) = odd.filter(|_| blank < line.len()) {
            let span = Span {
                start: start + at,
                end: start + at + c.len_utf8(),
            };
            let message = format!(
                "this is no space that indents: it is U+{:04X}",
                u32::from(c)
            );
            document.mistakes.report(
                Mistake::new(span, message)
                    .help("replace it by a space")
                    .warn(),
            );
        }
        start += line.len();
    }
}

/// What YAML 1.1 took for a boolean, and many still do.
fn is_old_boolean(text: &str) -> bool {
    matches!(
        &*text.to_lowercase(),
        "yes" | "no" | "on" | "off" | "y" | "n"
    )
}

/// `${NAME}` as it stands in a text, with what a shell has behind the name: `${NAME:-x}`.
fn variable(text: &str) -> Option<&str> {
    let rest = text.get(text.find("${")?..)?;
    let end = rest.find('}')?;
    let name = rest.get(2..end)?;
    let end_of_name = name
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(name.len());
    let is_name = end_of_name > 0
        && (end_of_name == name.len()
            || name
                .get(end_of_name..)
                .is_some_and(|rest| rest.starts_with([':', '-', '?', '+', '=', '#', '%'])));
    is_name.then(|| rest.get(..=end))?
}

fn name_of(variable: &str) -> &str {
    let inner = variable.trim_start_matches("${");
    inner
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default()
}

/// `{{ … }}` as it stands in a text.
fn foreign_template(text: &str) -> Option<&str> {
    let rest = text.get(text.find("{{")?..)?;
    rest.get(..rest.find("}}")? + 2)
}

/// A ` #` in a bare text begins a comment, which may take a template with it.
fn swallowed(document: &Document<'_>, entry: Option<&Entry>, node: &Node) {
    let text = &document.file.text;
    let (from, value) = match (&node.value, entry) {
        (Value::Text(value, Style::Plain), _) => (node.span.end, value.as_str()),
        (Value::Null, Some(entry)) => (entry.key_span.end, ""),
        _ => return,
    };
    let rest = text.get(from..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default().trim_end();
    let comment = line.trim_start_matches([':', ' ', '\t']);
    if !comment.starts_with('#') {
        return;
    }
    let span = Span {
        start: from + (line.len() - comment.len()),
        end: from + line.len(),
    };
    let cut_open = lexer::tokens(value).any(|token| token.is_err());
    let swallows = lexer::has_slot(comment);
    if cut_open || swallows {
        let mut mistake = Mistake::new(span, "this is a comment, and it swallows a template")
            .help("quote the whole text");
        if cut_open {
            mistake = mistake.also(node.span, "of this text");
            document.mistakes.silence(node);
        }
        // A remark in words about a template is likelier than a text that goes on.
        let remark = !cut_open && comment.get(1..).is_some_and(|rest| rest.starts_with(' '));
        document
            .mistakes
            .report(if remark { mistake.warn() } else { mistake });
    }
}

/// A password in a URL that is written out.
fn password(document: &Document<'_>, entry: Option<&Entry>, node: &Node) -> Option<Span> {
    let (inside, hidden) = password_in(document, node)?;
    let problem = pointsman_schemas::Problem::new("a password stands in this URL").inside(inside);
    let problem = problem.help(
        "take it out of the URL and give it as { env: NAME } or { file: path } where the \
         connector has a place for it",
    );
    document
        .mistakes
        .report(Mistake::of(problem, entry, node, &document.file.text));
    document.mistakes.silence(node);
    Some(hidden)
}

/// Where a password stands in a URL, and what must not be shown of the file for that.
fn password_in(document: &Document<'_>, node: &Node) -> Option<(Range<usize>, Span)> {
    let Value::Text(value, style) = &node.value else {
        return None;
    };
    let start = value.find("://")? + 3;
    let authority = value.get(start..)?.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, password) = user_info.split_once(':')?;
    if password.is_empty() {
        return None;
    }
    let from = start + user.len() + 1;
    let inside = from..from + password.len();
    // In a block or behind escapes its place is not known to the letter: all of the text is blotted
    // out then.
    let quote = usize::from(*style == Style::Quoted);
    let exact = Span {
        start: node.span.start + quote + inside.start,
        end: node.span.start + quote + inside.end,
    };
    let is_exact = document.file.text.get(exact.start..exact.end) == Some(password);
    Some((inside, if is_exact { exact } else { node.span }))
}
