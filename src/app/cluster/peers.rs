//! Which other node owns the shards that this one does not: their slots are told as beats tell it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman_cluster::{Member, Node, Role};
use pointsman_journal::sharded::Slot;
use pointsman_journal::{Shard, ShardNumber};
use pointsman_log::Shard as LogShard;
use pointsman_peer::Remote;
use pointsman_schemas::Secret;
use tokio::time::{MissedTickBehavior, interval};

use crate::peers::PeerNode;

/// How often the beats are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The node that owns a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    address: String,
    incarnation: u64,
}

/// The nodes that are spoken with, by their addresses.
struct Peers {
    key: Option<Secret>,
    nodes: HashMap<String, Arc<PeerNode>>,
}

/// Tells the slots where their shards are; other nodes are shown `key`. Never ends.
pub(super) async fn meet(node: Arc<Node>, slots: Vec<Slot>, key: Option<Secret>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut peers = Peers {
        key,
        nodes: HashMap::new(),
    };
    // What each slot was told, and whether it took that.
    let mut told: Vec<(Option<Owner>, bool)> = vec![(None, false); slots.len()];
    loop {
        ticks.tick().await;
        let members = node.members();
        peers.forget_all_but(&members);
        for (slot, told) in slots.iter().zip(&mut told) {
            let owner = owner(&members, LogShard(slot.shard().get()));
            // What has been here meanwhile knows of nobody.
            let is_forgotten = told.1 && !slot.is_there();
            if slot.here().is_none() && (told.0 != owner || is_forgotten) {
                slot.put_there(owner.as_ref().and_then(|owner| peers.shard(owner, slot)));
                *told = (owner, slot.is_there());
            }
        }
    }
}

impl Peers {
    /// What asks a node about a shard.
    fn shard(&mut self, owner: &Owner, slot: &Slot) -> Option<Arc<dyn Shard>> {
        let Owner { address, .. } = owner;
        let peer = match self.nodes.get(address) {
            Some(peer) => Arc::clone(peer),
            None => {
                let made = PeerNode::new(address, self.key.as_ref());
                let made = made.inspect_err(|why| {
                    tracing::warn!(address, why, "another node cannot be spoken with");
                });
                let peer = Arc::new(made.ok()?);
                self.nodes.insert(address.clone(), Arc::clone(&peer));
                peer
            }
        };
        Some(Arc::new(Remote::new(slot.shard(), peer)))
    }

    fn forget_all_but(&mut self, members: &[Member]) {
        let is_there = |address: &String| {
            let mut pulses = members.iter().map(|member| &member.pulse);
            pulses.any(|pulse| pulse.address == *address)
        };
        self.nodes.retain(|address, _| is_there(address));
    }
}

/// The living node that says that it owns a shard, in the last epoch.
fn owner(members: &[Member], shard: LogShard) -> Option<Owner> {
    let is_living =
        |member: &&Member| member.heard.elapsed() < Duration::from_millis(member.pulse.takeover_ms);
    let owners = members.iter().filter(is_living);
    let owners = owners.filter(|member| member.pulse.of(shard).role == Role::Owner);
    let last = owners.max_by_key(|member| member.pulse.of(shard).epoch)?;
    Some(Owner {
        address: last.pulse.address.clone(),
        incarnation: last.pulse.incarnation,
    })
}

/// The shards of this node, for calls that come from others.
#[derive(Debug)]
pub(in crate::app) struct OwnShards(pub(in crate::app) Vec<Slot>);

impl pointsman_peer::Shards for OwnShards {
    fn here(&self, number: ShardNumber) -> Option<Arc<dyn Shard>> {
        let slot = self.0.get(usize::from(number.get()))?;
        slot.here()?;
        // Whatever it is by now, the call goes no further.
        Some(Arc::new(slot.unforwarded()))
    }
}
