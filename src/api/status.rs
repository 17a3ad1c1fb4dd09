//! `/healthz`, `/readyz`, `/metrics`, `/status`: how the daemon is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::api::asg::AsgService;
use crate::api::dead_letters::BusService;
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::dispatch::Dispatcher;
use crate::health::{Severity, Troubles};
use crate::metrics::Metrics;
use crate::model::pack::Catalogue;
use crate::store::{Events, Executions};
use crate::supervise::{Supervisor, TaskState};

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    pub(super) events: Events,
    pub(super) executions: Executions,
    pub(super) supervisor: Supervisor,
    pub(super) governor: Arc<dyn AsgService>,
    pub(super) bus: Arc<dyn BusService>,
    pub(super) troubles: Troubles,
    pub(super) metrics: Metrics,
    pub(super) dispatcher: Arc<Dispatcher>,
}

/// Open to everybody: whoever restarts daemons has no key.
pub(super) fn open_router(door: Door) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(door)
}

pub(super) fn router(door: Door) -> Router {
    Router::new().route("/status", get(status)).route("/metrics", get(metrics)).with_state(door)
}

/// 200, or 503 with the reasons. Warnings make nobody send work elsewhere.
async fn readyz(State(door): State<Door>) -> impl IntoResponse {
    let reasons = door.reasons_not_ready().await;
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    let warnings = door.troubles.list(Severity::Warns);
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    (status, Json(answer))
}

impl Door {
    async fn reasons_not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.supervisor.token().is_cancelled() {
            reasons.push("the daemon is stopping".to_owned());
        }
        if self.catalogue.borrow().version == 0 {
            reasons.push("packs and rules are not loaded yet".to_owned());
        }
        let answers = self.events.instances_pending_count().await.map(drop);
        if let Err(problem) = self.events.check_store().and(answers) {
            reasons.push(problem.to_string());
        }
        reasons.extend(self.bus.reasons_not_ready());
        reasons.extend(self.troubles.list(Severity::Blocks));
        reasons.extend(self.dispatcher.reasons_not_ready());
        let resting = self.supervisor.status().into_iter().filter(|task| task.state == TaskState::BackingOff);
        reasons.extend(resting.map(|task| {
            format!("`{}` failed and waits to be started again: {}", task.name, task.last_error.unwrap_or_default())
        }));
        reasons
    }
}

async fn status(State(door): State<Door>, _caller: Authenticated) -> ApiResult<Json<Value>> {
    let by_status = door.executions.execution_count_by_status().await?;
    let by_status: Map<String, Value> =
        by_status.into_iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
    let version = door.catalogue.borrow().version;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "catalogue_version": version,
        "tasks": door.supervisor.status(),
        "freeze": door.governor.freeze_state().await?,
        "pending_instances": door.events.instances_pending_count().await?,
        "executions_by_status": by_status,
    })))
}

async fn metrics(State(door): State<Door>, _caller: Authenticated) -> ApiResult<impl IntoResponse> {
    let unfinished: i64 = door.executions.execution_count_by_status().await?.into_iter().map(|(_, count)| count).sum();
    door.metrics.waiting(unfinished, door.events.instances_pending_count().await?);
    let text = door.metrics.render().map_err(|problem| ApiError::internal(&problem))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
