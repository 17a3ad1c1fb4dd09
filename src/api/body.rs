//! What handlers take in: JSON bodies of bounded size and depth, and query strings, refused in the door's one voice.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::error::{ApiError, ApiResult};
use crate::api::listen::read_body;
use crate::sensors::body::{BodyError, BodyLimits, parse_body};

/// The body as `T`; no body, and `null`, count as an empty object.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> ApiResult<Self> {
        let limits = request.extensions().get::<BodyLimits>().copied().unwrap_or_default();
        let headers = request.headers().clone();
        let (bytes, _held) = read_body(request).await?;
        let body = Some(parse(&headers, &bytes, limits)?).filter(|body| !body.is_null());
        let body = body.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        serde_json::from_value(body)
            .map(Self)
            .map_err(|problem| ApiError::bad_request(format!("the body does not fit: {problem}")))
    }
}

/// A body by its content type.
pub(super) fn parse(headers: &HeaderMap, bytes: &[u8], limits: BodyLimits) -> ApiResult<Value> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    parse_body(content_type, bytes, limits).map_err(ApiError::from)
}

impl From<BodyError> for ApiError {
    fn from(problem: BodyError) -> Self {
        match problem {
            BodyError::UnknownType { .. } => Self::unsupported_type(problem.to_string()),
            BodyError::NotUtf8 { .. } | BodyError::NotJson { .. } | BodyError::TooDeep { .. } => {
                Self::bad_request(problem.to_string())
            }
        }
    }
}

/// The query string as `T`; what is unknown in it is ignored, as StackStorm does.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|problem| ApiError::bad_request(problem.to_string()))
    }
}

/// A part of the path as `T`: a reference, an id or a name. What cannot be one names nothing that exists.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(|problem| ApiError::not_found(problem.body_text()))
    }
}

/// Truth as StackStorm's clients write it in queries: `True`, `1`, `yes`.
pub(super) fn is_true(text: Option<&str>) -> bool {
    text.is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "y" | "on"))
}
