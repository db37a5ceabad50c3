//! A mistake at a place of one file, and the sink that gathers them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use pointsman_schemas::{Problem, Segment};

use super::yaml::{Entry, Node, Span, Style, Value};

/// A mistake, or an oddity, at a place of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub span: Span,
    /// Another place of the same file that belongs to it, and what is there.
    pub also: Option<(Span, String)>,
    /// True for what is odd but not wrong.
    pub warning: bool,
    /// What is wrong: lower case, no trailing period.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Mistake {
    /// A mistake at a place.
    #[must_use]
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            also: None,
            warning: false,
            message: message.into(),
            help: None,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn also(mut self, span: Span, what: impl Into<String>) -> Self {
        self.also = Some((span, what.into()));
        self
    }

    /// Makes a warning of it.
    #[must_use]
    pub fn warn(mut self) -> Self {
        self.warning = true;
        self
    }

    /// Gives a problem of a part of the file its place. `owner` is the entry whose value `node` is,
    /// where there is one.
    #[must_use]
    pub fn of(problem: Problem, owner: Option<&Entry>, node: &Node, text: &str) -> Self {
        let (entry, found) = node.follow(&problem.path);
        let entry = if problem.path.is_empty() {
            owner
        } else {
            entry
        };
        let span = match entry {
            Some(entry) if problem.at_key => entry.key_span,
            _ => match &problem.within {
                Some(within) => {
                    inside(found, within, text).unwrap_or_else(|| visible(entry, found, text))
                }
                None => visible(entry, found, text),
            },
        };
        // A message that begins with its verb is about the key.
        let message = match problem.path.last() {
            Some(Segment::Key(key))
                if problem.message.starts_with("is ") || problem.message.starts_with("lets ") =>
            {
                format!("`{key}` {}", problem.message)
            }
            _ => problem.message,
        };
        Self {
            span,
            also: None,
            warning: problem.warning,
            message,
            help: problem.help,
        }
    }
}

/// What to underline for a value: itself where it stands on one line, else its key, else its first
/// line.
#[must_use]
pub fn visible(entry: Option<&Entry>, node: &Node, text: &str) -> Span {
    let source = text.get(node.span.start..node.span.end).unwrap_or_default();
    match (entry, source.split_once('\n')) {
        (Some(entry), Some(_)) => entry.key_span,
        (Some(entry), None) if source.is_empty() => entry.key_span,
        (_, None) => node.span,
        (None, Some((first, _))) => Span {
            start: node.span.start,
            end: node.span.start + first.trim_end().len(),
        },
    }
}

/// The part of a text's source that a range of the text came from, where the text stands there
/// letter for letter.
fn inside(node: &Node, within: &std::ops::Range<usize>, text: &str) -> Option<Span> {
    let Value::Text(value, style) = &node.value else {
        return None;
    };
    let quote = match style {
        Style::Plain => 0,
        Style::Quoted => 1,
        Style::Block => return inside_block(node.span, value, within, text),
    };
    let start = node.span.start + quote;
    (text.get(start..start + value.len())? == value).then_some(())?;
    let end = within.end.min(value.len());
    // Of an empty place, which is mostly the end, the letter before it is shown.
    let before = || {
        value
            .get(..end)
            .and_then(|before| before.char_indices().next_back())
            .map_or(0, |(at, _)| at)
    };
    let from = if within.start < end {
        within.start
    } else {
        before()
    };
    Some(Span {
        start: start + from,
        end: start + end,
    })
}

/// The same of a text behind `|`, whose lines stand in the file as they are behind their
/// indentation. It ends with its line.
fn inside_block(
    block: Span,
    value: &str,
    within: &std::ops::Range<usize>,
    text: &str,
) -> Option<Span> {
    let before = value.get(..within.start)?;
    let (line, column) = (
        before.matches('\n').count(),
        before.len() - before.rfind('\n').map_or(0, |at| at + 1),
    );
    let wanted = value.split('\n').nth(line)?;
    let mut start = block.start;
    let lines = text
        .get(block.start..block.end)?
        .split_inclusive('\n')
        .map(|line| {
            let at = start;
            start += line.len();
            (at, line.trim_end_matches(['\r', '\n']))
        });
    let header = |line: &str| line.trim_start().starts_with('|');
    let (at, found) = lines
        .skip_while(|(at, line)| *at == block.start && header(line))
        .nth(line)?;
    let indentation = found
        .strip_suffix(wanted)
        .filter(|rest| rest.chars().all(|character| character == ' '))?;
    let from = at + indentation.len() + column;
    let length = (within.end - within.start).min(wanted.len() - column);
    (length > 0).then_some(Span {
        start: from,
        end: from + length,
    })
}

