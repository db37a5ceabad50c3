//! Rule files as they were written, for whoever looks at a running bus: what nobody is to see is
//! `***` in them.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use pointsman_schemas::Name;

use super::diagnostic::{Diagnostic, Lines, inert};
use super::yaml::{Entry, Span};

/// How many warnings are kept: nobody reads more.
const NOTES_MAX: usize = 100;

/// What a rule file defines by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defined {
    /// A source.
    Source,
    /// A target.
    Target,
    /// A rule or a pipe.
    Rule,
}

impl Defined {
    /// The sections of a file, each with what it defines.
    const SECTIONS: [(&'static str, Self); 4] = [
        ("sources", Self::Source),
        ("targets", Self::Target),
        ("rules", Self::Rule),
        ("pipes", Self::Rule),
    ];
}

/// Rule files as they were read.
#[derive(Debug, Default)]
pub struct Written {
    /// In their order.
    pub files: Vec<WrittenFile>,
    /// What is odd in them, the first hundred.
    pub notes: Vec<Note>,
    places: HashMap<(Defined, Name, Name), Place>,
}

/// One of them.
#[derive(Debug)]
pub struct WrittenFile {
    /// Its path as it was given or found.
    pub name: String,
    /// Its text, with as many lines as it has.
    pub text: String,
}

/// Something odd.
#[derive(Debug)]
pub struct Note {
    /// The file's name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// All of it, on one line.
    pub text: String,
}

/// Where something is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: usize,
    /// From 1.
    lines: RangeInclusive<usize>,
}

/// What a file says of one source, target or rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Passage<'w> {
    /// The file's name.
    pub file: &'w str,
    /// The number of the first line, from 1.
    pub first: usize,
    /// The lines.
    pub lines: Vec<&'w str>,
}

impl Written {
    /// Adds a file. `section` has the entries of each of its sections.
    pub(super) fn add<'e>(
        &mut self,
        (name, text): (&str, &str),
        secrets: Vec<Span>,
        tenant: &Name,
        section: impl Fn(&str) -> &'e [Entry],
    ) {
        let (lines, file) = (Lines::of(text), self.files.len());
        for (key, defined) in Defined::SECTIONS {
            for entry in section(key) {
                // Another one has been told of.
                let Ok(name) = Name::new(&entry.key) else {
                    continue;
                };
                let lines = lines_of(entry, &lines, text);
                let place = Place { file, lines };
                self.places.insert((defined, tenant.clone(), name), place);
            }
        }
        self.files.push(WrittenFile {
            name: crate::output::line(name).into_owned(),
            text: inert(&blotted(text, secrets)),
        });
    }

    pub(super) fn note(&mut self, warnings: &[Diagnostic]) {
        let note = |warning: &Diagnostic| {
            let (file, line, _) = warning.place();
            Note {
                file: file.to_owned(),
                line,
                text: warning.line(),
            }
        };
        self.notes = warnings.iter().take(NOTES_MAX).map(note).collect();
    }

    /// What the files say of a source, target or rule; nothing of one that they do not define.
    #[must_use]
    pub fn of(&self, defined: Defined, tenant: &Name, name: &Name) -> Option<Passage<'_>> {
        let place = self.places.get(&(defined, tenant.clone(), name.clone()))?;
        let file = self.files.get(place.file)?;
        let (first, last) = (*place.lines.start(), *place.lines.end());
        let lines = file.text.lines().skip(first - 1);
        Some(Passage {
            file: &file.name,
            first,
            lines: lines.take(last + 1 - first).collect(),
        })
    }
}

/// The lines of an entry, from 1.
fn lines_of(entry: &Entry, lines: &Lines, text: &str) -> RangeInclusive<usize> {
    let line = |byte: usize| lines.place(text, byte).0;
    // What came by an alias stands where its anchor does, which is before it.
    let value = Some(entry.value.span).filter(|value| value.start > entry.key_span.start);
    let end = value.map_or(0, |value| value.end).max(entry.key_span.end);
    line(entry.key_span.start)..=line(without_space_behind(text, end).saturating_sub(1))
}

/// Where what ends at a byte ends without space: of a block that is where the next line's begins.
fn without_space_behind(text: &str, end: usize) -> usize {
    text.get(..end).map_or(end, |text| text.trim_end().len())
}

