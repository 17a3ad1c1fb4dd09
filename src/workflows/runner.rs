//! The runner of workflows: one call is one turn. It reads journal and state, evaluates the script over them, and writes
//! how far it came; whatever it waits for wakes it again.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{self, Either};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::bundle::{Bundle, CompileError, Sources};
use super::evaluate::{TurnEnd, evaluate};
use super::host::{Host as _, Interrupt};
use super::journal_host::{JournalHost, Told, Tools};
use super::limits::Limits;
use super::outcome::StepError;
use super::parked::{Mailbox, Parked};
use super::rolling_back;
use super::state::{Rollback, State, Steering};
use crate::bus::Bus;
use crate::clock::{Clock, Ids};
use crate::datastore::Datastore;
use crate::model::action::{Action, ParameterSpec, WORKFLOW_RUNNER};
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ActionRef;
use crate::requests::{Cancels, Requests};
use crate::runners::{Call, Outcome, RunEnd, Runner, Stop, WaitsFor};
use crate::store::journal::{Journals, NewWorkflow, Steered, Then, Turn, WorkflowRow};
use crate::store::rows::{Claim, Completion, ExecutionRow};
use crate::store::{Contents, Executions, Outputs, StoreError, StoreResult};
use crate::supervise::Supervisor;

/// A paused or diverged workflow that nobody resumes is given up after this long (G6).
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Compiled bundles kept; a site has about as many workflows in flight.
const BUNDLES: usize = 256;

/// Turns of workflows.
pub struct WorkflowRunner {
    tools: Tools,
    executions: Executions,
    outputs: Outputs,
    contents: Contents,
    cancels: Arc<dyn Cancels>,
    supervisor: Supervisor,
    limits: Limits,
    turns: Arc<Semaphore>,
    bundles: Mutex<HashMap<String, Arc<Bundle>>>,
}

/// The parts of the store that workflows use.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Journals, bundles, signals.
    pub journals: Journals,
    /// Steps in flight.
    pub executions: Executions,
    /// What workflows log.
    pub outputs: Outputs,
    /// Scripts that were good.
    pub contents: Contents,
    /// `kv_get` and its family.
    pub datastore: Datastore,
}

/// The rest of the house, as workflows know it.
#[derive(Clone)]
pub struct Surroundings {
    /// Plans steps.
    pub requests: Arc<dyn Requests>,
    /// Cancels steps.
    pub cancels: Arc<dyn Cancels>,
    /// Hints.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids, chance.
    pub ids: Arc<dyn Ids>,
    /// Threads.
    pub supervisor: Supervisor,
    /// Mailboxes.
    pub parked: Arc<Parked>,
}

/// How many, how long, how large.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scripts evaluated at the same time.
    pub turns: usize,
    /// How long a waiting script may hold its thread; zero: not at all.
    pub park: Duration,
    /// Of each script.
    pub limits: Limits,
}

impl std::fmt::Debug for WorkflowRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkflowRunner")
    }
}

/// How a turn ended, as far as dispatch is concerned.
pub(super) enum TurnResult {
    /// It is over; dispatch writes the end.
    Over(Outcome),
    /// The lease is given back.
    Waits,
}

impl WorkflowRunner {
    /// A runner over these stores.
    pub fn new(stores: Stores, around: Surroundings, settings: Settings) -> Self {
        let Stores { journals, executions, outputs, contents, datastore } = stores;
        let Surroundings { requests, cancels, bus, clock, ids, supervisor, parked } = around;
        let tools = Tools { journals, datastore, requests, bus, clock, ids, parked, park: settings.park };
        Self {
            tools,
            executions,
            outputs,
            contents,
            cancels,
            supervisor,
            limits: settings.limits,
            turns: Arc::new(Semaphore::new(settings.turns)),
            bundles: Mutex::default(),
        }
    }

