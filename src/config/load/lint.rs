//! What goes wrong in the writing: a comment that swallows a template, a template as a key, a password in the open.

use super::Document;
use crate::config::mistake::Mistake;
use crate::config::yaml::{Entry, Node, Span, Style, Value};
use crate::pace::breathe;

/// Looks through a file and tells what it finds. Returns what must not be shown.
pub(super) fn lint(document: &Document<'_>) -> Vec<Span> {
    let mut secrets = Vec::new();
    for section in ["listen", "sources", "targets", "rules", "pipes"] {
        let Some(section) = document.top().get(section) else { continue };
        section.node.walk(&mut |entry, node| {
            breathe();
            swallowed(document, entry, node);
            if let Some(entry) = entry.filter(|entry| has_template(&entry.key)) {
                let mistake = Mistake::new(entry.key_span, "a template cannot be a key");
                document.mistakes.tell(mistake.help("write the key out"));
            }
            secrets.extend(password(document, entry, node));
        });
    }
    for section in ["sources", "targets", "rules", "pipes", "tests"] {
        let Some(section) = document.top().get(section) else { continue };
        looks_like(document, section.node, Within::default());
    }
    secrets
}

/// What a value stands in.
#[derive(Clone, Copy, Default)]
struct Within {
    /// Values of any kind are compared with an event's, or become a part of one.
    data: bool,
    /// Words of a command, which a shell may fill in.
    command: bool,
}

/// Warns of texts that say something in other languages: booleans of older YAML, variables of a shell, templates of other systems.
fn looks_like(document: &Document<'_>, node: &Node, within: Within) {
    let told = |message: String, help: String| document.mistakes.tell(Mistake::new(node.span, message).help(help).warn());
    match &node.value {
        Value::Map(entries) => {
            for below in entries {
                let key = below.key.as_str();
                let data = within.data || matches!(key, "match" | "data" | "set" | "event" | "expect" | "filters");
                let command = within.command || matches!(key, "exec" | "jq");
                looks_like(document, &below.value, Within { data, command });
            }
        }
        Value::List(items) => items.iter().for_each(|item| looks_like(document, item, within)),
        Value::Text(text, Style::Plain) if within.data && is_old_boolean(text) => {
            let (boolean, quoted) = (matches!(&*text.to_lowercase(), "yes" | "y" | "on"), format!("\"{text}\""));
            told(format!("`{text}` is a text here, and no boolean"), format!("write `{boolean}`, or {quoted} to say that it is one"));
        }
        Value::Text(text, _) if !within.command => {
            if let Some(variable) = variable(text) {
                let help = if variable.len() == text.len() {
                    format!("write `{{ env: {} }}`", variable.trim_start_matches("${").trim_end_matches('}'))
                } else {
                    "only a whole text can be taken from a variable, by `{ env: NAME }`".to_owned()
                };
                told(format!("nothing is filled in for `{variable}`"), help);
            } else if let Some(foreign) = foreign_template(text) {
                let path = foreign.trim_matches(['{', '}', ' ', '.', '$']);
                told(format!("nothing is filled in for `{foreign}`"), format!("a template is written `<$.{path}>`"));
            }
        }
        _ => {}
    }
}

/// What YAML 1.1 took for a boolean, and many still do.
fn is_old_boolean(text: &str) -> bool {
    matches!(&*text.to_lowercase(), "yes" | "no" | "on" | "off" | "y" | "n")
}

/// `${NAME}` as it stands in a text.
fn variable(text: &str) -> Option<&str> {
    let rest = text.get(text.find("${")?..)?;
    let end = rest.find('}')?;
    let name = rest.get(2..end)?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then(|| rest.get(..=end))?
}

/// `{{ … }}` as it stands in a text.
fn foreign_template(text: &str) -> Option<&str> {
    let rest = text.get(text.find("{{")?..)?;
    rest.get(..rest.find("}}")? + 2)
}

fn has_template(text: &str) -> bool {
    text.match_indices("<$").any(|(at, _)| !text.get(at + 2..).unwrap_or_default().starts_with('$'))
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
    let span = Span { start: from + (line.len() - comment.len()), end: from + line.len() };
    let cut_open = value.rfind("<$").is_some_and(|open| !value.get(open..).unwrap_or_default().contains('>'));
    let swallows = has_template(comment);
    if cut_open || swallows {
        let mut mistake = Mistake::new(span, "this is a comment, and it swallows a template").help("quote the whole text");
        if cut_open {
            mistake = mistake.also(node.span, "of this text");
            document.mistakes.silence(node);
        }
        // A remark in words about a template is likelier than a text that goes on.
        let remark = !cut_open && comment.get(1..).is_some_and(|rest| rest.starts_with(' '));
        document.mistakes.tell(if remark { mistake.warn() } else { mistake });
    }
}

/// A password in a URL that is written out.
fn password(document: &Document<'_>, entry: Option<&Entry>, node: &Node) -> Option<Span> {
    let Value::Text(value, style) = &node.value else { return None };
    let start = value.find("://")? + 3;
    let authority = value.get(start..)?.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, password) = user_info.split_once(':')?;
    if password.is_empty() {
        return None;
    }
    let from = start + user.len() + 1;
    let problem = pointsman_schemas::Problem::new("a password stands in this URL").inside(from..from + password.len());
    let problem =
        problem.help("take it out of the URL and give it as { env: NAME } or { file: path } where the connector has a place for it");
    document.mistakes.tell(Mistake::of(problem, entry, node, &document.file.text));
    document.mistakes.silence(node);
    // In a block or behind escapes its place is not known to the letter: all of the text is blotted out then.
    let quote = usize::from(*style == Style::Quoted);
    let exact = Span { start: node.span.start + quote + from, end: node.span.start + quote + from + password.len() };
    Some(if document.file.text.get(exact.start..exact.end) == Some(password) { exact } else { node.span })
}
