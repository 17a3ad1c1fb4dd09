//! The journal of one execution during one turn: in memory for the script, in the store for the next turn. What is
//! asked is collected and written in one commit when the script has to wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::host::{Answer, Entry, Host, Interrupt, JournalSize, Waited};
use super::key_steps::{Asking, KeyStep, NoAnswer};
use super::outcome::{StepError, StepOutcome};
use super::parked::{Mailbox, Parked, Waiting};
use super::position::Position;
use super::request::{Request, StepKind, keyed_digest};
use super::state::{State, Steering};
use super::waits::{ask_parameters, wait_of};
use crate::bus::{Bus, Topic};
use crate::clock::{Clock, Ids};
use crate::datastore::Datastore;
use crate::datastore::sealed::{open_secrets, redactor_of, seal_into};
use crate::model::key_access::KeyAccess;
use crate::model::refs::{ActionRef, ExecutionId, InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::requests::{Parent, Plan, RequestError, Requester, Requests, Wanted};
use crate::store::journal::{EntryRow, Journals, Then, Turn, Wait};
use crate::store::rows::{Completion, ExecutionRow, NewInstance, Secrecy, Wake};
use crate::store::{StoreError, StoreResult};

/// What a turn works with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) journals: Journals,
    pub(super) datastore: Datastore,
    pub(super) requests: Arc<dyn Requests>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) parked: Arc<Parked>,
    /// How long a waiting script may hold its thread; zero: not at all.
    pub(super) park: Duration,
}

/// What a turn finds beside the journal.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) state: State,
    pub(super) steering: Steering,
    /// The execution's context.
    pub(super) context: Value,
    /// The texts of its scripts: which keys they name.
    pub(super) bundle: Arc<str>,
}

/// The host of one turn.
pub(super) struct JournalHost {
    pub(super) tools: Tools,
    pub(super) row: ExecutionRow,
    mailbox: Arc<Mailbox>,
    bundle: Arc<str>,
    draft: Mutex<Draft>,
}

impl JournalHost {
    /// Over what was read at the beginning of the turn, after the mailbox was opened.
    pub(super) fn new(
        tools: Tools,
        row: ExecutionRow,
        mailbox: Arc<Mailbox>,
        told: Told,
        journal: &[EntryRow],
        lines: i64,
    ) -> StoreResult<Self> {
        let turn = Turn::new(row.claim(), tools.clock.now(), Then::Continue);
        let bundle = Arc::clone(&told.bundle);
        let mut draft = Draft::new(turn, told, journal, lines)?;
        draft.redactor = redactor_of(&draft.context, &tools.datastore);
        let host = Self { tools, row, mailbox, bundle, draft: Mutex::new(draft) };
        journal.iter().filter_map(|entry| entry.sealed_secrets.as_deref()).try_for_each(|sealed| host.learn(sealed))?;
        Ok(host)
    }

    /// The secrets of a step that has ended: its result may hold them.
    fn learn(&self, sealed: &str) -> StoreResult<()> {
        let secrets = open_secrets(sealed, &self.tools.datastore);
        self.remember(&secrets.map_err(|problem| StoreError::Corrupt(problem.to_string()))?)
    }

    /// From here on these secrets are masked wherever the workflow or a step of it shows, after a restart as well.
    fn remember(&self, secrets: &[String]) -> StoreResult<()> {
        let mut draft = self.lock();
        let known = draft.context.as_object().cloned().unwrap_or_default();
        let context = seal_into(known, secrets, &self.tools.datastore).map(Value::Object);
        let context = context.map_err(|problem| StoreError::Corrupt(problem.to_string()))?;
        if context != draft.context {
            draft.redactor = redactor_of(&context, &self.tools.datastore);
            draft.turn.context = Some(context.clone());
            draft.context = context;
        }
        Ok(())
    }

    /// Ends of steps come in, with the secrets that they bring.
    fn arrive(&self, ends: Vec<Completion>, wake: Wake) {
        let sealed = ends.iter().filter_map(|end| end.parent.as_ref()?.sealed_secrets.as_deref());
        let learned = sealed.into_iter().try_for_each(|sealed| self.learn(sealed));
        let mut draft = self.lock();
        if let Err(problem) = learned {
            draft.failure.get_or_insert(problem);
        }
        draft.arrive(ends, wake);
    }

    /// A text without the secrets that this workflow knows.
    pub(super) fn redact(&self, text: &str) -> String {
        self.lock().redactor.redact(text).into_owned()
    }

    /// The mailbox through which this turn can be told to let go.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    fn lock(&self) -> MutexGuard<'_, Draft> {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state as it is now.
    pub(super) fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// The entries in the order they were written, for the plan of a rollback.
    pub(super) fn entries_as_written(&self) -> Vec<Entry> {
        let draft = self.lock();
        draft.order.iter().filter_map(|at| draft.entries.get(at)).map(|entry| Entry::clone(entry)).collect()
    }

