//! The rule files: read, checked and made into a [`Config`].
//!
//! ```text
//! text ── yaml ──▶ Node ── reader ──▶ raw structs ── load ──▶ Config
//!                    └── every mistake, with its place ──▶ diagnostics
//! ```
//!
//! All validation is here and happens before anything starts. Nothing here touches the outside
//! world beyond reading the files: secrets are resolved when a connector opens, so a missing
//! variable never fails a check.

pub mod delivery;
pub mod diagnostic;
mod event_schema;
pub mod files;
mod load;
pub mod loose;
pub mod mistake;
pub mod paths;
mod priority;
mod quota;
pub mod raw;
pub mod reader;
pub mod schema;
mod shared;
pub mod suggest;
mod written;
pub mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "postgres")]
use pointsman_connectors::engine::PostgresEngine;
use pointsman_connectors::listener::ListenSettings;
#[cfg(feature = "nats")]
use pointsman_connectors::nats::NatsEngine;
use pointsman_connectors::{RunsOn, SourceSettings, TargetSettings};
use pointsman_journal::Start;
use pointsman_journal::sharded::TenantShards;
use pointsman_log::Cluster;
use pointsman_rules::transform::{EventMapping, Transform};
use pointsman_rules::{Filter, TextTemplate};
use pointsman_schemas::{Event, Name, Text, Timestamp};

pub use delivery::{DeliverySettings, TargetLimits};
pub use diagnostic::Diagnostic;
pub use event_schema::{SchemaFile, schema_files_of};
pub use paths::{DEFAULT_PATH, PathArgs};
pub use priority::DeliveryPriority;
pub use quota::Quota;
pub use raw::{FollowUpContent, WhenFull};
pub use shared::{Own, RuleFile, RuleFiles};
pub use written::{Defined, Written, WrittenFile};

use crate::router::TypeSchema;
use crate::telemetry::metrics::Detail;
use crate::telemetry::metrics::settings::MetricSettings;
use crate::telemetry::traces::settings::TraceSettings;

/// What was read from rule files, with what is odd; or every mistake in them.
pub type Loaded<T> = Result<(T, Vec<Diagnostic>), Vec<Diagnostic>>;

/// The rule files of a bus, checked.
#[derive(Debug)]
pub struct Config {
    /// Where CloudEvents and webhooks come in.
    pub listen: ListenSettings,
    /// Which events of the HTTP ingress are duplicates: what `listen` says, compiled.
    pub deduplicate: Option<Deduplicate>,
    /// Where the bus is watched and reported.
    pub admin: Admin,
    /// Where events and deliveries are kept.
    pub store: Store,
    /// Where spans of traces go.
    pub traces: TraceSettings,
    /// Where metrics go, beside whoever scrapes them.
    pub metrics: MetricSettings,
    /// Where events come from, the HTTP ingress and replies aside, in the order of the files.
    pub sources: Vec<Source>,
    /// Where events go, in the order of the files.
    pub targets: Vec<Target>,
    /// What the data of events has to be, by their types.
    pub schemas: Vec<TypeSchema>,
    /// The files that schemas lie in, by their names.
    pub schema_files: Vec<SchemaFile>,
    /// What each tenant may use, of those that have a quota.
    pub quotas: Vec<(Name, Quota)>,
    /// In how many shards of a cluster the events of each tenant are to lie.
    pub shards: TenantShards,
    /// What decides, in the order of the files: rules, and pipes behind them.
    pub rules: Vec<Rule>,
    /// The files' own tests.
    pub tests: Vec<Test>,
    /// The files themselves.
    pub written: Arc<Written>,
}

/// `admin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `host:port`.
    pub address: Text,
    /// Keys, one of which a caller must show; never empty where the address is written out and is
    /// not a loopback one.
    pub auth: Vec<Text>,
    /// Keys of callers who may look and change nothing.
    pub viewers: Vec<Text>,
    /// Whether each source, subscription and target has numbers of its own in the metrics.
    pub metrics: Detail,
}

