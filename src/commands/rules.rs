//! `pointsman rules`: which version of its rules a cluster works with, and proposing another.

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::IntoDiagnostic;
use pointsman_schemas::Name;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::check;
use super::client::{AdminArgs, Client};
use super::error::{CommandError, write_new};
use crate::config::{RuleFile, RuleFiles};
use crate::output::{self, OutputArgs};
use crate::versions::view::{
    NodeRules, ProposalState, ProposalView, RefusedView, TenantView, VersionView, VersionsView,
};

/// What is said of a bus that has no other nodes.
const ALONE: &str = "this bus runs on one machine: its rules are those of its rule files\n";

/// For how long nodes may take to go over to a version that is in force.
const GO_OVER_WITHIN: Duration = Duration::from_secs(15);

/// How soon it is asked again whether they have.
const AGAIN: Duration = Duration::from_millis(200);

/// How much of a hash is shown.
const HASH_SHOWN: usize = 12;

/// What `rules` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RulesArgs {
    /// What
    #[command(subcommand)]
    pub command: Option<RulesCommand>,
    /// Of which
    #[command(flatten)]
    pub of: OfArgs,
}

/// Which cluster, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct OfArgs {
    /// Which node to ask: any of them
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What there is to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum RulesCommand {
    /// Say which version is in force, and which nodes have files of their own that differ
    Show(OfArgs),
    /// Check rule files, propose them to all nodes, and wait until they are in force or refused
    Put(PutArgs),
    /// Write the files of the version in force into a folder, without what each node has for itself
    Get(GetArgs),
}

/// What `rules put` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct PutArgs {
    /// Rule files, and folders of them, that are read as one
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// How many seconds to wait until it is decided
    #[arg(long, default_value_t = 60)]
    pub wait: u64,
    /// Where to
    #[command(flatten)]
    pub of: OfArgs,
}

