//! What the documentation shows passes `check`, and its links lead somewhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{SCREEN, diagnostic, files, load};

/// A page without what stands in its fences, and these: the line that each opens on, the words
/// behind the backquotes, and the text.
struct Page {
    prose: String,
    blocks: Vec<(usize, String, String)>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let (mut prose, mut blocks, mut is_open) =
            (String::new(), Vec::<(usize, String, String)>::new(), false);
        for (number, line) in (1..).zip(std::fs::read_to_string(path).unwrap().lines()) {
            match (line.trim_start().strip_prefix("```"), is_open) {
                (Some(words), false) => blocks.push((number, words.to_owned(), String::new())),
                (Some(_), true) => {}
                (None, false) => prose.extend([line, "\n"]),
                (None, true) => blocks.last_mut().unwrap().2.extend([line, "\n"]),
            }
            is_open ^= line.trim_start().starts_with("```");
        }
        assert!(!is_open, "{}: a fence is not closed", path.display());
        Self { prose, blocks }
    }

    /// The names by which links find its headings, as GitHub makes them.
    fn anchors(&self) -> impl Iterator<Item = String> {
        let headings = self
            .prose
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| line.trim_start_matches('#').trim());
        headings.map(|heading| {
            let kept = heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.flat_map(char::to_lowercase)
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
    }

    /// Where its links lead.
    fn links(&self) -> impl Iterator<Item = &str> {
        self.prose
            .split("](")
            .skip(1)
            .filter_map(|behind| behind.split(')').next())
    }
}

/// Every page of the project, by its path from the root.
fn pages() -> HashMap<PathBuf, Page> {
    let mut found: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "fuzz/README.md"]
        .map(PathBuf::from)
        .into();
    let mut folders: Vec<PathBuf> = vec!["docs".into(), "examples".into()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found
        .into_iter()
        .map(|path| (path.clone(), Page::read(&path)))
        .collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part.as_os_str().to_str() {
            Some("..") => drop(plain.pop()),
            Some(".") => {}
            _ => plain.push(part),
        }
        plain
    })
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut broken = Vec::new();
    for (path, page) in &pages {
        for link in page.links().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() {
                path.clone()
            } else {
                plain(&path.parent().unwrap().join(file))
            };
            let has_anchor = || {
                pages
                    .get(&to)
                    .is_some_and(|page| page.anchors().any(|one| one == anchor))
            };
            if !to.exists() || (!anchor.is_empty() && !has_anchor()) {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(
        pages
            .values()
            .map(|page| page.links().count())
            .sum::<usize>()
            > 30
    );
}

/// A block that is only a part of a rule file says so: its fence opens with `yaml part`.
#[test]
fn every_rule_file_that_is_shown_passes_check() {
    let (mut broken, mut count) = (String::new(), 0);
    for (path, page) in pages() {
        for (line, _, text) in page
            .blocks
            .into_iter()
            .filter(|(_, words, _)| words == "yaml")
        {
            count += 1;
            let file = files::Found {
                name: format!("{}, line {line}", path.display()),
                folder: Path::new("/").into(),
                text,
                attached: None,
            };
            if let Err(mistakes) = load::connect(&[file], Vec::new()) {
                broken += &diagnostic::render(&mistakes, SCREEN);
            }
        }
    }
    assert!(broken.is_empty(), "{broken}");
    assert!(count > 15, "only {count} are found");
}

/// Every `.rs` file below a folder, read.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            *into += &std::fs::read_to_string(path).unwrap();
        }
    }
}

/// The last column of a comparison's tables names the test that shows the row; one that has none
/// says what is not there.
#[test]
fn every_test_that_a_comparison_names_is_there() {
    let mut code = String::new();
    for folder in ["src", "journal", "connectors", "rules", "integration-tests"] {
        sources(Path::new(folder), &mut code);
    }
    let page = std::fs::read_to_string("docs/compare.md").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let (mut missing, mut count) = (Vec::new(), 0);
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        if last == "test" || (last.is_empty() && row.contains("not there")) {
            continue;
        }
        count += 1;
        let name = last.trim_matches('`');
        if name.is_empty() || !code.contains(&format!("fn {name}(")) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 30, "only {count} are found");
}
