//! How a group's state changes: by an admitted decision, by a step of its activity, by the activity's end, by a clock jump.
//!
//! Pure like the decision itself; the store writes what comes out, in the transaction that brought it about.

use crate::governor::backoff::rest_after;
use crate::governor::names::number_after;
use crate::model::decision::{Decision, Notice, Rebase, Request, Row, Verdict};
use crate::model::group_state::{Approval, GroupMemory, GroupState};
use crate::model::incident::{Observation, merge};
use crate::model::load::{Load, Peak};
use crate::model::node::{Node, NodeName, NodePhase};
use crate::model::refs::ActivityId;
use crate::model::scaling::{ActivityKind, ActivityStatus, ScalingActivity};
use crate::model::time::Timestamp;

/// Why a report about an activity or a node does not fit the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It ended before, or never was.
    #[error("activity {0} is not under way in this group")]
    NotUnderWay(ActivityId),
    /// Not in the ledger.
    #[error("the group has no node `{0}`")]
    NoSuchNode(NodeName),
    /// Nodes don't go backwards.
    #[error("node `{name}` is {from} and cannot become {to}")]
    WrongPhase {
        /// Which.
        name: NodeName,
        /// What it is.
        from: NodePhase,
        /// What it was reported to be.
        to: NodePhase,
    },
}

/// How an activity's workflow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkflowEnd {
    /// Well.
    Succeeded,
    /// Badly, and what it did was undone as far as that went.
    Failed,
    /// On request, and what it did was undone as far as that went.
    Canceled,
}

/// Takes a decision in. If it opens an activity, that gets the id `id`, and its nodes are reserved; it is then in `state.activity`.
pub fn admit(state: &mut GroupState, decision: &Decision, id: ActivityId) {
    follow_clock(state, decision.at);
    remember(state, decision);
    if let (Verdict::FailActivity { id: stuck }, Some(activity)) = (&decision.verdict, &mut state.activity)
        && activity.id == *stuck
    {
        activity.status = ActivityStatus::Compensating;
        activity.stuck_since = Some(decision.at);
    }
    if let Some((kind, want)) = decision.opens() {
        open(state, decision, id, (kind, want));
    }
}

fn remember(state: &mut GroupState, decision: &Decision) {
    let (now, config) = (decision.at, &state.group.config);
    state.memory.flips.retain(|flip| now < flip.plus(config.flap_window));
    let incidents = &state.incidents;
    let goes_on = |key: &str| incidents.iter().any(|it| it.key == key && it.is_open(now, config.alert_ttl));
    let (circuit_open, approval) = (state.is_circuit_open(), approval_after(state, decision));
    state.memory.told.retain(|notice| match notice {
        Notice::Escalate { incident } | Notice::Warning { incident } => goes_on(incident),
        Notice::CircuitOpen => circuit_open,
        Notice::Approval { wish } => approval.as_ref().is_some_and(|approval| approval.wish == *wish),
    });
    state.memory.approval = approval;
    state.memory.told.extend(decision.notices.iter().cloned());
}

/// What is wanted waits for as long as each look wants it, and no longer once something was opened.
fn approval_after(state: &GroupState, decision: &Decision) -> Option<Approval> {
    let before = state.memory.approval.clone();
    match decision.awaits() {
        Some(wish) => {
            let new = Approval { wish, since: decision.at, denied_by: None };
            before.filter(|approval| approval.wish == wish).or(Some(new))
        }
        None if decision.request == Request::Tick || decision.verdict.acts() => None,
        None => before,
    }
}

fn open(state: &mut GroupState, decision: &Decision, id: ActivityId, (kind, want): (ActivityKind, i32)) {
    let now = decision.at;
    let origin = decision.request.origin();
    if decision.row == Row::Expand && origin.is_automatic() && reverses_a_deflation(state, now) {
        state.memory.flips.push(now);
    }
    // What it changes is looked at anew afterwards.
    state.memory.drift.clear();
    let reserved = decision.verdict.reserved();
    state.memory.next_node = number_after(state, reserved);
    let rows = reserved.iter().map(|name| requested(state, name, id, now)).collect::<Vec<_>>();
    state.nodes.extend(rows);
    let removed = decision.verdict.removed();
    state.nodes.iter_mut().filter(|node| removed.contains(&node.name)).for_each(|node| node.activity = Some(id));
    state.group.deleting |= kind == ActivityKind::Delete;
    state.activity = Some(ScalingActivity {
        id,
        kind,
        want,
        origin,
        started_at: now,
        deadline: now.plus(state.group.config.activity_timeout),
        status: ActivityStatus::InProgress,
        nodes: [reserved, removed, decision.verdict.mended()].concat(),
        reason: decision.reason.to_string(),
        asked_by: None,
        execution: None,
        stuck_since: None,
        ended_at: None,
        problem: None,
    });
}

/// The last thing that happened was a deflation, and not long ago.
fn reverses_a_deflation(state: &GroupState, now: Timestamp) -> bool {
    let GroupMemory { last_deflate_end, last_expand_end, .. } = &state.memory;
    let recent = last_deflate_end.is_some_and(|end| now < end.plus(state.group.config.flap_window));
    recent && last_deflate_end > last_expand_end
}

