//! What of the rule files is the same on all nodes of a cluster: everything but `listen`, `admin`,
//! `store`, `traces` and `metrics`, which each node has for itself.
//!
//! Lines of those five are replaced by marks, so that every other line keeps its number, and are
//! no part of the hash: nodes whose files differ in nothing else have the same rules.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_journal::sharded::TenantShards;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event_schema::SchemaFile;
use super::files::{self, Attached, Found};
use super::mistake::Mistake;
use super::yaml::{self, Entry, Node, Span, Value};
use super::{Config, DEFAULT_PATH, Diagnostic, Loaded, load};

/// What each node has for itself.
const OWN: [&str; 5] = ["listen", "admin", "store", "traces", "metrics"];

/// How a line begins that stands for one of those.
const MARK: &str = "#~ ";

/// How much of a SHA-256 is kept.
const HASH_BYTES: usize = 16;

/// One file, without what a node has for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Its path, relative to the folder of the first one.
    pub name: String,
    /// Its text.
    pub text: String,
    /// True of a file that holds no rules: a schema of events, which the others name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub schema: bool,
}

/// The files of a set of rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFiles(pub Vec<RuleFile>);

/// What a node has for itself: a configuration without sources, targets and rules.
#[derive(Debug)]
pub struct Own(Config);

impl Own {
    /// What a node's configuration has of it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(Config {
            listen: config.listen.clone(),
            deduplicate: config.deduplicate.clone(),
            admin: config.admin.clone(),
            store: config.store.clone(),
            traces: config.traces.clone(),
            metrics: config.metrics.clone(),
            sources: Vec::new(),
            targets: Vec::new(),
            schemas: Vec::new(),
            schema_files: Vec::new(),
            quotas: Vec::new(),
            shards: TenantShards::default(),
            rules: Vec::new(),
            tests: Vec::new(),
            written: Arc::default(),
        })
    }

    /// As [`Config::needs_restart`].
    #[must_use]
    pub fn needs_restart(&self, new: &Config) -> Option<&'static str> {
        self.0.needs_restart(new)
    }
}

impl RuleFiles {
    /// Reads rule files as [`Config::load`] does, and returns their texts beside what they say.
    ///
    /// # Errors
    /// As there, and a key of a node's own that shares its lines with others.
    pub fn read(paths: &[PathBuf]) -> Loaded<(Config, Self)> {
        let mut diagnostics = Vec::new();
        let default = [PathBuf::from(DEFAULT_PATH)];
        let paths = if paths.is_empty() { &default } else { paths };
        let found = files::find(paths, &mut diagnostics);
        let (config, warnings) = load::connect(&found, diagnostics)?;
        let files = Self::of(&found, &config.schema_files)?;
        Ok(((config, files), warnings))
    }

    /// These files without what is a node's own.
    ///
    /// # Errors
    /// As [`RuleFiles::read`].
    pub fn without_own(self) -> Result<Self, Vec<Diagnostic>> {
        let found = self.found(Path::new(""));
        let (config, _) = load::connect(&found, Vec::new())?;
        Self::of(&found, &config.schema_files)
    }

    /// The files of rules as they are read, with the others attached to them.
    fn found(&self, folder: &Path) -> Vec<Found> {
        let (schemas, rules): (Vec<_>, Vec<_>) = self.0.iter().partition(|file| file.schema);
        let schemas = schemas
            .into_iter()
            .map(|file| (file.name.clone(), file.text.clone()));
        let attached: Arc<Attached> = Arc::new(schemas.collect());
        let found = rules.into_iter().map(|file| Found {
            name: file.name.clone(),
            folder: folder.into(),
            text: file.text.clone(),
            attached: Some(Arc::clone(&attached)),
        });
        found.collect()
    }

