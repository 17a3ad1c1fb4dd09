//! From "wanted" to "done": plans requests, claims executions from the store under a lease and a fence, gives them to
//! their runners, writes how they ended. The store is the queue; hints only save waiting.

pub mod parameters;
pub mod plan;
pub mod policies;
pub mod attempt;
pub mod completion;
pub mod control;
pub mod shortages;
pub mod sweeper;
pub mod trials;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Topic};
use crate::clock::{self, Clock, Ids};
use crate::datastore::Datastore;
use crate::evaluation::Trials;
use crate::metrics::Metrics;
use crate::model::action::WORKFLOW_RUNNER;
use crate::model::pack::Catalogue;
use crate::model::refs::{ActionRef, ExecutionId, Id};
use crate::model::time::Timestamp;
use crate::requests::{EndHook, Parents};
use crate::runners::{Outcome, Registry, Stop};
use crate::store::rows::{Claim, ExecutionRow, Lease, Share};
use crate::store::{Events, Executions, Journals, Obligations, Outputs, StoreError, StoreResult};
use crate::supervise::Supervisor;

use parameters::CompiledAction;
use shortages::Shortages;
use trials::Beside;

/// A worker must extend its leases within this time; it does so every third of it.
pub const LEASE: Duration = Duration::from_secs(15);

/// A claim whose answer has not come by then is begun by whoever keeps the leases, and not when the answer comes.
const UNHEARD_AFTER: Duration = Duration::from_secs(5);

/// The parts of the store that dispatch writes to.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Request, claim, finish.
    pub executions: Executions,
    /// Leases, timers.
    pub obligations: Obligations,
    /// Internal triggers.
    pub events: Events,
    /// What runs say.
    pub outputs: Outputs,
    /// Steering of workflows.
    pub journals: Journals,
    /// Templates read it.
    pub datastore: Datastore,
}

/// Time, chance, news, tasks: what every engine needs of its surroundings.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Hints and instances.
    pub bus: Arc<dyn Bus>,
    /// Starts and ends tasks.
    pub supervisor: Supervisor,
    /// What is counted.
    pub metrics: Metrics,
}

/// What dispatch asks when an execution ends; set once, when those parts exist.
#[derive(Clone)]
pub struct Neighbours {
    /// The governor's share in an end.
    pub end_hook: Arc<dyn EndHook>,
    /// Workflows that wait in this process.
    pub parents: Arc<dyn Parents>,
}

/// Those who came second.
struct Introduced {
    registry: Registry,
    neighbours: Neighbours,
}

/// Who runs what, how much at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Executions that run at the same time, workflows not counted.
    pub worker_slots: usize,
    /// A run that says nothing about its time ends after this long.
    pub default_timeout: Duration,
    /// What this daemon runs of what there is.
    pub share: Share,
}

/// Plans, claims, runs and finishes executions.
pub struct Dispatcher {
    stores: Stores,
    world: World,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    introduced: RwLock<Option<Arc<Introduced>>>,
    limits: Limits,
    owner: String,
    slots: Arc<Semaphore>,
    running: Mutex<BTreeMap<ExecutionId, Running>>,
    /// Claims whose attempts are under way in this process: only their leases are extended.
    held: Mutex<BTreeSet<(ExecutionId, i64)>>,
    /// With leases that ran out.
    patience: Mutex<sweeper::Patience>,
    known: Mutex<Known>,
    shortages: Shortages,
    trials: OnceLock<Trials>,
    /// Executions whose ends are written, and what runners keep of their attempts is not yet removed.
    ended: Mutex<BTreeMap<String, Vec<ExecutionId>>>,
    me: Weak<Self>,
}

/// A run in this process.
struct Running {
    fence: i64,
    stop: Stop,
    why: StopCause,
}

/// Why a run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// It was not.
    None,
    /// Somebody canceled it.
    Canceled,
    /// Its time is up.
    Timeout,
    /// The daemon is stopping: its end is decided by `on_lost`.
    Shutdown,
    /// Another daemon has its claim.
    Lost,
}

/// What was worked out about one catalogue.
#[derive(Default)]
struct Known {
    version: Option<u64>,
    actions: HashMap<ActionRef, Result<Arc<CompiledAction>, String>>,
    /// Types of triggers that enabled rules wait for: asked at every end, so not searched among all rules (G12).
    awaited: HashSet<String>,
}

impl Known {
    fn of(catalogue: &Catalogue) -> Self {
        let enabled = catalogue.rules.values().filter(|rule| rule.enabled);
        let awaited = enabled.map(|rule| rule.trigger.trigger_type.to_string()).collect();
        Self { version: Some(catalogue.version), actions: HashMap::new(), awaited }
    }
}