/// `store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The store's folder, absolute.
    pub path: PathBuf,
    /// How long events are kept once nothing waits for them.
    pub retention: Duration,
    /// The room that the store may take.
    pub max_size_bytes: u64,
    /// How long the history of tasks is kept.
    pub history_keep: Duration,
    /// The part of that room that it may take.
    pub history_max_size_bytes: u64,
    /// The log that its commits go to, of a cluster.
    pub log: Option<StoreLog>,
}

/// `store.log`.
#[derive(Clone, Debug)]
pub struct StoreLog {
    /// What keeps the log. Of several each keeps a part of the shards, by their places here.
    pub engines: Vec<Engine>,
    /// The cluster.
    pub cluster: Cluster,
    /// This node's name; the machine's where there is none.
    pub node: Option<Text>,
    /// Where other nodes reach this one's admin listener; `admin.address` where there is none.
    pub address: Option<Text>,
    /// After how long another node takes over from one that has fallen silent.
    pub takeover: Duration,
    /// All of it as it is written.
    written: String,
}

impl PartialEq for StoreLog {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for StoreLog {}

/// What keeps the log of a cluster, or a part of it.
#[derive(Clone, Debug)]
pub enum Engine {
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(PostgresEngine),
    /// NATS JetStream.
    #[cfg(feature = "nats")]
    Nats(NatsEngine),
    /// One that this build leaves out.
    #[cfg(not(any(feature = "nats", feature = "postgres")))]
    #[expect(dead_code, reason = "a build without an engine has no cluster")]
    LeftOut,
}

impl Engine {
    /// As the rule file calls it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
            #[cfg(not(any(feature = "nats", feature = "postgres")))]
            Self::LeftOut => "none",
        }
    }
}

/// One of `sources`.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: Name,
    /// The tenant that it belongs to.
    pub tenant: Name,
    /// The connector.
    pub kind: &'static str,
    /// The connector's own settings.
    pub settings: Box<dyn SourceSettings>,
    /// Makes events of what arrives without being one.
    pub mapping: Option<EventMapping>,
    /// Which of its events are duplicates.
    pub deduplicate: Option<Deduplicate>,
    /// How long its events are kept, in the place of [`Store::retention`].
    pub retention: Option<Duration>,
    /// True where it feeds a pipe, and nothing else.
    pub pipe: bool,
    /// True where a rule or pipe takes what it brings in an order.
    pub is_ordered: bool,
    /// Differs where its settings differ, and whom it feeds, so that a reload leaves alone what has
    /// not changed.
    pub fingerprint: u64,
}

impl Source {
    /// Whether one node alone runs it, where there are several.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        match self.settings.runs_on() {
            RunsOn::Each => false,
            RunsOn::EachUnlessOrdered => self.is_ordered,
            RunsOn::One => true,
        }
    }
}

/// What makes a duplicate of an event, and for how long.
#[derive(Clone, Debug)]
pub struct Deduplicate {
    /// The key of an event: two of one key are duplicates.
    pub by: TextTemplate,
    /// How long a key is remembered.
    pub window: Duration,
}

/// One of `targets`.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: Name,
    /// The tenant that it belongs to.
    pub tenant: Name,
    /// The connector.
    pub kind: &'static str,
    /// The connector's own settings.
    pub settings: Box<dyn TargetSettings>,
    /// [`TargetSettings::templates`], compiled, in their order.
    pub texts: Vec<TextTemplate>,
    /// What it takes, whoever sends.
    pub limits: TargetLimits,
    /// Differs where its settings differ, so that a reload leaves alone what has not changed.
    pub fingerprint: u64,
}

