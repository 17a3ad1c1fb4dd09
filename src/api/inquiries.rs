//! `/inquiries`: the questions that executions ask people, and the answers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::body::{JsonBody, Path, Query};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::auth::Permission;
use crate::dispatch::Dispatcher;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;
use crate::store::damage::leave_out;
use crate::store::obligations::ObligationRow;
use crate::store::{Executions, Obligations, StoreError, StoreResult};

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) executions: Executions,
    pub(super) obligations: Obligations,
}

/// More open questions than this are nobody's to answer one by one.
const MOST: i64 = 10_000;

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/inquiries", get(list))
        .route("/inquiries/{execution}", get(show).put(respond))
        .with_state(door)
}

async fn list(State(door): State<Door>, _caller: Authenticated, Query(query): Query<ListQuery>) -> ApiResult<Response> {
    let open = door.obligations.obligation_list_kind("inquiry", MOST).await?;
    let readable = open.iter().filter_map(|wait| match shown(wait) {
        Ok(inquiry) => Some(inquiry),
        Err(problem) => {
            leave_out("obligations", &wait.execution.to_string(), &problem);
            None
        }
    });
    query.cut(readable.collect())
}

async fn show(State(door): State<Door>, _caller: Authenticated, Path(id): Path<ExecutionId>) -> ApiResult<Json<Value>> {
    let waits = door.obligations.obligation_list(id).await?;
    let inquiry = waits.iter().find(|wait| wait.kind == "inquiry");
    let inquiry = inquiry.ok_or_else(|| ApiError::not_found(format!("there is no open inquiry {id}")))?;
    let mut shown = shown(inquiry)?;
    let row = door.executions.execution_get(id).await?;
    shown["parent"] = json!(row.parent.map(|(parent, _)| parent));
    Ok(Json(shown))
}

fn shown(wait: &ObligationRow) -> StoreResult<Value> {
    let detail: Value = serde_json::from_str(wait.detail.as_deref().unwrap_or("{}"))
        .map_err(|problem| StoreError::Corrupt(format!("inquiry {}: {problem}", wait.execution)))?;
    let member = |name: &str| detail.get(name).cloned().unwrap_or_default();
    Ok(json!({
        "id": wait.execution,
        "schema": member("schema"),
        "route": member("route"),
        "roles": member("roles"),
        "users": member("users"),
        "ttl": member("ttl_minutes"),
        "expires_at": wait.due_at.map(|due: Timestamp| due),
    }))
}

#[derive(Debug, Deserialize)]
struct Answer {
    response: Value,
}

async fn respond(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<ExecutionId>,
    JsonBody(answer): JsonBody<Answer>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::InquiryRespond, "inquiry.respond", &id.to_string(), Value::Null).await?;
    let who = &caller.principal;
    door.dispatcher.answer(id, answer.response.clone(), &who.name, who.role.as_str()).await?;
    Ok(Json(json!({ "id": id, "response": answer.response })))
}