    async fn turn(&self, call: &Call, stop: &Stop) -> StoreResult<TurnResult> {
        let row = self.executions.execution_get(call.execution).await?;
        let workflow = match self.begin(&row, &call.action).await? {
            Ok(workflow) => workflow,
            Err(problem) => return Ok(TurnResult::Over(failed(&StepError::new(problem)))),
        };
        let told = read_told(&workflow, &row)?;
        self.take_signals(&row).await?;
        let rollback = told.state.rollback.clone();
        let host = self.host(row, told).await?;
        let mailbox = host.mailbox();
        let result = steered(self.go_on(&host, &workflow, rollback), stop, &mailbox).await;
        host.close();
        let result = match result {
            Ok(TurnResult::Over(outcome)) if host.is_dirty() => {
                let written = self.blocking(&host, |host| host.write(Then::Continue)).await;
                written.map(|()| TurnResult::Over(outcome))
            }
            other => other,
        };
        if result.is_err() {
            self.rescue(host.unwritten());
        }
        result
    }

    /// The mailbox is opened before the journal is read: no end of a step can fall between the two.
    async fn host(&self, row: ExecutionRow, told: Told) -> StoreResult<Arc<JournalHost>> {
        let (workflow, mailbox) = (row.id, self.tools.parked.open(row.id));
        let read = async {
            let journal = self.tools.journals.journal_read(workflow).await?;
            let lines = self.outputs.output_last(workflow).await?;
            JournalHost::new(self.tools.clone(), row, Arc::clone(&mailbox), told, &journal, lines)
        };
        let host = read.await;
        if host.is_err() {
            self.rescue(self.tools.parked.close(workflow, &mailbox));
        }
        host.map(Arc::new)
    }

    /// A turn that did not begin, or could not be written, leaves ends of steps behind that nobody else has: they are
    /// written as soon as the store takes them.
    fn rescue(&self, ends: Vec<Completion>) {
        if ends.is_empty() {
            return;
        }
        let (executions, clock) = (self.executions.clone(), Arc::clone(&self.tools.clock));
        let parked = Arc::clone(&self.tools.parked);
        self.supervisor.spawn_once("rescue of ended steps", async move {
            for end in &ends {
                until_taken(&*clock, || executions.execution_finish(end)).await;
                parked.written([end.claim.execution]);
            }
            Ok(())
        });
    }

    /// A turn that could not be written holds a lease that this process would go on extending: it is given back.
    fn give_back(&self, claim: Claim) {
        let (executions, clock) = (self.executions.clone(), Arc::clone(&self.tools.clock));
        self.supervisor.spawn_once(format!("giving back {}", claim.execution), async move {
            let now = clock.now();
            until_taken(&*clock, || executions.execution_release(claim, now)).await;
            Ok(())
        });
    }

    async fn go_on(
        &self,
        host: &Arc<JournalHost>,
        workflow: &WorkflowRow,
        rollback: Option<Rollback>,
    ) -> StoreResult<TurnResult> {
        if let Some(rollback) = rollback {
            return self.roll_back(host, rollback).await;
        }
        let bundle = match self.bundle(workflow) {
            Ok(bundle) => bundle,
            Err(problem) => return self.diverged(host, problem).await,
        };
        let limits = self.limits.clone();
        let params = host.row.parameters.clone();
        let evaluated = Arc::clone(host);
        let evaluation = move || evaluate(&bundle, &params, evaluated, &limits);
        let name = format!("workflow {}", host.row.id);
        let end = self.supervisor.spawn_blocking(name, evaluation).await;
        // A panic is a failure of the script like any other: what it did is undone.
        let end = end.unwrap_or_else(|panicked| TurnEnd::Failed(StepError::new(panicked.to_string())));
        self.act_on(host, end).await
    }

