//! `/executions`: ask for runs, look at them, steer them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::body::{JsonBody, Path, Query, is_true};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::api::shape::{Secrets, Shaper};
use crate::auth::Permission;
use crate::clock::Clock;
use crate::dispatch::Dispatcher;
use crate::dispatch::completion::ReRunError;
use crate::dispatch::control::ControlError;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::{ActionRef, ExecutionId};
use crate::model::time::Timestamp;
use crate::requests::{Requests, Texts, Wanted};
use crate::store::executions::{ExecutionFilter, TopLevel};
use crate::store::rows::ExecutionRow;
use crate::store::{Executions, Journals, Obligations, Outputs};

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) executions: Executions,
    pub(super) obligations: Obligations,
    pub(super) journals: Journals,
    pub(super) outputs: Outputs,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) shaper: Shaper,
    pub(super) clock: Arc<dyn Clock>,
}

/// A tree that is larger than this is not shown as a whole.
const MOST_DESCENDANTS: usize = 10_000;
/// So many chunks of output are read at once.
const OUTPUT_PAGE: i64 = 1000;

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/executions", get(list).post(create))
        .route("/executions/{id}", get(show).put(steer).delete(cancel))
        .route("/executions/{id}/re_run", post(re_run))
        .route("/executions/{id}/children", get(children))
        .route("/executions/{id}/output", get(output))
        .route("/executions/{id}/attribute/{attribute}", get(attribute))
        .with_state(door)
}

#[derive(Debug, Deserialize)]
struct Filter {
    action: Option<ActionRef>,
    status: Option<ExecutionStatus>,
    user: Option<String>,
    parent: Option<String>,
    trigger_instance: Option<crate::model::refs::InstanceId>,
    rule: Option<crate::model::refs::RuleRef>,
    timestamp_gt: Option<Timestamp>,
    timestamp_lt: Option<Timestamp>,
    show_secrets: Option<String>,
}

impl Filter {
    /// StackStorm writes `parent=null` for "only those without a parent".
    fn into_store(self) -> ApiResult<ExecutionFilter> {
        let top_level = match self.parent.as_deref() {
            Some("null" | "None" | "") => TopLevel::Only,
            Some(_) => return Err(ApiError::bad_request("parent=: only `null` is understood; see /children")),
            None => TopLevel::All,
        };
        Ok(ExecutionFilter {
            action: self.action,
            status: self.status,
            user: self.user,
            top_level,
            instance: self.trigger_instance,
            rule: self.rule,
            after: self.timestamp_gt,
            before: self.timestamp_lt,
        })
    }
}

async fn list(
    State(door): State<Door>,
    caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let secrets = Secrets::wanted(is_true(filter.show_secrets.as_deref()), &caller)?;
    let page = query.page(100)?;
    let (rows, total) = door.executions.execution_list(&filter.into_store()?, page).await?;
    if secrets == Secrets::Shown {
        let ids: Vec<ExecutionId> = rows.iter().map(|row| row.id).collect();
        let detail = json!({ "count": ids.len(), "executions": ids });
        caller.audit("execution.show_secrets", "", detail).await?;
    }
    let items = rows.iter().map(|row| door.shaper.execution(row, secrets)).collect();
    query.answer(items, total, page)
}

/// A run that somebody asks for.
#[derive(Debug, Deserialize)]
struct NewRun {
    action: ActionRef,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    context: Option<Map<String, Value>>,
    /// Milliseconds, as in StackStorm.
    #[serde(default)]
    delay: Option<u64>,
}

async fn create(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(new): JsonBody<NewRun>,
) -> ApiResult<Response> {
    caller.require(Permission::ExecutionRun)?;
    let mut context = new.context.unwrap_or_default();
    context.retain(|name, _| name == "trace_context" || name == "source_channel");
    let behalf = caller.on_behalf_of(new.user).await?;
    context.insert("user".to_owned(), json!(behalf.user));
    let wanted = Wanted {
        texts: Texts::Templates,
        context,
        key_access: caller.key_access(),
        not_before: new.delay.map(|millis| door.clock.now().plus(Duration::from_millis(millis))),
        ..Wanted::new(new.action, new.parameters.unwrap_or_default(), behalf.requester())
    };
    let plan = door.dispatcher.plan(wanted)?;
    let (id, action) = (plan.execution().id, plan.execution().action.to_string());
    caller.audit("execution.run", &action, json!({ "execution": id, "user": behalf.user })).await?;
    door.executions.execution_request(plan.execution()).await?;
    plan.committed();
    let row = door.executions.execution_get(id).await?;
    Ok((StatusCode::CREATED, Json(door.shaper.execution(&row, Secrets::Masked))).into_response())
}

