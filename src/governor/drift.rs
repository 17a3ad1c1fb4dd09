//! What load balancer, zone and provider have, beside what the ledger says they should. Pure: the look itself is a workflow.

use serde::Deserialize;

use crate::model::drift::{Drift, Drifting};
use crate::model::group_state::GroupState;
use crate::model::node::{Node, NodeName, NodePhase};
use crate::model::time::Timestamp;

/// What a look around has found. Whoever was not asked, or did not answer, is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The nodes of the provider.
    pub provider: Option<Vec<SeenNode>>,
    /// The servers of the load balancer.
    pub load_balancer: Option<Vec<SeenBackend>>,
    /// Our names in the zone.
    pub dns: Option<Vec<SeenName>>,
}

/// A node as its provider shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenNode {
    /// What it is called.
    pub name: String,
    /// It lives; a provider that says nothing about it lists the living.
    #[serde(default = "lives")]
    pub alive: bool,
}

const fn lives() -> bool {
    true
}

/// A server as the load balancer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenBackend {
    /// What it is called.
    pub name: String,
    /// Where it is.
    #[serde(default)]
    pub address: Option<String>,
    /// On which port.
    #[serde(default)]
    pub port: Option<u16>,
    /// As the load balancer says: `maint` gets nothing.
    #[serde(default)]
    pub state: Option<String>,
}

/// A record of ours as the zone shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenName {
    /// The full name.
    pub name: String,
    /// Where it leads.
    #[serde(default)]
    pub data: Option<String>,
}

/// All differences, in order.
pub fn compare(state: &GroupState, seen: &Seen) -> Vec<Drift> {
    let mut found = Vec::new();
    if let Some(nodes) = &seen.provider {
        found.extend(of_provider(state, nodes));
    }
    if let Some(backends) = &seen.load_balancer {
        found.extend(of_load_balancer(state, backends));
    }
    if let Some(names) = &seen.dns {
        found.extend(of_dns(state, names));
    }
    found.sort();
    found.dedup();
    found
}

/// A difference that was there before is one time more certain; one that is not there any more is forgotten.
pub fn remembered(before: &[Drifting], found: Vec<Drift>, now: Timestamp) -> Vec<Drifting> {
    let known = |drift: &Drift| before.iter().find(|known| known.drift == *drift);
    let again = found.into_iter().map(|drift| match known(&drift) {
        Some(known) => Drifting { times: known.times.saturating_add(1), ..known.clone() },
        None => Drifting { drift, since: now, times: 1 },
    });
    again.collect()
}

fn serving(state: &GroupState) -> impl Iterator<Item = &Node> {
    state.nodes.iter().filter(|node| node.phase == NodePhase::InService)
}

fn of_provider(state: &GroupState, nodes: &[SeenNode]) -> Vec<Drift> {
    let lives = |node: &Node| nodes.iter().any(|seen| seen.name == node.name.as_str() && seen.alive);
    let lost = serving(state).filter(|node| !lives(node)).map(|node| Drift::Lost { node: node.name.clone() });
    // A node of ours that is no more and still lives is not ours to destroy on a guess: it is shown.
    let unknown = nodes.iter().filter(|seen| seen.alive && !is_in_ledger(state, &seen.name));
    lost.chain(unknown.map(|seen| Drift::Unknown { at: "provider".to_owned(), name: seen.name.clone() })).collect()
}

fn of_load_balancer(state: &GroupState, backends: &[SeenBackend]) -> Vec<Drift> {
    let is_there = |node: &Node, seen: &SeenBackend| {
        let gets_requests = seen.state.as_deref().is_none_or(|state| state != "maint");
        let same_port = node.port.is_none() || seen.port.is_none() || node.port == seen.port;
        seen.name == node.name.as_str() && gets_requests && is_same_address(node, seen.address.as_deref()) && same_port
    };
    let missing = serving(state).filter(|node| !backends.iter().any(|seen| is_there(node, seen)));
    let missing = missing.map(|node| Drift::NotBalanced { node: node.name.clone() });
    let others = backends.iter().filter(|seen| !is_in_ledger(state, &seen.name));
    let others = others.map(|seen| match once_ours(state, &seen.name) {
        Some(node) => Drift::StrayBackend { node },
        None => Drift::Unknown { at: "load_balancer".to_owned(), name: seen.name.clone() },
    });
    missing.chain(others).collect()
}

fn of_dns(state: &GroupState, names: &[SeenName]) -> Vec<Drift> {
    let suffix = format!(".{}.{}", state.group.name, state.group.domain);
    let label = |seen: &SeenName| seen.name.trim_end_matches('.').strip_suffix(&suffix).map(str::to_owned);
    let leads_there = |node: &Node, seen: &SeenName| {
        label(seen).as_deref() == Some(node.name.as_str()) && is_same_address(node, seen.data.as_deref())
    };
    let missing = serving(state).filter(|node| !names.iter().any(|seen| leads_there(node, seen)));
    let missing = missing.map(|node| Drift::NotNamed { node: node.name.clone() });
    let others = names.iter().filter(|seen| !label(seen).is_some_and(|label| is_in_ledger(state, &label)));
    let others = others.map(|seen| match label(seen).and_then(|label| once_ours(state, &label)) {
        Some(node) => Drift::StrayName { node },
        None => Drift::Unknown { at: "dns".to_owned(), name: seen.name.clone() },
    });
    missing.chain(others).collect()
}

fn is_in_ledger(state: &GroupState, name: &str) -> bool {
    state.nodes.iter().any(|node| node.phase.counts() && node.name.as_str() == name)
}

/// A name that this group has given before: names are numbered, and no number is used twice.
fn once_ours(state: &GroupState, name: &str) -> Option<NodeName> {
    let number = name.strip_prefix(state.group.name.as_str())?.strip_prefix('-')?.parse::<u32>().ok()?;
    let node = NodeName::numbered(&state.group.name, number);
    (number < state.memory.next_node && node.as_str() == name).then_some(node)
}

/// The ledger may hold an address with its port.
fn is_same_address(node: &Node, seen: Option<&str>) -> bool {
    let (Some(known), Some(seen)) = (node.address.as_deref(), seen) else { return true };
    let host = |text: &str| match text.parse::<std::net::SocketAddr>() {
        Ok(place) => place.ip().to_string(),
        Err(_) => text.to_owned(),
    };
    host(known) == host(seen)
}
