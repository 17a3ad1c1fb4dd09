//! One voice for everything that goes wrong at the HTTP door: StackStorm's `{"faultstring": …}` with the right status.

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::auth::Withheld;
use crate::intake::IntakeError;
use crate::requests::RequestError;
use crate::store::StoreError;

/// What handlers give back.
pub type ApiResult<T> = Result<T, ApiError>;

/// An answer that is a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    fault: String,
    retry_after: Option<Duration>,
}

/// When the store is away for a moment, asking again sooner only adds to the crowd.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl ApiError {
    fn new(status: StatusCode, fault: impl Into<String>) -> Self {
        Self { status, fault: fault.into(), retry_after: None }
    }

    /// The status that a pack's script chose; what is no refusal becomes 400.
    pub fn of_status(status: u16, fault: impl Into<String>) -> Self {
        let chosen = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error);
        Self::new(chosen.unwrap_or(StatusCode::BAD_REQUEST), fault)
    }

    /// 400: the request makes no sense.
    pub fn bad_request(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fault)
    }

    /// 401: who are you?
    pub fn unauthorized(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, fault)
    }

    /// 403: you may not.
    pub fn forbidden(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, fault)
    }

    /// 404: there is no such thing.
    pub fn not_found(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, fault)
    }

    /// 405: not this way.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
    }

    /// 409: not in this state.
    pub fn conflict(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, fault)
    }

    /// 408: the request did not arrive in time.
    pub fn too_slow(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, fault)
    }

    /// 413: too much at once.
    pub fn too_large(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, fault)
    }

    /// 415: a kind of body that nobody here reads.
    pub fn unsupported_type(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault)
    }

    /// 421: called by a name that is not ours.
    pub fn misdirected(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, fault)
    }

    /// 429: too fast; come back after a while.
    pub fn too_many(fault: impl Into<String>, after: Duration) -> Self {
        Self { retry_after: Some(after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, fault) }
    }

    /// 503: not now; nothing was accepted.
    pub fn unavailable(fault: impl Into<String>) -> Self {
        Self { retry_after: Some(STORE_RETRY), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, fault) }
    }

    /// 500: our mistake. What happened goes to the log, not to the caller.
    pub fn internal(cause: &dyn fmt::Display) -> Self {
        tracing::error!(%cause, "a request could not be answered");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// The status it is answered with.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Tells whoever keeps this installation that a delivery was not taken. What strangers may cause, or a crowd, is
    /// counted and must not fill the log. Credentials that a sender wrote into the path are not shown.
    pub(super) fn note(&self, door: &str, path: &str, withheld: &Withheld) {
        let withheld = withheld.of_request(&HeaderMap::new(), "", Vec::new());
        let (status, path, fault) = (&self.status, withheld.clean_text(path), withheld.clean_text(&self.fault));
        match *status {
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::TOO_MANY_REQUESTS => {
                tracing::debug!(door, path, status = status.as_u16(), %fault, "a delivery was refused");
            }
            _ => tracing::warn!(door, path, status = status.as_u16(), %fault, "a delivery was refused"),
        }
    }

    /// What it says.
    pub fn fault(&self) -> &str {
        &self.fault
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault)
    }
}

impl std::error::Error for ApiError {}

impl From<StoreError> for ApiError {
    fn from(problem: StoreError) -> Self {
        match problem {
            StoreError::NotFound(_) => Self::not_found(problem.to_string()),
            StoreError::Conflict => Self::conflict(problem.to_string()),
            StoreError::Unavailable(_) => Self::unavailable(problem.to_string()),
            StoreError::Refused(_) => {
                tracing::error!(%problem, "a request asked for what the store does not take");
                Self::bad_request("the store refuses what was to be written; the daemon's log says why")
            }
            StoreError::Corrupt(_) => {
                tracing::error!(%problem, "a request met damage");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "what is stored of this is damaged; the daemon's log says which row and what is wrong with it",
                )
            }
        }
    }
}

impl From<IntakeError> for ApiError {
    fn from(problem: IntakeError) -> Self {
        match problem {
            IntakeError::Store(problem) => problem.into(),
            IntakeError::Broker(_) => Self::unavailable(problem.to_string()),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(problem: RequestError) -> Self {
        match problem {
            RequestError::StoreAway(problem) => problem.into(),
            RequestError::Forbidden { .. } | RequestError::NotAllowed { .. } => Self::forbidden(problem.to_string()),
            mistake @ (RequestError::UnknownAction(_)
            | RequestError::Unusable { .. }
            | RequestError::BadParameters { .. }) => Self::bad_request(mistake.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "faultstring": self.fault }))).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
