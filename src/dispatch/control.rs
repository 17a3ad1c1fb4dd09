//! What people and time do to executions from outside: cancel, pause, resume, answer, time out. A workflow is steered
//! through its state, which its next turn reads at a definite point; everything else is stopped by its runner.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Dispatcher, StopCause, WORKFLOW_RUNNER};
use crate::bus::Topic;
use crate::model::execution::ExecutionStatus as Status;
use crate::model::refs::ExecutionId;
use crate::requests::{Cancellation, Cancels};
use crate::runners::Outcome;
use crate::schema::Schema;
use crate::store::rows::ExecutionRow;
use crate::store::{StoreError, StoreResult};

/// Why an execution did not obey.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It is in a state in which this cannot be done.
    #[error("execution {id} cannot be {verb}: it is {status}")]
    WrongState {
        /// Which.
        id: ExecutionId,
        /// As `canceled`.
        verb: &'static str,
        /// Its state.
        status: Status,
    },
    /// Only workflows know pauses.
    #[error("execution {0} is no workflow: only workflows can be paused and resumed")]
    NoWorkflow(ExecutionId),
    /// The answer to an inquiry does not fit.
    #[error("the response does not fit the inquiry: {0}")]
    BadAnswer(String),
    /// This user may not answer.
    #[error("`{user}` may not answer this inquiry; it asks for {wanted}")]
    NotYours {
        /// Who tried.
        user: String,
        /// Who may.
        wanted: String,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a workflow is told through its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// End: roll back, end as canceled.
    Cancel,
    /// End: roll back, end as timeout.
    Timeout,
    /// Ask for nothing new until told to go on.
    Pause,
    /// Go on.
    Resume,
}

impl Steer {
    /// As written into the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Timeout => "timeout",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

impl Dispatcher {
    /// Cancels an execution with all its descendants. Gives back the state it is in now.
    pub async fn cancel(&self, id: ExecutionId) -> Result<Status, ControlError> {
        let row = self.stores.executions.execution_get(id).await?;
        if row.status == Status::Canceling {
            return Ok(row.status);
        }
        if !row.status.is_cancelable() {
            return Err(ControlError::WrongState { id, verb: "canceled", status: row.status });
        }
        if row.runner == WORKFLOW_RUNNER {
            return self.cancel_workflow(&row).await;
        }
        let now = self.world.clock.now();
        let waiting = [Status::Requested, Status::Delayed, Status::Scheduled, Status::Pending];
        if waiting.contains(&row.status) {
            let result = json!({ "error": "canceled on request" });
            self.finish(&row, Outcome { status: Status::Canceled, result }).await?;
        } else {
            self.stores.executions.status_change(id, &[Status::Running], Status::Canceling, now).await?;
            self.stop_running(id, StopCause::Canceled);
        }
        self.world.bus.hint(Topic::Announcements);
        Ok(self.stores.executions.execution_get(id).await?.status)
    }

    async fn cancel_workflow(&self, row: &ExecutionRow) -> Result<Status, ControlError> {
        let now = self.world.clock.now();
        // What stands in line has been claimed, but has not begun.
        if row.fence == 0 || row.status == Status::Delayed {
            let result = json!({ "error": "canceled before it started" });
            self.finish(row, Outcome { status: Status::Canceled, result }).await?;
            return Ok(Status::Canceled);
        }
        let from = [Status::Running, Status::Pausing, Status::Paused, Status::Resuming, Status::Pending];
        self.stores.executions.status_change(row.id, &from, Status::Canceling, now).await?;
        self.steer(row.id, Steer::Cancel).await?;
        Ok(Status::Canceling)
    }

    /// Tells a workflow something through its state; its next turn acts on it. What was said first of cancel and
    /// timeout holds.
    pub async fn steer(&self, id: ExecutionId, steer: Steer) -> StoreResult<()> {
        loop {
            let Some(workflow) = self.stores.journals.workflow_get(id).await? else {
                self.stores.executions.execution_wake(id, self.world.clock.now()).await?;
                return Ok(());
            };
            let mut state = workflow.state.clone();
            match steer {
                Steer::Cancel | Steer::Timeout if state["interrupt"].is_null() => {
                    state["interrupt"] = json!(steer.as_str());
                }
                Steer::Cancel | Steer::Timeout => {}
                Steer::Pause => state["paused"] = Value::Bool(true),
                Steer::Resume => {
                    state["paused"] = Value::Bool(false);
                    state["diverged"] = Value::Null;
                }
            }
            let now = self.world.clock.now();
            if self.stores.journals.workflow_steer(id, &workflow.state, &state, now).await? {
                self.stop_running(id, StopCause::Canceled);
                self.world.bus.hint(Topic::Queue);
                self.world.bus.hint(Topic::Announcements);
                return Ok(());
            }
        }
    }