    /// The files of rules, with those of the schemas that they name.
    fn of(found: &[Found], schemas: &[SchemaFile]) -> Result<Self, Vec<Diagnostic>> {
        let root = found.first().map_or(Path::new(""), |first| &first.folder);
        let (mut shared, mut diagnostics) = (Vec::new(), Vec::new());
        for file in found {
            match without_own(&file.text) {
                Ok((text, is_empty)) => shared.push((is_empty, named(file, root, text))),
                Err(mistake) => diagnostics.push(load::hidden(file, mistake)),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        // Where all of them are empty the first one says that there are no rules.
        let has_rules = shared.iter().any(|(is_empty, _)| !is_empty);
        let kept = (0..).zip(shared);
        let kept = kept.filter(|(at, (is_empty, _))| !is_empty || (!has_rules && *at == 0));
        let schemas = schemas.iter().map(|SchemaFile { name, text }| RuleFile {
            name: name.clone(),
            text: text.clone(),
            schema: true,
        });
        Ok(Self(
            kept.map(|(_, (_, file))| file).chain(schemas).collect(),
        ))
    }

    /// Tells sets of rules apart: it differs where anything does that nodes share, but for the
    /// names of the files.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.0 {
            let lines = file.text.lines().filter(|line| !line.starts_with(MARK));
            for line in lines {
                hash.update(line);
                hash.update("\n");
            }
            // No text has it.
            hash.update([0xff]);
        }
        let hash = hash.finalize();
        let bytes = hash.iter().take(HASH_BYTES);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many bytes the texts have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|file| file.text.len()).sum()
    }

    /// What the files say on this node, where relative paths begin at `folder`. What settings take
    /// from the environment and from files has to be there.
    ///
    /// # Errors
    /// As [`Config::load`], and each value that is not there.
    pub fn compile(&self, folder: &Path, own: &Own) -> Loaded<Config> {
        let found = self.found(folder);
        let (config, warnings) = load::connect_here(&found)?;
        let Own(own) = own;
        let config = Config {
            listen: own.listen.clone(),
            deduplicate: own.deduplicate.clone(),
            admin: own.admin.clone(),
            store: own.store.clone(),
            traces: own.traces.clone(),
            metrics: own.metrics.clone(),
            ..config
        };
        Ok((config, warnings))
    }
}

fn named(file: &Found, root: &Path, text: String) -> RuleFile {
    let path = Path::new(&file.name);
    // One that was not read from here has no folder.
    let path = match file.folder.as_os_str().is_empty() {
        true => path.to_owned(),
        false => file.folder.join(path.file_name().unwrap_or_default()),
    };
    let name = path.strip_prefix(root).unwrap_or(&path);
    RuleFile {
        name: name.display().to_string(),
        text,
        schema: false,
    }
}

/// A text with marks in the place of what a node has for itself, and whether nothing else is in it.
///
/// # Errors
/// Something else stands on the same lines.
fn without_own(text: &str) -> Result<(String, bool), Mistake> {
    // It has been read before, without a mistake.
    let root = yaml::read(text).unwrap_or(Node {
        value: Value::Null,
        span: Span::default(),
    });
    let (own, others): (Vec<&Entry>, Vec<&Entry>) = root
        .entries()
        .iter()
        .partition(|entry| OWN.contains(&&*entry.key));
    let mut marks = vec![None; text.matches('\n').count() + 1];
    for entry in own {
        let lines = lines(entry, text);
        let shares = |other: &&&Entry| {
            let other = self::lines(other, text);
            lines.start() <= other.end() && other.start() <= lines.end()
        };
        if let Some(other) = others.iter().find(shares) {
            let what = format!(
                "`{}`, which each node has for itself, shares a line with `{}`",
                entry.key, other.key
            );
            return Err(
                Mistake::new(entry.key_span, what).help("write each of them on lines of its own")
            );
        }
        if let Some(marks) = marks.get_mut(lines) {
            marks.fill(Some(&entry.key));
        }
    }
    let marked = text.split_inclusive('\n').zip(marks);
    let marked = marked.map(|(line, mark)| match mark {
        Some(key) => format!("{MARK}{key}\n"),
        None => line.to_owned(),
    });
    Ok((marked.collect(), others.is_empty()))
}

