//! The end of an execution and everything that belongs into the same transaction: the parent's journal, the slot, the
//! next attempt, the internal triggers, the scaling activity.

use std::time::Duration;

use serde_json::{Value, json};

use super::Dispatcher;
use super::policies::{concurrency_of, retry_delay};
use crate::bus::Topic;
use crate::datastore::sealed::{redactor_of, seal_into, sealed_secrets_of, secrets_of};
use crate::model::execution::ExecutionStatus;
use crate::model::key_access::KeyAccess;
use crate::model::pack::Catalogue;
use crate::model::refs::{ExecutionId, InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::requests::{RequestError, Requester, Requests, Texts, Wanted};
use crate::runners::{Outcome, Workplace};
use crate::secrets::{MASK, Redactor};
use crate::store::events::Arrival;
use crate::store::rows::{Completion, ExecutionRow, NewExecution, NewInstance, ParentOutcome, Secrecy, Start, Wake};
use crate::store::{StoreError, StoreResult};
use crate::workflows::StepOutcome;

const ACTION_TRIGGER: &str = "core.st2.generic.actiontrigger";
const NOTIFY_TRIGGER: &str = "core.st2.generic.notifytrigger";

/// While the store is away.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// A damaged store is repaired by a person, who takes longer.
const UNTIL_REPAIRED: Duration = Duration::from_secs(30);

impl Dispatcher {
    /// Writes how an execution ended. An end that came too late (another attempt, a cancel) is dropped: only one
    /// attempt's result is ever accepted.
    pub(crate) async fn finish(&self, row: &ExecutionRow, outcome: Outcome) -> StoreResult<()> {
        if !self.finish_once(row, outcome).await? {
            tracing::info!(execution = %row.id, "a result came too late and was dropped");
        }
        Ok(())
    }

    /// The same, telling whether this end was the one that counts.
    pub(super) async fn finish_once(&self, row: &ExecutionRow, outcome: Outcome) -> StoreResult<bool> {
        const MOST_CONFLICTS: usize = 50;
        let (mut outcome, mut conflicts, mut told, mut is_replaced) = (outcome, 0, None, false);
        loop {
            let problem = match self.try_to_finish(row, &outcome).await {
                Ok(Finish::Written) => return Ok(true),
                Ok(Finish::TooLate) => return Ok(false),
                Ok(Finish::Conflict) if conflicts < MOST_CONFLICTS => {
                    conflicts += 1;
                    continue;
                }
                Ok(Finish::Conflict) => StoreError::Unavailable("it met too many other changes".to_owned()),
                Err(problem) => problem,
            };
            let pause = match &problem {
                StoreError::Refused(_) if !is_replaced => {
                    // What it did is done; only its result cannot be kept.
                    outcome = Outcome::error(format!("it ended as {}, but: {problem}", outcome.status));
                    is_replaced = true;
                    Duration::ZERO
                }
                StoreError::Refused(_) | StoreError::NotFound(_) => return Err(problem),
                StoreError::Unavailable(_) | StoreError::Conflict => BETWEEN_TRIES,
                StoreError::Corrupt(_) => UNTIL_REPAIRED,
            };
            if self.world.supervisor.token().is_cancelled() {
                return Err(problem);
            }
            // Nobody else has this result: it is kept until the store takes it.
            if told.as_ref() != Some(&problem) {
                tracing::warn!(execution = %row.id, %problem, "an end could not be written; it is kept and tried again");
                told = Some(problem);
            }
            crate::clock::sleep(&*self.world.clock, pause).await;
        }
    }

    /// What the action's output schema calls secret. The runners put results in different places.
    fn secret_results(&self, row: &ExecutionRow, outcome: &Outcome) -> Vec<String> {
        let catalogue = self.catalogue();
        let Some(action) = catalogue.actions.get(&row.action) else { return Vec::new() };
        let mut secrets = Vec::new();
        for (name, spec) in action.output_schema.iter().filter(|(_, spec)| spec.secret) {
            for place in ["", "/result", "/output", "/body"] {
                let value = outcome.result.pointer(place).and_then(|result| result.get(name));
                secrets.extend(value.map(|value| spec.secret_texts(value)).unwrap_or_default());
            }
        }
        secrets
    }

    /// The execution with further secrets, which are written to its context before anything that holds them.
    pub(super) async fn with_secrets(&self, row: ExecutionRow, secrets: &[String]) -> StoreResult<ExecutionRow> {
        let known = row.context.as_object().cloned().unwrap_or_default();
        let context = seal_into(known, secrets, &self.stores.datastore).map(Value::Object);
        let context = context.map_err(|problem| StoreError::Corrupt(problem.to_string()))?;
        if context == row.context {
            return Ok(row);
        }
        match self.stores.executions.execution_learn(row.claim(), &context).await {
            Ok(()) | Err(StoreError::Conflict) => Ok(ExecutionRow { context, ..row }),
            Err(problem) => Err(problem),
        }
    }

    async fn try_to_finish(&self, row: &ExecutionRow, outcome: &Outcome) -> StoreResult<Finish> {
        let secrets = self.secret_results(row, outcome);
        let mut learned = None;
        let row =
            if secrets.is_empty() { row } else { learned.insert(self.with_secrets(row.clone(), &secrets).await?) };
        let end = self.completion(row, outcome).await?;
        let mut news = self.news_of(row, &end);
        match self.write_end(end).await {
            Ok(by) => {
                news.retain(|topic| by == WrittenBy::Us || *topic != Topic::Queue);
                self.after_end(row, outcome.status, &news);
                Ok(Finish::Written)
            }
            Err(StoreError::Conflict) if self.still_mine(row).await? => Ok(Finish::Conflict),
            Err(StoreError::Conflict) => Ok(Finish::TooLate),
            Err(problem) => Err(problem),
        }
    }

    async fn write_end(&self, end: Completion) -> StoreResult<WrittenBy> {
        let (Some(parent), None, Some(introduced)) = (&end.parent, &end.activity, self.introduced()) else {
            return self.stores.executions.execution_finish(&end).await.map(|()| WrittenBy::Us);
        };
        let workflow = parent.execution;
        let Err(end) = introduced.neighbours.parents.deliver(end) else { return Ok(WrittenBy::Parent) };
        self.stores.executions.execution_finish(&end).await?;
        introduced.neighbours.parents.look_again(workflow);
        Ok(WrittenBy::Us)
    }

    /// Who has reason to look at the store after this end. Others would only take time from those who work.
    fn news_of(&self, row: &ExecutionRow, end: &Completion) -> Vec<Topic> {
        let mut news = vec![Topic::Announcements];
        if !end.instances.is_empty() {
            news.push(Topic::Instances);
        }
        let parameters = || row.parameters.as_object().cloned().unwrap_or_default();
        let frees_a_slot = || concurrency_of(&self.catalogue(), &row.action, &parameters()).is_some();
        if end.retry.is_some() || end.parent.is_some() || frees_a_slot() {
            news.push(Topic::Queue);
        }
        news
    }

    async fn still_mine(&self, row: &ExecutionRow) -> StoreResult<bool> {
        let found = self.stores.executions.execution_get(row.id).await?;
        Ok(found.fence == row.fence && !found.status.is_completed())
    }

    fn after_end(&self, row: &ExecutionRow, status: ExecutionStatus, news: &[Topic]) {
        self.world.metrics.execution_finished(status);
        if self.registry().get(&row.runner).is_some_and(|runner| runner.workplace() == Workplace::Child) {
            self.note_ended(&row.runner, [row.id]);
        }
        if let Some(introduced) = self.introduced() {
            introduced.neighbours.end_hook.ended(row, status);
        }
        news.iter().for_each(|topic| self.world.bus.hint(*topic));
    }

    async fn completion(&self, row: &ExecutionRow, outcome: &Outcome) -> StoreResult<Completion> {
        let now = self.world.clock.now();
        let catalogue = self.catalogue();
        let retry = self.retry(&catalogue, row, outcome.status, now);
        let activity = match self.introduced() {
            Some(introduced) if row.parent.is_none() => {
                let shown = redactor_of(&row.context, &self.stores.datastore).redact_value(&outcome.result);
                introduced.neighbours.end_hook.activity_end(row, outcome.status, &shown).await?
            }
            _ => None,
        };
        Ok(Completion {
            claim: row.claim(),
            status: outcome.status,
            result: outcome.result.clone(),
            secrecy: Secrecy::of_context(&row.context),
            ended_at: now,
            parent: row.parent.as_ref().map(|parent| parent_outcome(row, parent, outcome)),
            instances: self.internal_triggers(&catalogue, row, outcome, now),
            retry: retry.map(Box::new),
            activity,
        })
    }

    /// Another attempt by the action's retry policy, as a new execution. Steps of workflows have `retry` instead.
    fn retry(
        &self,
        catalogue: &Catalogue,
        row: &ExecutionRow,
        status: ExecutionStatus,
        now: Timestamp,
    ) -> Option<NewExecution> {
        let retries = row.context.pointer("/policies/retry/retry_count").and_then(Value::as_u64).unwrap_or(0);
        let delay = retry_delay(catalogue, &row.action, status, retries).filter(|_| row.parent.is_none())?;
        let parameters = row.parameters.as_object().cloned().unwrap_or_default();
        let line = concurrency_of(catalogue, &row.action, &parameters).map(|policy| policy.slot);
        let mut context = row.context.clone();
        context["policies"] = json!({ "retry": { "retry_count": retries + 1, "retried": row.id } });
        let id = ExecutionId::from_bytes(self.world.ids.next());
        Some(NewExecution {
            id,
            action: row.action.clone(),
            runner: row.runner.clone(),
            parent: None,
            root: id,
            parameters: row.parameters.clone(),
            context,
            on_lost: row.on_lost,
            requested_at: now,
            start: Start::Queued { due_at: now.plus(delay), line },
            deadline: None,
        })
    }

    /// Only what some rule waits for is raised.
    fn internal_triggers(
        &self,
        catalogue: &Catalogue,
        row: &ExecutionRow,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Vec<NewInstance> {
        let mut raised = Vec::new();
        if self.is_awaited(catalogue, ACTION_TRIGGER) && !started_by_trigger(row, ACTION_TRIGGER) {
            raised.extend(self.instance(ACTION_TRIGGER, action_payload(self, row, outcome), row, now));
        }
        let of_action = catalogue.actions.get(&row.action).map_or(&Value::Null, |action| &action.notify);
        // Whoever asked for it comes before what the action says for everybody.
        let notify = row.context.get("notify").unwrap_or(of_action);
        if !notify.is_null() && self.is_awaited(catalogue, NOTIFY_TRIGGER) {
            let payloads = notify_payloads(self, row, outcome, notify, now);
            raised.extend(payloads.into_iter().filter_map(|payload| self.instance(NOTIFY_TRIGGER, payload, row, now)));
        }
        raised
    }

    fn instance(&self, name: &str, payload: Value, row: &ExecutionRow, now: Timestamp) -> Option<NewInstance> {
        let trigger_type: TriggerTypeRef = name.parse().ok()?;
        Some(NewInstance {
            id: InstanceId::from_bytes(self.world.ids.next()),
            trigger: trigger_type.to_string(),
            trigger_type,
            payload,
            occurred_at: now,
            trace_tag: row.context_text("trace_tag").unwrap_or_default().to_owned(),
            dedupe: None,
        })
    }

    /// Raises an internal trigger by itself, if some rule waits for it.
    pub(super) async fn raise_internal(&self, name: &str, payload: Value, row: &ExecutionRow) -> StoreResult<()> {
        if !self.is_awaited(&self.catalogue(), name) {
            return Ok(());
        }
        let now = self.world.clock.now();
        if let Some(instance) = self.instance(name, payload, row, now) {
            self.stores.events.arrivals_accept(&[Arrival::Happened(instance)], now).await?;
            self.world.bus.hint(Topic::Instances);
        }
        Ok(())
    }

    /// The parameters of an execution as people may see them: secret ones by name, secrets in others by value.
    pub fn shown_parameters(&self, row: &ExecutionRow, redactor: &Redactor) -> Value {
        let catalogue = self.catalogue();
        let own = catalogue.actions.get(&row.action).into_iter().flat_map(|action| &action.parameters);
        let of_runner = self.registry().get(&row.runner).map(|runner| runner.parameters()).unwrap_or_default();
        let mut shown = row.parameters.clone();
        for (name, _) in own.chain(&of_runner).filter(|(_, spec)| spec.secret) {
            if let Some(value) = shown.get_mut(name).filter(|value| !value.is_null()) {
                *value = Value::from(MASK);
            }
        }
        redactor.redact_value(&shown)
    }

    /// Starts a copy of an execution, with other parameters where they are given.
    pub async fn re_run(
        &self,
        row: &ExecutionRow,
        changed: serde_json::Map<String, Value>,
        context: serde_json::Map<String, Value>,
        requester: Requester,
        key_access: KeyAccess,
    ) -> Result<ExecutionId, ReRunError> {
        let mut parameters = row.parameters.as_object().cloned().unwrap_or_default();
        self.drop_immutable(row, &mut parameters);
        let is_other_user = context.get("user").and_then(Value::as_str) != Some(row.user());
        if key_access == KeyAccess::NamedByContent && is_other_user && !changed.is_empty() {
            self.refuse_secrets_of_others(row, &parameters, &changed)?;
        }
        parameters.extend(changed);
        self.drop_immutable(row, &mut parameters);
        let secrets = secrets_of(&row.context, &self.stores.datastore)
            .map_err(|problem| StoreError::Corrupt(problem.to_string()))?;
        let wanted = Wanted::new(row.action.clone(), parameters, requester);
        let wanted = Wanted { texts: Texts::Literal, context, secrets, key_access, ..wanted };
        let plan = self.plan(wanted)?;
        self.stores.executions.execution_request(plan.execution()).await?;
        let id = plan.execution().id;
        plan.committed();
        Ok(id)
    }

    /// Secrets that somebody else gave, or had decrypted, go with the parameters that they were given with: who may not
    /// see them must not send them elsewhere by changing the others.
    fn refuse_secrets_of_others(
        &self,
        row: &ExecutionRow,
        kept: &serde_json::Map<String, Value>,
        changed: &serde_json::Map<String, Value>,
    ) -> Result<(), ReRunError> {
        let redactor = redactor_of(&row.context, &self.stores.datastore);
        let mut kept = kept.iter().filter(|(name, _)| !changed.contains_key(*name));
        match kept.find(|(_, value)| redactor.redact_value(value) != **value) {
            Some((name, _)) => Err(ReRunError::SecretOfOthers { parameter: name.clone(), user: row.user().to_owned() }),
            None => Ok(()),
        }
    }

    fn drop_immutable(&self, row: &ExecutionRow, parameters: &mut serde_json::Map<String, Value>) {
        if let Some(Ok(compiled)) = self.compiled(&row.action) {
            for (name, _) in compiled.specs().filter(|(_, spec)| spec.immutable) {
                parameters.remove(name);
            }
        }
    }
}

/// What came of one attempt to write an end.
enum Finish {
    /// It is written.
    Written,
    /// It met another change, and is still ours to write.
    Conflict,
    /// Somebody else wrote an end, or has the claim now.
    TooLate,
}

/// Who wrote an end, or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WrittenBy {
    /// It stands in the store.
    Us,
    /// The workflow that waits for it here writes it with its own next step.
    Parent,
}

fn parent_outcome(row: &ExecutionRow, parent: &(ExecutionId, String), outcome: &Outcome) -> ParentOutcome {
    let (execution, position) = parent.clone();
    let outcome = StepOutcome::of_child(&row.action, outcome.status, &outcome.result).to_text();
    let sealed_secrets = sealed_secrets_of(&row.context).map(str::to_owned);
    ParentOutcome { execution, position, outcome, sealed_secrets, wake: Wake::Queue }
}

/// Why an execution could not be run again.
#[derive(Debug, thiserror::Error)]
pub enum ReRunError {
    /// Its action or parameters do not fit any more.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A parameter that is kept holds a secret of somebody else.
    #[error(
        "parameter `{parameter}` holds a secret that was given or decrypted for `{user}`; give it anew, change nothing, \
         or let an admin run it again"
    )]
    SecretOfOthers {
        /// The parameter.
        parameter: String,
        /// As whom the execution ran.
        user: String,
    },
}

