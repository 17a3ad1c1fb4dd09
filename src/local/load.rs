//! Load for nodes: an open loop, which sends at its rate whether or not anybody answers, as the world does.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};

/// Requests are sent in bunches this far apart: fine enough to look even, coarse enough to cost nothing.
const BUNCH: Duration = Duration::from_millis(5);
/// After a pause of the whole machine it does not make up for more than this.
const LONGEST_CATCH_UP: Duration = Duration::from_secs(1);
/// One request in microseconds times requests per second.
const ONE_REQUEST: u64 = 1_000_000;

/// Where the load may go at the moment, as base URLs; asked for every bunch.
pub type Targets = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// How much the world puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Whoever waits longer for an answer has gone away.
    pub patience: Duration,
    /// Unanswered requests at one time; a request beyond is not sent, and counted.
    pub most_in_flight: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), most_in_flight: 1024 }
    }
}

/// Sends requests to whoever is in service.
pub struct Load {
    clock: Arc<dyn Clock>,
    targets: Targets,
    http: reqwest::Client,
    most_in_flight: usize,
    rate: AtomicU32,
    due: AtomicU64,
    ok: AtomicU64,
    shed: AtomicU64,
    errors: AtomicU64,
    not_sent: AtomicU64,
}

/// What became of the requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// That the rate asked for, also those that are in flight.
    pub due: u64,
    /// Answered well.
    pub ok: u64,
    /// Refused with 503 by a node that had enough.
    pub shed: u64,
    /// Any other answer, or none.
    pub errors: u64,
    /// Due when there was no target, or too much was unanswered already.
    pub not_sent: u64,
}

impl Counts {
    /// All that were not answered well.
    pub fn failed(self) -> u64 {
        self.shed + self.errors + self.not_sent
    }
}

impl Load {
    /// A load of `rate` requests per second, once it runs.
    pub fn new(clock: Arc<dyn Clock>, targets: Targets, rate: u32) -> anyhow::Result<Self> {
        Self::within(Bounds::default(), clock, targets, rate)
    }

    /// As [`Load::new`], from a world with more or less patience.
    pub fn within(bounds: Bounds, clock: Arc<dyn Clock>, targets: Targets, rate: u32) -> anyhow::Result<Self> {
        let zero = AtomicU64::default;
        Ok(Self {
            clock,
            targets,
            http: reqwest::Client::builder().no_proxy().timeout(bounds.patience).build()?,
            most_in_flight: bounds.most_in_flight,
            rate: AtomicU32::new(rate),
            due: zero(),
            ok: zero(),
            shed: zero(),
            errors: zero(),
            not_sent: zero(),
        })
    }

    /// Changes the rate of a running load.
    pub fn set_rate(&self, requests_per_second: u32) {
        self.rate.store(requests_per_second, Ordering::Relaxed);
    }

    /// What became of the requests so far; those in flight are only in the first number.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            due: read(&self.due),
            ok: read(&self.ok),
            shed: read(&self.shed),
            errors: read(&self.errors),
            not_sent: read(&self.not_sent),
        }
    }

    /// Sends until `end` is cancelled; requests in flight are then given up.
    pub async fn run(&self, end: CancellationToken) {
        let mut in_flight = FuturesUnordered::new();
        let (mut due, mut next) = (Due::default(), 0_usize);
        let mut looked_at = self.clock.monotonic();
        loop {
            let mut bunch = pin!(clock::sleep(&*self.clock, BUNCH));
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    () = &mut bunch => break,
                    Some(()) = in_flight.next() => {}
                }
            }
            let now = self.clock.monotonic();
            let count = due.after(now.saturating_sub(looked_at), self.rate.load(Ordering::Relaxed));
            looked_at = now;
            self.due.fetch_add(count, Ordering::Relaxed);
            let targets = (self.targets)();
            for _ in 0..count {
                if targets.is_empty() || in_flight.len() >= self.most_in_flight {
                    self.not_sent.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                next = next.wrapping_add(1);
                in_flight.push(self.send(targets[next % targets.len()].clone()));
            }
        }
    }

    async fn send(&self, target: String) {
        let answer = self.http.get(target).send().await;
        let counter = match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => &self.ok,
            Ok(StatusCode::SERVICE_UNAVAILABLE) => &self.shed,
            Ok(_) | Err(_) => &self.errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").field("rate", &self.rate).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Counts out whole requests and keeps the rest for the next time.
#[derive(Debug, Default)]
struct Due {
    /// In parts of [`ONE_REQUEST`].
    rest: u64,
}

impl Due {
    fn after(&mut self, elapsed: Duration, rate: u32) -> u64 {
        let micros = u64::try_from(elapsed.min(LONGEST_CATCH_UP).as_micros()).unwrap_or(0);
        let due = self.rest + micros * u64::from(rate);
        self.rest = due % ONE_REQUEST;
        due / ONE_REQUEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_bunches_that_hold_no_whole_request() {
        let mut due = Due::default();
        let sent: u64 = (0..1000).map(|_| due.after(Duration::from_millis(5), 30)).sum();
        assert_eq!(sent, 150);
        assert_eq!(due.after(Duration::from_hours(1), 30), 30, "a long pause is not made up for");
        assert_eq!(due.after(Duration::from_secs(1), 0), 0);
    }
}
