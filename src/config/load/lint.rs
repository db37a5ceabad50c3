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
    secrets
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
