//! `pointsman nodes`, `pointsman shards` and `pointsman drain`: the machines that run one bus.

use std::process::ExitCode;

use serde_json::json;

use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::admin::view::Page;
use crate::nodes::{NodeView, ShardView};
use crate::output::{self, OutputArgs};

/// What is said of a bus that has no other nodes.
const ALONE: &str = "this bus runs on one machine; docs/operate/cluster.md says how more run it\n";

/// What `nodes` and `shards` take.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Which node to ask: each knows all
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `drain` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct DrainArgs {
    /// Let the node own shards again
    #[arg(long)]
    pub undo: bool,
    /// Which node
    #[command(flatten)]
    pub node: ListArgs,
}

/// Lists the nodes.
///
/// # Errors
/// There is no bus there, or it refuses.
pub async fn nodes(args: &ListArgs) -> Result<ExitCode, miette::Report> {
    print(list_nodes(args).await?)
}

/// Lists the shards.
///
/// # Errors
/// As [`nodes`].
pub async fn shards(args: &ListArgs) -> Result<ExitCode, miette::Report> {
    print(list_shards(args).await?)
}

/// Has a node own nothing while another one can.
///
/// # Errors
/// As [`nodes`].
pub async fn drain(args: &DrainArgs) -> Result<ExitCode, miette::Report> {
    print(ask_to_drain(args).await?)
}

fn print(text: String) -> Result<ExitCode, miette::Report> {
    output::print(&text).map_err(unprintable)?;
    Ok(ExitCode::SUCCESS)
}

async fn list_nodes(args: &ListArgs) -> Result<String, CommandError> {
    let page: Page<NodeView> = Client::of_admin(&args.admin)?.list("/nodes").await?;
    if args.output.json {
        return output::json(&page.items).map_err(unprintable);
    }
    if page.items.is_empty() {
        return Ok(ALONE.to_owned());
    }
    let row = |node: &NodeView| {
        [
            node.name.to_string(),
            node.state.as_str().to_owned(),
            ranges(&node.owns),
            ranges(&node.spare_of),
            ranges(&node.filling),
            format!("{:.1} s ago", node.heard_seconds_ago),
            node.address.clone(),
            node.version.clone(),
            match (node.rules, node.rule_files_differ) {
                (None, _) => "-".to_owned(),
                (Some(number), false) => number.to_string(),
                (Some(number), true) => format!("{number} (its files differ)"),
            },
        ]
    };
    let headings = [
        "NODE", "STATE", "OWNS", "SPARE OF", "FILLING", "HEARD", "ADMIN", "VERSION", "RULES",
    ];
    Ok(output::table(headings, page.items.iter().map(row)))
}

async fn list_shards(args: &ListArgs) -> Result<String, CommandError> {
    let page: Page<ShardView> = Client::of_admin(&args.admin)?.list("/shards").await?;
    if args.output.json {
        return output::json(&page.items).map_err(unprintable);
    }
    if page.items.is_empty() {
        return Ok(ALONE.to_owned());
    }
    let row = |shard: &ShardView| {
        let followers = shard.followers.iter().map(|one| match one.complete {
            true => format!("{} ({} behind)", one.name, one.behind),
            false => format!("{} (filling)", one.name),
        });
        let followers: Vec<_> = followers.collect();
        let owner = shard.owner.as_ref();
        [
            shard.shard.to_string(),
            owner.map_or_else(|| "-".to_owned(), ToString::to_string),
            shard.epoch.to_string(),
            shard.place.to_string(),
            if followers.is_empty() {
                "-".to_owned()
            } else {
                followers.join(", ")
            },
        ]
    };
    let headings = ["SHARD", "OWNER", "EPOCH", "RECORDS", "FOLLOWERS"];
    if page.items.iter().all(|shard| shard.engine.is_none()) {
        return Ok(output::table(headings, page.items.iter().map(row)));
    }
    let [shard, owner, epoch, records, followers] = headings;
    let headings = [shard, "ENGINE", owner, epoch, records, followers];
    let row = |view: &ShardView| {
        let [shard, owner, epoch, records, followers] = row(view);
        let engine = view
            .engine
            .map_or_else(|| "-".to_owned(), |engine| engine.to_string());
        [shard, engine, owner, epoch, records, followers]
    };
    Ok(output::table(headings, page.items.iter().map(row)))
}

async fn ask_to_drain(args: &DrainArgs) -> Result<String, CommandError> {
    let body = json!({ "draining": !args.undo });
    let client = Client::of_admin(&args.node.admin)?;
    let node: NodeView = client.post("/nodes/drain", &body).await?;
    if args.node.output.json {
        return output::json(&node).map_err(unprintable);
    }
    let name = &node.name;
    Ok(match (args.undo, node.owns.is_empty()) {
        (true, _) => format!("{name} may own shards again\n"),
        (false, true) => format!("{name} owns no shard, and takes none while another node can\n"),
        (false, false) => format!(
            "{name} gives its shards to other nodes, as soon as there are some that have \
             everything; see pointsman nodes\n"
        ),
    })
}

/// Numbers that grow, as `0-3, 7`.
fn ranges(numbers: &[u16]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        Some(match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
    });
    let runs: Vec<_> = runs.collect();
    match runs.is_empty() {
        true => "-".to_owned(),
        false => runs.join(", "),
    }
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot print the nodes: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestBus;

    #[test]
    fn shards_in_a_row_are_shortened() {
        for (numbers, expect) in [
            (&[][..], "-"),
            (&[0], "0"),
            (&[0, 1, 2, 5, 7, 8], "0-2, 5, 7-8"),
        ] {
            assert_eq!(ranges(numbers), expect);
        }
    }

    #[tokio::test]
    async fn a_bus_on_one_machine_says_so() {
        let bus = TestBus::start(&[]).await;
        let args = ListArgs {
            admin: AdminArgs {
                url: Some(format!("http://{}", bus.address).parse().unwrap()),
                key: None,
            },
            output: OutputArgs::default(),
        };
        assert_eq!(list_nodes(&args).await.unwrap(), ALONE);
        assert_eq!(list_shards(&args).await.unwrap(), ALONE);
        let drain = DrainArgs {
            undo: false,
            node: args,
        };
        let refused = ask_to_drain(&drain).await.unwrap_err().to_string();
        assert!(refused.contains("runs on one machine"), "{refused}");
    }
}