/// A text with `***` in the place of each secret. It keeps its lines.
fn blotted(text: &str, mut secrets: Vec<Span>) -> String {
    secrets.sort_by_key(|secret| secret.start);
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for secret in secrets {
        // Two of them may overlap.
        let start = secret.start.max(done);
        let end = without_space_behind(text, secret.end);
        let (Some(before), Some(hidden)) = (text.get(done..start), text.get(start..end)) else {
            continue;
        };
        out.push_str(before);
        if !hidden.is_empty() {
            out.push_str("***");
        }
        out.extend(hidden.matches('\n'));
        done = end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Config;
    use super::*;

    fn written(text: &str) -> std::sync::Arc<Written> {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        Config::load(&[file]).unwrap().0.written
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn each_part_is_found_where_it_stands() {
        let written = written(
            "x-limits: &limits { concurrency: { max: 2 } }\n\nsources: { clock: { timer: { every: 1h } } }\ntargets:\n  one:\n    stdout: {}\n    delivery: *limits\n\n  # two\n  two: { stdout: {} }\nrules:\n  r:\n    to: [one, two]\npipes:\n  p: { from: clock, to: one }\n",
        );
        let of = |defined, text: &str| {
            let passage = written.of(defined, &Name::default_tenant(), &name(text));
            passage.map(|passage| (passage.first, passage.lines.join("\n")))
        };
        assert_eq!(
            of(Defined::Target, "one"),
            Some((
                5,
                "  one:\n    stdout: {}\n    delivery: *limits".to_owned()
            ))
        );
        assert_eq!(
            of(Defined::Target, "two"),
            Some((10, "  two: { stdout: {} }".to_owned()))
        );
        assert_eq!(
            of(Defined::Rule, "r"),
            Some((12, "  r:\n    to: [one, two]".to_owned()))
        );
        assert!(of(Defined::Rule, "p").is_some());
        assert_eq!(of(Defined::Source, "one"), None);
    }

    #[test]
    fn secrets_are_not_in_it_and_lines_stay() {
        let written = written(
            "admin:\n  auth: [s3cr3t-of-the-operator-of-it]\ntargets:\n  one:\n    http:\n      url: http://h/\n      auth: { bearer: \"t0k3n\" }\n      headers: { X-Api-Key: k3yk3y, X-Other: seen }\n  two:\n    http:\n      url: http://h/\n      auth:\n        bearer: |\n          l1ne1\n          l1ne2\n  three: { http: { url: http://h/, auth: { bearer: { env: TOKEN } } } }\nrules:\n  r: { to: [one, two, three] }\n",
        );
        let text = &written.files[0].text;
        for secret in ["s3cr3t", "t0k3n", "k3yk3y", "l1ne1", "l1ne2"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert!(text.contains("X-Other: seen"), "{text}");
        assert!(text.contains("{ env: TOKEN }"), "{text}");
        let passage = written.of(Defined::Rule, &Name::default_tenant(), &name("r"));
        assert_eq!(passage.unwrap().lines, ["  r: { to: [one, two, three] }"]);
        let passage = written.of(Defined::Target, &Name::default_tenant(), &name("two"));
        let passage = passage.unwrap().lines;
        assert_eq!(passage.last(), Some(&""), "{passage:?}");
        // Each secret that is written out is warned of, at its line.
        let noted = |line| written.notes.iter().any(|note| note.line == line);
        assert!(noted(2) && noted(7), "{:?}", written.notes);
        assert!(
            written
                .notes
                .iter()
                .all(|note| !note.text.contains("t0k3n")),
            "{:?}",
            written.notes
        );
    }

    #[test]
    fn secrets_that_overlap_are_hidden_whole() {
        let span = |start, end| Span { start, end };
        let of = |spans: &[Span]| blotted("a-bc\nd-e", spans.to_vec());
        assert_eq!(of(&[span(2, 6), span(3, 4)]), "a-***\n-e");
        assert_eq!(of(&[span(3, 6), span(2, 4)]), "a-******\n-e");
        assert_eq!(of(&[span(8, 8)]), "a-bc\nd-e");
    }
}
