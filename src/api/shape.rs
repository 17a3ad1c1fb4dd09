//! Executions in StackStorm's JSON, with secrets masked by name and by value wherever they could show.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::auth::Permission;
use crate::datastore::Datastore;

use crate::datastore::sealed::{redactor_of, shown_context};
use crate::dispatch::Dispatcher;
use crate::model::action::{Action, WORKFLOW_RUNNER};
use crate::secrets::Redactor;
use crate::store::journal::EntryRow;
use crate::store::obligations::ObligationRow;
use crate::store::rows::ExecutionRow;

/// Whether secrets are shown in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// To everybody.
    Masked,
    /// To an admin who asked for it.
    Shown,
}

impl Secrets {
    /// What `show_secrets` means for this caller.
    pub(super) fn wanted(show: bool, caller: &Authenticated) -> ApiResult<Self> {
        match (show, caller.principal.may(Permission::KeyDecrypt)) {
            (false, _) => Ok(Self::Masked),
            (true, true) => Ok(Self::Shown),
            (true, false) => Err(ApiError::forbidden("only an admin may see secrets; leave out show_secrets")),
        }
    }
}

/// Turns rows into what clients read.
#[derive(Debug, Clone)]
pub(super) struct Shaper {
    dispatcher: Arc<Dispatcher>,
    datastore: Datastore,
}

impl Shaper {
    pub(super) const fn new(dispatcher: Arc<Dispatcher>, datastore: Datastore) -> Self {
        Self { dispatcher, datastore }
    }

    /// One execution.
    pub(super) fn execution(&self, row: &ExecutionRow, secrets: Secrets) -> Value {
        let catalogue = self.dispatcher.catalogue();
        let action = catalogue.actions.get(&row.action).map(Arc::as_ref);
        let redactor = self.redactor(row, secrets);
        let parameters = self.parameters(row, secrets, &redactor);
        let context = redactor.redact_value(&shown_context(&row.context));
        let log: Vec<Value> =
            row.status_log.iter().map(|(at, status)| json!({ "timestamp": at, "status": status })).collect();
        let mut shown = json!({
            "id": row.id,
            "status": row.status,
            "action": action_of(row, action),
            "runner": { "name": row.runner },
            "liveaction": { "id": row.id, "action": row.action, "parameters": parameters, "status": row.status },
            "parameters": parameters,
            "start_timestamp": row.requested_at,
            "log": log,
            "result_size": row.result_size_bytes,
        });
        let ended = row.ended_at.map(|at| json!(at));
        let elapsed = row.ended_at.map(|at| json!(at.since(row.requested_at).as_secs_f64()));
        let result = row.result.as_ref().map(|result| redactor.redact_value(result));
        let parent = row.parent.as_ref().map(|(parent, _)| json!(parent));
        put(&mut shown, "end_timestamp", ended);
        put(&mut shown, "elapsed_seconds", elapsed);
        put(&mut shown, "result", result);
        put(&mut shown, "parent", parent);
        for name in ["rule", "trigger_instance", "trigger", "trigger_type"] {
            put(&mut shown, name, context.get(name).cloned());
        }
        shown["context"] = context;
        shown
    }

    /// What an unfinished execution waits for, a workflow's steps in flight included, and which of its steps are open.
    pub(super) fn waiting(&self, shown: &mut Value, row: &ExecutionRow, waits: &[ObligationRow], open: &[EntryRow]) {
        let redactor = self.redactor(row, Secrets::Masked);
        let waits = waits.iter().map(|wait| {
            json!({ "kind": wait.kind, "key": redactor.redact(&wait.key), "due_at": wait.due_at,
                "detail": wait.detail.as_deref().map(|detail| redactor.redact(detail)) })
        });
        let steps = open.iter().filter_map(|entry| {
            let child = entry.child?;
            Some(json!({ "kind": "step", "key": entry.position, "due_at": null, "detail": child }))
        });
        shown["waiting_for"] = waits.chain(steps).collect();
        if row.runner == WORKFLOW_RUNNER {
            let open = open.iter().map(
                |entry| json!({ "position": entry.position, "execution": entry.child, "since": entry.recorded_at }),
            );
            shown["journal_open"] = open.collect();
        }
    }

    fn redactor(&self, row: &ExecutionRow, secrets: Secrets) -> Redactor {
        match secrets {
            Secrets::Masked => redactor_of(&row.context, &self.datastore),
            Secrets::Shown => Redactor::nothing(),
        }
    }

    fn parameters(&self, row: &ExecutionRow, secrets: Secrets, redactor: &Redactor) -> Value {
        match secrets {
            Secrets::Shown => row.parameters.clone(),
            Secrets::Masked => self.dispatcher.shown_parameters(row, redactor),
        }
    }

    /// A text about an execution without its secrets.
    pub(super) fn text(&self, row: &ExecutionRow, text: &str) -> String {
        self.redactor(row, Secrets::Masked).redact(text).into_owned()
    }
}

/// The action as it is now; what has vanished keeps its name.
fn action_of(row: &ExecutionRow, action: Option<&Action>) -> Value {
    let mut shown = json!({
        "ref": row.action,
        "name": row.action.name(),
        "pack": row.action.pack(),
        "uid": row.action.uid(),
        "runner_type": row.runner,
    });
    put(&mut shown, "description", action.map(|action| json!(action.description)));
    shown
}

/// StackStorm leaves empty attributes out.
fn put(shown: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        shown[name] = value;
    }
}
