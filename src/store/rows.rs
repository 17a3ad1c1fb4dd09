//! The facts that are written into the store, and the rows that come out of it.

use serde_json::Value;

use crate::model::action::OnLost;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::{ActionRef, EnforcementId, ExecutionId, InstanceId, RuleRef, TriggerTypeRef};
use crate::model::time::Timestamp;

/// The member of an execution's context that holds its secrets, encrypted.
pub const SEALED_SECRETS: &str = "sealed_secrets";

/// Whether a fact may hold secrets: then its texts are encrypted in the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrecy {
    /// It holds none.
    #[default]
    Clear,
    /// It may.
    Sealed,
}

impl Secrecy {
    /// Of an execution with this context.
    pub fn of_context(context: &Value) -> Self {
        if context.get(SEALED_SECRETS).is_some() { Self::Sealed } else { Self::Clear }
    }
}

/// A trigger instance about to be made durable.
#[derive(Debug, Clone, PartialEq)]
pub struct NewInstance {
    /// Its id, given by the one who saw it.
    pub id: InstanceId,
    /// The identity of the trigger it answers.
    pub trigger: String,
    /// What kind of event.
    pub trigger_type: TriggerTypeRef,
    /// What is known about it.
    pub payload: Value,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Follows the event through everything it causes.
    pub trace_tag: String,
    /// Recognises repetitions: the key and until when it is remembered.
    pub dedupe: Option<(String, Timestamp)>,
}

/// An execution about to be requested.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExecution {
    /// Its id.
    pub id: ExecutionId,
    /// What to run.
    pub action: ActionRef,
    /// The runner's name.
    pub runner: String,
    /// The workflow and the position in its journal that asked for it.
    pub parent: Option<(ExecutionId, String)>,
    /// The top of the tree; its own id at the top.
    pub root: ExecutionId,
    /// Rendered and validated.
    pub parameters: Value,
    /// User, trace, rule, trigger instance, … as StackStorm's `context`.
    pub context: Value,
    /// What becomes of it if its worker dies.
    pub on_lost: OnLost,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// How it begins its life.
    pub start: Start,
    /// It ends as `timeout` at that time (workflows; others keep time in their runner).
    pub deadline: Option<Timestamp>,
}

/// How a requested execution begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// In the queue, to be claimed by anybody from that time on.
    Queued {
        /// Not before.
        due_at: Timestamp,
        /// The slot of the concurrency policy that governs it: it is on its way there from now on.
        line: Option<String>,
    },
    /// Already leased to the worker that asked for it: one commit less.
    Leased(Lease),
    /// Over before it began (its parameters could not be rendered): recorded for people to see.
    Failed {
        /// What to show.
        result: Value,
    },
}

/// Which executions a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Any.
    Everything,
    /// Those whose action is of this pack.
    Only(&'static str),
    /// Those whose action is not of this pack.
    AllBut(&'static str),
    /// None.
    Nothing,
}

impl Share {
    /// Is this one of them?
    pub fn includes(self, action: &ActionRef) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(pack) => action.pack() == pack,
            Self::AllBut(pack) => action.pack() != pack,
            Self::Nothing => false,
        }
    }
}

/// A worker's hold on an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The worker: daemon and start.
    pub owner: String,
    /// It must be extended before then.
    pub until: Timestamp,
}

/// Proof that the holder may write for an execution; what carries an old fence is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The execution.
    pub execution: ExecutionId,
    /// Grows with each claim; the attempt's number.
    pub fence: i64,
}

/// An execution as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    /// Its id.
    pub id: ExecutionId,
    /// What it runs.
    pub action: ActionRef,
    /// The runner's name.
    pub runner: String,
    /// How far it is.
    pub status: ExecutionStatus,
    /// The workflow and position that asked for it.
    pub parent: Option<(ExecutionId, String)>,
    /// The top of the tree.
    pub root: ExecutionId,
    /// Rendered and validated; secrets in clear: mask before showing.
    pub parameters: Value,
    /// User, trace, rule …
    pub context: Value,
    /// What becomes of it if its worker dies.
    pub on_lost: OnLost,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The last claim's fence; 0: never claimed.
    pub fence: i64,
    /// What came out; `None` before the end or when it lies in blobs.
    pub result: Option<Value>,
    /// Size of the result as JSON.
    pub result_size_bytes: i64,
    /// The statuses it went through.
    pub status_log: Vec<(Timestamp, ExecutionStatus)>,
}

impl ExecutionRow {
    /// The proof to write for it with, as of this reading.
    pub const fn claim(&self) -> Claim {
        Claim { execution: self.id, fence: self.fence }
    }

    /// A text of its context, if it is there.
    pub fn context_text(&self, name: &str) -> Option<&str> {
        self.context.get(name).and_then(Value::as_str)
    }

    /// On whose behalf it runs.
    pub fn user(&self) -> &str {
        self.context_text("user").unwrap_or(crate::model::SYSTEM_USER)
    }
}

/// The end of an execution, with everything that must be written with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The proof.
    pub claim: Claim,
    /// One of the completed statuses.
    pub status: ExecutionStatus,
    /// What came out.
    pub result: Value,
    /// Whether the result may hold secrets.
    pub secrecy: Secrecy,
    /// When.
    pub ended_at: Timestamp,
    /// The journal entry of the parent that waits for it, and what to write there.
    pub parent: Option<ParentOutcome>,
    /// Internal triggers that rules wait for.
    pub instances: Vec<NewInstance>,
    /// What comes instead of telling the parent: another attempt by a retry policy.
    pub retry: Option<Box<NewExecution>>,
    /// The scaling activity that ends with it, and as what.
    pub activity: Option<ActivityEnd>,
}

/// What the end of a step means to its workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentOutcome {
    /// The workflow.
    pub execution: ExecutionId,
    /// The step's place in its journal.
    pub position: String,
    /// The text of the outcome.
    pub outcome: String,
    /// The step's secrets, encrypted: its workflow learns them with the outcome.
    pub sealed_secrets: Option<String>,
    /// Whether somebody has to look at the workflow now.
    pub wake: Wake,
}

/// Whether the end of a step puts its workflow into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Nobody is at work on it.
    Queue,
    /// Its own turn writes this and goes on.
    Running,
}

/// The end of a scaling activity, written with the end of its workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityEnd {
    /// The group and the version it must still have.
    pub group: String,
    /// That version.
    pub version: i64,
    /// The rows to write.
    pub writes: Vec<super::groups::GroupWrite>,
}

/// A rule that fired (or failed to), and what it asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEnforcement {
    /// Its id.
    pub id: EnforcementId,
    /// The rule.
    pub rule: RuleRef,
    /// `None` if all is well, else why not.
    pub failure_reason: Option<String>,
    /// What it asks for.
    pub execution: Option<NewExecution>,
}

/// An enforcement as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EnforcementRow {
    /// Its id.
    pub id: EnforcementId,
    /// What happened.
    pub instance: InstanceId,
    /// The rule.
    pub rule: RuleRef,
    /// What it asked for.
    pub execution: Option<ExecutionId>,
    /// `succeeded` or `failed`.
    pub status: String,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// When.
    pub enforced_at: Timestamp,
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many.
    pub limit: i64,
    /// Leave out so many.
    pub offset: i64,
}
