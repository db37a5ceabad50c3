//! The versions of the rules of a cluster: which one is in force where, and proposing another.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use pointsman_schemas::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::api::{Answer, Api, InPath, Nothing};
use crate::admin::refused::Refused;
use crate::config::{Diagnostic, RuleFile, RuleFiles};
use crate::nodes::Nodes;
use crate::versions::kept::{Kept, Objection};
use crate::versions::view::{ProposalView, VersionsView};
use crate::versions::{FILES_BYTES_MAX, ProposeError, Versions};

/// For so long an answer waits until it is decided about a proposal.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);

/// A body with files: each of their characters may take some bytes in it.
const BODY_BYTES_MAX: usize = 2 * FILES_BYTES_MAX;

pub(super) fn register(api: Api) -> Api {
    api.read(
        "/rules/version",
        "getRulesVersion",
        "The version of the rules that is in force in the cluster, and how the nodes stand to it",
        version,
    )
    .read(
        "/rules/version/files",
        "getRuleFiles",
        "The rule files of the version in force, without what each node has for itself",
        files,
    )
    .change_of(
        BODY_BYTES_MAX,
        "/rules/proposals",
        "proposeRules",
        "Propose other rules: they are in force once every living node has compiled them",
        propose,
    )
    .read(
        "/rules/proposals/{proposal}",
        "getRulesProposal",
        "How a proposal stands, as soon as that is decided, or within ten seconds",
        proposal,
    )
}

/// Rule files.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct FilesBody {
    /// The files, in their order.
    files: Vec<RuleFile>,
}

/// The id of a proposal.
pub(in crate::admin) struct ProposalId(String);

impl InPath for ProposalId {
    const SEGMENT: Option<(&'static str, &'static str)> =
        Some(("proposal", "The id of a proposal"));

    fn parse(segment: &str) -> Result<Self, Refused> {
        Ok(Self(segment.to_owned()))
    }

    fn schema() -> Schema {
        String::json_schema(&mut SchemaGenerator::default())
    }
}

fn versions(admin: &Admin) -> Answer<(&Arc<Versions>, &Nodes)> {
    let versions = admin.versions.as_ref().zip(admin.nodes.as_ref());
    versions.ok_or_else(|| {
        Refused::new(
            StatusCode::CONFLICT,
            "this bus runs on one machine: its rules are those of its rule files",
        )
    })
}

async fn version(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<VersionsView> {
    let Ok((versions, nodes)) = versions(&admin) else {
        return Ok(VersionsView::new(&Kept::default(), &[], 1));
    };
    let kept = versions.kept().await?;
    Ok(VersionsView::new(&kept, &nodes.living(), nodes.0.shards()))
}

async fn files(admin: Arc<Admin>, (): (), _: Nothing) -> Answer<FilesBody> {
    let mut files = None;
    if let Ok((versions, _)) = versions(&admin) {
        let kept = versions.kept().await?;
        if let Some(version) = &kept.in_force {
            files = versions.files(version).await?;
        }
    }
    let RuleFiles(files) = files.unwrap_or_default();
    Ok(FilesBody { files })
}

async fn propose(admin: Arc<Admin>, (): (), body: FilesBody) -> Answer<ProposalView> {
    let (versions, nodes) = versions(&admin)?;
    let refused = |why| {
        let (number, node): (_, Name) = (0, nodes.own_name());
        ProposalView::refused(None, Objection { number, node, why })
    };
    let files = match RuleFiles(body.files).without_own() {
        Ok(files) => files,
        Err(mistakes) => return Ok(refused(mistakes.iter().map(Diagnostic::line).collect())),
    };
    let config = match versions.compile(files.clone()).await {
        Ok(config) => config,
        Err(why) => return Ok(refused(why)),
    };
    let id = versions
        .propose(&files, config.shards, false)
        .await
        .map_err(|error| match error {
            ProposeError::Large => Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            ProposeError::Journal(error) => error.into(),
        })?;
    tracing::info!(id, "asked to propose other rules");
    stands(&admin, &id).await
}

async fn proposal(admin: Arc<Admin>, id: ProposalId, _: Nothing) -> Answer<ProposalView> {
    stands(&admin, &id.0).await
}

/// How a proposal stands once that is decided, or after a while.
async fn stands(admin: &Admin, id: &str) -> Answer<ProposalView> {
    let unknown = || Refused::not_found(format!("proposal {id}, any longer or yet"));
    let (versions, nodes) = versions(admin).map_err(|_| unknown())?;
    let kept = versions.decided(id, DECIDED_WITHIN).await?;
    ProposalView::new(id, &kept, &nodes.living()).ok_or_else(unknown)
}
