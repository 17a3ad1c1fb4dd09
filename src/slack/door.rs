//! Where Slack's requests arrive: who signed is known, what is said is durable, and only then Slack hears that it was
//! taken, well within the three seconds that it waits. What is done about it is done afterwards.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::command::stranger;
use super::heard::{Heard, Spoken};
use super::settings::Settings;
use crate::auth::{HookRequest, Scheme, Signature, Verifier};
use crate::clock::Clock;
use crate::intake::{Intake, IntakeError, Seen};
use crate::metrics::Metrics;
use crate::model::pack::Catalogue;

/// What Slack advises.
const SIGNED_WITHIN: Duration = Duration::from_mins(5);
const COMMAND: &str = "slack.command";
/// As the doors are called where events are counted.
const COUNTED_AS: &str = "slack";

/// What the routes reach for.
#[derive(Debug, Clone)]
pub struct Door {
    /// Makes commands durable.
    pub intake: Intake,
    /// The configuration.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// For the age of signatures.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// Commands that may wait to be made durable.
    pub places: Arc<Semaphore>,
}

/// The routes below the API's prefixes. They know their sender themselves.
pub fn router(door: Door) -> Router {
    Router::new()
        .route("/webhooks/slack/events", post(take_event))
        .route("/webhooks/slack/commands", post(take_slash))
        .with_state(Arc::new(door))
}

async fn take_event(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> Response {
    door.answered(door.event(&headers, &body).await)
}

async fn take_slash(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> Response {
    door.answered(door.slash(&headers, &body).await)
}

/// Why a request was not taken.
type Refused = (StatusCode, String);

impl Door {
    fn answered(&self, taken: Result<Value, Refused>) -> Response {
        match taken {
            // A slash command whose answer has words would show them.
            Ok(Value::Null) => StatusCode::OK.into_response(),
            Ok(said) => Json(said).into_response(),
            Err((status, fault)) => {
                self.metrics.event_refused(COUNTED_AS, status.as_u16());
                if matches!(status, StatusCode::BAD_REQUEST | StatusCode::SERVICE_UNAVAILABLE) {
                    tracing::warn!(door = COUNTED_AS, status = status.as_u16(), fault, "a delivery was refused");
                }
                (status, Json(json!({ "faultstring": fault }))).into_response()
            }
        }
    }

    async fn event(&self, headers: &HeaderMap, body: &Bytes) -> Result<Value, Refused> {
        self.admit(headers, body)?;
        let bad = |problem: serde_json::Error| (StatusCode::BAD_REQUEST, format!("this is no event: {problem}"));
        match Heard::event(body).map_err(bad)? {
            Heard::Challenge(challenge) => Ok(json!({ "challenge": challenge })),
            Heard::Nothing => Ok(Value::Null),
            Heard::Command(spoken) => {
                if let Some(number) = headers.get("x-slack-retry-num") {
                    tracing::info!(?number, key = spoken.key, "Slack repeats a delivery");
                }
                self.accept(spoken).await
            }
        }
    }

    async fn slash(&self, headers: &HeaderMap, body: &Bytes) -> Result<Value, Refused> {
        let settings = self.admit(headers, body)?;
        let bad = |problem| (StatusCode::BAD_REQUEST, format!("this is no slash command: {problem}"));
        let spoken = Heard::slash(body).map_err(bad)?;
        if settings.users.contains_key(&spoken.user) || spoken.line == "help" {
            return self.accept(spoken).await;
        }
        // Only they see it, so they may see it each time.
        Ok(json!({ "response_type": "ephemeral", "text": stranger(&spoken.user) }))
    }

    /// Only what Slack has signed comes in, and without a secret nothing.
    fn admit(&self, headers: &HeaderMap, body: &Bytes) -> Result<Settings, Refused> {
        let settings = Settings::of(&self.catalogue.borrow());
        let settings = settings.map_err(|problem| (StatusCode::SERVICE_UNAVAILABLE, problem))?;
        let secret = settings.as_ref().and_then(|settings| settings.signing_secret.clone());
        let (Some(settings), Some(secret)) = (settings, secret) else {
            let way_out =
                "nobody is known here: put the app's signing secret into `signing_secret` of configs/slack.yaml";
            return Err((StatusCode::SERVICE_UNAVAILABLE, way_out.to_owned()));
        };
        let verifier = Verifier::Hmac(Signature { scheme: Scheme::Slack, secret, replay_window: SIGNED_WITHIN });
        let request = HookRequest { headers, query: "", body, now: self.clock.now(), principal: None };
        match verifier.verify(&request) {
            Ok(()) => Ok(settings),
            Err(refusal) => Err((StatusCode::UNAUTHORIZED, format!("Unauthorized - {refusal}"))),
        }
    }

    async fn accept(&self, spoken: Spoken) -> Result<Value, Refused> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err((StatusCode::TOO_MANY_REQUESTS, "too many commands wait to be stored".to_owned()));
        };
        let Spoken { key, user, channel, line } = spoken;
        let payload = json!({ "user": user, "channel": channel, "line": line });
        let trigger = COMMAND.parse().map_err(|problem| (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}")))?;
        let seen = Seen { dedupe_key: Some(key), ..Seen::of_type(trigger, payload) };
        // Slack tries again for whatever is no success.
        let not_taken = |problem: IntakeError| (StatusCode::SERVICE_UNAVAILABLE, problem.to_string());
        let receipt = self.intake.accept(seen).await.map_err(not_taken)?;
        self.metrics.event_accepted(COUNTED_AS, receipt);
        Ok(Value::Null)
    }
}
