//! What a node answers: units of work that take their time, its health, and its numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::Semaphore;

use super::files::Registration;
use crate::clock::{self, Clock};

/// One node at work.
#[derive(Debug)]
pub(super) struct Work {
    clock: Arc<dyn Clock>,
    registration: Registration,
    ready: AtomicBool,
    slots: Semaphore,
    admitted: AtomicUsize,
    done: AtomicU64,
    shed: AtomicU64,
}

/// One request that has a slot or waits for one.
struct Admitted<'a>(&'a Work);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Work {
    pub(super) fn new(registration: Registration, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            slots: Semaphore::new(registration.knobs.concurrency.get().into()),
            registration,
            ready: AtomicBool::new(false),
            admitted: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        }
    }

    /// From now on it works.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// The routes; a node that hangs takes every request and answers none.
    pub(super) fn routes(self: Arc<Self>) -> Router {
        if self.registration.knobs.hang {
            return Router::new().fallback(std::future::pending::<StatusCode>);
        }
        let router = Router::new().route("/", get(work)).route("/health", get(health)).route("/metrics", get(metrics));
        router.with_state(self)
    }

    /// `None`: slots and queue are full.
    fn admit(&self) -> Option<Admitted<'_>> {
        let limit = self.concurrency() + usize::from(self.registration.knobs.queue);
        let one_more = |admitted| (admitted < limit).then_some(admitted + 1);
        let admitted = self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        // Lazily: an `Admitted` that is made and dropped would count down.
        admitted.is_ok().then(|| Admitted(self))
    }

    fn concurrency(&self) -> usize {
        self.registration.knobs.concurrency.get().into()
    }

    fn identity(&self, phase: &str) -> Json<serde_json::Value> {
        let Registration { group, name, knobs, .. } = &self.registration;
        Json(json!({ "group": group, "name": name, "version": knobs.version, "phase": phase }))
    }
}

async fn work(State(work): State<Arc<Work>>) -> Response {
    if !work.is_ready() {
        return health(State(work)).await;
    }
    let Some(_admitted) = work.admit() else {
        work.shed.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::SERVICE_UNAVAILABLE, work.identity("overloaded")).into_response();
    };
    let _slot = work.slots.acquire().await.expect("nobody closes the slots");
    clock::sleep(&*work.clock, work.registration.knobs.service_time()).await;
    work.done.fetch_add(1, Ordering::Relaxed);
    work.identity("ready").into_response()
}

async fn health(State(work): State<Arc<Work>>) -> Response {
    if work.is_ready() {
        return work.identity("ready").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, work.identity("booting")).into_response()
}

async fn metrics(State(work): State<Arc<Work>>) -> String {
    let inflight = work.concurrency() - work.slots.available_permits();
    let waiting = work.admitted.load(Ordering::Relaxed).saturating_sub(inflight);
    let done = work.done.load(Ordering::Relaxed);
    let shed = work.shed.load(Ordering::Relaxed);
    let rows = [
        ("node_inflight", "gauge", inflight.to_string()),
        ("node_waiting", "gauge", waiting.to_string()),
        ("node_requests_total", "counter", done.to_string()),
        ("node_shed_total", "counter", shed.to_string()),
        ("node_capacity", "gauge", work.concurrency().to_string()),
    ];
    rows.map(|(name, kind, value)| format!("# TYPE {name} {kind}\n{name} {value}\n")).concat()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use futures_util::FutureExt;
    use tower::ServiceExt;

    use super::*;
    use crate::clock::SimClock;
    use crate::local::knobs::Knobs;
    use crate::model::time::Timestamp;

    fn node(knobs: Knobs) -> (Arc<SimClock>, Arc<Work>) {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let registration = Registration {
            group: "web".parse().unwrap(),
            name: "web-001".parse().unwrap(),
            tag: "t".to_owned(),
            size: None,
            knobs,
            created_at: Timestamp::default(),
        };
        let work = Work::new(registration, Arc::clone(&clock) as Arc<dyn Clock>);
        (clock, Arc::new(work))
    }

    async fn get(work: &Arc<Work>, path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).unwrap();
        Arc::clone(work).routes().oneshot(request).await.unwrap()
    }

    async fn metric(work: &Arc<Work>, name: &str) -> u64 {
        let body = to_bytes(get(work, "/metrics").await.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    }

    #[tokio::test]
    async fn slots_work_the_queue_waits_and_the_rest_is_shed() {
        let one = NonZeroU16::MIN;
        let (clock, work) = node(Knobs { concurrency: one, queue: 1, service_time_ms: 1000, ..Knobs::default() });
        work.set_ready();
        let (mut first, mut second) = (Box::pin(get(&work, "/")), Box::pin(get(&work, "/")));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(get(&work, "/").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((metric(&work, "node_inflight ").await, metric(&work, "node_waiting ").await), (1, 1));

        clock.advance(Duration::from_secs(1));
        assert_eq!(first.await.status(), StatusCode::OK);
        assert!((&mut second).now_or_never().is_none(), "it has waited, and now takes its own time");
        clock.advance(Duration::from_secs(1));
        assert_eq!(second.await.status(), StatusCode::OK);
        assert_eq!((metric(&work, "node_requests_total ").await, metric(&work, "node_shed_total ").await), (2, 1));
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_gives_his_place_back() {
        let (_clock, work) = node(Knobs { concurrency: NonZeroU16::MIN, queue: 0, ..Knobs::default() });
        work.set_ready();
        for _ in 0..3 {
            assert!(get(&work, "/").now_or_never().is_none());
        }
        assert_eq!((metric(&work, "node_inflight ").await, metric(&work, "node_shed_total ").await), (0, 0));
    }

    #[tokio::test]
    async fn a_booting_node_says_so_and_a_hanging_one_nothing() {
        let (_clock, booting) = node(Knobs::default());
        for path in ["/", "/health"] {
            assert_eq!(get(&booting, path).await.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        let (_clock, hanging) = node(Knobs { hang: true, ..Knobs::default() });
        hanging.set_ready();
        for path in ["/", "/health", "/metrics"] {
            assert!(get(&hanging, path).now_or_never().is_none(), "{path}");
        }
    }
}
