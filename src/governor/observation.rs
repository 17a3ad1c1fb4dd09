//! A look around a group is taken in: what differs is remembered, and nodes that their provider has lost are failures.

use crate::governor::drift::{Seen, compare, remembered};
use crate::governor::error::GovernorError;
use crate::governor::ledger;
use crate::governor::service::Governor;
use crate::model::drift::{Drift, Drifting};
use crate::model::group::{GroupName, NodeCount};
use crate::model::group_state::GroupState;
use crate::model::node::{NodeName, NodePhase};
use crate::model::time::Timestamp;

/// So many nodes at once may be lost; more are believed only if they are few among all.
const BELIEVED: u32 = 3;

impl Governor {
    /// Takes in what a look that began at `began_at` has found. Gives back how the world differs now.
    pub async fn observe_surroundings(
        &self,
        name: &GroupName,
        seen: &Seen,
        began_at: Timestamp,
    ) -> Result<Vec<Drifting>, GovernorError> {
        self.change(name, |state, now| {
            take_in(state, seen, began_at, now);
            Ok(state.memory.drift.clone())
        })
        .await
    }
}

/// A look during which something was under way has seen neither the one nor the other.
fn take_in(state: &mut GroupState, seen: &Seen, began_at: Timestamp, now: Timestamp) {
    if state.activity.is_some() || state.group.deleting || has_moved_since(state, began_at) {
        return;
    }
    ledger::follow_clock(state, now);
    state.memory.drift = remembered(&state.memory.drift, compare(state, seen), now);
    let lost = lost(state);
    if is_believed(state, &lost) {
        state.nodes.iter_mut().filter(|node| lost.contains(&node.name)).for_each(|node| {
            node.phase = NodePhase::Failed;
            node.phase_since = now;
        });
        state.memory.drift.retain(|drifting| drifting.drift.node().is_none_or(|node| !lost.contains(node)));
    }
}

fn has_moved_since(state: &GroupState, began_at: Timestamp) -> bool {
    let memory = &state.memory;
    let ends = [memory.last_expand_end, memory.last_deflate_end].into_iter().flatten();
    state.nodes.iter().map(|node| node.phase_since).chain(ends).any(|at| at >= began_at)
}

fn lost(state: &GroupState) -> Vec<NodeName> {
    let certain = state.memory.drift.iter().filter(|drifting| drifting.is_certain());
    let lost = certain.filter_map(|drifting| match &drifting.drift {
        Drift::Lost { node } => Some(node.clone()),
        _ => None,
    });
    lost.collect()
}

/// A provider that has forgotten most of a group is more likely to be wrong than right.
fn is_believed(state: &GroupState, lost: &[NodeName]) -> bool {
    let (lost, serving) = (NodeCount::of(lost.iter()).get(), state.in_service().get());
    let share = u64::from(lost) * 100;
    lost <= BELIEVED || share <= u64::from(state.group.config.max_unready_pct) * u64::from(serving)
}