#[derive(Debug, Deserialize)]
struct Show {
    show_secrets: Option<String>,
}

async fn show(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<ExecutionId>,
    Query(query): Query<ListQuery>,
    Query(show): Query<Show>,
) -> ApiResult<Json<Value>> {
    let secrets = Secrets::wanted(is_true(show.show_secrets.as_deref()), &caller)?;
    if secrets == Secrets::Shown {
        caller.audit("execution.show_secrets", &id.to_string(), json!({ "count": 1 })).await?;
    }
    query.single(door.whole(id, secrets).await?)
}

impl Door {
    /// An execution with its children and what it waits for.
    async fn whole(&self, id: ExecutionId, secrets: Secrets) -> ApiResult<Value> {
        let row = self.executions.execution_get(id).await?;
        let mut shown = self.shaper.execution(&row, secrets);
        let children = self.executions.execution_children(id).await?;
        shown["children"] = children.iter().map(|child| json!(child.id)).collect();
        let waits = self.obligations.obligation_list(id).await?;
        let open = self.journals.journal_open(id).await?;
        self.shaper.waiting(&mut shown, &row, &waits, &open);
        Ok(shown)
    }
}

/// What an execution is told.
#[derive(Debug, Deserialize)]
struct Steering {
    status: ExecutionStatus,
}

async fn steer(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<ExecutionId>,
    JsonBody(steering): JsonBody<Steering>,
) -> ApiResult<Json<Value>> {
    let status = steering.status;
    let detail = json!({ "status": status });
    caller.change(Permission::ExecutionControl, "execution.steer", &id.to_string(), detail).await?;
    match status {
        ExecutionStatus::Pausing | ExecutionStatus::Paused => door.dispatcher.pause(id).await?,
        ExecutionStatus::Resuming | ExecutionStatus::Running => door.dispatcher.resume(id).await?,
        ExecutionStatus::Canceling | ExecutionStatus::Canceled => door.dispatcher.cancel(id).await?,
        ExecutionStatus::Requested
        | ExecutionStatus::Scheduled
        | ExecutionStatus::Delayed
        | ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::Timeout
        | ExecutionStatus::Abandoned
        | ExecutionStatus::Pending => {
            return Err(ApiError::bad_request(format!(
                "status `{status}` cannot be asked for; write pausing, resuming or canceling"
            )));
        }
    };
    Ok(Json(door.whole(id, Secrets::Masked).await?))
}

/// StackStorm's clients read a refusal to cancel from the body of a good answer.
async fn cancel(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<ExecutionId>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::ExecutionControl, "execution.cancel", &id.to_string(), Value::Null).await?;
    match door.dispatcher.cancel(id).await {
        Ok(_) => Ok(Json(door.whole(id, Secrets::Masked).await?)),
        Err(ControlError::WrongState { status, .. }) => {
            Ok(Json(json!({ "faultstring": format!("Action cannot be canceled. State = {status}.") })))
        }
        Err(problem) => Err(problem.into()),
    }
}

impl From<ControlError> for ApiError {
    fn from(problem: ControlError) -> Self {
        match problem {
            ControlError::WrongState { .. } => Self::conflict(problem.to_string()),
            ControlError::NoWorkflow(_) | ControlError::BadAnswer(_) => Self::bad_request(problem.to_string()),
            ControlError::NotYours { .. } => Self::forbidden(problem.to_string()),
            ControlError::Store(problem) => problem.into(),
        }
    }
}

/// How a run is repeated.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Again {
    parameters: Option<Map<String, Value>>,
    tasks: Option<Vec<String>>,
    reset: Option<Vec<String>>,
    delay: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Merge {
    no_merge: Option<String>,
}