/// What `rules get` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
    /// Which node to ask: any of them
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Does it. Exit code 1 where rules that were put are not in force.
///
/// # Errors
/// There is no bus there, or it refuses.
pub async fn run(args: RulesArgs) -> Result<ExitCode, miette::Report> {
    let (text, is_done) = match args.command {
        None => (show(&args.of).await?, true),
        Some(RulesCommand::Show(of)) => (show(&of).await?, true),
        Some(RulesCommand::Get(get)) => (self::get(&get).await?, true),
        Some(RulesCommand::Put(put)) => self::put(&put).await?,
    };
    output::print(&text).into_diagnostic()?;
    Ok(match is_done {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn show(of: &OfArgs) -> Result<String, CommandError> {
    let versions = versions(&Client::of_admin(&of.admin)?).await?;
    if of.output.json {
        return output::json(&versions).map_err(unprintable);
    }
    if versions.nodes.is_empty() {
        return Ok(ALONE.to_owned());
    }
    let mut text = match &versions.in_force {
        Some(version) => {
            let since = version.since.as_deref().unwrap_or_default();
            format!("{} is in force since {since}\n", told(version))
        }
        None => "no version is in force yet\n".to_owned(),
    };
    if let Some(version) = &versions.proposed {
        let number = Some(version.number);
        let waits = versions.nodes.iter().filter(|node| node.prepared != number);
        text += &format!(
            "{} is proposed, and waits for {}\n",
            told(version),
            names(waits.map(|node| &node.name))
        );
    }
    if let Some(refused) = &versions.refused {
        let RefusedView { number, node, why } = refused;
        text += &format!("version {number} was refused by {node}:\n{}", lines(why));
    }
    let row = |node: &NodeRules| {
        let number = node
            .in_force
            .map_or_else(|| "-".to_owned(), |one| one.to_string());
        let files = if node.files_differ { "differ" } else { "same" };
        let trouble = node.trouble.clone().unwrap_or_else(|| "-".to_owned());
        [node.name.to_string(), number, files.to_owned(), trouble]
    };
    let headings = ["NODE", "VERSION", "OWN FILES", "TROUBLE"];
    let table = output::table(headings, versions.nodes.iter().map(row));
    Ok(format!("{text}\n{table}{}", tenants(&versions.tenants)))
}

/// The tenants that have not all shards.
fn tenants(tenants: &[TenantView]) -> String {
    if tenants.is_empty() {
        return String::new();
    }
    let row = |one: &TenantView| {
        let shards: Vec<_> = one.shards.iter().map(u16::to_string).collect();
        [one.tenant.to_string(), shards.join(", ")]
    };
    let table = output::table(["TENANT", "SHARDS"], tenants.iter().map(row));
    format!("\n{table}")
}

async fn versions(client: &Client) -> Result<VersionsView, CommandError> {
    client.get("/rules/version").await
}

fn told(version: &VersionView) -> String {
    let hash = version.hash.get(..HASH_SHOWN).unwrap_or(&version.hash);
    format!("version {} ({hash}, from {})", version.number, version.by)
}

fn names<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    let names: Vec<_> = names.map(Name::as_str).collect();
    names.join(", ")
}

fn lines(why: &[String]) -> String {
    why.iter().map(|line| format!("  {line}\n")).collect()
}

/// Proposes rules; says what became of it, and whether they are in force.
async fn put(args: &PutArgs) -> Result<(String, bool), miette::Report> {
    let json = args.of.output.json;
    let files = match RuleFiles::read(&args.paths) {
        Ok(((_, files), warnings)) => {
            if !json {
                eprint!("{}", check::show(&warnings, false)?);
            }
            files
        }
        Err(mistakes) => return Ok((check::show(&mistakes, json)?, false)),
    };
    let client = Client::of_admin(&args.of.admin)?;
    let until = Instant::now() + Duration::from_secs(args.wait);
    let RuleFiles(files) = files;
    let mut proposal: ProposalView = client
        .post("/rules/proposals", &json!({ "files": files }))
        .await?;
    while let (ProposalState::Proposed, Some(id), true) =
        (proposal.state, &proposal.id, Instant::now() < until)
    {
        // It answers once that is decided.
        proposal = client.get(&format!("/rules/proposals/{id}")).await?;
    }
    let is_in_force = proposal.state == ProposalState::InForce;
    let nodes = match proposal.version.filter(|_| is_in_force) {
        Some(number) => gone_over(&client, number).await?,
        None => Vec::new(),
    };
    let text = match json {
        true => output::json(&json!({ "proposal": proposal, "nodes": nodes })).into_diagnostic()?,
        false => outcome(&proposal, &nodes),
    };
    Ok((text, is_in_force))
}

/// How the nodes stand once all of them have gone over to a version, or after a while.
async fn gone_over(client: &Client, number: u64) -> Result<Vec<NodeRules>, CommandError> {
    let until = Instant::now() + GO_OVER_WITHIN;
    loop {
        let nodes = versions(client).await?.nodes;
        let has = |node: &NodeRules| node.in_force.is_some_and(|own| own >= number);
        if nodes.iter().all(has) || Instant::now() >= until {
            return Ok(nodes);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn outcome(proposal: &ProposalView, nodes: &[NodeRules]) -> String {
    let number = proposal.version.unwrap_or_default();
    match proposal.state {
        ProposalState::InForce => {
            let has = |node: &&NodeRules| node.in_force.is_some_and(|own| own >= number);
            let (have, have_not): (Vec<_>, Vec<_>) = nodes.iter().partition(has);
            let mut text = format!(
                "version {number} is in force on {}\n",
                names(have.iter().map(|node| &node.name))
            );
            if !have_not.is_empty() {
                let others = names(have_not.iter().map(|node| &node.name));
                text += &format!("not yet on {others}; see pointsman rules\n");
            }
            text
        }
        ProposalState::Refused => {
            let node = names(proposal.node.iter());
            let why = lines(&proposal.why);
            format!("{node} cannot work with these rules; nothing has changed:\n{why}")
        }
        ProposalState::Replaced => {
            format!("version {number} was proposed or put in force in their place\n")
        }
        ProposalState::Proposed => {
            let nodes = names(proposal.waits_for.iter());
            format!(
                "version {number} is proposed, and not in force before {nodes} could work with it; \
                 see pointsman rules\n"
            )
        }
    }
}

/// The answer with the files of a version.
#[derive(Serialize, Deserialize)]
struct Files {
    files: Vec<RuleFile>,
}

async fn get(args: &GetArgs) -> Result<String, CommandError> {
    let client = Client::of_admin(&args.admin)?;
    let Files { files } = client.get("/rules/version/files").await?;
    let mut text = String::new();
    for file in &files {
        let path = args.folder.join(below(&file.name));
        let folder = path.parent().unwrap_or(&args.folder);
        std::fs::create_dir_all(folder).map_err(|error| {
            CommandError::new(format!("cannot make {}: {error}", folder.display()))
        })?;
        write_new(&path, &file.text, args.force)?;
        text += &format!("{}\n", path.display());
    }
    Ok(text)
}

/// A file's path, with nothing in it that leads elsewhere.
fn below(name: &str) -> PathBuf {
    let parts = Path::new(name).components();
    parts
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the versions of the rules: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestBus;

    #[test]
    fn files_are_written_below_their_folder_alone() {
        for (name, expect) in [
            ("a.yaml", "a.yaml"),
            ("x/a.yaml", "x/a.yaml"),
            ("../../a.yaml", "a.yaml"),
            ("/etc/./a.yaml", "etc/a.yaml"),
        ] {
            assert_eq!(below(name), Path::new(expect));
        }
    }

    #[tokio::test]
    async fn a_bus_on_one_machine_says_so_and_what_is_wrong_is_found_before_it_is_asked() {
        let bus = TestBus::start(&[]).await;
        let of = OfArgs {
            admin: AdminArgs {
                url: Some(format!("http://{}", bus.address).parse().unwrap()),
                key: None,
            },
            output: OutputArgs::default(),
        };
        assert_eq!(show(&of).await.unwrap(), ALONE);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.yaml");
        let put_of = async |text: &str| {
            std::fs::write(&file, text).unwrap();
            let args = PutArgs {
                paths: vec![file.clone()],
                wait: 1,
                of: of.clone(),
            };
            put(&args).await
        };
        let (text, is_in_force) = put_of("rules:\n  r: { to: nowhere }\n").await.unwrap();
        assert!(!is_in_force && text.contains("rules.yaml:2:"), "{text}");
        let sound = "targets: { a: { stdout: {} } }\nrules: { r: { to: a } }\n";
        let refused = put_of(sound).await.unwrap_err().to_string();
        assert!(refused.contains("runs on one machine"), "{refused}");
    }

    #[test]
    fn tenants_are_shown_with_their_shards() {
        let view = TenantView {
            tenant: Name::new("acme").unwrap(),
            shards: vec![5, 11],
        };
        assert_eq!(tenants(&[view]), "\nTENANT  SHARDS\nacme    5, 11\n");
        assert_eq!(tenants(&[]), "");
    }

    #[test]
    fn what_became_of_a_proposal_is_told() {
        let name = |name| Name::new(name).unwrap();
        let proposal = |state| ProposalView {
            id: Some("1f".to_owned()),
            state,
            version: Some(4),
            node: None,
            why: Vec::new(),
            waits_for: vec![name("b")],
        };
        let node = |of, in_force| NodeRules {
            name: name(of),
            in_force,
            prepared: None,
            files_differ: false,
            trouble: None,
        };
        let nodes = [node("a", Some(4)), node("b", Some(3)), node("c", Some(5))];
        assert_eq!(
            outcome(&proposal(ProposalState::InForce), &nodes),
            "version 4 is in force on a, c\nnot yet on b; see pointsman rules\n"
        );
        let refused = ProposalView {
            node: Some(name("b")),
            why: vec!["rules.yaml:7:1: no".to_owned()],
            ..proposal(ProposalState::Refused)
        };
        assert_eq!(
            outcome(&refused, &[]),
            "b cannot work with these rules; nothing has changed:\n  rules.yaml:7:1: no\n"
        );
        let waits = outcome(&proposal(ProposalState::Proposed), &[]);
        assert!(waits.contains("not in force before b could"), "{waits}");
    }
}
