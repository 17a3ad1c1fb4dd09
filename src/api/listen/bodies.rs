//! Reads bodies: each within its limit and a deadline, and all together within a budget of memory. Those who are not known
//! yet, because a signature over the body is their credential, have a budget of their own with shares by address, so that
//! they can neither fill the memory nor keep those out who are known.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::Request;
use futures_util::StreamExt;

use super::address::ClientShare;
use super::client::Client;
use crate::api::error::{ApiError, ApiResult};
use crate::clock::{self, Clock};
use crate::config::Limits;
use crate::metrics::Metrics;

/// A body of somebody who is known arrives within this time.
const DEADLINE: Duration = Duration::from_mins(1);
/// A body of a stranger arrives within this time.
const DEADLINE_OF_STRANGER: Duration = Duration::from_secs(20);
/// A body that nobody will read is waited for this long, so that the sender sees the answer instead of a reset.
const DISCARD_FOR: Duration = Duration::from_secs(2);
/// Memory for bodies of those who are known: far above what a fleet sends at once, and the largest catalogue fits.
const KNOWN_BYTES: usize = 256 << 20;
/// One address may hold this part of the strangers' budget.
const SHARE_OF_ADDRESS: usize = 4;
/// When bodies that are under way have arrived, or their deadline has passed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The budgets of all listeners.
#[derive(Debug, Clone)]
pub struct Bodies {
    strangers: Budget,
    known: Budget,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Bodies {
    /// As `limits` says. One body always fits.
    pub fn new(limits: &Limits, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let total = limits.unauthenticated_body_bytes.max(limits.body_bytes);
        let share = (total / SHARE_OF_ADDRESS).max(limits.body_bytes);
        Self {
            strangers: Budget::new(total, share),
            known: Budget::new(KNOWN_BYTES.max(total), usize::MAX),
            clock,
            metrics,
        }
    }
}

#[derive(Debug, Clone)]
struct Budget {
    total: usize,
    share: usize,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    by_share: HashMap<ClientShare, usize>,
}

impl Budget {
    fn new(total: usize, share: usize) -> Self {
        Self { total, share, used: Arc::default() }
    }

    fn take(&self, share: ClientShare, bytes: usize) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let of_share = used.by_share.get(&share).copied().unwrap_or(0) + bytes;
        if of_share > self.share || used.bytes + bytes > self.total {
            return false;
        }
        used.bytes += bytes;
        used.by_share.insert(share, of_share);
        true
    }

    fn give_back(&self, share: ClientShare, bytes: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.bytes = used.bytes.saturating_sub(bytes);
        if let Some(of_share) = used.by_share.get_mut(&share) {
            *of_share = of_share.saturating_sub(bytes);
            if *of_share == 0 {
                used.by_share.remove(&share);
            }
        }
    }
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub(in crate::api) struct Held {
    budget: Budget,
    share: ClientShare,
    bytes: usize,
}

impl Held {
    fn grow(&mut self, bytes: usize) -> bool {
        let is_taken = self.budget.take(self.share, bytes);
        self.bytes += if is_taken { bytes } else { 0 };
        is_taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.share, self.bytes);
    }
}

/// The body of a request, up to the limit of its router (`DefaultBodyLimit`). Keep what is held for as long as the body is.
pub(in crate::api) async fn read_body(request: Request) -> ApiResult<(Bytes, Held)> {
    let client = Client::of(request.extensions());
    let bodies = bodies_of(&request)?;
    let (budget, deadline) = if client.is_known() {
        (bodies.known.clone(), DEADLINE)
    } else {
        (bodies.strangers.clone(), DEADLINE_OF_STRANGER)
    };
    let held = Held { budget, share: client.share(), bytes: 0 };
    let _reading = client.read_as_stranger();
    let arrived = clock::timeout(&*bodies.clock, deadline, collect(request, held, &bodies)).await;
    arrived.unwrap_or_else(|_| {
        bodies.metrics.request_refused("body_deadline");
        Err(ApiError::too_slow(format!("the body did not arrive within {} seconds", deadline.as_secs())))
    })
}

fn bodies_of(request: &Request) -> ApiResult<Bodies> {
    let bodies = request.extensions().get::<Bodies>().cloned();
    bodies.ok_or_else(|| ApiError::internal(&"this route has no budget for bodies"))
}

