//! `/signals`: what workflows wait for with `wait_signal`. One that comes early lies in the inbox until it is taken.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::body::JsonBody;
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::auth::Permission;
use crate::bus::{Bus, Topic};
use crate::clock::{Clock, Ids};
use crate::model::refs::Id;
use crate::model::time::parse_duration;
use crate::store::Journals;
use crate::store::journal::NewSignal;

/// What this route reaches for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) journals: Journals,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
}

/// A signal that nobody takes is forgotten after this long.
const DEFAULT_TTL: Duration = Duration::from_hours(7 * 24);

pub(super) fn router(door: Door) -> Router {
    Router::new().route("/signals", post(send)).with_state(door)
}

#[derive(Debug, Deserialize)]
struct Signal {
    name: String,
    #[serde(default)]
    correlation: String,
    #[serde(default)]
    payload: Value,
    /// The sender's own id of it, by which a repetition is recognised.
    sender: Option<String>,
    /// As `7d`.
    ttl: Option<String>,
}

async fn send(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(signal): JsonBody<Signal>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    if signal.name.is_empty() {
        return Err(ApiError::bad_request("`name` is empty: say which signal this is"));
    }
    let ttl = match &signal.ttl {
        Some(text) => parse_duration(text).map_err(|problem| ApiError::bad_request(format!("ttl: {problem}")))?,
        None => DEFAULT_TTL,
    };
    let now = door.clock.now();
    let made_up = || Id::<()>::from_bytes(door.ids.next()).to_string();
    let new = NewSignal {
        name: signal.name,
        correlation: signal.correlation,
        sender: signal.sender.unwrap_or_else(made_up),
        payload: signal.payload,
        expires_at: now.plus(ttl),
    };
    let detail = json!({ "correlation": new.correlation, "sender": new.sender });
    caller.change(Permission::ExecutionControl, "signal.send", &new.name, detail).await?;
    let accepted = door.journals.signal_send(&new, now).await?;
    door.bus.hint(Topic::Queue);
    Ok((StatusCode::ACCEPTED, Json(json!({ "accepted": accepted, "sender": new.sender }))))
}
