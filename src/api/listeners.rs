//! Doors that packs ask for: a port of its own for the webhooks of a sensor (New Relic: 10001, `/st2/nrhook`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::api::body::parse;
use crate::api::error::{ApiError, ApiResult};
use crate::api::webhooks::{Delivery, Senders, safe_headers};
use crate::auth::WebhookAuth;
use crate::intake::Receipt;
use crate::metrics::Metrics;
use crate::model::refs::InstanceId;
use crate::sensors::body::BodyLimits;
use crate::sensors::hooks::{HookError, Hooks};
use crate::sensors::mapping::WebhookRequest;

/// One listener of the packs' sensors.
#[derive(Clone)]
pub struct Listener {
    /// The name that sensors give it; `None` is the API's own port.
    pub name: Option<String>,
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
    /// What is counted.
    pub metrics: Metrics,
}

/// Everything that is answered on the listener's port.
pub fn router(listener: Listener) -> Router {
    let body_bytes = listener.body_bytes;
    Router::new().fallback(receive).layer(DefaultBodyLimit::max(body_bytes)).with_state(listener)
}

async fn receive(State(listener): State<Listener>, request: Request) -> Response {
    match listener.take(request).await {
        Ok(accepted) => {
            let known = accepted.iter().map(|id| Receipt::New(*id));
            known.for_each(|receipt| listener.metrics.event_accepted("sensor", receipt));
            (StatusCode::ACCEPTED, Json(json!({ "trigger_instances": accepted }))).into_response()
        }
        Err(refusal) => {
            listener.metrics.event_refused("sensor", refusal.status().as_u16());
            refusal.into_response()
        }
    }
}

impl Listener {
    async fn take(&self, request: Request) -> ApiResult<Vec<InstanceId>> {
        let path = request.uri().path().trim_matches('/').to_owned();
        let method = request.method().to_string();
        let sensor = self
            .hooks
            .find(self.name.as_deref(), &path)
            .ok_or_else(|| ApiError::not_found(format!("no sensor listens on /{path}")))?;
        if method != "POST" {
            return Err(ApiError::method_not_allowed());
        }
        let delivery = Delivery::read(request).await?;
        self.senders.check(&self.auth, &delivery).await?;
        let request = self.request(method, path, &delivery)?;
        Ok(self.hooks.receive(&sensor, &request).await?)
    }

    fn request(&self, method: String, path: String, delivery: &Delivery) -> ApiResult<WebhookRequest> {
        let body: Value = parse(&delivery.headers, &delivery.body, self.limits)?;
        let content_type = delivery.headers.get("content-type").and_then(|value| value.to_str().ok());
        let query: BTreeMap<String, String> = form_urlencoded::parse(delivery.query.as_bytes()).into_owned().collect();
        let headers = safe_headers(&delivery.headers);
        Ok(WebhookRequest { method, path, headers, query, body, content_type: content_type.map(str::to_owned) })
    }
}

impl From<HookError> for ApiError {
    fn from(problem: HookError) -> Self {
        match problem {
            HookError::Unknown(_) => Self::not_found(problem.to_string()),
            HookError::Rejected { status, reason } => Self::of_status(status, reason),
            HookError::Broken { .. } => Self::internal(&problem),
            HookError::Store(problem) => problem.into(),
        }
    }
}
