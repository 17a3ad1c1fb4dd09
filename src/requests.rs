//! How engines ask for executions without knowing who runs them: rules, workflows and the governor plan a request
//! here, write it with their own facts in one transaction, and then let it go. `dispatch` implements it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::model::access::{Permission, Role};
use crate::model::execution::ExecutionStatus;
use crate::model::key_access::KeyAccess;
use crate::model::refs::{ActionRef, ExecutionId};
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::rows::{ActivityEnd, Completion, ExecutionRow, NewExecution};

/// An execution that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The id it is to have, if that is already known (a journal names its steps before they exist).
    pub id: Option<ExecutionId>,
    /// What to run.
    pub action: ActionRef,
    /// What to run it with.
    pub parameters: Map<String, Value>,
    /// Whose decision it is, and so whose rights it needs.
    pub requester: Requester,
    /// What strings in the parameters are.
    pub texts: Texts,
    /// User, trace, rule, … kept with the execution and inherited by its steps.
    pub context: Map<String, Value>,
    /// Secrets that were opened while this was put together: masked wherever the execution shows.
    pub secrets: Vec<String>,
    /// Which encrypted keys may be decrypted for it; what its context says of that holds as well.
    pub key_access: KeyAccess,
    /// The workflow and position that wants it, and the top of their tree.
    pub parent: Option<Parent>,
    /// Not before that time.
    pub not_before: Option<Timestamp>,
    /// Overrides how long it may take.
    pub timeout: Option<std::time::Duration>,
}

impl Wanted {
    /// A wish with nothing special about it.
    pub fn new(action: ActionRef, parameters: Map<String, Value>, requester: Requester) -> Self {
        Self {
            id: None,
            action,
            parameters,
            requester,
            texts: Texts::Literal,
            context: Map::new(),
            secrets: Vec::new(),
            key_access: KeyAccess::Any,
            parent: None,
            not_before: None,
            timeout: None,
        }
    }
}

/// Whose decision an execution is. Its action may need a permission, whichever way the request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// A rule, a timer, a step of a workflow, the governor: content has every permission, and who may change content
    /// is an admin.
    Content,
    /// A user: by the API, an alias, a repetition or in chat.
    User {
        /// For messages.
        name: String,
        /// What decides.
        role: Role,
    },
}

/// Where a step belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The workflow.
    pub execution: ExecutionId,
    /// Its place in the workflow's journal.
    pub position: String,
    /// The top of the tree.
    pub root: ExecutionId,
}

/// What the strings in given parameters are. Defaults from metadata are always templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// Data, never looked into: what an alert or a script says must not become a template.
    Literal,
    /// Templates, as a person at the command line or the API may write them.
    Templates,
}

/// Why an execution cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no such action.
    #[error("action `{0}` does not exist; `petrel action list` shows what does")]
    UnknownAction(ActionRef),
    /// It is there but must not or cannot be used.
    #[error("action `{action}` cannot be run: {why}")]
    Unusable {
        /// The action.
        action: ActionRef,
        /// Disabled, broken, or of a runner that this Petrel lacks.
        why: String,
    },
    /// The user lacks a permission that the action needs.
    #[error("`{user}` may not run `{action}`: the role {role} lacks the permission {permission}")]
    Forbidden {
        /// The action.
        action: ActionRef,
        /// Who requests it.
        user: String,
        /// With which role.
        role: Role,
        /// What is needed.
        permission: Permission,
    },
    /// The parameters do not fit.
    #[error("parameters of `{action}`: {}", problems.join("; "))]
    BadParameters {
        /// The action.
        action: ActionRef,
        /// All of it, not the first.
        problems: Vec<String>,
    },
    /// Templates would decrypt what whoever asks may not see in clear.
    #[error("parameters of `{action}`: {}", problems.join("; "))]
    NotAllowed {
        /// The action.
        action: ActionRef,
        /// All of it, not the first.
        problems: Vec<String>,
    },
    /// What the parameters need could not be read just now: it is no mistake of anybody, and may be asked again.
    #[error(transparent)]
    StoreAway(StoreError),
}

/// Turns wishes into executions that are ready to be written.
pub trait Requests: Send + Sync {
    /// Checks and renders a wish. What comes back must be written by the caller and then be let go.
    fn plan(&self, wanted: Wanted) -> Result<Box<dyn Plan>, RequestError>;

    /// An execution that is over before it begins, so that people see what was wanted and why it could not be.
    fn plan_failed(&self, wanted: Wanted, problem: &RequestError) -> NewExecution;
}

/// An execution ready to be written.
pub trait Plan: Send {
    /// What to write.
    fn execution(&self) -> &NewExecution;

    /// It is written: it may start.
    fn committed(self: Box<Self>);
}

/// Asked when an execution ends, before its end is written: what else belongs into that transaction?
#[async_trait]
pub trait EndHook: Send + Sync {
    /// The end of the scaling activity that this execution carries out, if it does. The result is as it may be shown.
    async fn activity_end(
        &self,
        execution: &ExecutionRow,
        status: ExecutionStatus,
        result: &Value,
    ) -> Result<Option<ActivityEnd>, StoreError>;

    /// The end is written.
    fn ended(&self, execution: &ExecutionRow, status: ExecutionStatus);
}

/// Stops what was asked for.
#[async_trait]
pub trait Cancels: Send + Sync {
    /// Asks an execution and all its descendants to stop. Asking again is harmless.
    async fn request_cancel(&self, execution: ExecutionId) -> Result<Cancellation, StoreError>;
}

/// What became of a wish to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// It is stopping, or stopped just now.
    Underway,
    /// There was nothing to stop: it was over, or never was.
    Over,
}

/// Workflows that wait in this process: they take the end of a step from memory and write it with their next one.
pub trait Parents: Send + Sync {
    /// Hands over the end of a step, or gives it back because its workflow does not wait here.
    fn deliver(&self, end: Completion) -> Result<(), Box<Completion>>;

    /// The end of a step was written to the store. Its workflow may have begun to work here meanwhile, over a journal
    /// that it had read before: then it looks again.
    fn look_again(&self, workflow: ExecutionId);

    /// Steps whose ends were handed over and are not in the store yet. They have been run: nobody may run them again, so
    /// their leases are kept until their ends are written.
    fn unwritten(&self) -> BTreeSet<ExecutionId>;
}