    /// Pauses a workflow: what is in flight finishes, nothing new starts.
    pub async fn pause(&self, id: ExecutionId) -> Result<Status, ControlError> {
        let row = self.workflow(id).await?;
        let now = self.world.clock.now();
        let from = [Status::Running, Status::Resuming];
        if !self.stores.executions.status_change(id, &from, Status::Pausing, now).await? {
            return Err(ControlError::WrongState { id, verb: "paused", status: row.status });
        }
        self.steer(id, Steer::Pause).await?;
        Ok(Status::Pausing)
    }

    /// Lets a paused workflow go on.
    pub async fn resume(&self, id: ExecutionId) -> Result<Status, ControlError> {
        let row = self.workflow(id).await?;
        let now = self.world.clock.now();
        let from = [Status::Paused, Status::Pausing];
        if !self.stores.executions.status_change(id, &from, Status::Resuming, now).await? {
            return Err(ControlError::WrongState { id, verb: "resumed", status: row.status });
        }
        self.steer(id, Steer::Resume).await?;
        Ok(Status::Resuming)
    }

    async fn workflow(&self, id: ExecutionId) -> Result<ExecutionRow, ControlError> {
        let row = self.stores.executions.execution_get(id).await?;
        if row.runner == WORKFLOW_RUNNER { Ok(row) } else { Err(ControlError::NoWorkflow(id)) }
    }

    /// Answers an inquiry on behalf of a user with a role.
    pub async fn answer(&self, id: ExecutionId, response: Value, user: &str, role: &str)
    -> Result<(), ControlError> {
        let row = self.stores.executions.execution_get(id).await?;
        if row.status != Status::Pending {
            return Err(ControlError::WrongState { id, verb: "answered", status: row.status });
        }
        let detail = self.inquiry(id).await?;
        may_answer(&detail, user, role)?;
        if let Some(schema) = detail.get("schema").filter(|schema| !schema.is_null()) {
            check_answer(schema, &response)?;
        }
        let result = json!({ "response": response, "responded_by": user });
        self.finish(&row, Outcome::succeeded(result)).await?;
        Ok(())
    }

    /// What an inquiry asks: schema, route, users, roles, ttl.
    pub async fn inquiry(&self, id: ExecutionId) -> StoreResult<Value> {
        let obligations = self.stores.obligations.obligation_list(id).await?;
        let inquiry = obligations.into_iter().find(|obligation| obligation.kind == "inquiry");
        let detail = inquiry.and_then(|inquiry| inquiry.detail);
        let text = detail.ok_or_else(|| StoreError::NotFound(format!("an open inquiry {id}")))?;
        serde_json::from_str(&text).map_err(|problem| StoreError::Corrupt(format!("inquiry {id}: {problem}")))
    }
}

#[async_trait]
impl Cancels for Dispatcher {
    async fn request_cancel(&self, execution: ExecutionId) -> StoreResult<Cancellation> {
        match self.cancel(execution).await {
            Ok(_) => Ok(Cancellation::Underway),
            Err(ControlError::Store(StoreError::NotFound(_)) | ControlError::WrongState { .. }) => {
                Ok(Cancellation::Over)
            }
            Err(ControlError::Store(problem)) => Err(problem),
            Err(other) => Err(StoreError::Corrupt(other.to_string())),
        }
    }
}

fn may_answer(detail: &Value, user: &str, role: &str) -> Result<(), ControlError> {
    let names = |key: &str| -> Vec<String> {
        let listed = detail.get(key).and_then(Value::as_array).into_iter().flatten();
        listed.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (users, roles) = (names("users"), names("roles"));
    let allowed = (users.is_empty() && roles.is_empty())
        || users.iter().any(|name| name == user)
        || roles.iter().any(|name| name == role);
    if allowed {
        return Ok(());
    }
    let wanted = users.into_iter().chain(roles).collect::<Vec<_>>().join(", ");
    Err(ControlError::NotYours { user: user.to_owned(), wanted })
}

fn check_answer(schema: &Value, response: &Value) -> Result<(), ControlError> {
    let broken = |problem: String| ControlError::BadAnswer(format!("its schema is broken: {problem}"));
    let schema = crate::schema::translate_schema(schema).map_err(broken)?;
    let schema = Schema::compile(&schema).map_err(|problem| broken(problem.to_string()))?;
    schema.validate(response).map_err(|violations| {
        let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
        ControlError::BadAnswer(texts.join("; "))
    })
}
