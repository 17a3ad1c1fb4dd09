//! The end of an activity, written in the transaction that ends its workflow: no moment lies between them in which one
//! is over and the other is not.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::governor::error::GovernorError;
use crate::governor::ledger::{self, LedgerError, WorkflowEnd};
use crate::governor::rows::{self, Versioned};
use crate::governor::service::{Governor, TRIES};
use crate::governor::workflow;
use crate::model::execution::ExecutionStatus;
use crate::model::group::GroupName;
use crate::model::group_state::GroupState;
use crate::model::refs::ActivityId;
use crate::model::scaling::{ActivityKind, ActivityStatus, ScalingActivity};
use crate::requests::EndHook;
use crate::store::StoreError;
use crate::store::groups::GroupWrite;
use crate::store::rows::{ActivityEnd, ExecutionRow};

const LOST: &str = "its workflow is gone";
/// A whole answer of a server is no reason that people read.
const LONGEST_PROBLEM: usize = 600;

#[async_trait]
impl EndHook for Governor {
    async fn activity_end(
        &self,
        execution: &ExecutionRow,
        status: ExecutionStatus,
        result: &Value,
    ) -> Result<Option<ActivityEnd>, StoreError> {
        let Some((group, activity)) = workflow::carried_out(&execution.context) else { return Ok(None) };
        match self.ending(&group, activity, workflow_end(status), problem_of(result)).await {
            Ok(end) => Ok(end),
            Err(GovernorError::NoSuchGroup(_)) => Ok(None),
            Err(GovernorError::Store(problem)) => Err(problem),
            Err(busy @ GovernorError::Busy(_)) => Err(StoreError::Unavailable(busy.to_string())),
            Err(other) => Err(StoreError::Corrupt(other.to_string())),
        }
    }

    fn ended(&self, execution: &ExecutionRow, _status: ExecutionStatus) {
        if workflow::carried_out(&execution.context).is_some() {
            self.hint();
        }
    }
}

impl Governor {
    /// What the end of an activity writes, at the group's present version. `None`: it ended before.
    async fn ending(
        &self,
        group: &GroupName,
        activity: ActivityId,
        end: WorkflowEnd,
        problem: Option<String>,
    ) -> Result<Option<ActivityEnd>, GovernorError> {
        let Versioned { version, state: before } = self.read(group).await?;
        let mut after = before.clone();
        match ledger::finish(&mut after, activity, end, self.now(), self.parts.ids.random_u64()) {
            Ok(mut ended) => {
                ended.problem = problem;
                note(group, &ended);
                let writes = writes(&before, &after, &ended);
                Ok(Some(ActivityEnd { group: group.to_string(), version, writes }))
            }
            Err(LedgerError::NotUnderWay(_)) => Ok(None),
            Err(problem) => Err(GovernorError::Ledger { group: group.clone(), problem }),
        }
    }

    /// Ends an activity whose workflow is over without having ended it, as after the loss of a part of the store.
    pub(super) async fn end_orphan(&self, group: &GroupName, activity: ActivityId) -> Result<(), GovernorError> {
        for _ in 0..TRIES {
            let Some(end) = self.ending(group, activity, WorkflowEnd::Failed, Some(LOST.to_owned())).await? else {
                return Ok(());
            };
            if self.write(group, end.version, end.writes, self.now()).await? {
                tracing::warn!(%group, %activity, "an activity without a workflow was ended");
                return Ok(());
            }
        }
        Err(GovernorError::Busy(group.clone()))
    }
}

fn writes(before: &GroupState, after: &GroupState, ended: &ScalingActivity) -> Vec<GroupWrite> {
    let mut writes = rows::changes(before, after);
    writes.push(rows::activity_row(ended));
    writes.extend(told(after, ended));
    let nothing_left = !after.nodes.iter().any(|node| node.phase.counts());
    if ended.kind == ActivityKind::Delete && ended.status == ActivityStatus::Succeeded && nothing_left {
        writes.push(GroupWrite::Removed);
    }
    writes
}

fn note(group: &GroupName, ended: &ScalingActivity) {
    let ScalingActivity { id, kind, status, problem, .. } = ended;
    match problem {
        None => tracing::info!(%group, activity = %id, %kind, status = status.as_str(), "activity ended"),
        Some(problem) => {
            tracing::warn!(%group, activity = %id, %kind, status = status.as_str(), problem, "activity ended");
        }
    }
}

/// People are told of what failed altogether: of a part that failed its workflow has told them.
fn told(after: &GroupState, ended: &ScalingActivity) -> Option<GroupWrite> {
    let ScalingActivity { kind, problem, .. } = ended;
    let problem = problem.as_ref().filter(|_| ended.status == ActivityStatus::Failed)?;
    let group = &after.group;
    let message = format!("ASG[{}] {kind} failed: {problem}", group.name);
    Some(rows::notice(group, &message, &json!("failed")))
}

/// What a workflow says went wrong, altogether or with its first part that failed.
fn problem_of(result: &Value) -> Option<String> {
    let places = ["/error", "/errors/0/message", "/errors/0", "/output/failed/0/problem"];
    let said = places.iter().find_map(|place| result.pointer(place)?.as_str())?;
    Some(said.chars().take(LONGEST_PROBLEM).collect())
}

/// How a completed workflow counts for its activity.
const fn workflow_end(status: ExecutionStatus) -> WorkflowEnd {
    match status {
        ExecutionStatus::Succeeded => WorkflowEnd::Succeeded,
        ExecutionStatus::Canceled => WorkflowEnd::Canceled,
        ExecutionStatus::Failed
        | ExecutionStatus::Timeout
        | ExecutionStatus::Abandoned
        | ExecutionStatus::Requested
        | ExecutionStatus::Scheduled
        | ExecutionStatus::Delayed
        | ExecutionStatus::Running
        | ExecutionStatus::Canceling
        | ExecutionStatus::Pending
        | ExecutionStatus::Pausing
        | ExecutionStatus::Paused
        | ExecutionStatus::Resuming => WorkflowEnd::Failed,
    }
}