/// How many mistakes of one file are kept, and how many oddities. A generated file may have one in
/// each of a hundred thousand rules.
pub const KEPT_MAX: usize = 1_000;

/// Gathers the mistakes of one file, each once.
#[derive(Debug, Default)]
pub struct Mistakes {
    found: RefCell<Found>,
    /// Values that could not be read: not looked at again. By the place of the node in memory,
    /// which the tree keeps.
    hidden: RefCell<HashSet<*const Node>>,
    /// Values of which everything is said: what others find wrong with them is not reported.
    silenced: RefCell<HashSet<*const Node>>,
    /// Keys that an unknown key of a mapping was probably meant to be: not missed there.
    meant: RefCell<HashSet<(*const Node, String)>>,
}

#[derive(Debug, Default)]
struct Found {
    kept: Vec<Mistake>,
    /// What was reported, by a hash of place and message.
    told: HashSet<u64>,
    errors: usize,
    warnings: usize,
}

impl Mistakes {
    /// Takes a mistake in; one that was reported already is not reported again. Past [`KEPT_MAX`]
    /// they are only counted.
    pub fn report(&self, mistake: Mistake) {
        let mut hasher = DefaultHasher::new();
        (mistake.span, &mistake.message).hash(&mut hasher);
        let Found {
            kept,
            told,
            errors,
            warnings,
        } = &mut *self.found.borrow_mut();
        if !told.insert(hasher.finish()) {
            return;
        }
        let count = if mistake.warning { warnings } else { errors };
        *count += 1;
        if *count <= KEPT_MAX {
            kept.push(mistake);
        }
    }

    /// True where something is wrong, and not only odd.
    #[must_use]
    pub fn any_error(&self) -> bool {
        self.found.borrow().errors > 0
    }

    /// What was gathered, and how many more there were.
    #[must_use]
    pub fn into_inner(self) -> Vec<Mistake> {
        let Found {
            mut kept,
            errors,
            warnings,
            ..
        } = self.found.into_inner();
        for (count, warning) in [(errors, false), (warnings, true)] {
            if count > KEPT_MAX {
                let what = if warning { "warnings" } else { "mistakes" };
                let mistake = Mistake::new(
                    Span::default(),
                    format!(
                        "this file has {} more {what}, which are not listed",
                        count - KEPT_MAX
                    ),
                );
                kept.push(if warning { mistake.warn() } else { mistake });
            }
        }
        kept
    }

    pub(super) fn hide(&self, node: &Node) {
        self.hidden.borrow_mut().insert(std::ptr::from_ref(node));
    }

    pub(super) fn is_hidden(&self, node: &Node) -> bool {
        self.hidden.borrow().contains(&std::ptr::from_ref(node))
    }

    /// True where a value could not be read inside of another.
    pub(super) fn any_hidden_inside(&self, node: &Node) -> bool {
        let mut found = self.is_hidden(node);
        node.walk(&mut |_, node| found |= self.is_hidden(node));
        found
    }

    pub(super) fn silence(&self, node: &Node) {
        self.silenced.borrow_mut().insert(std::ptr::from_ref(node));
    }

    pub(super) fn is_silenced(&self, node: &Node) -> bool {
        self.silenced.borrow().contains(&std::ptr::from_ref(node))
    }

    pub(super) fn hidden_count(&self) -> usize {
        self.hidden.borrow().len()
    }

    pub(super) fn note_meant(&self, map: &Node, key: &str) {
        self.meant
            .borrow_mut()
            .insert((std::ptr::from_ref(map), key.to_owned()));
    }

    pub(super) fn was_meant(&self, map: &Node, key: &str) -> bool {
        self.meant
            .borrow()
            .contains(&(std::ptr::from_ref(map), key.to_owned()))
    }
}
