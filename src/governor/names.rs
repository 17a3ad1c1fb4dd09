//! Names for new nodes: `<group>-<number>`, numbers counted up per group and never used again.

use std::collections::BTreeSet;

use crate::model::group::NodeCount;
use crate::model::group_state::GroupState;
use crate::model::node::NodeName;

/// The names that the next `count` nodes get.
pub fn next_names(state: &GroupState, count: NodeCount) -> Vec<NodeName> {
    let taken: BTreeSet<&NodeName> = state.nodes.iter().map(|node| &node.name).collect();
    (state.memory.next_node..u32::MAX)
        .map(|number| NodeName::numbered(&state.group.name, number))
        .filter(|name| !taken.contains(name))
        .take(count.as_usize())
        .collect()
}

/// The first number above all that `reserved` uses, and not below `next`.
pub fn number_after(state: &GroupState, reserved: &[NodeName]) -> u32 {
    let prefix = format!("{}-", state.group.name);
    let number = |name: &NodeName| name.as_str().strip_prefix(&prefix)?.parse::<u32>().ok();
    let highest = reserved.iter().filter_map(number).max();
    highest.map_or(state.memory.next_node, |used| state.memory.next_node.max(used.saturating_add(1)))
}