fn requested(state: &GroupState, name: &NodeName, id: ActivityId, now: Timestamp) -> Node {
    Node {
        name: name.clone(),
        group: state.group.name.clone(),
        phase: NodePhase::Requested,
        phase_since: now,
        created_at: now,
        protected: false,
        address: None,
        port: None,
        tag: format!("{name}-{id}"),
        activity: Some(id),
    }
}

/// Takes a source's report of an incident in.
pub fn observe(state: &mut GroupState, seen: Observation) {
    follow_clock(state, seen.received_at);
    match state.incidents.iter_mut().find(|known| known.key == seen.key) {
        Some(known) => *known = merge(Some(known), seen),
        None => state.incidents.push(merge(None, seen)),
    }
}

/// The parts of the window in which a peak is remembered: what is forgotten at once is a small part of it.
const PEAKS: u32 = 20;

/// Takes a report of the group's load in.
pub fn observe_load(state: &mut GroupState, load: Load, now: Timestamp) {
    follow_clock(state, now);
    let window = state.group.config.load_window;
    let memory = &mut state.memory;
    memory.load = load;
    memory.load_seen = Some(now);
    memory.peaks.retain(|peak| now < peak.since.plus(window));
    match memory.peaks.last_mut().filter(|last| now < last.since.plus(window / PEAKS)) {
        Some(last) => last.load = last.load.max(load),
        None => memory.peaks.push(Peak { since: now, load }),
    }
}

/// Drops the rows on which nothing depends any more: nodes that are gone and incidents long over.
pub fn forget(state: &mut GroupState, now: Timestamp) {
    let ttl = state.group.config.alert_ttl;
    state.nodes.retain(|node| node.phase.counts());
    state.incidents.retain(|incident| !incident.is_forgotten(now, ttl));
}

/// A node has come further. A repeated report changes nothing, not even the time.
pub fn move_node(state: &mut GroupState, name: &NodeName, to: NodePhase, at: Timestamp) -> Result<(), LedgerError> {
    let missing = || LedgerError::NoSuchNode(name.clone());
    let node = state.nodes.iter_mut().find(|node| node.name == *name).ok_or_else(missing)?;
    if !node.phase.may_become(to) {
        return Err(LedgerError::WrongPhase { name: name.clone(), from: node.phase, to });
    }
    if node.phase != to {
        node.phase = to;
        node.phase_since = at;
    }
    Ok(())
}

/// Ends the activity under way and says how it came out. The nodes decide: what its workflow claims cannot make a node serve.
///
/// Delays count from `at`. `seed` varies the rest after a failure.
pub fn finish(
    state: &mut GroupState,
    id: ActivityId,
    end: WorkflowEnd,
    at: Timestamp,
    seed: u64,
) -> Result<ScalingActivity, LedgerError> {
    follow_clock(state, at);
    let ours = state.activity.take_if(|activity| activity.id == id);
    let mut activity = ours.ok_or(LedgerError::NotUnderWay(id))?;
    fail_what_is_half_done(state, &activity, at);
    activity.status = outcome(state, &activity, end);
    activity.ended_at = Some(at);
    if activity.kind == ActivityKind::Create && end == WorkflowEnd::Succeeded {
        state.memory.created = Some(at);
    }
    count_failures(&mut state.memory, &activity, at, seed);
    start_delays(&mut state.memory, &activity, at);
    Ok(activity)
}

fn fail_what_is_half_done(state: &mut GroupState, activity: &ScalingActivity, at: Timestamp) {
    let settled = |phase| matches!(phase, NodePhase::InService | NodePhase::Gone | NodePhase::Failed);
    let half_done = |node: &&mut Node| activity.nodes.contains(&node.name) && !settled(node.phase);
    for node in state.nodes.iter_mut().filter(half_done) {
        node.phase = NodePhase::Failed;
        node.phase_since = at;
    }
}

fn outcome(state: &GroupState, activity: &ScalingActivity, end: WorkflowEnd) -> ActivityStatus {
    let adds = match activity.kind {
        ActivityKind::Create | ActivityKind::Expand | ActivityKind::AddNode => true,
        ActivityKind::Deflate | ActivityKind::Delete | ActivityKind::DeleteNode => false,
        ActivityKind::Repair => activity.want > 0,
        ActivityKind::Reconcile => return reconciled(end),
    };
    let phase_of = |name: &NodeName| state.nodes.iter().find(|node| node.name == *name).map(|node| node.phase);
    let is_done = |name: &&NodeName| match phase_of(name) {
        Some(phase) if adds => phase == NodePhase::InService,
        Some(phase) => phase == NodePhase::Gone,
        None => !adds,
    };
    let done = activity.nodes.iter().filter(is_done).count();
    let all_done = done == activity.nodes.len();
    match end {
        WorkflowEnd::Canceled if activity.stuck_since.is_none() => ActivityStatus::Canceled,
        WorkflowEnd::Succeeded if all_done => ActivityStatus::Succeeded,
        WorkflowEnd::Succeeded | WorkflowEnd::Failed | WorkflowEnd::Canceled if done > 0 => ActivityStatus::Partial,
        WorkflowEnd::Succeeded | WorkflowEnd::Failed | WorkflowEnd::Canceled => ActivityStatus::Failed,
    }
}

