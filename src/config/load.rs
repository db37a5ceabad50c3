//! From the files to the configuration: what the values mean together.

pub(super) mod addresses;
mod connector;
mod deduplicate;
mod lint;
mod log;
mod meant;
pub(super) mod names;
mod pipe;
mod rule;
mod schemas;
mod secrets;
mod test_entry;
mod traces;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pointsman_connectors::listener::{Keys, ListenSettings};
use pointsman_journal::sharded::TenantShards;
use pointsman_schemas::{Interval, Name, Text};

use super::diagnostic::{self, Diagnostic, File, Lines};
use super::event_schema::SchemaFile;
use super::files::{self, Found};
use super::mistake::{Mistake, Mistakes};
use super::quota::tenant_quota_of;
use super::raw::{RawAdmin, RawLog, RawStore, TOP_KEYS};
use super::reader::{Piece, read};
use super::yaml::{self, Entry, Node, Span, Value};
use super::{Admin, Config, DEFAULT_PATH, Quota, Store, Written};
use crate::router::TypeSchema;
use names::Names;
use pipe::Fed;
use schemas::{Asked, Schemas};
use secrets::Hidden;

/// Reads, checks and connects. See [`Config::load`].
pub(super) fn load(paths: &[PathBuf]) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let default = [PathBuf::from(DEFAULT_PATH)];
    let found = files::find(
        if paths.is_empty() { &default } else { paths },
        &mut diagnostics,
    );
    connect(&found, diagnostics)
}

/// When what settings take from the environment and from files has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    Later,
    Now,
}

/// Makes one configuration of files that have been found; `diagnostics` are those of files that
/// could not be.
pub(super) fn connect(
    found: &[Found],
    diagnostics: Vec<Diagnostic>,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    connect_with(found, diagnostics, Values::Later)
}

/// The same of files for this machine: what their settings take from elsewhere has to be there.
pub(super) fn connect_here(found: &[Found]) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    connect_with(found, Vec::new(), Values::Now)
}

fn connect_with(
    found: &[Found],
    mut diagnostics: Vec<Diagnostic>,
    values: Values,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut documents = Vec::new();
    for file in found {
        match yaml::read(&file.text) {
            Ok(root) => documents.push(Document::new(file, root, values)),
            Err(mistakes) => {
                diagnostics.extend(placed(file, mistakes, &secrets::in_text(&file.text)))
            }
        }
    }
    // A name may be defined in a file that could not be read: then nobody says that it is not.
    let complete = diagnostics.is_empty();
    let schemas = Schemas::of(&documents);
    let config = Loader {
        documents: &documents,
        names: Names::collect(&documents),
        fed: Fed::collect(&documents),
        complete,
    }
    .load(schemas.all, schemas.files);
    diagnostics.extend(schemas.mistakes);
    let mut written = Written::default();
    for document in documents {
        document.write_into(&mut written);
        diagnostics.extend(placed(
            document.file,
            document.mistakes.into_inner(),
            &document.secrets,
        ));
    }
    diagnostic::sort(&mut diagnostics);
    match config {
        Some(mut config) if diagnostics.iter().all(Diagnostic::is_warning) => {
            written.note(&diagnostics);
            config.written = Arc::new(written);
            Ok((config, diagnostics))
        }
        _ => Err(diagnostics),
    }
}

fn placed(file: &Found, mistakes: Vec<Mistake>, hidden: &[Hidden]) -> Vec<Diagnostic> {
    if mistakes.is_empty() {
        return Vec::new();
    }
    let spans: Vec<Span> = hidden.iter().map(|hidden| hidden.span).collect();
    let file = Arc::new(File::new(file.name.clone(), &file.text, &spans));
    // Shorter ones are words of the messages themselves.
    const TEXT_BYTES_MIN: usize = 4;
    let texts: Vec<&str> = hidden
        .iter()
        .filter_map(|hidden| hidden.text.as_deref())
        .filter(|text| text.len() >= TEXT_BYTES_MIN)
        .collect();
    let blotted = |message: String| {
        texts
            .iter()
            .fold(message, |message, text| message.replace(text, "***"))
    };
    let place = |mistake: Mistake| {
        let mistake = Mistake {
            message: blotted(mistake.message),
            help: mistake.help.map(blotted),
            ..mistake
        };
        Diagnostic {
            file: Arc::clone(&file),
            mistake,
        }
    };
    mistakes.into_iter().map(place).collect()
}

