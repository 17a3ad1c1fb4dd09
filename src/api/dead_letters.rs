//! `/dead-letters`: messages of which nothing could be made, and the way back for them.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::api::body::{Path, Query};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::auth::Permission;
use crate::model::refs::DeadLetterId;
use crate::store::dead_letters::DeadLetterRow;
use crate::store::{DeadLetters, StoreError};

/// The way of events into the store, as the doors see it.
#[async_trait]
pub trait BusService: Send + Sync {
    /// Why no events are taken just now; empty if they are.
    fn reasons_not_ready(&self) -> Vec<String>;

    /// Sends a dead letter on its way again, as it is, and forgets it.
    async fn requeue(&self, letter: &DeadLetterRow, body: &[u8]) -> Result<Requeued, RequeueError>;
}

/// How a dead letter went on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeued {
    /// It is in the broker's queue again.
    Published,
    /// There is no broker: it was written to the store.
    Landed,
}

/// Why a dead letter stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequeueError {
    /// Still nothing can be made of it.
    #[error("the message stays a dead letter: {0}")]
    Poison(String),
    /// The broker does not take it.
    #[error("the broker did not take the message: {0}")]
    Broker(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RequeueError> for ApiError {
    fn from(problem: RequeueError) -> Self {
        match problem {
            RequeueError::Poison(_) => Self::conflict(problem.to_string()),
            RequeueError::Broker(_) => Self::unavailable(problem.to_string()),
            RequeueError::Store(problem) => problem.into(),
        }
    }
}

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) dead_letters: DeadLetters,
    pub(super) bus: Arc<dyn BusService>,
}

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", get(show).delete(delete))
        .route("/dead-letters/{id}/requeue", post(requeue))
        .with_state(door)
}

async fn list(State(door): State<Door>, _caller: Authenticated, Query(query): Query<ListQuery>) -> ApiResult<Response> {
    let page = query.page(100)?;
    let (rows, total) = door.dead_letters.dead_letter_list(page).await?;
    query.answer(rows.iter().map(shown).collect(), total, page)
}

async fn show(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(id): Path<DeadLetterId>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let (row, body) = door.dead_letters.dead_letter_get(id).await?;
    let mut shown = shown(&row);
    let (encoding, text) = match String::from_utf8(body) {
        Ok(text) => ("utf-8", text),
        Err(bytes) => ("base64", BASE64_STANDARD.encode(bytes.as_bytes())),
    };
    shown["encoding"] = encoding.into();
    shown["body"] = text.into();
    query.single(shown)
}

fn shown(row: &DeadLetterRow) -> Value {
    json!({
        "id": row.id,
        "source": row.source,
        "reason": row.reason,
        "size_bytes": row.size_bytes,
        "received_at": row.received_at,
    })
}

async fn requeue(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<DeadLetterId>,
) -> ApiResult<Json<Value>> {
    caller.require(Permission::TriggerEmit)?;
    let (row, body) = door.dead_letters.dead_letter_get(id).await?;
    caller.audit("dead_letter.requeue", &id.to_string(), Value::Null).await?;
    let went = match door.bus.requeue(&row, &body).await? {
        Requeued::Published => "published",
        Requeued::Landed => "landed",
    };
    Ok(Json(json!({ "id": id, "requeued": went })))
}

async fn delete(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<DeadLetterId>,
) -> ApiResult<Json<Value>> {
    caller.require(Permission::SystemManage)?;
    let (row, _) = door.dead_letters.dead_letter_get(id).await?;
    caller.audit("dead_letter.delete", &id.to_string(), shown(&row)).await?;
    if door.dead_letters.dead_letter_delete(&row).await? {
        return Ok(Json(shown(&row)));
    }
    Err(ApiError::conflict(format!("dead letter {id} came again in this moment")))
}
