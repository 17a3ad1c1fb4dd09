//! What people and time do to executions from outside: cancel, pause, resume, answer, time out. A workflow is steered
//! through its state, which its next turn reads at a definite point; everything else is stopped by its runner.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Dispatcher, StopCause};
use crate::bus::Topic;
use crate::model::action::{WORKFLOW_RUNNER, texts_in};
use crate::model::execution::ExecutionStatus as Status;
use crate::model::refs::ExecutionId;
use crate::requests::{Cancellation, Cancels};
use crate::runners::Outcome;
use crate::schema::Schema;
use crate::store::journal::Steered;
use crate::store::rows::ExecutionRow;
use crate::store::{StoreError, StoreResult};
use crate::workflows::Interrupt;
use crate::workflows::state::Steering;

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
    /// The steering after this was said.
    fn told(self, read: Steering) -> Steering {
        match self {
            Self::Cancel => Steering { interrupt: read.interrupt.or(Some(Interrupt::Cancel)), ..read },
            Self::Timeout => Steering { interrupt: read.interrupt.or(Some(Interrupt::Timeout)), ..read },
            Self::Pause => Steering { paused: true, ..read },
            Self::Resume => Steering { paused: false, ..read },
        }
    }
}

impl Dispatcher {
    /// Cancels an execution with all its descendants. Gives back the state it is in now.
    pub async fn cancel(&self, id: ExecutionId) -> Result<Status, ControlError> {
        let row = self.stores.executions.execution_get(id).await?;
        if row.status == Status::Canceling && row.runner != WORKFLOW_RUNNER {
            self.stop_running(id, StopCause::Canceled);
            return Ok(row.status);
        }
        if !row.status.is_cancelable() && row.status != Status::Canceling {
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
        // What stands in line has been claimed, but has not begun.
        if row.fence == 0 || row.status == Status::Delayed {
            let result = json!({ "error": "canceled before it started" });
            self.finish(row, Outcome { status: Status::Canceled, result }).await?;
            return Ok(Status::Canceled);
        }
        let from = vec![
            Status::Running,
            Status::Pausing,
            Status::Paused,
            Status::Resuming,
            Status::Pending,
            Status::Canceling,
        ];
        self.steer(row.id, Steer::Cancel, Some((from, Status::Canceling))).await?;
        Ok(Status::Canceling)
    }

    /// Tells a workflow something; its next turn acts on it. What was said first of cancel and timeout holds. The
    /// status changes in the same transaction; `false`: it is not one in which this can be said.
    pub(super) async fn steer(
        &self,
        id: ExecutionId,
        steer: Steer,
        mut status: Option<(Vec<Status>, Status)>,
    ) -> StoreResult<bool> {
        loop {
            let now = self.world.clock.now();
            let Some(workflow) = self.stores.journals.workflow_get(id).await? else {
                // Its first turn, just under way, asks for the status once its row is there. It may have asked before
                // we said it: then the row is there now, and is told in the ordinary way.
                let told = self.tell_by_status(id, status.clone()).await?;
                if told && self.stores.journals.workflow_get(id).await?.is_some() {
                    status = status.map(|(from, to)| ([from, vec![to]].concat(), to));
                    continue;
                }
                return Ok(told);
            };
            let read: Steering = serde_json::from_value(workflow.steering.clone())
                .map_err(|problem| StoreError::Corrupt(format!("steering of {id}: {problem}")))?;
            let steered = Steered { write: json!(steer.told(read)), read: workflow.steering, status: status.clone() };
            if self.stores.journals.workflow_steer(id, &steered, now).await? {
                self.stop_running(id, StopCause::Canceled);
                [Topic::Queue, Topic::Announcements].into_iter().for_each(|topic| self.world.bus.hint(topic));
                return Ok(true);
            }
            let current = self.stores.executions.execution_get(id).await?.status;
            if status.as_ref().is_some_and(|(from, _)| !from.contains(&current)) {
                return Ok(false);
            }
        }
    }

    async fn tell_by_status(&self, id: ExecutionId, status: Option<(Vec<Status>, Status)>) -> StoreResult<bool> {
        let now = self.world.clock.now();
        match status {
            Some((from, to)) => self.stores.executions.status_change(id, &from, to, now).await,
            None => self.stores.executions.execution_wake(id, now).await.map(|()| true),
        }
    }

    /// Pauses a workflow: what is in flight finishes, nothing new starts.
    pub async fn pause(&self, id: ExecutionId) -> Result<Status, ControlError> {
        let row = self.workflow(id).await?;
        let status = (vec![Status::Running, Status::Resuming], Status::Pausing);
        if !self.steer(id, Steer::Pause, Some(status)).await? {
            return Err(ControlError::WrongState { id, verb: "paused", status: row.status });
        }
        Ok(Status::Pausing)
    }

    /// Lets a paused workflow go on.
    pub async fn resume(&self, id: ExecutionId) -> Result<Status, ControlError> {
        let row = self.workflow(id).await?;
        let status = (vec![Status::Paused, Status::Pausing], Status::Resuming);
        if !self.steer(id, Steer::Resume, Some(status)).await? {
            return Err(ControlError::WrongState { id, verb: "resumed", status: row.status });
        }
        Ok(Status::Resuming)
    }

    async fn workflow(&self, id: ExecutionId) -> Result<ExecutionRow, ControlError> {
        let row = self.stores.executions.execution_get(id).await?;
        if row.runner == WORKFLOW_RUNNER { Ok(row) } else { Err(ControlError::NoWorkflow(id)) }
    }

    /// Answers an inquiry on behalf of a user with a role.
    pub async fn answer(&self, id: ExecutionId, response: Value, user: &str, role: &str) -> Result<(), ControlError> {
        let row = self.stores.executions.execution_get(id).await?;
        if row.status != Status::Pending {
            return Err(ControlError::WrongState { id, verb: "answered", status: row.status });
        }
        let detail = self.inquiry(id).await?;
        may_answer(&detail, user, role)?;
        if let Some(schema) = detail.get("schema").filter(|schema| !schema.is_null()) {
            check_answer(schema, &response)?;
        }
        let row = self.with_secrets(row, &secret_answers(&detail["schema"], &response)).await?;
        let result = json!({ "response": response, "responded_by": user });
        if !self.finish_once(&row, Outcome::succeeded(result)).await? {
            let status = self.stores.executions.execution_get(id).await?.status;
            return Err(ControlError::WrongState { id, verb: "answered", status });
        }
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

/// What an answer says where its schema calls it secret.
fn secret_answers(schema: &Value, response: &Value) -> Vec<String> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let secret = properties.filter(|(_, property)| property.get("secret") == Some(&Value::Bool(true)));
    secret.filter_map(|(name, _)| response.get(name)).flat_map(texts_in).collect()
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
