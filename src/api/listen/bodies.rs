//! Reads bodies: each within its limit and a deadline, and all together within a budget of memory. Those who are not known
//! yet, because a signature over the body is their credential, have a budget of their own with shares by address, so that
//! they can neither fill the memory nor keep those out who are known.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::Request;
use futures_util::StreamExt;
use tokio::sync::Notify;

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
/// A body that has been on its way for longer makes room for others if there is none.
const SLOW_AFTER: Duration = Duration::from_secs(2);
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
    /// By number, so the oldest comes first.
    holders: BTreeMap<u64, Holder>,
    last_number: u64,
}

#[derive(Debug)]
struct Holder {
    share: ClientShare,
    bytes: usize,
    begun: Duration,
    /// Told to give way; `None` once the body has arrived.
    gives_way: Option<Arc<Notify>>,
}

impl Budget {
    fn new(total: usize, share: usize) -> Self {
        Self { total, share, used: Arc::default() }
    }

    /// A body of this share begins to arrive.
    fn begin(&self, share: ClientShare, now: Duration) -> (Held, Arc<Notify>) {
        let mut used = self.lock();
        used.last_number += 1;
        let (number, gives_way) = (used.last_number, Arc::new(Notify::new()));
        let holder = Holder { share, bytes: 0, begun: now, gives_way: Some(Arc::clone(&gives_way)) };
        used.holders.insert(number, holder);
        drop(used);
        (Held { budget: self.clone(), number }, gives_way)
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// The oldest body that has been on its way for too long to be a fast sender's.
    fn slowest(&self, but: u64, of: Option<ClientShare>, now: Duration) -> Option<u64> {
        let mut arriving = self.holders.iter().filter(|(number, holder)| **number != but && holder.gives_way.is_some());
        let slowest = arriving.find(|(_, holder)| holder.bytes > 0 && of.is_none_or(|share| share == holder.share))?;
        (slowest.1.begun + SLOW_AFTER <= now).then_some(*slowest.0)
    }

    fn add(&mut self, number: u64, bytes: usize) {
        let Some(holder) = self.holders.get_mut(&number) else { return };
        holder.bytes += bytes;
        self.bytes += bytes;
        *self.by_share.entry(holder.share).or_default() += bytes;
    }

    fn remove(&mut self, number: u64) {
        let Some(Holder { share, bytes, gives_way, .. }) = self.holders.remove(&number) else { return };
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(of_share) = self.by_share.get_mut(&share) {
            *of_share = of_share.saturating_sub(bytes);
            if *of_share == 0 {
                self.by_share.remove(&share);
            }
        }
        if let Some(gives_way) = gives_way {
            gives_way.notify_one();
        }
    }
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub(in crate::api) struct Held {
    budget: Budget,
    number: u64,
}

impl Held {
    /// Takes so many bytes more, if need be those of bodies that are slow to arrive.
    fn grow(&self, bytes: usize, now: Duration) -> bool {
        let mut used = self.budget.lock();
        loop {
            let Some(share) = used.holders.get(&self.number).map(|holder| holder.share) else { return false };
            let of_share = used.by_share.get(&share).copied().unwrap_or(0) + bytes;
            let slowest = if of_share > self.budget.share {
                used.slowest(self.number, Some(share), now)
            } else if used.bytes + bytes > self.budget.total {
                used.slowest(self.number, None, now)
            } else {
                used.add(self.number, bytes);
                return true;
            };
            let Some(slowest) = slowest else { return false };
            used.remove(slowest);
        }
    }

    /// The body is there: it gives way to nobody any more.
    fn arrived(&self) -> bool {
        let mut used = self.budget.lock();
        used.holders.get_mut(&self.number).is_some_and(|holder| holder.gives_way.take().is_some())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.lock().remove(self.number);
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
    let (held, gives_way) = budget.begin(client.share(), bodies.clock.monotonic());
    let _reading = client.read_as_stranger();
    let arriving = async {
        tokio::select! {
            biased;
            collected = collect(request, held, &bodies) => collected,
            () = gives_way.notified() => Err(over_budget(&bodies)),
        }
    };
    let arrived = clock::timeout(&*bodies.clock, deadline, arriving).await;
    arrived.unwrap_or_else(|_| {
        bodies.metrics.request_refused("body_deadline");
        Err(ApiError::too_slow(format!("the body did not arrive within {} seconds", deadline.as_secs())))
    })
}

fn over_budget(bodies: &Bodies) -> ApiError {
    bodies.metrics.request_refused("body_budget");
    ApiError::too_many("too many bodies are on their way; see `limits.unauthenticated_body_bytes`", RETRY_AFTER)
}

fn bodies_of(request: &Request) -> ApiResult<Bodies> {
    let bodies = request.extensions().get::<Bodies>().cloned();
    bodies.ok_or_else(|| ApiError::internal(&"this route has no budget for bodies"))
}

async fn collect(request: Request, held: Held, bodies: &Bodies) -> ApiResult<(Bytes, Held)> {
    let mut chunks = request.with_limited_body().into_body().into_data_stream();
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|problem| unreadable(&problem))?;
        if !held.grow(chunk.len(), bodies.clock.monotonic()) {
            return Err(over_budget(bodies));
        }
        // Most bodies come in one piece, which is not copied.
        if first.is_empty() && whole.is_empty() {
            first = chunk;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&chunk);
        }
    }
    if !held.arrived() {
        return Err(over_budget(bodies));
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

    const NOW: Duration = Duration::from_secs(100);

    fn strangers() -> Budget {
        Bodies::new(&limits(), Arc::new(SimClock::new(Timestamp::default())), Metrics::default()).strangers
    }

    fn hold(budget: &Budget, last: u8, now: Duration) -> Option<Held> {
        let (held, _) = budget.begin(share(last), now);
        held.grow(100, now).then_some(held)
    }

    #[test]
    fn strangers_of_one_address_cannot_use_up_the_budget() {
        let budget = strangers();
        let mut of_one: Vec<Held> = std::iter::from_fn(|| hold(&budget, 1, NOW)).collect();
        assert_eq!(of_one.len(), 2, "a quarter of the budget");
        assert!(hold(&budget, 2, NOW).is_some());
        let others: Vec<Held> = (2..20).filter_map(|last| hold(&budget, last, NOW)).collect();
        assert_eq!(others.len(), 6, "and all together have no more than the budget");
        of_one.clear();
        assert!(hold(&budget, 3, NOW).is_some());
        drop(others);
        let used = budget.lock();
        assert_eq!((used.bytes, used.by_share.len(), used.holders.len()), (0, 0, 0), "all of it is given back");
    }

    #[test]
    fn bodies_that_are_slow_to_arrive_make_room_and_those_that_are_there_do_not() {
        let budget = strangers();
        let held: Vec<Held> = (0..8).filter_map(|last| hold(&budget, last, NOW)).collect();
        assert!(held[0].arrived());
        assert!(hold(&budget, 9, NOW + SLOW_AFTER / 2).is_none(), "none of them is slow yet");
        let newcomer = hold(&budget, 9, NOW + SLOW_AFTER).unwrap();
        assert!(newcomer.arrived());
        assert!(!held[1].grow(1, NOW + SLOW_AFTER), "it gave way");
        assert!(!held[1].arrived());
        assert!(held[2].arrived());
        drop(held);
        assert_eq!(budget.lock().bytes, 100);
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
