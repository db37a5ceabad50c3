//! Imports run one way: see docs/develop/architecture.md. Read from the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What connectors share. Every other folder of `connectors` is one outside system.
const SHARED: [&str; 7] = [
    "alibaba", "aws", "cdc", "leased", "listener", "net", "process",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files in a folder and below it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The first names behind each `crate::` of a text, comments left out.
fn imported(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("//") {
            continue;
        }
        // A group goes on over lines: it is cut out of the whole text.
        let start = line.as_ptr() as usize - text.as_ptr() as usize;
        for (at, path) in line.match_indices("crate::") {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &text[start + at + path.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names.extend(heads(group)),
                None => names.extend([name(rest)]),
            }
        }
    }
    names
}

fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The first name of each path in a group, up to the brace that closes it.
fn heads(group: &str) -> Vec<&str> {
    let (mut heads, mut depth, mut is_head) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_head = true,
            c if is_head && !c.is_whitespace() => {
                heads.push(name(&group[at..]));
                is_head = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::one::{Two};\n// use crate::no;\nuse crate::{three, four::{five, six},\n    seven};\nlet x = crate::eight::nine();\nuse my_crate::ten;";
    let expect = BTreeSet::from(["one", "three", "four", "seven", "eight"]);
    assert_eq!(imported(text), expect);
}

#[test]
fn no_connector_imports_another() {
    let connectors = workspace().join("connectors");
    let folders: Vec<String> = fs::read_dir(&connectors)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("mod.rs").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(
        folders.len() > 8 && SHARED.iter().all(|own| folders.iter().any(|f| f == own)),
        "{folders:?}"
    );
    let is_connector = |folder: &str| !SHARED.contains(&folder);
    for folder in &folders {
        for file in sources(&connectors.join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            for other in imported(&text) {
                let is_other = other != folder && folders.iter().any(|folder| folder == other);
                let is_wrong = is_connector(other)
                    || folder == "net"
                    || (["listener", "leased"].contains(&folder.as_str())
                        && ["alibaba", "aws"].contains(&other));
                assert!(
                    !(is_other && is_wrong),
                    "{} imports crate::{other}: what two connectors need belongs into {SHARED:?} or the crate's root",
                    file.display()
                );
            }
        }
    }
}

/// The modules of a crate that import one another in a circle, or one in it.
fn circle(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(folder) {
        let path = file.strip_prefix(folder).unwrap_or(&file);
        let first = path.iter().next().unwrap_or_default().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        let is_apart = ["lib", "main", "tests", "benches", "suite"].contains(&&*module);
        let is_test = |part: &OsStr| {
            ["tests", "tests.rs", "testing.rs"]
                .iter()
                .any(|test| part == *test)
        };
        if is_apart || path.iter().any(is_test) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        let text = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let others = imported(text).into_iter().filter(|other| **other != module);
        let others: Vec<_> = others.map(ToOwned::to_owned).collect();
        graph.entry(module).or_default().extend(others);
    }
    // What imports nothing that is left is in no circle.
    loop {
        let left: BTreeSet<_> = graph.keys().cloned().collect();
        let before = graph.len();
        graph.retain(|_, others| others.iter().any(|other| left.contains(other)));
        if graph.len() == before {
            return graph;
        }
    }
}

#[test]
fn no_modules_import_one_another() {
    for member in [
        "schemas",
        "rules",
        "journal",
        "log",
        "cluster",
        "peer",
        "connectors",
        "src",
    ] {
        let found = circle(&workspace().join(member));
        assert!(found.is_empty(), "{member}: {found:#?}");
    }
}

#[test]
fn crates_see_only_what_lies_below_them() {
    for (member, may_see) in [
        ("schemas", &[][..]),
        ("rules", &["pointsman-schemas"]),
        ("journal", &["pointsman-schemas"]),
        // Its tests take its own suite.
        (
            "log",
            &[
                "pointsman-schemas",
                "pointsman-log",
                "pointsman-test-brokers",
            ],
        ),
        (
            "cluster",
            &["pointsman-schemas", "pointsman-log", "pointsman-journal"],
        ),
        ("peer", &["pointsman-schemas", "pointsman-journal"]),
        (
            "connectors",
            &["pointsman-schemas", "pointsman-test-brokers"],
        ),
    ] {
        let manifest = fs::read_to_string(workspace().join(member).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split_once("dependencies]").unwrap().1;
        for line in dependencies
            .lines()
            .filter(|line| line.starts_with("pointsman"))
        {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            assert!(
                may_see.contains(&dependency),
                "{member} depends on {dependency}, which does not lie below it"
            );
        }
    }
}
