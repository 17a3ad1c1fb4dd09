//! Rolling back: steps in flight are canceled and awaited, then what was registered is undone in reverse, each undo a
//! journalled step of its own. It reads the journal and needs no script.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::{Host, Waited};
use super::journal_host::JournalHost;
use super::outcome::{StepError, StepOutcome};
use super::position::Position;
use super::request::{Request, StepKind};
use super::rollback::rollback_plan;
use super::state::{PlannedUndo, Rollback};
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;
use crate::runners::Outcome;
use crate::store::StoreResult;
use crate::store::journal::Then;
use crate::store::rows::ExecutionRow;

/// A rollback that takes longer is given up, and says what is left.
const TIME: Duration = Duration::from_secs(60 * 60);
/// An undo is tried so often, with doubling pauses, before the rest goes on without it.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How a look at a rollback ended.
pub(super) enum End {
    /// It is over.
    Done(Outcome),
    /// Something is under way.
    Waits,
}

/// What is to be undone, and how the workflow will end.
pub(super) fn plan(host: &JournalHost, status: ExecutionStatus, error: &StepError, now: Timestamp) -> Rollback {
    let left = rollback_plan(&host.entries_as_written()).into_iter();
    Rollback {
        status,
        reason: json!(error),
        left: left.map(|undo| PlannedUndo { action: undo.action, params: undo.params }).collect(),
        tries: 0,
        used: 0,
        incomplete: Vec::new(),
        deadline: now.plus(TIME),
    }
}

/// The steps that must end before anything is undone: all that is unfinished but the undos themselves.
pub(super) fn in_flight(unfinished: &[ExecutionRow], host: &JournalHost) -> Vec<ExecutionId> {
    let undoing = |row: &&ExecutionRow| {
        let position = row.parent.as_ref().and_then(|(_, position)| position.parse::<Position>().ok());
        let entry = position.and_then(|position| host.entry(&position));
        entry.is_some_and(|entry| entry.request.kind == StepKind::Undo)
    };
    unfinished.iter().filter(|row| !undoing(row)).map(|row| row.id).collect()
}

/// One look: goes on as far as it can. `in_flight` steps were asked to end and have not been seen to.
pub(super) fn go_on(host: &Arc<JournalHost>, mut rollback: Rollback, in_flight: usize) -> StoreResult<End> {
    host.change_state(|state| state.rollback = Some(rollback.clone()));
    host.write(Then::Continue)?;
    if in_flight > 0 && !host.children_have_ended() {
        return Ok(End::Waits);
    }
    while let Some(undo) = rollback.left.first().cloned() {
        if host.tools.clock.now() >= rollback.deadline {
            let left = rollback.left.drain(..).map(|undo| format!("{} {}", undo.action, undo.params));
            rollback.incomplete.extend(left);
            break;
        }
        let at = Position::rollback(rollback.used + 1);
        if host.entry(&at).is_none() {
            host.place(&at, step(&rollback, &undo));
        }
        let Some(outcome) = awaited(host, &at) else { return Ok(End::Waits) };
        rollback.used += 1;
        advance(&mut rollback, &undo, outcome, is_pause(host, &at));
        host.change_state(|state| state.rollback = Some(rollback.clone()));
    }
    Ok(End::Done(outcome_of(host, &rollback)))
}

/// Odd tries run the undo, and between them lie pauses.
fn step(rollback: &Rollback, undo: &PlannedUndo) -> Request {
    if rollback.tries % 2 == 1 {
        let pause = FIRST_PAUSE * 2_u32.pow(rollback.tries / 2);
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        return Request::new(StepKind::RetryDelay, json!({ "millis": millis }));
    }
    Request::new(StepKind::Undo, undo.params.clone()).to_run(undo.action.clone())
}

fn is_pause(host: &JournalHost, at: &Position) -> bool {
    host.entry(at).is_some_and(|entry| entry.request.kind == StepKind::RetryDelay)
}

fn awaited(host: &Arc<JournalHost>, at: &Position) -> Option<StepOutcome> {
    loop {
        if let Some(outcome) = host.outcome(at) {
            return Some(outcome);
        }
        if host.wait(std::slice::from_ref(at)) == Waited::Suspend {
            return host.outcome(at);
        }
    }
}

fn advance(rollback: &mut Rollback, undo: &PlannedUndo, outcome: StepOutcome, was_pause: bool) {
    match outcome {
        _ if was_pause => rollback.tries += 1,
        StepOutcome::Ok(_) => next(rollback),
        StepOutcome::Error(_) if rollback.tries / 2 + 1 < TRIES => rollback.tries += 1,
        StepOutcome::Error(error) => {
            rollback.incomplete.push(format!("{} {}: {}", undo.action, undo.params, error.message));
            next(rollback);
        }
    }
}

fn next(rollback: &mut Rollback) {
    rollback.left.remove(0);
    rollback.tries = 0;
}

fn outcome_of(host: &JournalHost, rollback: &Rollback) -> Outcome {
    let end = if rollback.incomplete.is_empty() { "complete".to_owned() } else { incomplete(&rollback.incomplete) };
    let message = rollback.reason.get("message").cloned().unwrap_or_default();
    let result = json!({
        "output": Value::Null,
        "published": host.state().published,
        "errors": [rollback.reason],
        "error": message,
        "rollback": end,
    });
    Outcome { status: rollback.status, result }
}

fn incomplete(what: &[String]) -> String {
    format!("incomplete [{}]", what.join("; "))
}