/// One of `rules` or of `pipes`.
#[derive(Debug)]
pub struct Rule {
    /// Its name; rules and pipes share theirs.
    pub name: Name,
    /// The tenant that it belongs to.
    pub tenant: Name,
    /// True of a pipe: it has one source, which feeds nothing else, and one target.
    pub pipe: bool,
    /// What it is for.
    pub description: Option<String>,
    /// The sources whose events it looks at; where none, any but `replies` and those of pipes.
    pub from: Option<Vec<Name>>,
    /// `match`, `where` and `filters` as they were given, whichever there are.
    pub conditions: serde_json::Value,
    /// What events it takes of them: the same, compiled.
    pub filter: Filter,
    /// Which of its deliveries are duplicates.
    pub deduplicate: Option<Deduplicate>,
    /// How long the events that it takes are kept at least.
    pub retention: Option<Duration>,
    /// Where the events go; never empty, no target twice.
    pub to: Vec<Destination>,
    /// Who is reported a success.
    pub on_success: Option<FollowUp>,
    /// Who is reported a dead letter.
    pub on_failure: Option<FollowUp>,
    /// What its subscriptions may use together.
    pub quota: Option<Quota>,
    /// Its name before.
    pub renamed_from: Option<Name>,
    /// From where on it is given retained events when it first comes.
    pub start: Option<Start>,
}

/// One target of a rule.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The target, of the rule's tenant.
    pub target: Name,
    /// The transform that is in force here: its own, else the rule's.
    pub transform: Option<Arc<Transform>>,
    /// How the deliveries are made.
    pub delivery: DeliverySettings,
}

/// Who is reported how a delivery ended.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// The target, of the rule's tenant.
    pub target: Name,
    /// What it is sent.
    pub send: FollowUpContent,
    /// What is made of that before it is sent; the rule's own transform has no part in it.
    pub transform: Option<Arc<Transform>>,
    /// How that is delivered: by the target's own settings.
    pub delivery: DeliverySettings,
}

/// One of `tests`.
#[derive(Debug)]
pub struct Test {
    /// What it is called: any text.
    pub name: String,
    /// The tenant whose rules it tries.
    pub tenant: Name,
    /// Where it stands: file and line.
    pub place: (String, usize),
    /// The source that the event comes from; where none, `from` is not looked at.
    pub from: Option<Name>,
    /// What happens.
    pub event: Event,
    /// What `now` is meanwhile; the time of the test where none.
    pub now: Option<Timestamp>,
    /// What each rule is expected to make of it; empty: no rule fires.
    pub expect: Vec<(Name, Expectation)>,
}

/// What a rule is expected to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// It fires, and what it makes has this in it.
    Fires(serde_json::Value),
    /// It does not fire.
    Silent,
}

impl Rule {
    /// Whether it asks anything of its events, beside where they come from.
    #[must_use]
    pub fn has_conditions(&self) -> bool {
        self.conditions
            .as_object()
            .is_some_and(|conditions| !conditions.is_empty())
    }
}

impl Config {
    /// Reads rule files, and folders of them, as one. Of a folder every `*.yaml` and `*.yml` in it
    /// is read.
    ///
    /// # Errors
    /// Every mistake in them, and what is odd, sorted by file and place. Of a sound configuration
    /// what is odd comes along with it.
    pub fn load(paths: &[PathBuf]) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        load::load(paths)
    }

    /// Reads a text as the one rule file that there is, in a folder.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of_text(
        name: &str,
        folder: &Path,
        text: &str,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        load::connect(
            &[files::Found {
                name: name.to_owned(),
                folder: folder.into(),
                text: text.to_owned(),
                attached: None,
            }],
            Vec::new(),
        )
    }

    /// What a running bus cannot change, where `new` changes it: `listen`, `admin`, `store`,
    /// `traces` or `metrics`.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Option<&'static str> {
        let differs = [
            ("listen", self.listen != new.listen),
            ("admin", self.admin != new.admin),
            ("store", self.store != new.store),
            ("traces", self.traces != new.traces),
            ("metrics", self.metrics != new.metrics),
        ];
        differs
            .into_iter()
            .find_map(|(name, differs)| differs.then_some(name))
    }

    /// Whether a tenant's source feeds a pipe.
    #[must_use]
    pub fn feeds_pipe(&self, tenant: &Name, source: &Name) -> bool {
        self.sources
            .iter()
            .any(|one| one.pipe && one.tenant == *tenant && one.name == *source)
    }

    /// A tenant's target.
    #[must_use]
    pub fn target(&self, tenant: &Name, name: &Name) -> Option<&Target> {
        self.targets
            .iter()
            .find(|target| target.tenant == *tenant && target.name == *name)
    }
}

#[cfg(test)]
mod tests;