impl Dispatcher {
    /// A dispatcher that is not yet introduced to its neighbours; `owner` names this process's leases.
    pub fn new(
        stores: Stores,
        world: World,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        limits: Limits,
        owner: String,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            stores,
            world,
            catalogue,
            introduced: RwLock::default(),
            limits,
            owner,
            slots: Arc::new(Semaphore::new(limits.worker_slots)),
            running: Mutex::default(),
            held: Mutex::default(),
            patience: Mutex::default(),
            known: Mutex::default(),
            shortages: Shortages::default(),
            trials: OnceLock::new(),
            ended: Mutex::default(),
            me: Weak::clone(me),
        })
    }

    /// Introduces the runners and the neighbours; they need the dispatcher themselves, so they come second. Once.
    pub fn introduce(&self, registry: Registry, neighbours: Neighbours) {
        let introduced = Some(Arc::new(Introduced { registry, neighbours }));
        let before =
            std::mem::replace(&mut *self.introduced.write().unwrap_or_else(PoisonError::into_inner), introduced);
        debug_assert!(before.is_none(), "a dispatcher is introduced once");
    }

    /// Forgets the runners and the neighbours. They hold the dispatcher as it holds them, so without this nobody would ever
    /// let go of the store. To be said when everything has stopped: nothing can be run or asked for afterwards.
    pub fn take_leave(&self) {
        let introduced = self.introduced.write().unwrap_or_else(PoisonError::into_inner).take();
        // not under the lock: whoever goes with them may ask for something last
        drop(introduced);
    }

    fn introduced(&self) -> Option<Arc<Introduced>> {
        self.introduced.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The catalogue of this moment.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.borrow())
    }

    /// The name of this process's leases.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The runners; empty before [`Dispatcher::introduce`].
    pub fn registry(&self) -> Registry {
        self.introduced().map(|introduced| introduced.registry.clone()).unwrap_or_default()
    }

    /// A lease of this process, beginning now.
    pub fn lease(&self, now: Timestamp) -> Lease {
        Lease { owner: self.owner.clone(), until: now.plus(LEASE) }
    }

    /// Claims and starts executions until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut hints = self.world.bus.listen(Topic::Queue);
        while !stop.is_cancelled() {
            let Some(permit) = self.free_slot(&stop).await else { break };
            self.rest(&stop).await;
            if self.tick(permit).await? > 0 {
                continue;
            }
            self.wait_for_work(&mut hints, &stop).await?;
        }
        Ok(())
    }

    /// Claims what is due, as much as there are free slots, and starts it. Gives back how many.
    pub async fn tick(&self, first: OwnedSemaphorePermit) -> StoreResult<usize> {
        let now = self.world.clock.now();
        let mut permits = vec![first];
        while let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            permits.push(permit);
        }
        let token = Id::<()>::from_bytes(self.world.ids.next()).to_string();
        let (lease, share) = (self.lease(now), self.limits.share);
        let claimed = self.stores.executions.execution_claim(&lease, &token, permits.len(), share, now).await?;
        let count = claimed.len();
        for (row, permit) in claimed.into_iter().zip(permits) {
            self.begin(row, Some(permit), now);
        }
        if count > 0 {
            self.world.bus.hint(Topic::Announcements);
        }
        Ok(count)
    }

    /// While something is missing, whatever is claimed could not begin either.
    async fn rest(&self, stop: &CancellationToken) {
        let rest = self.shortages.rest(self.world.clock.monotonic());
        if !rest.is_zero() {
            tokio::select! {
                () = self.world.clock.sleep_for(rest) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn free_slot(&self, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            permit = Arc::clone(&self.slots).acquire_owned() => permit.ok(),
            () = stop.cancelled() => None,
        }
    }

    /// Until there is news, something queued falls due, or a second has passed: losing every hint costs no more.
    async fn wait_for_work(&self, hints: &mut crate::bus::Hints, stop: &CancellationToken) -> StoreResult<()> {
        const LOOK_BY_ITSELF: Duration = Duration::from_secs(1);
        let latest = self.world.clock.now().plus(LOOK_BY_ITSELF);
        let due = match self.limits.share {
            Share::Everything => self.stores.executions.queue_next().await?.unwrap_or(latest).min(latest),
            // The next in the queue may be for others.
            Share::Only(_) | Share::AllBut(_) | Share::Nothing => latest,
        };
        tokio::select! {
            () = hints.heard() => {}
            () = self.world.clock.sleep_until(due) => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    /// Runs an execution that was claimed at `claimed_at`, unless that took the store so long that it was begun, and
    /// perhaps ended, without its answer.
    pub(crate) fn begin(&self, row: ExecutionRow, permit: Option<OwnedSemaphorePermit>, claimed_at: Timestamp) {
        if self.world.clock.now().since(claimed_at) < UNHEARD_AFTER {
            self.start(row, permit);
        }
    }

    /// Runs a claimed execution in a task of its own. Workflows hold no slot: what they wait for would need it.
    fn start(&self, row: ExecutionRow, permit: Option<OwnedSemaphorePermit>) {
        self.start_beside(row, permit, Beside::Others, None);
    }

    /// The same; `tell` is dropped when the attempt has ended.
    fn start_beside(
        &self,
        row: ExecutionRow,
        permit: Option<OwnedSemaphorePermit>,
        beside: Beside,
        tell: Option<oneshot::Sender<()>>,
    ) {
        let Some(me) = self.me.upgrade() else { return };
        let permit = permit.filter(|_| row.runner != WORKFLOW_RUNNER);
        let name = format!("{} {}", row.action, row.id);
        let held = (row.id, row.fence);
        if !self.held().insert(held) {
            return;
        }
        self.world.supervisor.spawn_once(name, async move {
            let caught = AssertUnwindSafe(me.attempt(&row, permit, beside)).catch_unwind().await;
            let ended = match caught {
                Ok(Err(problem)) => me.give_back(&row, problem).await,
                Ok(Ok(())) => Ok(()),
                Err(_) => me.finish(&row, Outcome::error("its runner panicked; see the log")).await.map_err(Into::into),
            };
            me.held().remove(&held);
            drop(tell);
            ended
        });
    }

    /// An attempt that ended without an end holds a lease that this process would go on extending: what had not begun
    /// is given back.
    async fn give_back(&self, row: &ExecutionRow, problem: StoreError) -> anyhow::Result<()> {
        tracing::warn!(execution = %row.id, %problem, "an attempt could not go on; it is tried again");
        let now = self.world.clock.now();
        while let Err(StoreError::Unavailable(_)) = self.stores.executions.execution_release(row.claim(), now).await {
            clock::sleep(&*self.world.clock, Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Extends this process's leases and stops what was canceled elsewhere, until the token is cancelled.
    pub async fn keep_leases(&self, stop: CancellationToken) -> anyhow::Result<()> {
        const EVERY: Duration = Duration::from_secs(1);
        let mut extended = self.world.clock.monotonic();
        let mut shown = self.world.clock.now();
        while !stop.is_cancelled() {
            let (now, at) = (self.world.clock.now(), self.world.clock.monotonic());
            // Leases that were written before a step of the clock mean nothing to the others after it.
            let stepped = shown.is_ahead_of(now) || now.is_ahead_of(shown.plus(EVERY * 2));
            shown = now;
            if stepped || at.saturating_sub(extended) >= LEASE / 3 {
                self.extend_leases(now).await?;
                extended = at;
            }
            if self.running_count() > 0 {
                self.hear_from_elsewhere(now).await?;
            }
            self.forget_ended().await;
            tokio::select! {
                () = clock::sleep(&*self.world.clock, EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// What other daemons wrote for runs of this one: that they are canceled, that a step of theirs has ended.
    async fn hear_from_elsewhere(&self, now: Timestamp) -> StoreResult<()> {
        for id in self.stores.obligations.leases_canceling(&self.owner).await? {
            self.stop_running(id, StopCause::Canceled);
        }
        if let Some(introduced) = self.introduced() {
            for workflow in self.stores.obligations.leases_woken(&self.owner, now).await? {
                introduced.neighbours.parents.look_again(workflow);
            }
        }
        Ok(())
    }

    /// Extends the leases of what is under way here, and begins what is ours without our knowing.
    async fn extend_leases(&self, now: Timestamp) -> StoreResult<()> {
        let held: Vec<(ExecutionId, i64)> = self.held().iter().copied().collect();
        let mut executions: BTreeSet<ExecutionId> = held.iter().map(|(execution, _)| *execution).collect();
        executions.extend(self.unwritten());
        let executions: Vec<ExecutionId> = executions.into_iter().collect();
        let extended = self.stores.obligations.leases_extend(&self.owner, &executions, now.plus(LEASE)).await?;
        if extended < executions.len() {
            self.stop_what_was_lost(&held).await?;
        }
        self.begin_what_was_not_heard_of(now).await
    }

    /// A claim whose commit was answered by silence, because the store went away at that moment, may have been written:
    /// it is ours, and nobody has begun it. What has been ours for some time and is not under way is such a one.
    async fn begin_what_was_not_heard_of(&self, now: Timestamp) -> StoreResult<()> {
        let young = now.plus(LEASE.saturating_sub(UNHEARD_AFTER));
        for row in self.stores.obligations.leases_ending(&self.owner, young).await? {
            if !self.is_held(row.claim()) {
                tracing::info!(execution = %row.id, action = %row.action, "it was claimed without an answer: it begins now");
                self.start(row, None);
            }
        }
        Ok(())
    }

    /// Another daemon took them over while this one did not move or could not reach the store: what still runs here
    /// has no claim any more, and its result would not count.
    async fn stop_what_was_lost(&self, held: &[(ExecutionId, i64)]) -> StoreResult<()> {
        let leased: BTreeSet<ExecutionId> =
            self.stores.obligations.leases_held(&self.owner).await?.into_iter().collect();
        for (execution, fence) in held.iter().filter(|(execution, _)| !leased.contains(execution)) {
            let row = self.stores.executions.execution_get(*execution).await?;
            let is_lost = row.fence != *fence || row.status.is_completed();
            if is_lost && self.stop_running(*execution, StopCause::Lost) {
                tracing::warn!(%execution, "another daemon has taken it over or ended it: what runs of it here is ended");
            }
        }
        Ok(())
    }

    /// Lets runners remove what they kept of attempts until their ends were written. Not at each end: it can wait.
    async fn forget_ended(&self) {
        let unwritten = self.unwritten();
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for (runner, executions) in ended {
            let (later, now): (Vec<_>, Vec<_>) = executions.into_iter().partition(|id| unwritten.contains(id));
            self.note_ended(&runner, later);
            let Some(found) = self.registry().get(&runner).cloned() else { continue };
            if let Err(problem) = found.forget_ended(&now).await {
                tracing::warn!(runner, %problem, "what was kept of ended attempts could not be removed");
            }
        }
    }

    fn note_ended(&self, runner: &str, executions: impl IntoIterator<Item = ExecutionId>) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.get_mut(runner) {
            Some(known) => known.extend(executions),
            None => drop(ended.insert(runner.to_owned(), executions.into_iter().collect())),
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<(ExecutionId, i64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this very attempt under way in this process, or done and not yet written down?
    fn is_held(&self, claim: Claim) -> bool {
        self.held().contains(&(claim.execution, claim.fence)) || self.unwritten().contains(&claim.execution)
    }

    /// Steps that ran here and whose ends their workflows have still to write.
    fn unwritten(&self) -> BTreeSet<ExecutionId> {
        self.introduced().map(|introduced| introduced.neighbours.parents.unwritten()).unwrap_or_default()
    }

    /// How many executions run in this process just now.
    pub fn running_count(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Asks everything that runs here to stop, because the daemon does.
    pub fn stop_all(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for run in running.values_mut() {
            run.why = if run.why == StopCause::None { StopCause::Shutdown } else { run.why };
            run.stop.raise();
        }
    }

    fn stop_running(&self, id: ExecutionId, why: StopCause) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(run) = running.get_mut(&id) else { return false };
        if run.why == StopCause::None {
            run.why = why;
        }
        run.stop.raise();
        true
    }

    /// The action ready to be filled in, compiled once per catalogue.
    fn compiled(&self, action: &ActionRef) -> Option<Result<Arc<CompiledAction>, String>> {
        let catalogue = self.catalogue();
        let mut known = self.known(&catalogue);
        if let Some(compiled) = known.actions.get(action) {
            return Some(compiled.clone());
        }
        let found = catalogue.actions.get(action)?;
        let result = self.compile(Arc::clone(found));
        known.actions.insert(action.clone(), result.clone());
        Some(result)
    }

    /// Does some rule wait for triggers of this type?
    fn is_awaited(&self, catalogue: &Catalogue, trigger: &str) -> bool {
        self.known(catalogue).awaited.contains(trigger)
    }

    fn known(&self, catalogue: &Catalogue) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.version != Some(catalogue.version) {
            *known = Known::of(catalogue);
        }
        known
    }

    fn compile(&self, action: Arc<crate::model::action::Action>) -> Result<Arc<CompiledAction>, String> {
        let introduced = self.introduced().ok_or("the daemon is starting or stopping")?;
        let registry = &introduced.registry;
        let runner = registry.get(&action.runner).ok_or_else(|| {
            format!("there is no runner `{}`; there are {}", action.runner, registry.names().join(", "))
        })?;
        CompiledAction::compile(action, &runner.parameters()).map(Arc::new).map_err(|problems| problems.join("; "))
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("owner", &self.owner).finish_non_exhaustive()
    }
}
