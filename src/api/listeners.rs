//! Doors that packs ask for: a port of its own for the webhooks of a sensor (New Relic: 10001, `/st2/nrhook`).

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde_json::json;

use crate::api::body::parse;
use crate::api::error::{ApiError, ApiResult};
use crate::api::listen::Bodies;
use crate::api::webhooks::{Senders, unknown};
use crate::auth::WebhookAuth;
use crate::intake::Receipt;
use crate::metrics::Metrics;
use crate::model::refs::InstanceId;
use crate::sensors::body::BodyLimits;
use crate::sensors::hooks::{HookError, Hooks};

/// One listener of the packs' sensors.
#[derive(Clone)]
pub struct Listener {
    /// The name that sensors give it.
    pub name: String,
    /// How its senders are known.
    pub auth: WebhookAuth,
    /// Knows them.
    pub senders: Senders,
    /// What listens here.
    pub hooks: Arc<Hooks>,
    /// Depth of bodies.
    pub limits: BodyLimits,
    /// Size of bodies.
    pub body_bytes: usize,
    /// Memory for bodies.
    pub bodies: Bodies,
    /// What is counted.
    pub metrics: Metrics,
}

/// Everything that is answered on the listener's port.
pub fn router(listener: Listener) -> Router {
    let (body_bytes, bodies) = (listener.body_bytes, listener.bodies.clone());
    let router = Router::new().fallback(receive).layer(DefaultBodyLimit::max(body_bytes));
    router.layer(Extension(bodies)).with_state(listener)
}

async fn receive(State(listener): State<Listener>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match listener.take(request).await {
        Ok(receipts) => {
            receipts.iter().for_each(|receipt| listener.metrics.event_accepted("sensor", *receipt));
            let instances: Vec<InstanceId> = receipts.into_iter().map(Receipt::instance).collect();
            (StatusCode::ACCEPTED, Json(json!({ "trigger_instances": instances }))).into_response()
        }
        Err(refusal) => {
            listener.metrics.event_refused("sensor", refusal.status().as_u16());
            refusal.note(&listener.name, &path, &listener.senders.withheld);
            refusal.into_response()
        }
    }
}

impl Listener {
    async fn take(&self, request: Request) -> ApiResult<Vec<Receipt>> {
        let path = request.uri().path().trim_matches('/').to_owned();
        let sensor = self
            .hooks
            .find(Some(&self.name), &path)
            .ok_or_else(|| unknown(&self.hooks.catalogue(), format!("no sensor listens on /{path}")))?;
        if request.method() != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let delivery = self.senders.admit(&self.auth, &path, request).await?;
        let body = parse(&delivery.headers, &delivery.body, self.limits)?;
        Ok(self.hooks.receive(&sensor, &delivery.as_request(body)).await?)
    }
}

impl From<HookError> for ApiError {
    fn from(problem: HookError) -> Self {
        match problem {
            HookError::Unknown(_) => Self::not_found(problem.to_string()),
            HookError::Rejected { status, reason } => Self::of_status(status, reason),
            HookError::Broken { .. } => Self::internal(&problem),
            HookError::Intake(problem) => problem.into(),
        }
    }
}
