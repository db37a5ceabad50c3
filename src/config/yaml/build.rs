//! From the parser's events to the tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{COPIED_BYTES_MAX, DEPTH_MAX, Entry, Node, Span, Style, Value, scalar, unreadable};
use crate::config::mistake::{KEPT_MAX, Mistake};

/// Reads a file's text.
///
/// A file that holds nothing gives [`Value::Null`].
///
/// # Errors
/// Every mistake found. Only the first of those that leave it unclear what follows, all of the
/// others.
pub fn read(text: &str) -> Result<Node, Vec<Mistake>> {
    let mut builder = Builder::new(text);
    if let Err(mistake) = builder.build() {
        builder.mistakes.push(mistake);
    }
    if builder.mistakes.is_empty() {
        Ok(builder.root.unwrap_or(Node {
            value: Value::Null,
            span: Span::default(),
        }))
    } else {
        Err(builder.mistakes)
    }
}

struct Builder<'x> {
    text: &'x str,
    places: Places<'x>,
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Anchored>,
    copied_bytes: usize,
    mistakes: Vec<Mistake>,
}

/// A collection being read.
struct Frame {
    start: usize,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map(Map),
}

#[derive(Default)]
struct Map {
    entries: Vec<Entry>,
    /// Where each key stands: a file may have ten thousand rules.
    seen: HashMap<String, Span>,
    /// The key that waits for its value.
    key: Option<(String, Span)>,
}

struct Anchored {
    node: Node,
    bytes: usize,
    depth: usize,
}

impl<'x> Builder<'x> {
    fn new(text: &'x str) -> Self {
        let places = Places {
            text,
            characters: 0,
            bytes: 0,
        };
        Self {
            text,
            places,
            stack: Vec::new(),
            root: None,
            documents: 0,
            anchors: HashMap::new(),
            copied_bytes: 0,
            mistakes: Vec::new(),
        }
    }

