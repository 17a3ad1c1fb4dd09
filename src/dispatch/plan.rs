//! Planning: a wish becomes an execution that is ready to be written, leased to this process at once if a worker is
//! free, so that no second commit stands between an event and its action.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Dispatcher;
use super::parameters::{CompiledAction, Hidden, Sight, Surroundings};
use super::policies::concurrency_of;
use crate::bus::Topic;
use crate::datastore::{TemplateView, sealed};
use crate::model::access::Permission;
use crate::model::action::{Action, WORKFLOW_RUNNER};
use crate::model::key_access::KeyAccess;
use crate::model::pack::Pack;
use crate::model::refs::{ActionRef, ExecutionId};
use crate::model::time::Timestamp;
use crate::requests::{Plan, RequestError, Requester, Requests, Texts, Wanted};
use crate::secrets::{MASK, Redactor};
use crate::store::rows::{ExecutionRow, NewExecution, Start};

impl Requests for Dispatcher {
    fn plan(&self, wanted: Wanted) -> Result<Box<dyn Plan>, RequestError> {
        let me = self.me.upgrade().ok_or_else(|| unusable(&wanted.action, "the daemon is stopping"))?;
        let compiled = self.usable(&wanted.action)?;
        self.check_permission(&compiled.action, &wanted.requester)?;
        let now = self.world.clock.now();
        let (parameters, secrets) = self.fill(&compiled, &wanted)?;
        let mut context = sealed::seal_into(wanted.context, &secrets, &self.stores.datastore)
            .map_err(|problem| unusable(&wanted.action, &problem.to_string()))?;
        wanted.key_access.keep_in(&mut context);
        let (start, permit) = self.first_place(&compiled, &parameters, wanted.not_before, now);
        let id = wanted.id.unwrap_or_else(|| ExecutionId::from_bytes(self.world.ids.next()));
        let timeout = wanted.timeout.or_else(|| workflow_timeout(&compiled, &parameters));
        let execution = NewExecution {
            id,
            action: wanted.action,
            runner: compiled.action.runner.clone(),
            root: wanted.parent.as_ref().map_or(id, |parent| parent.root),
            parent: wanted.parent.map(|parent| (parent.execution, parent.position)),
            parameters: Value::Object(parameters),
            context: Value::Object(context),
            on_lost: compiled.action.on_lost,
            requested_at: now,
            deadline: timeout.map(|timeout| wanted.not_before.unwrap_or(now).plus(timeout)),
            start,
        };
        Ok(Box::new(Planned { dispatcher: me, execution, permit }))
    }

    fn plan_failed(&self, wanted: Wanted, problem: &RequestError) -> NewExecution {
        let now = self.world.clock.now();
        let id = wanted.id.unwrap_or_else(|| ExecutionId::from_bytes(self.world.ids.next()));
        let catalogue = self.catalogue();
        let runner = catalogue.actions.get(&wanted.action).map_or("unknown", |action| action.runner.as_str());
        let problem = Redactor::new(&wanted.secrets).redact(&problem.to_string()).into_owned();
        NewExecution {
            id,
            runner: runner.to_owned(),
            root: wanted.parent.as_ref().map_or(id, |parent| parent.root),
            parent: wanted.parent.map(|parent| (parent.execution, parent.position)),
            parameters: Value::Object(Map::new()),
            context: Value::Object(wanted.context),
            on_lost: crate::model::action::OnLost::Fail,
            requested_at: now,
            deadline: None,
            start: Start::Failed { result: json!({ "error": problem }) },
            action: wanted.action,
        }
    }
}

impl Dispatcher {
    fn usable(&self, action: &ActionRef) -> Result<Arc<CompiledAction>, RequestError> {
        let catalogue = self.catalogue();
        if let Some(why) = catalogue.broken_action(action) {
            return Err(unusable(action, why));
        }
        let compiled = self.compiled(action).ok_or_else(|| RequestError::UnknownAction(action.clone()))?;
        let compiled = compiled.map_err(|why| unusable(action, &why))?;
        if compiled.action.enabled { Ok(compiled) } else { Err(unusable(action, "it is disabled")) }
    }

    /// What the action's runner asks for, what its metadata ask for, and what every execution takes.
    fn check_permission(&self, action: &Action, requester: &Requester) -> Result<(), RequestError> {
        let Requester::User { name, role } = requester else { return Ok(()) };
        let of_runner = self.registry().get(&action.runner).map(|runner| runner.permission(action));
        let needed = [Some(Permission::ExecutionRun), of_runner, action.permission];
        match needed.into_iter().flatten().find(|permission| !role.may(*permission)) {
            None => Ok(()),
            Some(permission) => {
                let (action, user) = (action.reference.clone(), name.clone());
                Err(RequestError::Forbidden { action, user, role: *role, permission })
            }
        }
    }

    fn fill(
        &self,
        compiled: &CompiledAction,
        wanted: &Wanted,
    ) -> Result<(Map<String, Value>, Vec<String>), RequestError> {
        let user = wanted.context.get("user").and_then(Value::as_str).unwrap_or(crate::model::SYSTEM_USER);
        let view = self.stores.datastore.for_templates(user);
        let catalogue = self.catalogue();
        let pack = catalogue.packs.get(wanted.action.pack()).map(Arc::as_ref);
        let access = wanted.key_access.and(KeyAccess::of_context(&wanted.context));
        let around = Surroundings {
            action_context: Value::Object(wanted.context.clone()),
            content: content_sight(compiled, pack, &view, access),
            caller: caller_sight(wanted.texts, pack, &view, access),
        };
        let filled = compiled.fill(wanted.parameters.clone(), wanted.texts, &around);
        if let Some(problem) = view.missed() {
            return Err(RequestError::StoreAway(problem));
        }
        let mut secrets = wanted.secrets.clone();
        secrets.extend(pack.map(Pack::secret_texts).unwrap_or_default());
        secrets.extend(view.opened());
        match filled {
            Ok(parameters) => {
                secrets.extend(compiled.secret_values(&parameters));
                Ok((parameters, secrets))
            }
            Err(problems) => {
                secrets.extend(compiled.secret_values(&wanted.parameters));
                Err(refusal(&wanted.action, problems, &secrets, &view))
            }
        }
    }