    async fn act_on(&self, host: &Arc<JournalHost>, end: TurnEnd) -> StoreResult<TurnResult> {
        if let Some(problem) = host.failure() {
            return Err(problem);
        }
        match end {
            TurnEnd::Finished(value) => {
                let result = json!({ "output": value, "published": host.state().published, "errors": [] });
                Ok(TurnResult::Over(Outcome::succeeded(result)))
            }
            TurnEnd::Suspended => self.suspend(host).await,
            TurnEnd::Restart(_) if !host.children_have_ended() => {
                let why = "restart(params) while steps are in flight: wait for what was spawned first";
                self.undo(host, ExecutionStatus::Failed, &StepError::new(why)).await
            }
            TurnEnd::Restart(parameters) => {
                self.blocking(host, |host| host.let_go(Then::Restart { parameters })).await?;
                Ok(TurnResult::Waits)
            }
            TurnEnd::Diverged(divergence) => self.diverged(host, divergence.to_string()).await,
            TurnEnd::Interrupted(interrupt) => self.interrupted(host, interrupt).await,
            TurnEnd::Failed(error) => self.undo(host, ExecutionStatus::Failed, &error).await,
            TurnEnd::LimitExceeded(limit) => {
                self.undo(host, ExecutionStatus::Failed, &StepError::new(limit.to_string())).await
            }
        }
    }

    async fn interrupted(&self, host: &Arc<JournalHost>, interrupt: Interrupt) -> StoreResult<TurnResult> {
        match interrupt {
            Interrupt::Pause => {
                self.pause(host, "paused on request; `petrel execution resume` lets it go on".to_owned()).await
            }
            Interrupt::Cancel => {
                self.undo(host, ExecutionStatus::Canceled, &StepError::new("canceled on request")).await
            }
            Interrupt::Timeout => self.undo(host, ExecutionStatus::Timeout, &StepError::new("its time was up")).await,
        }
    }

    /// Lets go: whatever it waits for, or somebody who steers it, wakes it again.
    async fn suspend(&self, host: &Arc<JournalHost>) -> StoreResult<TurnResult> {
        self.blocking(host, |host| host.let_go(Then::Suspend)).await?;
        Ok(TurnResult::Waits)
    }

    /// Waits for a person, unless one has already said that it is to end: rolling back needs no script.
    async fn diverged(&self, host: &Arc<JournalHost>, what: String) -> StoreResult<TurnResult> {
        if let Some(interrupt) = host.interrupted() {
            return self.interrupted(host, interrupt).await;
        }
        let what = host.redact(&what);
        tracing::warn!(execution = %host.row.id, action = %host.row.action, what, "a workflow is paused for a person to look at");
        let reason = format!(
            "{what}; put right what changed and `petrel execution resume {id}`, or `petrel execution cancel {id}` \
             to roll it back",
            id = host.row.id
        );
        self.pause(host, reason).await
    }

    async fn pause(&self, host: &Arc<JournalHost>, reason: String) -> StoreResult<TurnResult> {
        let due_at = self.tools.clock.now().plus(PATIENCE);
        self.blocking(host, move |host| host.let_go(Then::Pause { due_at, reason })).await?;
        Ok(TurnResult::Waits)
    }

    async fn undo(
        &self,
        host: &Arc<JournalHost>,
        status: ExecutionStatus,
        error: &StepError,
    ) -> StoreResult<TurnResult> {
        let rollback = rolling_back::plan(host, status, error, self.tools.clock.now());
        self.roll_back(host, rollback).await
    }

    async fn roll_back(&self, host: &Arc<JournalHost>, rollback: Rollback) -> StoreResult<TurnResult> {
        let unfinished = self.executions.execution_children_unfinished(host.row.id).await?;
        let in_flight = rolling_back::in_flight(&unfinished, host);
        for child in &in_flight {
            self.cancels.request_cancel(*child).await?;
        }
        let still = in_flight.len();
        let end = self.blocking(host, move |host| rolling_back::go_on(host, rollback, still)).await?;
        match end {
            rolling_back::End::Done(outcome) => Ok(TurnResult::Over(outcome)),
            rolling_back::End::Waits => self.suspend(host).await,
        }
    }