async fn collect(request: Request, mut held: Held, bodies: &Bodies) -> ApiResult<(Bytes, Held)> {
    let mut chunks = request.with_limited_body().into_body().into_data_stream();
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|problem| unreadable(&problem))?;
        if !held.grow(chunk.len()) {
            bodies.metrics.request_refused("body_budget");
            let fault = "too many bodies are on their way; see `limits.unauthenticated_body_bytes`";
            return Err(ApiError::too_many(fault, RETRY_AFTER));
        }
        // Most bodies come in one piece, which is not copied.
        if first.is_empty() && whole.is_empty() {
            first = chunk;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&chunk);
        }
    }
    Ok((if whole.is_empty() { first } else { whole.into() }, held))
}

fn unreadable(problem: &axum::Error) -> ApiError {
    if is_over_limit(problem) {
        return ApiError::too_large("the body is longer than this door takes; see `limits.body_bytes`");
    }
    ApiError::too_slow(format!("the body did not arrive whole: {problem}"))
}

/// The error's type belongs to a crate that only axum knows.
fn is_over_limit(problem: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(problem);
    while let Some(error) = cause {
        if error.to_string() == "length limit exceeded" {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Lets a body pass that will not be read, without keeping it: whoever still sends would see a reset instead of the answer.
pub(in crate::api) async fn discard_body(request: Request, clock: &dyn Clock) {
    let client = Client::of(request.extensions());
    let _reading = client.read_as_stranger();
    let mut chunks = request.with_limited_body().into_body().into_data_stream();
    let passing = async { while let Some(Ok(_)) = chunks.next().await {} };
    if clock::timeout(clock, DISCARD_FOR, passing).await.is_err() {
        tracing::trace!("a refused body did not end in time");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;

    use axum::body::Body;
    use axum::extract::DefaultBodyLimit;
    use axum::routing::post;
    use axum::{BoxError, Extension, Router};
    use futures_util::stream;
    use tower::ServiceExt;

    use super::*;
    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    fn limits() -> Limits {
        Limits { body_bytes: 100, json_depth: 16, rate_per_second: 1, intake_queue: 1, unauthenticated_body_bytes: 800 }
    }

    fn share(last: u8) -> ClientShare {
        ClientShare::of(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn strangers_of_one_address_cannot_use_up_the_budget() {
        let bodies = Bodies::new(&limits(), Arc::new(SimClock::new(Timestamp::default())), Metrics::default());
        let hold = |last: u8| {
            let mut held = Held { budget: bodies.strangers.clone(), share: share(last), bytes: 0 };
            held.grow(100).then_some(held)
        };
        let mut of_one: Vec<Held> = std::iter::from_fn(|| hold(1)).collect();
        assert_eq!(of_one.len(), 2, "a quarter of the budget");
        assert!(hold(2).is_some());
        let others: Vec<Held> = (2..20).filter_map(hold).collect();
        assert_eq!(others.len(), 6, "and all together have no more than the budget");
        of_one.clear();
        assert!(hold(3).is_some());
        drop(others);
        assert_eq!(bodies.strangers.used.lock().unwrap().bytes, 0, "what is not needed any more is given back");
        assert!(bodies.strangers.used.lock().unwrap().by_share.is_empty());
    }

    async fn answer(clock: &Arc<SimClock>, body: Body) -> (u16, String) {
        let bodies = Bodies::new(&limits(), Arc::<SimClock>::clone(clock) as Arc<dyn Clock>, Metrics::default());
        let take = async |request: Request| read_body(request).await.map(|(bytes, _)| bytes.len().to_string());
        let router = Router::new().route("/", post(take)).layer(Extension(bodies)).layer(DefaultBodyLimit::max(100));
        let response = router.oneshot(Request::post("/").body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn pieces(sizes: &[usize]) -> impl futures_util::Stream<Item = Result<Vec<u8>, BoxError>> + use<> {
        stream::iter(sizes.iter().map(|size| Ok(vec![b'x'; *size])).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_refused_with_the_setting() {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        assert_eq!(answer(&clock, Body::from(vec![b'x'; 100])).await, (200, "100".to_owned()));
        assert_eq!(answer(&clock, Body::from_stream(pieces(&[40, 0, 60]))).await, (200, "100".to_owned()));
        let (status, fault) = answer(&clock, Body::from_stream(pieces(&[60, 60]))).await;
        assert!(status == 413 && fault.contains("limits.body_bytes"), "{status} {fault}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let body = Body::from_stream(pieces(&[10]).chain(stream::pending()));
        let mut answer = pin!(answer(&clock, body));
        let answered = tokio::select! {
            answered = &mut answer => answered,
            () = async { loop { clock.advance(Duration::from_secs(5)); tokio::task::yield_now().await; } } => return,
        };
        assert_eq!(answered.0, 408);
        assert!(answered.1.contains("20 seconds"), "{}", answered.1);
    }
}
