//! `/catalogues`: what is published for all daemons over one store. The daemon checks it as it checks its own files.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listen::read_body;
use crate::auth::Permission;
use crate::content::publish::{Checked, Counts, Published, Refusal};
use crate::content::{ContentError, ContentKeeper};
use crate::packs::publication::wire::{MOST_WIRE_BYTES, WirePublication};
use crate::packs::publication::{Publication, PublicationError};
use crate::store::catalogues::PublishedRow;
use crate::supervise::Supervisor;

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) content: Arc<ContentKeeper>,
    pub(super) supervisor: Supervisor,
}

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/catalogues", post(publish).layer(DefaultBodyLimit::max(MOST_WIRE_BYTES)).get(list))
        .route("/catalogues/{version}/publish", post(publish_again))
        .route("/catalogues/unpublish", post(unpublish))
        .with_state(door)
}

async fn list(State(door): State<Door>, _caller: Authenticated) -> ApiResult<Json<Value>> {
    let kept = door.content.publications().await?;
    Ok(Json(kept.iter().enumerate().map(|(place, row)| shown(row, place == 0)).collect()))
}

/// The body is read after the question who sends it: it may be long.
async fn publish(State(door): State<Door>, caller: Authenticated, request: Request) -> ApiResult<Response> {
    caller.require(Permission::PackManage)?;
    let (body, _held) = read_body(request).await.map_err(too_large)?;
    let checked = match door.check(body).await? {
        Ok(checked) => checked,
        Err(refusal) => return refuse(refusal),
    };
    caller.audit("catalogue.publish", checked.digest(), counted(checked.counts())).await?;
    let published = door.content.publish(&checked, &caller.principal.name).await?;
    let mut answer = answer(&published);
    answer["counts"] = counted(checked.counts());
    Ok((status_of(&published), Json(answer)).into_response())
}

async fn publish_again(
    State(door): State<Door>,
    caller: Authenticated,
    Path(version): Path<u64>,
) -> ApiResult<Response> {
    caller.change(Permission::PackManage, "catalogue.publish", &format!("v{version}"), Value::Null).await?;
    let published = door.content.publish_again(version, &caller.principal.name).await?;
    Ok((status_of(&published), Json(answer(&published))).into_response())
}

async fn unpublish(State(door): State<Door>, caller: Authenticated) -> ApiResult<Response> {
    caller.change(Permission::PackManage, "catalogue.unpublish", "", Value::Null).await?;
    let published = door.content.unpublish(&caller.principal.name).await?;
    Ok((status_of(&published), Json(answer(&published))).into_response())
}

impl Door {
    /// Parsing and checking what may be large takes a thread of its own.
    async fn check(&self, body: axum::body::Bytes) -> ApiResult<Result<Checked, Refusal>> {
        let content = Arc::clone(&self.content);
        let checking = move || {
            let publication = understand(&body)?;
            Ok(content.check(publication))
        };
        let checked = self.supervisor.spawn_blocking("check of a catalogue", checking).await;
        checked.map_err(|panicked| ApiError::internal(&panicked))?
    }
}

/// This door's limit is not the one in the configuration.
fn too_large(refusal: ApiError) -> ApiError {
    match refusal.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(PublicationError::TooLarge.to_string()),
        _ => refusal,
    }
}

fn understand(body: &[u8]) -> ApiResult<Publication> {
    let wire: WirePublication = serde_json::from_slice(body)
        .map_err(|problem| ApiError::bad_request(format!("the body is no publication: {problem}")))?;
    Publication::try_from(wire).map_err(|problem| ApiError::bad_request(problem.to_string()))
}

/// People read the fault, programs the findings.
fn refuse(refusal: Refusal) -> ApiResult<Response> {
    let fault = refusal.to_string();
    match refusal {
        Refusal::Bad(findings) => {
            let body = json!({ "faultstring": fault, "findings": findings });
            Ok((StatusCode::BAD_REQUEST, Json(body)).into_response())
        }
        Refusal::Content(ContentError::Store(problem)) => Err(problem.into()),
        Refusal::Content(problem) => Err(ApiError::internal(&format!("{:#}", anyhow::Error::new(problem)))),
    }
}

const fn status_of(published: &Published) -> StatusCode {
    match published {
        Published::Now(_) => StatusCode::CREATED,
        Published::Before(_) => StatusCode::OK,
    }
}

fn answer(published: &Published) -> Value {
    let (row, changed) = match published {
        Published::Now(row) => (row, true),
        Published::Before(row) => (row, false),
    };
    let mut answer = shown(row, true);
    answer["changed"] = json!(changed);
    answer
}

fn shown(row: &PublishedRow, is_current: bool) -> Value {
    json!({
        "version": row.version,
        "digest": row.digest,
        "current": is_current,
        "published_by": row.published_by,
        "published_at": row.published_at,
    })
}

fn counted(counts: Counts) -> Value {
    let Counts { files, size_bytes, packs, rules, actions } = counts;
    json!({ "files": files, "size_bytes": size_bytes, "packs": packs, "rules": rules, "actions": actions })
}