    /// Leased to this process if it may start at once and a worker is free; else in the queue.
    fn first_place(
        &self,
        compiled: &CompiledAction,
        parameters: &Map<String, Value>,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> (Start, Option<OwnedSemaphorePermit>) {
        let line = concurrency_of(&self.catalogue(), &compiled.action.reference, parameters).map(|policy| policy.slot);
        let later = not_before.filter(|time| *time > now);
        let is_ours = self.limits.share.includes(&compiled.action.reference);
        if !is_ours || later.is_some() || line.is_some() || self.world.supervisor.token().is_cancelled() {
            return (Start::Queued { due_at: later.unwrap_or(now), line }, None);
        }
        if compiled.action.runner == WORKFLOW_RUNNER {
            return (Start::Leased(self.lease(now)), None);
        }
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => (Start::Leased(self.lease(now)), Some(permit)),
            Err(_) => (Start::Queued { due_at: now, line: None }, None),
        }
    }
}

/// Templates of content have the rights of content, as far as callers have no part in which key they decrypt.
fn content_sight(compiled: &CompiledAction, pack: Option<&Pack>, view: &Arc<TemplateView>, access: KeyAccess) -> Sight {
    Sight {
        config_context: pack.map(|pack| json!(pack.config)).unwrap_or_default(),
        datastore: Some(view.for_content(access, compiled.templates())),
        hidden: Hidden::Nothing,
    }
}

/// Templates of a caller have the caller's rights.
fn caller_sight(texts: Texts, pack: Option<&Pack>, view: &Arc<TemplateView>, access: KeyAccess) -> Sight {
    match (texts, access) {
        (Texts::Literal, _) => Sight::default(),
        (Texts::Templates, KeyAccess::Any) => Sight {
            config_context: pack.map(|pack| json!(pack.config)).unwrap_or_default(),
            datastore: Some(view.for_caller(access)),
            hidden: Hidden::Nothing,
        },
        (Texts::Templates, KeyAccess::NamedByContent) => {
            let (opened_by, of_config) = (Arc::clone(view), pack.map(Pack::secret_texts).unwrap_or_default());
            Sight {
                config_context: pack.map(|pack| json!(pack.masked_config(MASK))).unwrap_or_default(),
                datastore: Some(view.for_caller(access)),
                hidden: Hidden::Opened(Arc::new(move || [opened_by.opened(), of_config.clone()].concat())),
            }
        }
    }
}

/// What is wrong with the parameters, without the secrets that it may quote.
fn refusal(action: &ActionRef, problems: Vec<String>, secrets: &[String], view: &TemplateView) -> RequestError {
    let redactor = Redactor::new(secrets);
    let problems = problems.into_iter().map(|problem| redactor.redact(&problem).into_owned()).collect();
    let action = action.clone();
    if view.refused() {
        return RequestError::NotAllowed { action, problems };
    }
    RequestError::BadParameters { action, problems }
}

fn unusable(action: &ActionRef, why: &str) -> RequestError {
    RequestError::Unusable { action: action.clone(), why: why.to_owned() }
}

/// A workflow's `timeout` parameter, in seconds as everywhere in StackStorm; other runners keep time themselves.
fn workflow_timeout(compiled: &CompiledAction, parameters: &Map<String, Value>) -> Option<std::time::Duration> {
    if compiled.action.runner != WORKFLOW_RUNNER {
        return None;
    }
    parameters.get("timeout").and_then(Value::as_u64).map(std::time::Duration::from_secs)
}

struct Planned {
    dispatcher: Arc<Dispatcher>,
    execution: NewExecution,
    permit: Option<OwnedSemaphorePermit>,
}

impl Plan for Planned {
    fn execution(&self) -> &NewExecution {
        &self.execution
    }

    fn committed(self: Box<Self>) {
        let Self { dispatcher, execution, permit } = *self;
        match execution.start {
            Start::Leased(_) => {
                let claimed_at = execution.requested_at;
                dispatcher.begin(as_claimed(execution), permit, claimed_at);
            }
            Start::Queued { .. } => dispatcher.world.bus.hint(Topic::Queue),
            Start::Failed { .. } => {}
        }
        dispatcher.world.bus.hint(Topic::Announcements);
    }
}

/// The row as the store has it once a leased request is written.
fn as_claimed(new: NewExecution) -> ExecutionRow {
    let running = crate::model::execution::ExecutionStatus::Running;
    ExecutionRow {
        id: new.id,
        action: new.action,
        runner: new.runner,
        status: running,
        parent: new.parent,
        root: new.root,
        parameters: new.parameters,
        context: new.context,
        on_lost: new.on_lost,
        requested_at: new.requested_at,
        started_at: Some(new.requested_at),
        ended_at: None,
        fence: 1,
        result: None,
        result_size_bytes: 0,
        status_log: vec![(new.requested_at, running)],
    }
}