/// A mistake in a file that has been read; nothing of its text is shown.
pub(super) fn hidden(file: &Found, mistake: Mistake) -> Diagnostic {
    let all = Span {
        start: 0,
        end: file.text.len(),
    };
    let file = Arc::new(File::new(file.name.clone(), &file.text, &[all]));
    Diagnostic { file, mistake }
}

/// One file, as a tree.
struct Document<'f> {
    file: &'f Found,
    root: Node,
    tenant: Name,
    lines: Lines,
    mistakes: Mistakes,
    /// What must not be shown of it.
    secrets: Vec<Hidden>,
}

impl<'f> Document<'f> {
    fn new(file: &'f Found, root: Node, values: Values) -> Self {
        let (lines, tenant) = (Lines::of(&file.text), Name::default_tenant());
        let mut document = Self {
            file,
            root,
            tenant,
            lines,
            mistakes: Mistakes::default(),
            secrets: Vec::new(),
        };
        document.check_top();
        if let Some(piece) = document.top().get("tenant") {
            document.tenant = read(piece).unwrap_or_else(Name::default_tenant);
        }
        document.secrets = lint::lint(&document)
            .into_iter()
            .map(Hidden::from)
            .chain(secrets::find(&document, values))
            .collect();
        document
    }

    fn top(&self) -> Piece<'_> {
        Piece {
            node: &self.root,
            entry: None,
            text: &self.file.text,
            mistakes: &self.mistakes,
        }
    }

    fn check_top(&self) {
        match &self.root.value {
            Value::Map(entries) => {
                for entry in entries.iter().filter(|entry| {
                    !entry.key.starts_with("x-") && !TOP_KEYS.contains(&entry.key.as_str())
                }) {
                    self.top().report_unknown_key(entry, TOP_KEYS);
                }
            }
            Value::Null => {
                let mistake = Mistake::new(Span::default(), "this file is empty").warn();
                self.mistakes
                    .report(mistake.help("a rule file has `targets:` and `rules:`"));
            }
            _ => self.top().report(
                "a rule file is a mapping",
                "begin with `targets:` and `rules:`",
            ),
        }
    }

    /// Adds what is to be seen of it.
    fn write_into(&self, written: &mut Written) {
        let text = (&*self.file.name, &*self.file.text);
        let secrets = self.secrets.iter().map(|hidden| hidden.span);
        written.add(text, secrets.collect(), &self.tenant, |section| {
            self.root
                .entry(section)
                .map_or(&[], |entry| entry.value.entries())
        });
    }

    /// The entities of a section.
    fn section(&self, key: &str) -> &[Entry] {
        match self.top().get(key) {
            Some(piece) if matches!(piece.node.value, Value::Map(_) | Value::Null) => {
                piece.node.entries()
            }
            Some(piece) => {
                piece.report(
                    format!("`{key}` is a mapping of names"),
                    format!("write\n{key}:\n  a-name: …"),
                );
                &[]
            }
            None => &[],
        }
    }

    /// Adds what becomes of the entities of a section. None of them is left out in silence.
    fn each<'t, T>(
        &'t self,
        key: &str,
        all: &mut Vec<T>,
        mut load: impl FnMut(&'t Entry) -> Option<T>,
    ) {
        let entries = self.section(key);
        // Moving ten thousand to a larger place, time and again, takes as long as reading them.
        all.reserve(entries.len());
        for entry in entries {
            let one = load(entry);
            if one.is_none() && !self.mistakes.any_error() {
                self.entity(entry).report_key(
                    format!("`{}` cannot be used", entry.key),
                    "this is a mistake of Pointsman; please tell its authors",
                );
            }
            all.extend(one);
        }
    }

    fn entity<'t>(&'t self, entry: &'t Entry) -> Piece<'t> {
        self.top().child(Some(entry), &entry.value)
    }

    /// Line and column, for the help of a mistake in another file.
    fn place(&self, span: Span) -> String {
        let (line, column) = self.lines.place(&self.file.text, span.start);
        format!("{}:{line}:{column}", self.file.name)
    }
}