    /// Has every step that the script started ended, as far as this turn knows?
    pub(super) fn children_have_ended(&self) -> bool {
        self.take_letters();
        let draft = self.lock();
        let mut children = draft.children.keys().filter_map(|at| draft.entries.get(at));
        children.all(|entry| entry.outcome.is_some() || entry.request.kind == StepKind::Undo)
    }

    /// The outcome at a position, if there is one.
    pub(super) fn outcome(&self, at: &Position) -> Option<StepOutcome> {
        let entry = self.lock().entries.get(at).map(Arc::clone)?;
        entry.outcome.as_deref().and_then(|text| StepOutcome::from_text(text).ok())
    }

    /// Changes the state with the next write.
    pub(super) fn change_state(&self, change: impl FnOnce(&mut State)) {
        let mut draft = self.lock();
        change(&mut draft.state);
        draft.turn.state = Some(json!(draft.state));
    }

    /// Writes everything collected, with what is to become of the lease.
    pub(super) fn write(&self, then: Then) -> StoreResult<()> {
        let mut draft = self.lock();
        if let Some(problem) = &draft.failure {
            return Err(problem.clone());
        }
        let now = self.tools.clock.now();
        let fresh = Turn::new(self.row.claim(), now, Then::Continue);
        let mut turn = std::mem::replace(&mut draft.turn, fresh);
        turn.secrecy = Secrecy::of_context(&draft.context);
        turn.now = now;
        turn.then = then;
        let plans = std::mem::take(&mut draft.plans);
        let ends = turn.completions.clone();
        let raised = !turn.instances.is_empty() || ends.iter().any(|end| !end.instances.is_empty());
        let result = self.tools.journals.turn_record_blocking(turn);
        match &result {
            Ok(()) => self.tools.parked.written(ends.iter().map(|end| end.claim.execution)),
            Err(problem) => {
                draft.failure = Some(problem.clone());
                draft.unwritten.extend(ends);
            }
        }
        drop(draft);
        if result.is_ok() {
            plans.into_iter().for_each(Plan::committed);
            self.tools.bus.hint(Topic::Announcements);
            if raised {
                self.tools.bus.hint(Topic::Instances);
            }
        }
        result
    }

    /// Ends the turn: takes the last letters, writes them with everything else, and lets go of the lease.
    pub(super) fn let_go(&self, then: Then) -> StoreResult<()> {
        self.close();
        // An end, or a signal, that came before its waiter wakes the workflow again with this very write.
        let wakes = {
            let draft = self.lock();
            let signal = |wait: &Wait| matches!(wait, Wait::Signal { .. });
            matches!(then, Then::Restart { .. })
                || !draft.turn.completions.is_empty()
                || draft.turn.waits.iter().any(signal)
        };
        let result = self.write(then);
        if wakes {
            self.tools.bus.hint(Topic::Queue);
        }
        result
    }

    /// Takes no more letters; those that came are written with the next write, and wake the workflow again.
    pub(super) fn close(&self) {
        let ends = self.tools.parked.close(self.row.id, &self.mailbox);
        self.arrive(ends, Wake::Queue);
    }

    /// Is there something that a suspension must not leave unwritten?
    pub(super) fn is_dirty(&self) -> bool {
        self.lock().is_dirty()
    }