/// No node comes or goes by it: its workflow alone knows.
const fn reconciled(end: WorkflowEnd) -> ActivityStatus {
    match end {
        WorkflowEnd::Succeeded => ActivityStatus::Succeeded,
        WorkflowEnd::Failed => ActivityStatus::Failed,
        WorkflowEnd::Canceled => ActivityStatus::Canceled,
    }
}

/// A group that is half set up or half deleted is a failure too. Clearing away proves nothing about creating.
fn count_failures(memory: &mut GroupMemory, activity: &ScalingActivity, at: Timestamp, seed: u64) {
    let all_or_nothing = matches!(activity.kind, ActivityKind::Create | ActivityKind::Delete);
    let clears_away = activity.kind == ActivityKind::Repair && activity.want == 0;
    match activity.status {
        ActivityStatus::Partial if !all_or_nothing && !clears_away => forgive(memory),
        ActivityStatus::Succeeded if !clears_away => forgive(memory),
        ActivityStatus::Failed | ActivityStatus::Partial => {
            memory.failures_in_row = memory.failures_in_row.saturating_add(1);
            memory.backoff_until = Some(at.plus(rest_after(memory.failures_in_row, seed)));
        }
        ActivityStatus::Succeeded
        | ActivityStatus::Canceled
        | ActivityStatus::InProgress
        | ActivityStatus::Compensating => {}
    }
}

const fn forgive(memory: &mut GroupMemory) {
    memory.failures_in_row = 0;
    memory.backoff_until = None;
}

/// What failed altogether has its back-off instead; what somebody stopped is not started again at once.
fn start_delays(memory: &mut GroupMemory, activity: &ScalingActivity, at: Timestamp) {
    if activity.status == ActivityStatus::Failed {
        return;
    }
    match activity.kind {
        ActivityKind::Expand | ActivityKind::AddNode => memory.last_expand_end = Some(at),
        ActivityKind::Deflate | ActivityKind::DeleteNode => memory.last_deflate_end = Some(at),
        ActivityKind::Create | ActivityKind::Delete | ActivityKind::Repair | ActivityKind::Reconcile => {}
    }
}

/// The clock jump that lies between the last time the store's clock was seen in this group and `now`, if there was one.
///
/// More than two ticks, or any step back: that clock has not measured a delay.
pub fn clock_jump(state: &GroupState, now: Timestamp) -> Option<Rebase> {
    let last = state.memory.clock_seen?;
    let longest = state.group.config.tick.saturating_mul(2);
    let jumped = now < last || now.since(last) > longest;
    let shift_micros = now.as_micros().saturating_sub(last.as_micros());
    jumped.then(|| Rebase { shift_micros, epoch: state.memory.epoch.saturating_add(1) })
}

/// Brings a group to the present of the store's clock before anything is stamped with it.
///
/// Whatever writes such a stamp goes through here; else a later jump could not tell old stamps from new ones.
pub(super) fn follow_clock(state: &mut GroupState, now: Timestamp) {
    if let Some(rebase) = clock_jump(state, now) {
        *state = rebased(state, rebase);
    }
    state.memory.clock_seen = Some(now);
}

/// The same state after a clock jump: every instant of the store's clock moves along, so every remaining duration stays.
///
/// What sources and people said (`last_seen_at`, `until`) and when nodes were made are facts and stay.
#[must_use]
pub fn rebased(state: &GroupState, rebase: Rebase) -> GroupState {
    let moved = |at: Timestamp| Timestamp::from_micros(at.as_micros().saturating_add(rebase.shift_micros));
    let mut state = state.clone();
    let memory = &mut state.memory;
    memory.epoch = rebase.epoch;
    let instants = [
        &mut memory.clock_seen,
        &mut memory.last_expand_end,
        &mut memory.last_deflate_end,
        &mut memory.backoff_until,
        &mut memory.load_seen,
    ];
    for instant in instants {
        *instant = instant.map(moved);
    }
    memory.flips.iter_mut().for_each(|at| *at = moved(*at));
    memory.peaks.iter_mut().for_each(|peak| peak.since = moved(peak.since));
    memory.drift.iter_mut().for_each(|drifting| drifting.since = moved(drifting.since));
    memory.approval.iter_mut().for_each(|approval| approval.since = moved(approval.since));
    let present = memory.clock_seen;
    for node in &mut state.nodes {
        // a node's phase may be written beside the group's row, with a stamp from after the jump
        let since = moved(node.phase_since);
        node.phase_since = present.map_or(since, |present| since.min(present));
    }
    state.incidents.iter_mut().for_each(|incident| incident.received_at = moved(incident.received_at));
    if let Some(activity) = &mut state.activity {
        activity.started_at = moved(activity.started_at);
        activity.deadline = moved(activity.deadline);
        activity.stuck_since = activity.stuck_since.map(moved);
    }
    state
}
