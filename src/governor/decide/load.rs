//! What the group's load says, where it is known: how many nodes it needs, and whether those left could carry it.

use crate::governor::decide::{Ruling, gone_by};
use crate::governor::situation::Situation;
use crate::model::decision::Row;
use crate::model::group::NodeCount;
use crate::model::load::Load;
use crate::model::reason::{Reason, Seconds};

/// A capacity is configured, so a load is expected; nothing is taken away while it is not known.
pub(super) fn stale(situation: &Situation<'_>) -> Option<Ruling> {
    situation.config().node_capacity?;
    let limit = situation.config().tick.saturating_mul(situation.config().stale_after);
    let seen = situation.state.memory.load_seen;
    if situation.rests_until(seen, limit).is_some() {
        return None;
    }
    let ago = seen.map(|seen| Seconds(gone_by(seen, situation.now)));
    Some(Ruling::hold(Row::StaleLoad, Reason::StaleLoad { ago, limit }))
}

/// The highest load of late leaves no node over.
pub(super) fn would_reopen(situation: &Situation<'_>) -> Option<Ruling> {
    let peak = situation.state.peak_load(situation.now);
    let needed = needed(situation, peak)?;
    let percent = situation.config().safe_util_pct;
    let hold = || Ruling::hold(Row::WouldReopen, Reason::WouldReopen { peak, needed, percent });
    (situation.live <= needed).then(hold)
}

/// So many nodes may go without those left being used beyond what is safe.
pub(super) fn dispensable(situation: &Situation<'_>) -> NodeCount {
    let needed = needed(situation, situation.state.peak_load(situation.now));
    needed.map_or(situation.live, |needed| situation.live.above(needed))
}

/// The load as it is now and the nodes that it wants beside the live ones, if it wants any.
pub(super) fn overload(situation: &Situation<'_>) -> Option<(Load, NodeCount)> {
    let load = situation.state.memory.load;
    let missing = needed(situation, load)?.above(situation.live);
    let is_known = stale(situation).is_none();
    (is_known && missing > NodeCount::ZERO).then_some((load, missing))
}

fn needed(situation: &Situation<'_>, load: Load) -> Option<NodeCount> {
    let config = situation.config();
    config.node_capacity.map(|capacity| load.nodes_needed(capacity, config.safe_util_pct))
}