/// The items of a list, or the one value that stands for a list of one.
fn items(at: Piece<'_>) -> Vec<Piece<'_>> {
    match &at.node.value {
        Value::List(items) => items.iter().map(|item| at.child(None, item)).collect(),
        Value::Null => Vec::new(),
        _ => vec![at],
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (port.parse::<u16>().is_ok() && !host.is_empty() && (bare.is_some() || !host.contains(':')))
        .then_some(bare.unwrap_or(host))
}

/// The documents together.
struct Loader<'d, 'f> {
    documents: &'d [Document<'f>],
    names: Names<'d>,
    fed: Fed<'d>,
    complete: bool,
}

impl<'d> Loader<'d, '_> {
    fn load(&self, schemas: Vec<TypeSchema>, schema_files: Vec<SchemaFile>) -> Option<Config> {
        let listen = self.single("listen").and_then(|(_, piece)| {
            let listen = read::<ListenSettings>(piece)?;
            piece.report_check(listen.check());
            Some((listen, deduplicate::deduplicate(piece)))
        });
        let (listen, deduplicate) = listen.unwrap_or_default();
        let (quotas, shards) = self.quotas();
        let mut config = Config {
            listen,
            deduplicate,
            admin: self.admin(),
            store: self.store(),
            traces: self.traces(),
            metrics: self.metrics(),
            schemas,
            schema_files,
            sources: Vec::new(),
            targets: Vec::new(),
            quotas,
            shards,
            rules: Vec::new(),
            tests: Vec::new(),
            written: Arc::default(),
        };
        let mut layers = connector::TargetLayers::new();
        let asked = Asked::of(&config.schemas);
        for document in self.documents {
            document.each("sources", &mut config.sources, |entry| {
                self.source(document, entry)
            });
            document.each("targets", &mut config.targets, |entry| {
                self.target(document, entry, &mut layers)
            });
        }
        for document in self.documents {
            document.each("rules", &mut config.rules, |entry| {
                let rule = self.rule(document, entry, &layers)?;
                asked.warn(document.entity(entry), &rule);
                Some(rule)
            });
            document.each("tests", &mut config.tests, |entry| {
                let test = self.test(document, entry)?;
                asked.warn_of_test(document.entity(entry), &test);
                Some(test)
            });
        }
        for document in self.documents {
            document.each("pipes", &mut config.rules, |entry| {
                let pipe = self.pipe(document, entry, &layers)?;
                asked.warn(document.entity(entry), &pipe);
                Some(pipe)
            });
        }
        pipe::connect(&mut config);
        pipe::mark_ordered(&mut config);
        self.addresses(&config);
        (!self.documents.is_empty()).then_some(config)
    }

    /// What tenants may use, and how many shards each has. Of each, one file may say it.
    fn quotas(&self) -> (Vec<(Name, Quota)>, TenantShards) {
        let mut places: Vec<(&Name, String)> = Vec::new();
        let mut quotas = Vec::new();
        let tenants = self.documents.iter().map(|document| &document.tenant);
        let mut shards = TenantShards::usual_of(tenants);
        for document in self.documents {
            let Some(at) = document.top().get("quota") else {
                continue;
            };
            if at.node.value == Value::Null {
                at.report("`quota` has no value", "give it one, or remove the key");
                continue;
            }
            let tenant = &document.tenant;
            if let Some((_, first)) = places.iter().find(|(known, _)| *known == tenant) {
                at.report(
                    format!("the tenant `{tenant}` has a quota in another file too"),
                    format!("it is at {first}; keep one of them"),
                );
                continue;
            }
            let span = at.entry.map_or(at.node.span, |entry| entry.key_span);
            places.push((tenant, document.place(span)));
            let Some((quota, wanted)) = tenant_quota_of(document.top()) else {
                continue;
            };
            if wanted.is_some() {
                shards.0.insert(tenant.clone(), wanted);
            }
            if !quota.is_empty() {
                quotas.push((tenant.clone(), quota));
            }
        }
        (quotas, shards)
    }

    /// What may stand in one of the files only.
    fn single(&self, key: &str) -> Option<(&'d Document<'_>, Piece<'d>)> {
        let mut pieces = self
            .documents
            .iter()
            .filter_map(|document| Some((document, document.top().get(key)?)));
        let (document, first) = pieces.next()?;
        for (_, again) in pieces {
            let first = document.place(first.entry.map_or(first.node.span, |entry| entry.key_span));
            again.report(
                format!("`{key}` stands in another file too"),
                format!("it is at {first}; keep one of them"),
            );
        }
        if first.node.value == Value::Null {
            first.report(
                format!("`{key}` has no value"),
                "give it one, or remove the key",
            );
            return None;
        }
        Some((document, first))
    }

    fn admin(&self) -> Admin {
        let single = self.single("admin");
        let raw = single
            .and_then(|(_, piece)| read::<RawAdmin>(piece))
            .unwrap_or_default();
        let admin = Admin {
            address: raw.address.unwrap_or_else(|| Text::from("127.0.0.1:8081")),
            auth: raw.auth,
            viewers: raw.viewers,
            metrics: raw.metrics,
        };
        let Some((_, piece)) = single else {
            return admin;
        };
        let at = piece.get("address").unwrap_or(piece);
        match admin.address.literal().map(host_of) {
            Some(None) => at.report(
                "this is not an address",
                "write host:port, such as 127.0.0.1:8081",
            ),
            // What a name stands for is known when the bus starts, which checks this again.
            Some(Some(host))
                if admin.auth.is_empty()
                    && host
                        .parse::<IpAddr>()
                        .is_ok_and(|ip| !ip.to_canonical().is_loopback()) =>
            {
                at.report(
                    "anybody who reaches this address could change everything",
                    "add auth: [{ env: NAME }], or take 127.0.0.1",
                );
            }
            _ => {}
        }
        piece.report_problems(Keys::check("auth", &admin.auth));
        piece.report_problems(Keys::check("viewers", &admin.viewers));
        if let Some(viewers) = piece.get("viewers")
            && admin.auth.is_empty()
        {
            viewers.report(
                "without auth everybody may do more than these",
                "add auth: [{ env: NAME }] with the keys of those who may change something",
            );
        }
        admin
    }

    fn store(&self) -> Store {
        const MAX_SIZE_BYTES: u64 = 20 << 30;
        let single = self.single("store");
        let raw = single
            .and_then(|(_, piece)| read::<RawStore>(piece))
            .unwrap_or_default();
        if let Some((_, piece)) = single {
            for engine in ["nats", "postgres"] {
                if let Some(at) = piece.get(engine) {
                    at.report_key(
                        "what keeps the log of many machines stands under `log`",
                        format!("write log: {{ {engine}: … }}"),
                    );
                }
            }
            check_size(&raw, piece);
            let history = raw.history.as_ref().and_then(|history| history.max_size);
            let max_size = raw.max_size.map_or(MAX_SIZE_BYTES, |size| size.bytes);
            if let (Some(at), true) = (
                piece.get("history").and_then(|at| at.get("max_size")),
                history.is_some_and(|size| size.bytes > max_size / 2),
            ) {
                at.report(
                    "the history would take more than half of the store",
                    "make it smaller, or `store.max_size` larger",
                );
            }
        }
        let folder = single
            .map(|(document, _)| document)
            .or(self.documents.first())
            .map(|document| document.file.folder.as_ref());
        let path = raw.path.unwrap_or_else(|| PathBuf::from("pointsman-data"));
        let max_size_bytes = raw.max_size.map_or(MAX_SIZE_BYTES, |size| size.bytes);
        let history = raw.history.unwrap_or_default();
        Store {
            // Joined piece by piece, so that `./x` and `x` are the same place.
            path: folder
                .unwrap_or(std::path::Path::new(""))
                .join(path)
                .components()
                .collect(),
            retention: raw
                .retention
                .map_or(Duration::from_secs(24 * 3_600), |retention| retention.0),
            max_size_bytes,
            history_keep: history
                .keep
                .map_or(Duration::from_secs(24 * 3_600), |keep| keep.0),
            history_max_size_bytes: history
                .max_size
                .map_or((1 << 30).min(max_size_bytes / 8), |size| size.bytes),
            log: raw
                .log
                .zip(single.and_then(|(_, piece)| piece.get("log")))
                .and_then(|(raw, piece)| log::log_of(raw, piece)),
        }
    }
}

/// Checks that there is room for the store, or for each of its shards.
fn check_size(raw: &RawStore, piece: Piece<'_>) {
    /// The least that a store can work in: a few appends of the largest size, and the write-ahead
    /// log.
    const MAX_SIZE_BYTES_MIN: u64 = 64 << 20;
    let (Some(at), Some(size)) = (piece.get("max_size"), raw.max_size) else {
        return;
    };
    let shards = raw.log.as_ref().map_or(1, RawLog::shards);
    if size.bytes < MAX_SIZE_BYTES_MIN {
        at.report("the store needs at least 64MiB", "make it larger");
    } else if size.bytes / u64::from(shards) < MAX_SIZE_BYTES_MIN {
        at.report(
            format!("each of the {shards} shards needs at least 64MiB of it"),
            "make it larger, or `shards` fewer",
        );
    }
}

/// How long a source or a rule has events kept, where it says so.
fn retention(piece: Piece<'_>) -> Option<Duration> {
    Some(read::<Interval>(piece.get("retention")?)?.0)
}
