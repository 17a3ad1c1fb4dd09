//! How fast a door takes requests: a token bucket that refills by the clock, refusing with the time to come back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::error::{ApiError, ApiResult};
use crate::clock::Clock;

/// One door's bucket. It holds one second's worth, so a burst of that size passes at once.
#[derive(Clone)]
pub struct Bucket {
    clock: Arc<dyn Clock>,
    interval: Duration,
    /// When the bucket would be full again if nobody came any more.
    full_at: Arc<Mutex<Duration>>,
}

const BURST: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Bucket {
    /// A full bucket that refills at `per_second`.
    pub fn new(per_second: u32, clock: Arc<dyn Clock>) -> Self {
        Self { clock, interval: BURST / per_second.max(1), full_at: Arc::default() }
    }

    /// Takes one token, or says after how long there will be one.
    pub fn take(&self) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + self.interval;
        let fill_time = next.saturating_sub(now);
        if fill_time > BURST {
            return Err(fill_time.saturating_sub(BURST));
        }
        *full_at = next;
        Ok(())
    }
}

/// The layer that keeps a door's rate.
pub(super) async fn keep_rate(State(bucket): State<Bucket>, request: Request, next: Next) -> Response {
    match within_rate(&bucket) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// One more request, if the rate bears it.
pub(super) fn within_rate(bucket: &Bucket) -> ApiResult<()> {
    bucket.take().map_err(|after| ApiError::too_many("too many requests; see `limits.rate_per_second`", after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    #[test]
    fn a_bucket_lets_a_burst_pass_and_then_the_rate() {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let bucket = Bucket::new(10, Arc::<SimClock>::clone(&clock));
        assert_eq!((0..20).filter(|_| bucket.take().is_ok()).count(), 10);
        assert_eq!(bucket.take(), Err(Duration::from_millis(100)));
        clock.advance(Duration::from_millis(200));
        assert_eq!((0..20).filter(|_| bucket.take().is_ok()).count(), 2);
        clock.advance(Duration::from_hours(1));
        assert_eq!((0..20).filter(|_| bucket.take().is_ok()).count(), 10, "it does not overflow");
    }
}
