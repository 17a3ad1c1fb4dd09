//! Those who do the work: one file per runner, one trait, one registry. A runner gets finished parameters and
//! gives back an outcome; it knows no store, no bus, no rule and no workflow.

pub mod descriptors;
pub mod detached;
pub mod guard;
pub mod http;
pub mod inquirer;
pub mod native;
pub mod noop;
pub mod process;
pub mod remote;
pub mod rhai;
pub mod shell;
pub mod shell_script;
pub mod as_user;
pub mod user;
pub mod shortage;
mod attempt_file;
mod captured;
mod declared;
mod parts;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use shortage::NotBegun;

use crate::model::access::Permission;
use crate::model::action::{Action, ParameterSpec};
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ExecutionId;

/// Does the work of the actions that name it.
#[async_trait]
pub trait Runner: Send + Sync {
    /// The name that actions use, as `local-shell-cmd`.
    fn name(&self) -> &'static str;

    /// The parameters that every action of this runner has.
    fn parameters(&self) -> BTreeMap<String, ParameterSpec>;

    /// What a user must be permitted to request this action. Content needs no permission.
    fn permission(&self, _action: &Action) -> Permission {
        Permission::ExecutionRun
    }

    /// Runs one call to its end, or says what it waits for. Returns soon after `stop` is raised.
    async fn run(&self, call: Call, stop: Stop) -> RunEnd;

    /// Where the work is done.
    fn workplace(&self) -> Workplace {
        Workplace::Daemon
    }

    /// Is it certain that this attempt, which the daemon `owner` had under way when it ended, started nothing, and never
    /// will? Then it may be run again, whatever it does.
    async fn seal_unstarted(&self, _execution: ExecutionId, _attempt: u64, _owner: &str) -> std::io::Result<bool> {
        Ok(false)
    }

    /// The ends of these executions are written down: what was kept of their attempts can go.
    async fn forget_ended(&self, _executions: &[ExecutionId]) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where a runner's work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workplace {
    /// In the daemon's own process, which may die of it.
    Daemon,
    /// In a child process: whatever it does, the daemon lives.
    Child,
}

/// One call of an action, everything resolved.
#[derive(Debug, Clone)]
pub struct Call {
    /// The execution this is an attempt of; children get it as `PETREL_EXECUTION_ID`.
    pub execution: ExecutionId,
    /// Counts attempts of this execution from 1; the lease's fence.
    pub attempt: u64,
    /// What to run.
    pub action: Arc<Action>,
    /// Rendered, cast and validated; secrets in clear.
    pub parameters: Map<String, Value>,
    /// The user on whose behalf it runs.
    pub user: String,
    /// Where output lines go while it runs.
    pub output: OutputSink,
    /// The result must be there after this long; runners with a `timeout` parameter have it in here as well.
    pub timeout: Option<Duration>,
}

/// Raised when a call must end before its time.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// A stop that follows `token`.
    pub fn new(token: CancellationToken) -> Self {
        Self { token }
    }

    /// Raises it.
    pub fn raise(&self) {
        self.token.cancel();
    }

    /// Has it been raised?
    pub fn is_raised(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when it is raised.
    pub async fn raised(&self) {
        self.token.cancelled().await;
    }
}

/// How a call ended, or why it has not yet.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// It is over.
    Finished(Outcome),
    /// It will be over when somebody from outside does something.
    Waiting(WaitsFor),
    /// Nothing of it was started, and it may be tried again.
    NotBegun(NotBegun),
}

impl From<Outcome> for RunEnd {
    fn from(outcome: Outcome) -> Self {
        Self::Finished(outcome)
    }
}

impl From<NotBegun> for RunEnd {
    fn from(why: NotBegun) -> Self {
        Self::NotBegun(why)
    }
}

/// What came out of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// One of the completed statuses.
    pub status: ExecutionStatus,
    /// In the shape that StackStorm's runner of this name has.
    pub result: Value,
}

impl Outcome {
    /// A good end.
    pub fn succeeded(result: Value) -> Self {
        Self { status: ExecutionStatus::Succeeded, result }
    }

    /// A bad end whose result already says what is wrong.
    pub fn failed(result: Value) -> Self {
        Self { status: ExecutionStatus::Failed, result }
    }

    /// A bad end with nothing to show but the reason.
    pub fn error(reason: impl Into<String>) -> Self {
        Self::failed(serde_json::json!({ "error": reason.into() }))
    }
}

/// What an unfinished call waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum WaitsFor {
    /// An answer to an inquiry.
    Inquiry {
        /// JSON Schema of the answer.
        schema: Value,
        /// For routing announcements.
        route: String,
        /// Who may answer, by role; empty: everybody.
        roles: Vec<String>,
        /// Who may answer, by name; empty: everybody.
        users: Vec<String>,
        /// Without an answer it ends as `timeout` after this long.
        ttl: Duration,
    },
    /// A workflow: its journal says what for.
    Journal,
}

/// A piece of output of a running call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where it came from.
    pub stream: OutputStream,
    /// Whole lines where possible; invalid UTF-8 replaced.
    pub text: String,
}

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What a workflow logs.
    Other,
}

impl OutputStream {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Other => "other",
        }
    }
}

/// Bounded way for output out of a runner; when it is full the runner waits, and so does the process it runs.
#[derive(Debug, Clone)]
pub struct OutputSink {
    sender: Option<mpsc::Sender<OutputChunk>>,
}

impl OutputSink {
    /// A sink and the end to read it from.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<OutputChunk>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender: Some(sender) }, receiver)
    }

    /// A sink that nobody reads: output is only in the result.
    pub const fn ignored() -> Self {
        Self { sender: None }
    }

    /// Hands a piece over; waits while the reader is behind; drops it if the reader is gone.
    pub async fn write(&self, stream: OutputStream, text: String) {
        if let Some(sender) = &self.sender
            && sender.send(OutputChunk { stream, text }).await.is_err()
        {
            tracing::debug!("output of a finished execution was dropped");
        }
    }
}

/// The runners by name.
#[derive(Default, Clone)]
pub struct Registry {
    runners: BTreeMap<&'static str, Arc<dyn Runner>>,
}

impl Registry {
    /// Adds a runner under its own name.
    pub fn add(&mut self, runner: Arc<dyn Runner>) {
        self.runners.insert(runner.name(), runner);
    }

    /// The runner of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Runner>> {
        self.runners.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.runners.keys().copied().collect()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
