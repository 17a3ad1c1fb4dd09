//! The decision: a group's state, a question and the time go in; a verdict with its reason comes out. First matching row wins.
//!
//! It knows no store, no clock and no provider, so the same inputs always give the same decision.

mod table;
mod requests;
mod scaling;
mod load;

use std::time::Duration;

use crate::governor::ledger;
use crate::governor::situation::Situation;
use crate::model::decision::{Decision, Notice, Request, Row, Verdict};
use crate::model::gate::Gate;
use crate::model::group::{Freeze, Part, Suspension};
use crate::model::group_config::Mode;
use crate::model::group_state::GroupState;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

/// What is to be done about `request` in a group, and why. `now` is the store's clock.
pub fn decide(state: &GroupState, request: &Request, now: Timestamp, freeze: Option<&Freeze>) -> Decision {
    let rebase = ledger::clock_jump(state, now);
    let rebased = rebase.map(|rebase| ledger::rebased(state, rebase));
    let situation = Situation::of(rebased.as_ref().unwrap_or(state), now);
    let ruling =
        if *request == Request::Tick { table::look(&situation, rebase) } else { requests::answer(&situation, request) };
    let freeze = freeze.filter(|freeze| freeze.is_active(now));
    let Ruling { verdict, row, reason, next_at, notices } = ruling.gated(&situation, request, freeze);
    let inputs = situation.inputs();
    Decision { at: now, request: request.clone(), verdict, row, reason, next_at, notices, rebase, inputs }
}

/// What one row of the table says.
struct Ruling {
    verdict: Verdict,
    row: Row,
    reason: Reason,
    next_at: Option<Timestamp>,
    notices: Vec<Notice>,
}

impl Ruling {
    fn act(row: Row, verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, row, reason, next_at: None, notices: Vec::new() }
    }

    fn hold(row: Row, reason: Reason) -> Self {
        Self::act(row, Verdict::Hold, reason)
    }

    fn suspended(row: Row, suspension: &Suspension) -> Self {
        let reason = Reason::Gated { gate: gate_of(suspension), would: None };
        Self { next_at: suspension.until, ..Self::hold(row, reason) }
    }

    fn until(self, next_at: Timestamp) -> Self {
        Self { next_at: Some(next_at), ..self }
    }

    fn refused(self) -> Self {
        Self { verdict: Verdict::Refuse, notices: Vec::new(), ..self }
    }

    /// What somebody has approved is not asked about again: to undo what got stuck, and to go on with a deletion.
    fn is_held_by(&self, gate: &Gate) -> bool {
        let goes_on = matches!(self.row, Row::Stuck | Row::Deleting);
        !(goes_on && matches!(gate, Gate::Approval { .. }))
    }

    /// Freeze, suspension of everything and mode hold back the effect of every row.
    fn gated(self, situation: &Situation<'_>, request: &Request, freeze: Option<&Freeze>) -> Self {
        let Some(gate) = gate(situation, request, freeze).filter(|gate| self.is_held_by(gate)) else {
            return self;
        };
        let frozen = freeze.is_some();
        let mut notices = if frozen { Vec::new() } else { self.notices.clone() };
        if !self.verdict.acts() {
            return Self { notices, ..self };
        }
        if let (Gate::Approval { .. }, Some(wish), Request::Tick) = (&gate, self.verdict.opens(self.row), request) {
            notices.extend(untold(situation, [Notice::Approval { wish }]));
        }
        let records = *request == Request::Tick || gate == Gate::Observe;
        let verdict = if records { Verdict::Record { would: Box::new(self.verdict) } } else { Verdict::Refuse };
        let next_at = until_of(&gate);
        let reason = Reason::Gated { gate, would: Some(Box::new(self.reason)) };
        Self { verdict, reason, next_at, notices, row: self.row }
    }
}

/// Those that people have not been told yet.
fn untold(situation: &Situation<'_>, notices: impl IntoIterator<Item = Notice>) -> Vec<Notice> {
    notices.into_iter().filter(|notice| !situation.state.memory.told.contains(notice)).collect()
}

fn gate(situation: &Situation<'_>, request: &Request, freeze: Option<&Freeze>) -> Option<Gate> {
    if let Some(Freeze { author, until, reason, .. }) = freeze {
        return Some(Gate::Frozen { author: author.clone(), until: *until, why: reason.clone() });
    }
    if let Some(suspension) = situation.suspended(Part::All) {
        return Some(gate_of(suspension));
    }
    match situation.config().mode {
        Mode::Off => Some(Gate::Off),
        Mode::Observe => Some(Gate::Observe),
        Mode::Approve if request.origin().is_automatic() => {
            let denied_by = situation.state.memory.approval.as_ref().and_then(|approval| approval.denied_by.clone());
            Some(Gate::Approval { denied_by })
        }
        Mode::Approve | Mode::Auto => None,
    }
}

fn gate_of(suspension: &Suspension) -> Gate {
    let Suspension { part, until, author, reason } = suspension.clone();
    Gate::Suspended { part, author, until, why: reason }
}

const fn until_of(gate: &Gate) -> Option<Timestamp> {
    match gate {
        Gate::Frozen { until, .. } | Gate::Suspended { until, .. } => *until,
        Gate::Observe | Gate::Off | Gate::Approval { .. } => None,
    }
}

/// Time left, in whole seconds rounded up: for people.
fn left(until: Timestamp, now: Timestamp) -> Duration {
    let left = until.since(now);
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

/// Time gone by, in whole seconds: for people.
fn gone_by(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_secs(now.since(since).as_secs())
}
