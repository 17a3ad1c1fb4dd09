//! Actions that could not begin because the host has run out of something: they go back to the queue, later each time, and
//! operators are told what is missing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Dispatcher;
use crate::model::time::Timestamp;
use crate::runners::shortage::{NotBegun, Shortage};
use crate::store::StoreResult;
use crate::store::rows::ExecutionRow;

/// The first time an action waits this long before it is tried again; each time twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// What is missing is there again in seconds or in hours: looking every few seconds costs little.
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// After the last action that could not begin, for longer than any of them waits, nothing is missing any more.
const OVER_AFTER: Duration = Duration::from_secs(10);
/// So long nothing new is claimed: it would meet the same shortage.
const REST: Duration = Duration::from_millis(250);

/// What is missing just now.
#[derive(Debug, Default)]
pub(super) struct Shortages {
    known: Mutex<BTreeMap<Shortage, Known>>,
}

#[derive(Debug)]
struct Known {
    /// When it was last met, by the monotonic clock.
    met_at: Duration,
    reason: String,
}

impl Shortages {
    /// Notes one. `true`: it is news.
    fn note(&self, shortage: Shortage, reason: &str, at: Duration) -> bool {
        let known = Known { met_at: at, reason: reason.to_owned() };
        let before = self.lock().insert(shortage, known);
        before.is_none_or(|before| at.saturating_sub(before.met_at) > OVER_AFTER)
    }

    /// Why actions cannot begin just now, `at` this monotonic time.
    fn reasons(&self, at: Duration) -> Vec<String> {
        let known = self.lock();
        let fresh = known.iter().filter(|(_, known)| at.saturating_sub(known.met_at) <= OVER_AFTER);
        fresh.map(|(shortage, known)| told(*shortage, &known.reason)).collect()
    }

    /// How long nothing new is to be claimed.
    pub(super) fn rest(&self, at: Duration) -> Duration {
        let last = self.lock().values().map(|known| known.met_at).max();
        last.map_or(Duration::ZERO, |met_at| (met_at + REST).saturating_sub(at))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Shortage, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(shortage: Shortage, reason: &str) -> String {
    format!("the host lacks {shortage}: actions wait to be started ({reason}); {}", shortage.advice())
}

/// Grows with the attempts, which nothing but shortages and lost daemons uses up.
fn delay_of(fence: i64) -> Duration {
    let doublings = fence.saturating_sub(1).clamp(0, 16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
}

impl Dispatcher {
    /// Why actions cannot begin just now; empty if they can.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        self.shortages.reasons(self.world.clock.monotonic())
    }

    /// An action that provably did not begin waits in the queue for better times.
    pub(super) async fn put_off(&self, row: &ExecutionRow, why: &NotBegun) -> StoreResult<()> {
        let delay = delay_of(row.fence);
        let is_news = match why.shortage {
            Some(shortage) => self.shortages.note(shortage, &why.reason, self.world.clock.monotonic()),
            None => true,
        };
        if is_news {
            let text = why.shortage.map_or_else(|| why.reason.clone(), |shortage| told(shortage, &why.reason));
            tracing::warn!(execution = %row.id, action = %row.action, text, "an action could not begin; it is tried again");
        } else {
            tracing::debug!(execution = %row.id, action = %row.action, %why, "an action could not begin; it is tried again");
        }
        self.world.metrics.execution_put_off(why.shortage.map_or("killed", Shortage::as_str));
        let due_at: Timestamp = self.world.clock.now().plus(delay);
        self.stores.executions.execution_release(row.claim(), due_at).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_news_once_and_over_when_nothing_meets_it_any_more() {
        let (shortages, second) = (Shortages::default(), Duration::from_secs(1));
        assert!(shortages.note(Shortage::Descriptors, "EMFILE", second * 100));
        assert!(!shortages.note(Shortage::Descriptors, "EMFILE", second * 105));
        let reasons = shortages.reasons(second * 110);
        assert!(
            matches!(reasons.as_slice(), [text] if text.contains("file descriptors") && text.contains("LimitNOFILE"))
        );
        assert!(!shortages.rest(second * 105).is_zero() && shortages.rest(second * 106).is_zero());
        assert!(shortages.reasons(second * 116).is_empty());
        assert!(shortages.note(Shortage::Descriptors, "EMFILE", second * 116));
    }

    #[test]
    fn delays_grow_and_stay_short() {
        let delays: Vec<u128> = [0, 1, 2, 3, 4, 5, i64::MAX].map(|fence| delay_of(fence).as_millis()).into();
        assert_eq!(delays, [500, 500, 1000, 2000, 4000, 4000, 4000]);
    }
}
