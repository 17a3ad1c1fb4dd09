//! The rows that the governor goes through when it looks by itself, in their order.

use crate::governor::decide::{Ruling, gone_by, left, load, scaling, untold};
use crate::governor::names::next_names;
use crate::governor::situation::Situation;
use crate::model::decision::{Delays, Notice, Rebase, Row, Verdict};
use crate::model::drift::Drift;
use crate::model::gate::Gate;
use crate::model::group::{NodeCount, Part};
use crate::model::group_config::Mode;
use crate::model::incident::Incident;
use crate::model::node::NodePhase;
use crate::model::reason::{Jump, Reason};
use crate::model::scaling::ActivityStatus;

type RowOf = fn(&Situation<'_>) -> Option<Ruling>;

/// What stands above delays and incidents, after the clock.
const UPPER_ROWS: [RowOf; 8] =
    [in_flight, switched_off, drifted, above_max, below_min, failed_nodes, circuit_open, backoff];

/// The governor's own look at a group.
pub(super) fn look(situation: &Situation<'_>, rebase: Option<Rebase>) -> Ruling {
    deleting(situation)
        .or_else(|| clock(situation, rebase))
        .or_else(|| UPPER_ROWS.iter().find_map(|row| row(situation)))
        .unwrap_or_else(|| incidents(situation))
}

/// A deletion that failed is taken up again; nothing else happens to the group.
pub(super) fn deleting(situation: &Situation<'_>) -> Option<Ruling> {
    if !situation.state.group.deleting {
        return None;
    }
    let hold = || Ruling::hold(Row::Deleting, Reason::Deleting);
    if situation.state.activity.is_some() {
        let stuck = in_flight(situation).filter(|ruling| ruling.verdict.acts());
        return Some(stuck.unwrap_or_else(hold));
    }
    if let Some(suspension) = situation.suspended(Part::Deflate) {
        return Some(Ruling::suspended(Row::Deleting, suspension));
    }
    if let Some(until) = situation.backs_off_until() {
        return Some(hold().until(until));
    }
    Some(Ruling::act(Row::Deleting, delete_group(situation), Reason::Deleting))
}

/// Everything that is left of the group goes.
pub(super) fn delete_group(situation: &Situation<'_>) -> Verdict {
    let left = situation.state.nodes.iter().filter(|node| node.phase.counts());
    Verdict::DeleteGroup { nodes: left.map(|node| node.name.clone()).collect() }
}

fn clock(situation: &Situation<'_>, rebase: Option<Rebase>) -> Option<Ruling> {
    let tick = situation.config().tick;
    let reason = match rebase {
        None if situation.state.memory.clock_seen.is_none() => Reason::FirstTick,
        None => return None,
        Some(Rebase { shift_micros, .. }) => {
            let jump = if shift_micros < 0 { Jump::Backward } else { Jump::Forward };
            let by = std::time::Duration::from_millis(shift_micros.unsigned_abs() / 1_000);
            Reason::ClockJump { jump, by, tick }
        }
    };
    Some(Ruling::act(Row::ClockJump, Verdict::Rebase, reason).until(situation.now.plus(tick)))
}

/// One activity at a time; one past its deadline is cancelled and undone, and blocks the group until that is done.
pub(super) fn in_flight(situation: &Situation<'_>) -> Option<Ruling> {
    let activity = situation.state.activity.as_ref()?;
    let (id, kind) = (activity.id, activity.kind);
    if activity.status == ActivityStatus::Compensating {
        return Some(Ruling::hold(Row::InFlight, Reason::Compensating { id, kind }));
    }
    if situation.now < activity.deadline {
        let reason = Reason::InFlight { id, kind, remaining: left(activity.deadline, situation.now) };
        return Some(Ruling::hold(Row::InFlight, reason).until(activity.deadline));
    }
    let reason = Reason::Stuck { id, kind, overdue: gone_by(activity.deadline, situation.now) };
    Some(Ruling::act(Row::Stuck, Verdict::FailActivity { id }, reason))
}

pub(super) fn switched_off(situation: &Situation<'_>) -> Option<Ruling> {
    if let Some(suspension) = situation.suspended(Part::All) {
        return Some(Ruling::suspended(Row::SwitchedOff, suspension));
    }
    let off = || Ruling::hold(Row::SwitchedOff, Reason::Gated { gate: Gate::Off, would: None });
    (situation.config().mode == Mode::Off).then(off)
}

/// What was seen twice is no passing state. Lost nodes are failures in the ledger and mended like those.
fn drifted(situation: &Situation<'_>) -> Option<Ruling> {
    if situation.backs_off_until().is_some() || situation.suspended(Part::Replace).is_some() {
        return None;
    }
    let certain = situation.state.memory.drift.iter().filter(|drifting| drifting.is_certain());
    let drift: Vec<Drift> = certain.map(|drifting| drifting.drift.clone()).filter(Drift::can_be_mended).collect();
    let mut nodes: Vec<_> = drift.iter().filter(|drift| !is_lost(drift)).filter_map(Drift::node).cloned().collect();
    nodes.sort();
    nodes.dedup();
    let mend = || Ruling::act(Row::Drifted, Verdict::Reconcile { nodes: nodes.clone() }, Reason::Drifted { drift });
    (!nodes.is_empty()).then(mend)
}

const fn is_lost(drift: &Drift) -> bool {
    matches!(drift, Drift::Lost { .. })
}

/// The maximum was lowered: nodes go without regard to delays and incidents.
fn above_max(situation: &Situation<'_>) -> Option<Ruling> {
    let max = situation.config().max_nodes;
    let surplus = situation.live.above(max);
    if surplus == NodeCount::ZERO || situation.backs_off_until().is_some() {
        return None;
    }
    if let Some(suspension) = situation.suspended(Part::Deflate) {
        return Some(Ruling::suspended(Row::AboveMax, suspension));
    }
    let ruling = scaling::take_away(situation, Row::AboveMax, surplus, |removing| Reason::AboveMax { removing, max });
    Some(ruling)
}

/// Repair: the group is set up if it never was, or filled up to the minimum.
fn below_min(situation: &Situation<'_>) -> Option<Ruling> {
    let (state, min) = (situation.state, situation.min);
    let missing = min.above(situation.live);
    let adding = missing.min(state.headroom());
    let created = state.memory.created.is_some();
    let needless = missing == NodeCount::ZERO && created;
    let no_room = missing > NodeCount::ZERO && adding == NodeCount::ZERO;
    if needless || no_room || situation.backs_off_until().is_some() {
        return None;
    }
    let replacing = situation.suspended(Part::Replace);
    if created && replacing.is_some() {
        return None;
    }
    if let Some(suspension) = replacing.or_else(|| situation.suspended(Part::Expand)) {
        return Some(Ruling::suspended(Row::BelowMin, suspension));
    }
    let nodes = next_names(state, adding);
    Some(if created {
        Ruling::act(Row::BelowMin, Verdict::Expand { nodes }, Reason::BelowMin { adding, min })
    } else {
        Ruling::act(Row::BelowMin, Verdict::CreateGroup { nodes }, Reason::NotCreated)
    })
}

/// What failed is cleared away, unless a critical incident can be helped first.
fn failed_nodes(situation: &Situation<'_>) -> Option<Ruling> {
    let room = situation.state.headroom() > NodeCount::ZERO;
    let busy = room && !situation.critical.is_empty() && !situation.state.is_circuit_open();
    if busy || situation.backs_off_until().is_some() || situation.suspended(Part::Replace).is_some() {
        return None;
    }
    let failed = situation.state.nodes.iter().filter(|node| node.phase == NodePhase::Failed && !node.protected);
    let nodes: Vec<_> = failed.map(|node| node.name.clone()).collect();
    let count = NodeCount::of(nodes.iter());
    let clear = || Ruling::act(Row::FailedNodes, Verdict::Deflate { nodes }, Reason::FailedNodes { count });
    (count > NodeCount::ZERO).then(clear)
}

/// Whatever makes so many nodes fail is not cured by more nodes.
fn circuit_open(situation: &Situation<'_>) -> Option<Ruling> {
    let reason = Reason::CircuitOpen { failed: situation.failed, total: situation.state.total() };
    let hold =
        || Ruling { notices: untold(situation, [Notice::CircuitOpen]), ..Ruling::hold(Row::CircuitOpen, reason) };
    situation.state.is_circuit_open().then(hold)
}

pub(super) fn backoff(situation: &Situation<'_>) -> Option<Ruling> {
    let until = situation.backs_off_until()?;
    let failures = situation.state.memory.failures_in_row;
    let reason = Reason::Backoff { failures, remaining: left(until, situation.now) };
    Some(Ruling::hold(Row::Backoff, reason).until(until))
}

fn incidents(situation: &Situation<'_>) -> Ruling {
    if let Some(incident) = situation.critical.first() {
        return critical(situation, incident);
    }
    if let Some(incident) = situation.warnings.first() {
        let open = NodeCount::of(situation.warnings.iter()).get();
        let ruling = Ruling::hold(Row::Warned, Reason::Warned { incident: incident.key.clone(), open });
        let notices = untold(situation, of_each(&situation.warnings, |incident| Notice::Warning { incident }));
        return Ruling { notices, ..ruling };
    }
    load::stale(situation)
        .or_else(|| scaling::recovery_hold(situation))
        .or_else(|| scaling::keeps_from_deflating(situation, Delays::Respect))
        .unwrap_or_else(|| quiet(situation))
}

fn critical(situation: &Situation<'_>, incident: &Incident) -> Ruling {
    if let Some(mut ruling) = scaling::keeps_from_expanding(situation, Delays::Respect) {
        if ruling.row == Row::AtMax {
            ruling.notices = untold(situation, of_each(&situation.critical, |incident| Notice::Escalate { incident }));
        }
        return ruling;
    }
    let expand_by = situation.config().expand_by;
    let overload = load::overload(situation).filter(|(_, missing)| *missing > expand_by);
    let (load, step) = overload.map_or((None, expand_by), |(load, missing)| (Some(load), missing));
    let adding = step.min(situation.state.headroom());
    let open = NodeCount::of(situation.critical.iter()).get();
    let reason = Reason::CriticalIncident { incident: incident.key.clone(), open, adding, step, load };
    Ruling::act(Row::Expand, Verdict::Expand { nodes: next_names(situation.state, adding) }, reason)
}

fn quiet(situation: &Situation<'_>) -> Ruling {
    let step = situation.config().deflate_by;
    let going = step.min(scaling::spare(situation)).min(load::dispensable(situation));
    scaling::take_away(situation, Row::Deflate, going, |removing| Reason::Quiet { removing, step })
}

fn of_each(incidents: &[&Incident], notice: fn(String) -> Notice) -> Vec<Notice> {
    incidents.iter().map(|incident| notice(incident.key.clone())).collect()
}
