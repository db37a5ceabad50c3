//! Tries the connection of every source and target, and of the log that the store has.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use pointsman_connectors::OpenError;
use pointsman_schemas::{Name, Problem};
use serde::Serialize;

use crate::app::{LogEngine, LookAtLog, log_engines};
use crate::config::{Config, StoreLog};
use crate::output;

/// How long one connection may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How many are tried at once.
const AT_ONCE: usize = 16;

/// The result of trying one connection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ConnectionCheck {
    /// `log`, `source` or `target`.
    side: &'static str,
    tenant: Name,
    name: Name,
    kind: &'static str,
    pub(super) ok: bool,
    /// What was found, or what is wrong and what to do.
    message: String,
}

impl ConnectionCheck {
    fn new(
        side: &'static str,
        tenant: &Name,
        name: &Name,
        kind: &'static str,
        probed: Result<String, OpenError>,
    ) -> Self {
        let (ok, message) = match probed {
            Ok(found) => (true, found),
            Err(OpenError(problem)) => (false, problem.to_string()),
        };
        Self {
            side,
            tenant: tenant.clone(),
            name: name.clone(),
            kind,
            ok,
            message,
        }
    }
}

/// Tries them all, in the order of the rule files.
pub(super) async fn all(config: &Config) -> Vec<ConnectionCheck> {
    let mut checks = match &config.store.log {
        Some(log) => log_of(log).await,
        None => Vec::new(),
    };
    checks.extend(sources_and_targets(config).await);
    checks
}

/// Tries the engines of the log of several machines, one after the other: each has to go with those
/// before it.
async fn log_of(settings: &StoreLog) -> Vec<ConnectionCheck> {
    let (mut looking, mut checks) = (LookAtLog::default(), Vec::new());
    for engine in log_engines(settings) {
        checks.push(engine_of(settings, &engine, &mut looking).await);
    }
    checks
}

async fn engine_of(
    settings: &StoreLog,
    engine: &LogEngine<'_>,
    looking: &mut LookAtLog,
) -> ConnectionCheck {
    let cluster = &settings.cluster;
    let probing = async {
        let refused = |error: pointsman_log::OpenError| {
            OpenError(Problem::new(engine.told(error.to_string())))
        };
        let found = looking.look(settings, engine).await.map_err(refused)?;
        let state = if found.is_there {
            format!("the log of cluster {} is there", cluster.name())
        } else {
            format!(
                "the first node that starts makes the log of cluster {}",
                cluster.name()
            )
        };
        let said = [state].into_iter().chain(found.warnings);
        Ok(engine.told(said.collect::<Vec<_>>().join("; ")))
    };
    let (tenant, kind) = (Name::default_tenant(), engine.kind());
    ConnectionCheck::new("log", &tenant, cluster.name(), kind, bounded(probing).await)
}

async fn sources_and_targets(config: &Config) -> Vec<ConnectionCheck> {
    let sources = config.sources.iter().map(|one| {
        let probing = async move {
            ConnectionCheck::new(
                "source",
                &one.tenant,
                &one.name,
                one.kind,
                bounded(one.settings.probe()).await,
            )
        };
        futures::future::Either::Left(probing)
    });
    let targets = config.targets.iter().map(|one| {
        let probing = async move {
            ConnectionCheck::new(
                "target",
                &one.tenant,
                &one.name,
                one.kind,
                bounded(one.settings.probe()).await,
            )
        };
        futures::future::Either::Right(probing)
    });
    stream::iter(sources.chain(targets))
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn bounded(
    probe: impl Future<Output = Result<String, OpenError>>,
) -> Result<String, OpenError> {
    let slow = || {
        let problem = Problem::new(format!(
            "there was no answer within {} seconds",
            WITHIN.as_secs()
        ));
        OpenError(
            problem.help("check the address, and whether a firewall drops what is sent there"),
        )
    };
    tokio::time::timeout(WITHIN, probe)
        .await
        .unwrap_or_else(|_| Err(slow()))
}

/// For a person.
pub(super) fn show(checks: &[ConnectionCheck]) -> String {
    let state = |ok| if ok { "ok" } else { "failed" }.to_owned();
    let rows = checks.iter().map(|one| {
        [
            one.side.to_owned(),
            one.name.to_string(),
            one.kind.to_owned(),
            state(one.ok),
            one.message.clone(),
        ]
    });
    output::table(["SIDE", "NAME", "KIND", "STATE", "WHAT WAS FOUND"], rows)
}