    /// Pins the script at the first turn; later turns find it.
    async fn begin(&self, row: &ExecutionRow, action: &Action) -> StoreResult<Result<WorkflowRow, String>> {
        if let Some(workflow) = self.tools.journals.workflow_get(row.id).await? {
            return Ok(Ok(workflow));
        }
        let bundle = match load_bundle(&action.entry_point) {
            Ok(bundle) => bundle,
            Err(problem) => match self.last_good(action).await? {
                Some(bundle) => bundle,
                None => return Ok(Err(problem.to_string())),
            },
        };
        let content = json!(bundle.sources()).to_string();
        let digest = bundle.digest().to_owned();
        let (state, fresh) = (json!(State::default()), json!(Steering::default()));
        let begin = NewWorkflow { digest, bundle: content, state, steering: fresh };
        self.tools.journals.workflow_begin(row.id, &begin).await?;
        let steering = self.told_before_it_began(row, &begin.steering).await?;
        self.remember(begin.digest.clone(), Arc::new(bundle));
        let NewWorkflow { digest: bundle_digest, bundle, state, steering: _ } = begin;
        Ok(Ok(WorkflowRow { bundle_digest, bundle, state, steering }))
    }

    /// The script as it was when it last compiled: a broken one hurts nobody who did not ask for it (G7).
    async fn last_good(&self, action: &Action) -> StoreResult<Option<Bundle>> {
        let Some((_, text)) = self.contents.last_good_get(&bundle_uid(&action.reference)).await? else {
            return Ok(None);
        };
        let sources: Option<Sources> = serde_json::from_str(&text).ok();
        Ok(sources.and_then(|sources| Bundle::from_sources(&sources).ok()))
    }

    /// What somebody wanted of it before there was a state to write it to is told by its status.
    async fn told_before_it_began(&self, row: &ExecutionRow, fresh: &Value) -> StoreResult<Value> {
        let status = self.executions.execution_get(row.id).await?.status;
        let interrupt = (status == ExecutionStatus::Canceling).then_some(Interrupt::Cancel);
        let paused = status == ExecutionStatus::Pausing;
        if interrupt.is_none() && !paused {
            return Ok(fresh.clone());
        }
        let steered = Steered { read: fresh.clone(), write: json!(Steering { interrupt, paused }), status: None };
        self.tools.journals.workflow_steer(row.id, &steered, self.tools.clock.now()).await?;
        Ok(steered.write)
    }

    fn bundle(&self, workflow: &WorkflowRow) -> Result<Arc<Bundle>, String> {
        let known = self.bundles.lock().unwrap_or_else(PoisonError::into_inner).get(&workflow.bundle_digest).cloned();
        if let Some(bundle) = known {
            return Ok(bundle);
        }
        let sources: Sources = serde_json::from_str(&workflow.bundle).map_err(|problem| problem.to_string())?;
        let bundle = Arc::new(Bundle::from_sources(&sources).map_err(|problem| problem.to_string())?);
        self.remember(workflow.bundle_digest.clone(), Arc::clone(&bundle));
        Ok(bundle)
    }

    fn remember(&self, digest: String, bundle: Arc<Bundle>) {
        let mut bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        if bundles.len() >= BUNDLES {
            bundles.clear();
        }
        bundles.insert(digest, bundle);
    }

    async fn take_signals(&self, row: &ExecutionRow) -> StoreResult<()> {
        for (position, name, correlation) in self.tools.journals.signals_awaited(row.id).await? {
            let now = self.tools.clock.now();
            self.tools.journals.signal_take(row.claim(), &position, &name, &correlation, now).await?;
        }
        Ok(())
    }