async fn re_run(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<ExecutionId>,
    Query(merge): Query<Merge>,
    JsonBody(again): JsonBody<Again>,
) -> ApiResult<Response> {
    caller.require(Permission::ExecutionRun)?;
    let some = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
    if some(&again.tasks) || some(&again.reset) || again.delay.is_some_and(|delay| delay > 0) {
        return Err(ApiError::bad_request("re_run repeats the whole execution at once: leave out tasks, reset, delay"));
    }
    let mut row = door.executions.execution_get(id).await?;
    if is_true(merge.no_merge.as_deref()) {
        row.parameters = json!({});
    }
    let mut context = Map::new();
    context.insert("user".to_owned(), json!(caller.principal.name));
    context.insert("re-run".to_owned(), json!({ "ref": id }));
    let requester = caller.on_behalf_of(None).await?.requester();
    caller.audit("execution.re_run", &id.to_string(), Value::Null).await?;
    let (parameters, key_access) = (again.parameters.unwrap_or_default(), caller.key_access());
    let copy = door.dispatcher.re_run(&row, parameters, context, requester, key_access).await?;
    let row = door.executions.execution_get(copy).await?;
    Ok((StatusCode::CREATED, Json(door.shaper.execution(&row, Secrets::Masked))).into_response())
}

impl From<ReRunError> for ApiError {
    fn from(problem: ReRunError) -> Self {
        match problem {
            ReRunError::Request(problem) => problem.into(),
            ReRunError::Store(problem) => problem.into(),
            ReRunError::SecretOfOthers { .. } => Self::forbidden(problem.to_string()),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Depth {
    depth: Option<i64>,
}

/// Descendants down to `depth` (1: children; -1: all), parents before their children.
async fn children(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(id): Path<ExecutionId>,
    Query(query): Query<ListQuery>,
    Query(Depth { depth }): Query<Depth>,
) -> ApiResult<Response> {
    let top = door.executions.execution_get(id).await?;
    let rows = door.descendants(top.id, depth.unwrap_or(1)).await?;
    query.cut(rows.iter().map(|row| door.shaper.execution(row, Secrets::Masked)).collect())
}

impl Door {
    async fn descendants(&self, top: ExecutionId, depth: i64) -> ApiResult<Vec<ExecutionRow>> {
        let mut found: Vec<ExecutionRow> = Vec::new();
        let mut level = vec![top];
        let mut left = if depth < 0 { i64::MAX } else { depth };
        while left > 0 && !level.is_empty() && found.len() < MOST_DESCENDANTS {
            let mut next = Vec::new();
            for parent in level {
                next.extend(self.executions.execution_children(parent).await?);
            }
            level = next.iter().map(|row| row.id).collect();
            found.extend(next);
            left -= 1;
        }
        found.truncate(MOST_DESCENDANTS);
        Ok(found)
    }
}

#[derive(Debug, Deserialize)]
struct OutputQuery {
    output_type: Option<String>,
}

/// What was said so far, as plain text.
async fn output(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(id): Path<ExecutionId>,
    Query(wanted): Query<OutputQuery>,
) -> ApiResult<String> {
    let execution = door.executions.execution_get(id).await?;
    let (mut text, mut after) = (String::new(), 0);
    loop {
        let rows = door.outputs.output_read(id, after, OUTPUT_PAGE).await?;
        let Some(last) = rows.last() else { return Ok(door.shaper.text(&execution, &text)) };
        after = last.sequence;
        let shown = rows.iter().filter(|row| wanted.output_type.as_ref().is_none_or(|stream| *stream == row.stream));
        text.extend(shown.map(|row| row.text.as_str()));
    }
}

async fn attribute(
    State(door): State<Door>,
    _caller: Authenticated,
    Path((id, attribute)): Path<(ExecutionId, String)>,
) -> ApiResult<Json<Value>> {
    let mut whole = door.whole(id, Secrets::Masked).await?;
    let value = whole.as_object_mut().and_then(|members| members.remove(&attribute));
    value.map(Json).ok_or_else(|| ApiError::not_found(format!("execution {id} has no attribute `{attribute}`")))
}