/// The lines of an entry, from 0.
fn lines(entry: &Entry, text: &str) -> RangeInclusive<usize> {
    let line = |byte: usize| {
        let before = text.get(..byte).unwrap_or_default();
        before.matches('\n').count()
    };
    // What came by an alias stands where its anchor does, which is before it.
    let value = Some(entry.value.span).filter(|value| value.start > entry.key_span.start);
    let end = value.map_or(0, |value| value.end).max(entry.key_span.end);
    line(entry.key_span.start)..=line(end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "targets: { a: { stdout: {} } }\nrules:\n  r: { to: a }\n";

    fn shared(text: &str) -> RuleFiles {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        match RuleFiles::read(&[file]) {
            Ok(((_, files), _)) => files,
            Err(mistakes) => panic!("{mistakes:?}"),
        }
    }

    #[test]
    fn what_a_node_has_for_itself_is_no_part_of_it_and_moves_no_line() {
        let one = shared(RULES);
        assert_eq!(one.0[0].text, RULES);
        for own in [
            "store: { path: ./x }\n",
            "listen: 127.0.0.1:1\nadmin:\n  address: 127.0.0.1:2\n  auth:\n    - { env: KEY }\nstore:\n  path: ./x\n",
            "store: {\n  path: ./x\n} # here\n",
            "admin:\n  address: \"127.0.0.1:1\"\n  # behind a comment\n  auth: [{ env: A }]\n",
        ] {
            for text in [format!("{own}{RULES}"), format!("{RULES}{own}")] {
                let files = shared(&text);
                assert_eq!(files.hash(), one.hash(), "{text}{files:?}");
                let kept = &files.0[0].text;
                assert_eq!(kept.lines().count(), text.lines().count(), "{kept}");
                for key in ["path", "address", "auth"] {
                    assert!(!kept.contains(key), "{kept}");
                }
            }
        }
        let other = shared(&RULES.replace("r:", "s:"));
        assert_ne!(other.hash(), one.hash());
    }

    #[test]
    fn schemas_go_along_with_the_rules_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("schemas")).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let named = "schemas: { order.paid: { file: schemas/order.json } }\n";
        write("a.yaml", &format!("store: {{ path: ./x }}\n{named}{RULES}"));
        write("schemas/order.json", "{ \"type\": \"object\" }");
        let read = || {
            RuleFiles::read(&[folder.path().join("a.yaml")])
                .unwrap()
                .0
                .1
        };
        let files = read();
        let names: Vec<_> = files
            .0
            .iter()
            .map(|file| (&*file.name, file.schema))
            .collect();
        assert_eq!(names, [("a.yaml", false), ("schemas/order.json", true)]);

        // Another node has them from here, and reads nothing of its own.
        let sent = serde_json::to_string(&files).unwrap();
        let received: RuleFiles = serde_json::from_str(&sent).unwrap();
        let (own, _) = Config::of_text("own.yaml", Path::new("/here"), "store: {}\n").unwrap();
        let own = Own::of(&own);
        let (config, _) = received.compile(Path::new("/nowhere"), &own).unwrap();
        assert_eq!(config.schemas.len(), 1);
        assert_eq!(received.clone().without_own().unwrap(), files);
        let alone = RuleFiles(received.0.into_iter().filter(|file| !file.schema).collect());
        let mistakes = alone.compile(folder.path(), &own).unwrap_err();
        assert!(
            mistakes[0].line().contains("not among those that came"),
            "{mistakes:?}"
        );

        write("schemas/order.json", "{ \"type\": \"array\" }");
        assert_ne!(read().hash(), files.hash(), "it is another version");
    }

    #[test]
    fn what_shares_a_line_with_something_else_is_refused() {
        let text = "{ store: { path: ./x }, targets: {}, rules: {} }";
        let mistake = without_own(text).unwrap_err();
        assert!(mistake.message.contains("shares a line with `targets`"));
    }

    #[test]
    fn files_of_a_nodes_own_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a-node.yaml", "# mine\nstore: { path: ./x }\n");
        write("rules.yaml", RULES);
        let ((_, files), _) = RuleFiles::read(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = files.0.iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["rules.yaml"]);
        assert_eq!(files.hash(), shared(RULES).hash());
        // Without any rules it is a set of rules still.
        let none = shared("store: { path: ./x }\n");
        assert_eq!(none.0.len(), 1);
    }

    #[test]
    fn a_set_of_rules_is_read_with_what_the_node_has_for_itself() {
        let (own, _) = Config::of_text(
            "own.yaml",
            Path::new("/here"),
            "listen: 127.0.0.1:9\nstore: { path: ./mine }\n",
        )
        .unwrap();
        let own = Own::of(&own);
        let compile = |text: &str| shared(text).compile(Path::new("/here"), &own);
        let (config, _) = compile(&format!("store: {{ path: ./other }}\n{RULES}")).unwrap();
        assert_eq!(own.needs_restart(&config), None);
        assert_eq!(config.store.path, Path::new("/here/mine"));
        assert_eq!(config.rules.len(), 1);

        // What it takes from the environment has to be there, and is found wherever it stands.
        let asks = "targets:\n  a:\n    http: { url: \"http://a/\", headers: { A: { env: PM_NOWHERE } } }\n  \
                    b: { exec: { command: [b], env: { env: { env: PM_NOWHERE_ELSE }, B: { env: PATH } } } }\n  \
                    c: { http: { url: \"http://a/\", headers: { env: PM_A_VALUE } } }\n";
        let mistakes = compile(&format!("store: {{}}\n{asks}")).unwrap_err();
        let told: Vec<_> = mistakes.iter().map(Diagnostic::line).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("a.yaml:4:") && told[0].contains("variable PM_NOWHERE is not set"),
            "{told:?}"
        );
        assert!(told[1].contains("PM_NOWHERE_ELSE"), "{told:?}");
    }
}
