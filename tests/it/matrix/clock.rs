//! A clock that runs as the machine's does and leaps when it is told to: nobody waits for a back-off of half an hour.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use petrel::clock::Clock;
use petrel::model::time::Timestamp;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct LeapClock {
    start: Timestamp,
    began: Instant,
    leapt: watch::Sender<Duration>,
}

impl LeapClock {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { start, began: Instant::now(), leapt: watch::Sender::new(Duration::ZERO) }
    }

    /// So much time has passed now; whoever waited for a part of it wakes.
    pub(super) fn leap(&self, by: Duration) {
        self.leapt.send_modify(|leapt| *leapt += by);
    }
}

#[async_trait]
impl Clock for LeapClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed() + *self.leapt.borrow()
    }

    fn follow(&self, _shown: Timestamp) {}

    async fn sleep_until(&self, at: Timestamp) {
        self.sleep_for(at.since(self.now())).await;
    }

    async fn sleep_for(&self, duration: Duration) {
        let until = self.monotonic() + duration;
        let mut leaps = self.leapt.subscribe();
        loop {
            let left = until.saturating_sub(self.monotonic());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                heard = leaps.changed() => heard.expect("the clock is borrowed, so it is there"),
            }
        }
    }
}