    fn build(&mut self) -> Result<(), Mistake> {
        let mut parser = Parser::new_from_str(self.text);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| {
                let at = self.places.byte(*error.marker());
                unreadable::explain(self.text, at, error.info())
            })?;
            let span = self.places.span(span.start, span.end);
            self.take(event, span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Mistake::new(span, "a second document begins here")
                        .help("write one document in a file; remove the `---`"));
                }
            }
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let (value, span) = self.scalar(&text, style, span);
                if self.awaits_key() {
                    return self.key(text.into_owned(), span, style);
                }
                return self.put(Node { value, span }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                return self.open(anchor, tag.as_deref(), span, Kind::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                return self.open(anchor, tag.as_deref(), span, Kind::Map(Map::default()));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.stack.pop() {
                    let (value, last) = match frame.kind {
                        Kind::List(items) => {
                            let last = items.last().map(|item| item.span.end);
                            (Value::List(items), last)
                        }
                        Kind::Map(Map { entries, .. }) => {
                            let last = entries
                                .last()
                                .map(|entry| entry.value.span.end.max(entry.key_span.end));
                            (Value::Map(entries), last)
                        }
                    };
                    // A block ends where its last value ends; the scanner counts the blanks behind
                    // `]` and `}` to them.
                    let closed = self
                        .text
                        .get(span.start..)
                        .is_some_and(|rest| rest.starts_with([']', '}']));
                    let end = if closed {
                        span.start + 1
                    } else {
                        last.unwrap_or(span.end)
                    };
                    return self.put(
                        Node {
                            value,
                            span: Span {
                                start: frame.start,
                                end: end.max(frame.start),
                            },
                        },
                        frame.anchor,
                    );
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, mut span: Span) -> (Value, Span) {
        let style = match style {
            ScalarStyle::Plain => {
                // The scanner may count the blanks behind a bare word to it.
                let source = self.text.get(span.start..span.end).unwrap_or_default();
                span.end = span.start + source.trim_end().len();
                return (scalar::plain(text), span);
            }
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        (Value::Text(text.to_owned(), style), span)
    }

    fn open(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
        kind: Kind,
    ) -> Result<(), Mistake> {
        self.refuse_tag(tag, span);
        if self.awaits_key() {
            return Err(
                Mistake::new(span, "a list or a mapping stands where a key is wanted")
                    .help("if it is meant as text, quote it"),
            );
        }
        self.deepen(1, span)?;
        self.stack.push(Frame {
            start: span.start,
            anchor,
            kind,
        });
        Ok(())
    }

    fn deepen(&self, by: usize, span: Span) -> Result<(), Mistake> {
        if self.stack.len() + by > DEPTH_MAX {
            return Err(Mistake::new(
                span,
                format!("this is nested deeper than {DEPTH_MAX} levels"),
            ));
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(
            self.stack.last(),
            Some(Frame {
                kind: Kind::Map(Map { key: None, .. }),
                ..
            })
        )
    }

    fn key(&mut self, key: String, span: Span, style: ScalarStyle) -> Result<(), Mistake> {
        if key == "<<" && style == ScalarStyle::Plain {
            let help =
                "YAML 1.2 has no merge keys: repeat the keys, or give the whole value by an alias";
            self.note(Mistake::new(span, "`<<` merges nothing").help(help));
        }
        if let Some(Frame {
            kind: Kind::Map(map),
            ..
        }) = self.stack.last_mut()
        {
            map.key = Some((key, span));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        if anchor > 0 {
            let (bytes, depth) = measure(&node);
            self.copies(bytes, node.span)?;
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    bytes,
                    depth,
                },
            );
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame {
                kind: Kind::List(items),
                ..
            }) => items.push(node),
            Some(Frame {
                kind: Kind::Map(map),
                ..
            }) => {
                let Some((key, key_span)) = map.key.take() else {
                    return Ok(());
                };
                match map.seen.get(&key) {
                    Some(first) => {
                        let mistake = Mistake::new(
                            key_span,
                            format!("the key `{key}` stands here a second time"),
                        )
                        .also(*first, "first here");
                        self.note(mistake.help("give it another name, or take one of the two out"));
                    }
                    None => {
                        map.seen.insert(key.clone(), key_span);
                        map.entries.push(Entry {
                            key,
                            key_span,
                            value: node,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Mistake> {
        if self.awaits_key() {
            return Err(Mistake::new(span, "an alias stands where a key is wanted")
                .help("write the key out"));
        }
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(
                Mistake::new(span, "the alias stands inside of what it stands for")
                    .help("a value cannot contain itself"),
            );
        };
        self.deepen(anchored.depth, span)?;
        self.copies(anchored.bytes, span)?;
        let Some(node) = self
            .anchors
            .get(&anchor)
            .map(|anchored| anchored.node.clone())
        else {
            return Ok(());
        };
        self.put(node, 0)
    }

    /// Counts a copy before it is made.
    fn copies(&mut self, bytes: usize, span: Span) -> Result<(), Mistake> {
        self.copied_bytes += bytes;
        if self.copied_bytes > COPIED_BYTES_MAX {
            let message = format!(
                "the anchors and aliases of this file copy more than {} MiB",
                COPIED_BYTES_MAX / (1024 * 1024)
            );
            return Err(Mistake::new(span, message).help(
                "write out what is used once, and give an anchor only to what an alias names",
            ));
        }
        Ok(())
    }

    /// Keeps a mistake that leaves it clear what follows; of more than anybody reads the first
    /// ones.
    fn note(&mut self, mistake: Mistake) {
        if self.mistakes.len() < KEPT_MAX {
            self.mistakes.push(mistake);
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if tag.is_some() {
            self.note(
                Mistake::new(span, "tags have no meaning here")
                    .help("remove the `!…`; to make a text of a value, quote it"),
            );
        }
    }
}

/// How much memory a tree takes, in bytes, and how many levels it has.
fn measure(node: &Node) -> (usize, usize) {
    let own = size_of::<Node>();
    let below = |children: &mut dyn Iterator<Item = (usize, &Node)>| {
        let (bytes, depth) = children.fold((own, 0), |(bytes, depth), (key_bytes, child)| {
            let (child_bytes, child_depth) = measure(child);
            (bytes + key_bytes + child_bytes, depth.max(child_depth))
        });
        (bytes, depth + 1)
    };
    match &node.value {
        Value::List(items) => below(&mut items.iter().map(|item| (0, item))),
        Value::Map(entries) => below(
            &mut entries
                .iter()
                .map(|entry| (size_of::<Entry>() - own + entry.key.len(), &entry.value)),
        ),
        Value::Text(text, _) => (own + text.len(), 0),
        _ => (own, 0),
    }
}

/// Turns the scanner's character counts into byte offsets. They come nearly in order, so it walks
/// from the last one.
struct Places<'x> {
    text: &'x str,
    characters: usize,
    bytes: usize,
}

impl Places<'_> {
    fn span(&mut self, start: Marker, end: Marker) -> Span {
        let start = self.byte(start);
        Span {
            start,
            end: self.byte(end).max(start),
        }
    }

    fn byte(&mut self, marker: Marker) -> usize {
        while self.characters < marker.index() {
            let Some(next) = self
                .text
                .get(self.bytes..)
                .and_then(|rest| rest.chars().next())
            else {
                break;
            };
            self.bytes += next.len_utf8();
            self.characters += 1;
        }
        while self.characters > marker.index() {
            let Some(last) = self
                .text
                .get(..self.bytes)
                .and_then(|before| before.chars().next_back())
            else {
                break;
            };
            self.bytes -= last.len_utf8();
            self.characters -= 1;
        }
        self.bytes
    }
}
