//! What may keep a group from growing or shrinking, whether the governor wants it or somebody asked.

use std::time::Duration;

use crate::governor::decide::{Ruling, gone_by, load};
use crate::governor::situation::Situation;
use crate::governor::victims;
use crate::model::decision::{Delays, Row, Verdict};
use crate::model::group::{NodeCount, Part};
use crate::model::node::NodePhase;
use crate::model::reason::{Last, Reason};
use crate::model::time::Timestamp;

/// Suspension, maximum, and (unless skipped) the delay and the warm-up.
pub(super) fn keeps_from_expanding(situation: &Situation<'_>, delays: Delays) -> Option<Ruling> {
    if let Some(suspension) = situation.suspended(Part::Expand) {
        return Some(Ruling::suspended(Row::ExpandSuspended, suspension));
    }
    if situation.state.headroom() == NodeCount::ZERO {
        let critical = NodeCount::of(situation.critical.iter()).get();
        return Some(Ruling::hold(Row::AtMax, Reason::AtMax { max: situation.config().max_nodes, critical }));
    }
    match delays {
        Delays::Respect => expand_delay(situation).or_else(|| warmup(situation)),
        Delays::Skip => None,
    }
}

fn expand_delay(situation: &Situation<'_>) -> Option<Ruling> {
    let (ended, delay) = (situation.state.memory.last_expand_end?, situation.config().expand_delay);
    let until = situation.rests_until(Some(ended), delay)?;
    let reason = Reason::ExpandDelay { ago: gone_by(ended, situation.now), delay };
    Some(Ruling::hold(Row::ExpandDelay, reason).until(until))
}

fn warmup(situation: &Situation<'_>) -> Option<Ruling> {
    let warmup = situation.config().warmup;
    let serving = situation.state.nodes.iter().filter(|node| node.phase == NodePhase::InService);
    let ends: Vec<Timestamp> =
        serving.filter_map(|node| situation.rests_until(Some(node.phase_since), warmup)).collect();
    let until = *ends.iter().max()?;
    let reason = Reason::Warmup { nodes: NodeCount::of(ends.iter()), warmup };
    Some(Ruling::hold(Row::Warmup, reason).until(until))
}

/// Quiet, but not yet for `recovery_hold`.
pub(super) fn recovery_hold(situation: &Situation<'_>) -> Option<Ruling> {
    let (since, hold) = (situation.quiet_since()?, situation.config().recovery_hold);
    let until = situation.rests_until(Some(since), hold)?;
    let reason = Reason::RecoveryHold { quiet: gone_by(since, situation.now), hold };
    Some(Ruling::hold(Row::RecoveryHold, reason).until(until))
}

/// Suspension, minimum, and (unless skipped) the delay, flapping and the load.
pub(super) fn keeps_from_deflating(situation: &Situation<'_>, delays: Delays) -> Option<Ruling> {
    if let Some(suspension) = situation.suspended(Part::Deflate) {
        return Some(Ruling::suspended(Row::DeflateSuspended, suspension));
    }
    if spare(situation) == NodeCount::ZERO {
        return Some(Ruling::hold(Row::AtMin, Reason::AtMin { min: situation.min }));
    }
    match delays {
        Delays::Respect => {
            deflate_delay(situation).or_else(|| flapping(situation)).or_else(|| load::would_reopen(situation))
        }
        Delays::Skip => None,
    }
}

/// Nodes that the minimum leaves over, counted both live and in service.
pub(super) fn spare(situation: &Situation<'_>) -> NodeCount {
    let min = situation.min;
    situation.live.above(min).min(situation.in_service.above(min))
}

fn deflate_delay(situation: &Situation<'_>) -> Option<Ruling> {
    let memory = &situation.state.memory;
    let expansion = memory.last_expand_end.map(|end| (end, Last::Expansion));
    let deflation = memory.last_deflate_end.map(|end| (end, Last::Deflation));
    let (ended, last) = [expansion, deflation].into_iter().flatten().max_by_key(|(end, _)| *end)?;
    let (delay, flips) = (stretched_delay(situation), situation.flips);
    let until = situation.rests_until(Some(ended), delay)?;
    let reason = Reason::DeflateDelay { last, ago: gone_by(ended, situation.now), delay, flips };
    Some(Ruling::hold(Row::DeflateDelay, reason).until(until))
}

/// Each reversal doubles the delay, up to the window in which reversals are counted.
fn stretched_delay(situation: &Situation<'_>) -> Duration {
    let config = situation.config();
    let stretched = config.deflate_delay.saturating_mul(1 << situation.flips.min(16));
    stretched.min(config.flap_window.max(config.deflate_delay))
}

fn flapping(situation: &Situation<'_>) -> Option<Ruling> {
    let config = situation.config();
    if situation.flips < config.flap_max {
        return None;
    }
    let last_flip = situation.state.memory.flips.iter().max().copied();
    let until = situation.rests_until(last_flip, config.flap_window)?;
    let reason = Reason::Flapping { flips: situation.flips, window: config.flap_window };
    Some(Ruling::hold(Row::Flapping, reason).until(until))
}

/// Chooses up to `count` victims; holds if there are none.
pub(super) fn take_away(
    situation: &Situation<'_>,
    row: Row,
    count: NodeCount,
    reason: impl Fn(NodeCount) -> Reason,
) -> Ruling {
    let nodes = victims::choose(situation.state, count, situation.min);
    let removing = NodeCount::of(nodes.iter());
    if removing == NodeCount::ZERO {
        return Ruling::hold(Row::NoVictim, Reason::NoVictim);
    }
    Ruling::act(row, Verdict::Deflate { nodes }, reason(removing))
}
