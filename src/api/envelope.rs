//! What goes around every answer: the request's id, its count, and paths with or without a slash at their end.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::clock::Ids;
use crate::metrics::Metrics;
use crate::model::refs::Id;
use crate::store::damage::noting_what_is_left_out;

/// Ids and counters.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) ids: Arc<dyn Ids>,
    pub(super) metrics: Metrics,
}

/// Rows that a list leaves out because they cannot be read.
pub(super) const DAMAGED_ROWS: &str = "x-petrel-damaged-rows";
const REQUEST_ID: &str = "x-request-id";
/// Longer ids than this are somebody's joke; they get one of ours.
const LONGEST_ID: usize = 128;

/// Notes the pattern of the route, so that requests are counted by patterns and not by paths.
pub(super) async fn note_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// Gives the answer the request's id, and counts it.
pub(super) async fn wrap(State(envelope): State<Envelope>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let given = request.headers().get(REQUEST_ID).filter(|id| id.len() <= LONGEST_ID && id.to_str().is_ok()).cloned();
    let mut response = next.run(request).await;
    let id = given.or_else(|| {
        let made = Id::<()>::from_bytes(envelope.ids.next()).to_string();
        HeaderValue::from_str(&made).ok()
    });
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let route = response.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    envelope.metrics.request_answered(method.as_str(), route, response.status().as_u16());
    response
}

/// Tells whoever asks for a list which rows of it are damaged and left out, as `executions/65f0…`.
pub(super) async fn note_damage(request: Request, next: Next) -> Response {
    let (mut response, left_out) = noting_what_is_left_out(next.run(request)).await;
    if let Some(first) = left_out.first() {
        let more = left_out.len() - 1;
        let text = if more == 0 { first.clone() } else { format!("{first} and {more} more") };
        let text: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(DAMAGED_ROWS, value);
        }
    }
    response
}

/// `/v1/rules/` is `/v1/rules`.
pub(super) fn trim_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return request;
    }
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    if let Ok(uri) = path_and_query.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}
