//! Which nodes go: never a protected one; first those not yet in service, then as the group's termination policy says.

use crate::model::group::NodeCount;
use crate::model::group_config::TerminationPolicy;
use crate::model::group_state::GroupState;
use crate::model::node::{Node, NodeName, NodePhase};

/// Up to `count` live nodes to take away, such that at least `floor` stay in service.
pub fn choose(state: &GroupState, count: NodeCount, floor: NodeCount) -> Vec<NodeName> {
    let mut candidates: Vec<&Node> =
        state.nodes.iter().filter(|node| node.phase.is_live() && !node.protected).collect();
    candidates.sort_by_key(|node| (node.created_at, &node.name));
    match state.group.config.termination_policy {
        TerminationPolicy::Oldest => {}
        TerminationPolicy::Newest => candidates.reverse(),
    }
    candidates.sort_by_key(|node| node.phase == NodePhase::InService);
    let mut spare = state.in_service().above(floor).as_usize();
    let mut may_go = |node: &Node| {
        if node.phase != NodePhase::InService {
            return true;
        }
        let goes = spare > 0;
        spare = spare.saturating_sub(1);
        goes
    };
    candidates.into_iter().filter(|node| may_go(node)).take(count.as_usize()).map(|node| node.name.clone()).collect()
}