    /// Why nothing can be written any more.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.lock().failure.clone()
    }

    /// Ends of steps that only this turn has, after a write that failed.
    pub(super) fn unwritten(&self) -> Vec<Completion> {
        let mut draft = self.lock();
        let mut ends = std::mem::take(&mut draft.unwritten);
        ends.append(&mut draft.turn.completions);
        drop(draft);
        for parent in ends.iter_mut().filter_map(|end| end.parent.as_mut()) {
            parent.wake = Wake::Queue;
        }
        ends
    }

    /// Lets the letters in that arrived.
    fn take_letters(&self) -> usize {
        let ends = self.mailbox.take();
        let count = ends.len();
        self.arrive(ends, Wake::Running);
        count
    }

    /// Journals a request and what it needs; nothing is written yet.
    pub(super) fn place(&self, at: &Position, request: Request) -> Answer {
        if self.failure().is_some() {
            return Answer::Suspend;
        }
        match request.kind {
            StepKind::Run | StepKind::Spawn | StepKind::Ask | StepKind::Undo => self.place_child(at, request),
            StepKind::Sleep | StepKind::RetryDelay | StepKind::SleepUntil | StepKind::WaitSignal => {
                self.place_wait(at, request)
            }
            StepKind::KvGet | StepKind::KvSet | StepKind::KvIncr | StepKind::KvCas | StepKind::KvDelete => {
                self.place_key_step(at, &request)
            }
            _ => self.place_at_once(at, request),
        }
    }

    fn place_child(&self, at: &Position, request: Request) -> Answer {
        let id = ExecutionId::from_bytes(self.tools.ids.next());
        let wanted = match self.wanted(at, &request, id) {
            Ok(wanted) => wanted,
            Err(problem) => return self.settle(at, request, &StepOutcome::Error(StepError::new(problem))),
        };
        match self.tools.requests.plan(wanted) {
            Ok(plan) => {
                let mut draft = self.lock();
                draft.turn.children.push(plan.execution().clone());
                draft.plans.push(plan);
                let now = self.tools.clock.now();
                draft.add(at, request, None, Some(id), now);
                Answer::Recorded
            }
            Err(RequestError::StoreAway(problem)) => self.fail(problem),
            Err(problem) => self.settle(at, request, &StepOutcome::Error(StepError::new(problem.to_string()))),
        }
    }

    fn wanted(&self, at: &Position, request: &Request, id: ExecutionId) -> Result<Wanted, String> {
        let asks = || "core.ask".parse::<ActionRef>().map_err(|problem| problem.to_string());
        let action = request.target.clone().map_or_else(asks, Ok)?;
        let parameters = match &request.params {
            Value::Object(members) => members.clone(),
            Value::Null => Map::new(),
            other => return Err(format!("parameters of `{action}` must be a map, not {other}")),
        };
        let parameters = if request.kind == StepKind::Ask { ask_parameters(parameters) } else { parameters };
        let parent = Parent { execution: self.row.id, position: at.to_string(), root: self.row.root };
        let mut context = self.lock().context.as_object().cloned().unwrap_or_default();
        for own in ["policies", "activity", "notify", "action_alias_ref"] {
            context.remove(own);
        }
        Ok(Wanted {
            id: Some(id),
            context,
            parent: Some(parent),
            timeout: request.options.timeout,
            ..Wanted::new(action, parameters, Requester::Content)
        })
    }

    fn place_wait(&self, at: &Position, request: Request) -> Answer {
        let now = self.tools.clock.now();
        let wait = match wait_of(at, &request, now) {
            Ok(wait) => wait,
            Err(problem) => return self.settle(at, request, &StepOutcome::Error(StepError::new(problem))),
        };
        let mut draft = self.lock();
        draft.turn.waits.push(wait);
        draft.add(at, request, None, None, now);
        Answer::Recorded
    }

    /// A change of the datastore and the entry that says so are one commit; if another change came in between, the
    /// value is read again.
    fn place_key_step(&self, at: &Position, request: &Request) -> Answer {
        const TRIES: usize = 50;
        for _ in 0..TRIES {
            let asking = Asking { user: self.row.user(), access: self.key_access(), scripts: &self.bundle };
            let step = match KeyStep::of(request, &self.tools.datastore, &asking, self.tools.clock.now()) {
                Ok(step) => step,
                Err(NoAnswer::Refused(why)) => {
                    return self.settle(at, request.clone(), &StepOutcome::Error(StepError::new(why)));
                }
                Err(NoAnswer::StoreAway(problem)) => return self.fail(problem),
            };
            if let Err(problem) = self.remember(&step.secrets) {
                return self.fail(problem);
            }
            let Some(write) = step.write else {
                return self.settle(at, request.clone(), &step.outcome);
            };
            if self.is_dirty() && self.write(Then::Continue).is_err() {
                return Answer::Suspend;
            }
            let (entry, row) =
                self.lock().entry(at, request.clone(), Some(&step.outcome), None, self.tools.clock.now());
            let mut turn = Turn::new(self.row.claim(), self.tools.clock.now(), Then::Continue);
            turn.secrecy = Secrecy::of_context(&self.lock().context);
            turn.entries.push(row);
            turn.key_writes.push(write);
            match self.tools.journals.turn_record_blocking(turn) {
                Ok(()) => {
                    self.lock().keep(entry);
                    return Answer::Recorded;
                }
                Err(StoreError::Conflict) => {}
                Err(problem) => return self.fail(problem),
            }
        }
        self.fail(StoreError::Conflict)
    }

    fn key_access(&self) -> KeyAccess {
        self.lock().context.as_object().map(KeyAccess::of_context).unwrap_or_default()
    }

    /// The turn ends here, and is tried again: what the store could not do is no answer to the script.
    fn fail(&self, problem: StoreError) -> Answer {
        self.lock().failure = Some(problem);
        Answer::Suspend
    }

    fn place_at_once(&self, at: &Position, request: Request) -> Answer {
        let outcome = match self.answer(at, &request) {
            Ok(value) => StepOutcome::Ok(value),
            Err(problem) => StepOutcome::Error(StepError::new(problem)),
        };
        self.settle(at, request, &outcome)
    }

    fn answer(&self, at: &Position, request: &Request) -> Result<Value, String> {
        let now = self.tools.clock.now();
        let text = |name: &str| request.params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match request.kind {
            StepKind::Now => Ok(json!(now)),
            StepKind::Uuid => Ok(json!(self.tools.ids.uuid_v4())),
            StepKind::RandomName => {
                let (prefix, name) = (text("prefix"), self.tools.ids.random_name());
                Ok(json!(if prefix.is_empty() { name } else { format!("{prefix}-{name}") }))
            }
            StepKind::Emit => self.emit(at, request, now),
            StepKind::Notify => {
                let mut draft = self.lock();
                let said = draft.redactor.redact_value(&request.params);
                let payload = json!({ "payload": said, "execution_id": self.row.id });
                draft.turn.announcements.push(("st2.announcement__chatops".to_owned(), payload));
                Ok(Value::Null)
            }
            StepKind::Log => {
                let mut draft = self.lock();
                let line = format!("{}: {}\n", text("level"), draft.redactor.redact(&text("message")));
                draft.lines += 1;
                let number = draft.lines;
                draft.turn.lines.push((number, line));
                Ok(Value::Null)
            }
            StepKind::Publish => {
                let value = request.params.get("value").cloned().unwrap_or_default();
                self.change_state(|state| drop(state.published.insert(text("name"), value)));
                Ok(Value::Null)
            }
            _ => Ok(Value::Null),
        }
    }

    fn emit(&self, at: &Position, request: &Request, now: Timestamp) -> Result<Value, String> {
        let name = request.params.get("trigger").and_then(Value::as_str).unwrap_or_default();
        let trigger_type: TriggerTypeRef =
            name.parse().map_err(|problem: crate::model::refs::BadRef| problem.to_string())?;
        let id = InstanceId::from_bytes(self.tools.ids.next());
        let key = format!("{}/{at}", self.row.id);
        let payload = request.params.get("payload").cloned().unwrap_or_default();
        // Whoever may look sees the payloads of triggers.
        let payload = self.lock().redactor.redact_value(&payload);
        let instance = NewInstance {
            id,
            trigger: trigger_type.to_string(),
            trigger_type,
            payload,
            occurred_at: now,
            trace_tag: self.row.context_text("trace_tag").unwrap_or(&key).to_owned(),
            dedupe: None,
        };
        self.lock().turn.instances.push(instance);
        Ok(json!(id))
    }

    fn settle(&self, at: &Position, request: Request, outcome: &StepOutcome) -> Answer {
        let now = self.tools.clock.now();
        self.lock().add(at, request, Some(outcome), None, now);
        Answer::Recorded
    }

    /// Waits for the end of a step that runs in this process. Sleeps and signals hold no thread.
    fn park(&self, open: &[Position]) -> Waited {
        let running = {
            let draft = self.lock();
            open.iter().any(|at| draft.children.contains_key(at))
        };
        if !running || self.tools.park.is_zero() {
            return Waited::Suspend;
        }
        match self.tools.parked.wait(self.row.id, &self.mailbox, self.tools.park) {
            Waiting::Arrived if self.take_letters() > 0 => Waited::Progress,
            Waiting::Arrived | Waiting::LetGo => Waited::Suspend,
        }
    }
}

