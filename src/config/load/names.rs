//! Who is called what.

use std::collections::HashMap;

use pointsman_schemas::Name;

use super::{Document, Loader};
use crate::config::mistake::Mistake;
use crate::config::reader::Piece;
use crate::config::suggest;
use crate::config::yaml::{Entry, Span};

/// The sources that are always there.
pub(in crate::config) const BUILT_IN_SOURCES: [&str; 2] = ["ingress", "replies"];

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Sources,
    Targets,
    /// Pipes too.
    Rules,
}

impl Section {
    /// Where the names stand, and what one of them is. Rules and pipes share theirs: what is kept
    /// of either is found again by it.
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Sources, "sources", "source"),
        (Self::Targets, "targets", "target"),
        (Self::Rules, "rules", "rule"),
        (Self::Rules, "pipes", "pipe"),
    ];

    fn one(self) -> &'static str {
        match self {
            Self::Sources => "source",
            Self::Targets => "target",
            Self::Rules => "rule or pipe",
        }
    }
}

/// Every name that the files define.
pub(super) struct Names<'d> {
    defined: HashMap<(Section, &'d Name, &'d str), (usize, Span)>,
}

impl<'d> Names<'d> {
    /// Collects them, and reports those that are not names or are there twice.
    pub(super) fn collect(documents: &'d [Document<'_>]) -> Self {
        let mut defined = HashMap::new();
        for (index, document) in documents.iter().enumerate() {
            for (section, key, one) in Section::ALL {
                for entry in document.section(key) {
                    check_name(document, section, entry);
                    let identity = (section, &document.tenant, entry.key.as_str());
                    let Some(&(first, span)) = defined.get(&identity) else {
                        defined.insert(identity, (index, entry.key_span));
                        continue;
                    };
                    let message = format!("the {one} `{}` is defined a second time", entry.key);
                    let first = documents
                        .get(first)
                        .map(|document| document.place(span))
                        .unwrap_or_default();
                    document.mistakes.report(
                        Mistake::new(entry.key_span, message)
                            .help(format!("first at {first}; rename or remove one of them")),
                    );
                }
            }
        }
        Self { defined }
    }

    fn of(&self, section: Section, tenant: &Name) -> Vec<&'d str> {
        let mut names: Vec<&str> = self
            .defined
            .keys()
            .filter(|(of, whose, _)| *of == section && *whose == tenant)
            .map(|(_, _, name)| *name)
            .collect();
        names.sort_unstable();
        names
    }
}

fn check_name(document: &Document<'_>, section: Section, entry: &Entry) {
    if Name::new(&entry.key).is_err() {
        let proposed: String = entry
            .key
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .take(63)
            .collect();
        let help = match proposed.trim_matches('-') {
            "" => "a name is made of 1 to 63 of a-z, 0-9 and -".to_owned(),
            proposed => {
                format!("a name is made of 1 to 63 of a-z, 0-9 and -, such as `{proposed}`")
            }
        };
        document.mistakes.report(
            Mistake::new(entry.key_span, format!("`{}` cannot be a name", entry.key)).help(help),
        );
    }
    if section == Section::Sources && BUILT_IN_SOURCES.contains(&entry.key.as_str()) {
        let mistake = Mistake::new(
            entry.key_span,
            format!(
                "the source `{}` is always there and cannot be defined",
                entry.key
            ),
        );
        document
            .mistakes
            .report(mistake.help("choose another name"));
    }
}

impl Loader<'_, '_> {
    /// True where a file of the document's tenant defines the name.
    pub(super) fn is_defined(&self, section: Section, document: &Document<'_>, text: &str) -> bool {
        self.names
            .defined
            .contains_key(&(section, &document.tenant, text))
    }

    /// Resolves a name that stands in a piece; none where it leads nowhere, which is reported.
    pub(super) fn resolve(
        &self,
        section: Section,
        document: &Document<'_>,
        text: &str,
        at: Piece<'_>,
    ) -> Option<Name> {
        let built_in = section == Section::Sources && BUILT_IN_SOURCES.contains(&text);
        let defined = |tenant| self.names.defined.contains_key(&(section, tenant, text));
        if built_in || defined(&document.tenant) {
            return Name::new(text).ok();
        }
        // Where a file could not be read the name may stand there.
        if self.complete {
            let elsewhere = self
                .documents
                .iter()
                .map(|document| &document.tenant)
                .find(|tenant| defined(tenant));
            let help = match elsewhere {
                Some(tenant) => format!("the one of this name belongs to the tenant `{tenant}`"),
                None if section == Section::Targets && text.contains("://") => {
                    format!(
                        "give it a name under `targets:` (a-name: {{ http: {{ url: \"{text}\" }} \
                         }}) and write `to: a-name`"
                    )
                }
                None if section == Section::Targets
                    && (text.starts_with('.') || text.contains('/')) =>
                {
                    let words: Vec<_> = text.split_whitespace().collect();
                    let command = words.join(", ");
                    format!(
                        "give it a name under `targets:` (a-name: {{ exec: {{ command: \
                         [{command}] }} }}) and write `to: a-name`"
                    )
                }
                None if section == Section::Targets
                    && self.names.of(section, &document.tenant).is_empty() =>
                {
                    format!(
                        "there are no targets; define it under `targets:`, such as `{text}: {{ \
                         stdout: {{}} }}`"
                    )
                }
                None => {
                    let mut candidates = self.names.of(section, &document.tenant);
                    if section == Section::Sources {
                        candidates.extend(BUILT_IN_SOURCES);
                    }
                    suggest::help(text, &candidates).1
                }
            };
            at.report(format!("there is no {} `{text}`", section.one()), help);
        }
        None
    }
}