/// A rule on the end of actions must not be set off by the action that it runs itself, round and round.
fn started_by_trigger(row: &ExecutionRow, trigger: &str) -> bool {
    row.context.pointer("/trigger_instance/trigger").and_then(Value::as_str) == Some(trigger)
}

fn action_payload(dispatcher: &Dispatcher, row: &ExecutionRow, outcome: &Outcome) -> Value {
    let redactor = redactor_of(&row.context, &dispatcher.stores.datastore);
    json!({
        "execution_id": row.id,
        "status": outcome.status,
        "start_timestamp": row.started_at.unwrap_or(row.requested_at),
        "action_name": row.action.name(),
        "action_ref": row.action,
        "runner_ref": row.runner,
        "parameters": dispatcher.shown_parameters(row, &redactor),
        "result": redactor.redact_value(&outcome.result),
    })
}

fn notify_payloads(
    dispatcher: &Dispatcher,
    row: &ExecutionRow,
    outcome: &Outcome,
    notify: &Value,
    now: Timestamp,
) -> Vec<Value> {
    let mut sections = vec!["on-complete"];
    sections.push(if outcome.status.is_failed() { "on-failure" } else { "on-success" });
    let redactor = redactor_of(&row.context, &dispatcher.stores.datastore);
    let result = redactor.redact_value(&outcome.result).to_string();
    let mut payloads = Vec::new();
    for section in sections.into_iter().filter_map(|name| notify.get(name)) {
        let routes = section.get("routes").or_else(|| section.get("channels")).and_then(Value::as_array);
        for route in routes.into_iter().flatten() {
            let mut data = section.get("data").cloned().unwrap_or_else(|| json!({}));
            data["result"] = Value::String(result.clone());
            payloads.push(json!({
                "execution_id": row.id, "status": outcome.status, "action_ref": row.action,
                "runner_ref": row.runner, "route": route, "channel": route, "data": data,
                "message": section.get("message").cloned().unwrap_or_default(),
                "start_timestamp": row.started_at.unwrap_or(row.requested_at), "end_timestamp": now,
            }));
        }
    }
    payloads
}