    /// What cannot be read cannot be undone either: it waits for a person.
    async fn set_aside(&self, claim: Claim, what: &str) {
        tracing::error!(execution = %claim.execution, what, "a workflow's rows make no sense; it is paused");
        let now = self.tools.clock.now();
        let then = Then::Pause { due_at: now.plus(PATIENCE), reason: what.to_owned() };
        if let Err(problem) = self.tools.journals.turn_record(Turn::new(claim, now, then)).await {
            tracing::error!(execution = %claim.execution, %problem, "it could not even be paused");
            self.give_back(claim);
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        host: &Arc<JournalHost>,
        work: impl FnOnce(&Arc<JournalHost>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let name = format!("workflow {}", host.row.id);
        let host = Arc::clone(host);
        let done = self.supervisor.spawn_blocking(name, move || work(&host)).await;
        done.unwrap_or_else(|panicked| Err(StoreError::Corrupt(panicked.to_string())))
    }
}

#[async_trait]
impl Runner for WorkflowRunner {
    fn name(&self) -> &'static str {
        WORKFLOW_RUNNER
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        BTreeMap::new()
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        let Ok(_turn) = self.turns.acquire().await else { return RunEnd::Waiting(WaitsFor::Journal) };
        let claim = Claim { execution: call.execution, fence: i64::try_from(call.attempt).unwrap_or(i64::MAX) };
        match self.turn(&call, &stop).await {
            Ok(TurnResult::Over(outcome)) => return RunEnd::Finished(outcome),
            Ok(TurnResult::Waits) => {}
            Err(StoreError::Conflict) => {
                tracing::info!(execution = %call.execution, "a turn lost its claim and was dropped");
                self.give_back(claim);
            }
            Err(StoreError::Corrupt(what) | StoreError::Refused(what)) => self.set_aside(claim, &what).await,
            Err(problem) => {
                tracing::warn!(execution = %call.execution, %problem, "a turn could not be written; it is tried again");
                self.give_back(claim);
            }
        }
        RunEnd::Waiting(WaitsFor::Journal)
    }
}

/// Does the work; when `stop` is raised meanwhile, the thread that waits in it is told to let go.
async fn steered<T>(work: impl Future<Output = T>, stop: &Stop, mailbox: &Mailbox) -> T {
    let watch = async {
        stop.raised().await;
        mailbox.let_go();
        std::future::pending::<Infallible>().await
    };
    match future::select(pin!(work), pin!(watch)).await {
        Either::Left((result, _)) => result,
        Either::Right((never, _)) => match never {},
    }
}

/// Tries again while the store is away or damaged. A conflict means that somebody else has done it, and so does a row that
/// is gone.
async fn until_taken<F: Future<Output = StoreResult<()>>>(clock: &dyn Clock, write: impl Fn() -> F) {
    const UNTIL_REPAIRED: Duration = Duration::from_secs(30);
    let mut told = false;
    loop {
        match write().await {
            Ok(()) | Err(StoreError::Conflict | StoreError::NotFound(_)) => return,
            Err(StoreError::Unavailable(_)) => crate::clock::sleep(clock, Duration::from_secs(1)).await,
            Err(problem @ StoreError::Corrupt(_)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%problem, "an end of a step waits until the store is repaired");
                }
                crate::clock::sleep(clock, UNTIL_REPAIRED).await;
            }
            Err(problem @ StoreError::Refused(_)) => {
                return tracing::error!(%problem, "an end of a step could not be written");
            }
        }
    }
}

fn read_told(workflow: &WorkflowRow, row: &ExecutionRow) -> StoreResult<Told> {
    let damaged = |problem: serde_json::Error| StoreError::Corrupt(format!("the state of a workflow: {problem}"));
    let state = serde_json::from_value(workflow.state.clone()).map_err(damaged)?;
    let steering = serde_json::from_value(workflow.steering.clone()).map_err(damaged)?;
    Ok(Told { state, steering, context: row.context.clone(), bundle: Arc::from(workflow.bundle.as_str()) })
}

/// The end of a workflow that failed before it did anything.
fn failed(error: &StepError) -> Outcome {
    Outcome::failed(json!({ "output": Value::Null, "published": {}, "errors": [error], "error": error.message }))
}

/// Under which name the last good version of a workflow's script is kept.
pub fn bundle_uid(workflow: &ActionRef) -> String {
    format!("bundle:{workflow}")
}

/// Compiles a workflow's script from disk; imports are other scripts below the same folder.
pub fn load_bundle(entry_point: &Path) -> Result<Bundle, CompileError> {
    let folder = entry_point.parent().unwrap_or_else(|| Path::new("."));
    let main = entry_point.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let read = |name: &str| -> Option<String> {
        let inside = !name.split('/').any(|part| part.is_empty() || part == "..");
        if !inside {
            return None;
        }
        std::fs::read_to_string(folder.join(format!("{name}.rhai"))).ok()
    };
    Bundle::load(&main, &read)
}
