//! How long something is tried, and how long one rests in between.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, sleep};

const LONGEST_REST: Duration = Duration::from_secs(20);

/// Attempts at one thing until a limit. Each rest may be twice as long as the one before, and is a random part of that,
/// so that nodes which were refused together do not come back together.
pub(super) struct Patience {
    clock: Arc<dyn Clock>,
    until: Duration,
    most: Duration,
    dice: u64,
}

impl Patience {
    /// From now on for so long. The same seed throws the same dice.
    pub(super) fn new(clock: &Arc<dyn Clock>, lasts: Duration, first_rest: Duration, seed: u64) -> Self {
        Self { clock: Arc::clone(clock), until: clock.monotonic() + lasts, most: first_rest, dice: seed }
    }

    /// Rests, and says whether there is time for another attempt.
    pub(super) async fn rest(&mut self) -> bool {
        let rest = self.next_rest();
        if self.clock.monotonic() + rest >= self.until {
            return false;
        }
        sleep(&*self.clock, rest).await;
        true
    }

    /// From a half to the whole of what is allowed.
    fn next_rest(&mut self) -> Duration {
        self.dice = scrambled(self.dice);
        let half = self.most / 2;
        let part = u32::try_from(self.dice % 1024).unwrap_or_default();
        self.most = self.most.saturating_mul(2).min(LONGEST_REST);
        half + half * part / 1024
    }
}

/// One step of splitmix64: neighbouring seeds give unrelated numbers.
const fn scrambled(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    fn patience(seed: u64) -> Patience {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(Timestamp::default()));
        Patience::new(&clock, Duration::from_secs(5), Duration::from_secs(1), seed)
    }

    #[test]
    fn rests_grow_are_bounded_and_differ_by_the_seed() {
        let rests = |seed| {
            let mut patience = patience(seed);
            (0..8).map(|_| patience.next_rest()).collect::<Vec<_>>()
        };
        for (rest, most) in rests(1).iter().zip([1, 2, 4, 8, 16, 20, 20, 20]) {
            let most = Duration::from_secs(most);
            assert!(*rest >= most / 2 && *rest <= most, "{rest:?} of {most:?}");
        }
        assert_ne!(rests(1), rests(2));
        assert_eq!(rests(1), rests(1));
    }

    #[tokio::test]
    async fn patience_ends() {
        let mut patience = patience(1);
        patience.most = Duration::from_secs(30);
        assert!(!patience.rest().await, "a rest beyond the limit is not begun");
    }
}