impl Host for JournalHost {
    fn entry(&self, at: &Position) -> Option<Arc<Entry>> {
        self.lock().entries.get(at).map(Arc::clone)
    }

    fn ask(&self, at: &Position, request: Request) -> Answer {
        self.place(at, request)
    }

    fn record(&self, at: &Position, request: Request, outcome: StepOutcome) -> Answer {
        if self.failure().is_some() { Answer::Suspend } else { self.settle(at, request, &outcome) }
    }

    fn wait(&self, open: &[Position]) -> Waited {
        self.take_letters();
        if self.is_dirty() && self.write(Then::Continue).is_err() {
            return Waited::Suspend;
        }
        let resolved = {
            let draft = self.lock();
            open.iter().any(|at| draft.entries.get(at).is_some_and(|entry| entry.outcome.is_some()))
        };
        if resolved {
            return Waited::Progress;
        }
        if self.mailbox.is_let_go() {
            return Waited::Suspend;
        }
        self.park(open)
    }

    fn interrupted(&self) -> Option<Interrupt> {
        let draft = self.lock();
        draft.steering.interrupt.or_else(|| draft.steering.paused.then_some(Interrupt::Pause))
    }

    fn fingerprint(&self, params: &Value) -> String {
        keyed_digest(self.row.id.as_bytes(), params)
    }

    fn journal_size(&self) -> JournalSize {
        self.lock().size
    }

    fn warn(&self, message: &str) {
        let message = self.redact(message);
        tracing::warn!(execution = %self.row.id, action = %self.row.action, "{message}");
    }
}
