//! Deletes what is older than the configuration keeps, a little at a time; when the database nears its limit the
//! oldest goes before its time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::config::Retention as Kept;
use crate::model::time::Timestamp;
use crate::store::retention::Horizon;
use crate::store::{Retention, StoreResult};

/// Between two looks.
const EVERY: Duration = Duration::from_mins(1);
/// Announcements are for listeners that come back soon.
const ANNOUNCEMENTS: Duration = Duration::from_hours(24);
/// Even a full database keeps this much of the past.
const LEAST: Duration = Duration::from_hours(1);

/// Keeps the store small.
#[derive(Debug)]
pub struct Housekeeping {
    retention: Retention,
    kept: Kept,
    clock: Arc<dyn Clock>,
}

impl Housekeeping {
    /// Over `retention`, keeping what `kept` says.
    pub fn new(retention: Retention, kept: Kept, clock: Arc<dyn Clock>) -> Self {
        Self { retention, kept, clock }
    }

    /// Cleans until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            self.tick(self.clock.now(), &stop).await?;
            tokio::select! {
                () = clock::sleep(&*self.clock, EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Deletes everything that may go now. Gives back how many rows went.
    pub async fn tick(&self, now: Timestamp, stop: &CancellationToken) -> StoreResult<usize> {
        let mut gone = 0;
        let mut keep_one_in = 1;
        loop {
            let horizon = self.horizon(now, keep_one_in);
            loop {
                let swept = self.retention.sweep(&horizon).await?;
                gone += swept;
                if swept == 0 || stop.is_cancelled() {
                    break;
                }
            }
            let least_kept = self.kept.instances / keep_one_in <= LEAST;
            if !self.is_nearly_full().await? || least_kept || stop.is_cancelled() {
                return Ok(gone);
            }
            keep_one_in *= 2;
            tracing::warn!(keep_one_in, "the database nears its limit: the oldest goes before its time");
        }
    }

    fn horizon(&self, now: Timestamp, divisor: u32) -> Horizon {
        let before = |kept: Duration| now.minus((kept / divisor).max(LEAST.min(kept)));
        Horizon {
            executions: before(self.kept.executions),
            instances: before(self.kept.instances),
            output: before(self.kept.output),
            decisions: before(self.kept.decisions),
            audit: before(self.kept.audit),
            announcements: before(ANNOUNCEMENTS),
            now,
        }
    }

    /// Four fifths of the limit leave room for the night's work while the oldest is deleted.
    async fn is_nearly_full(&self) -> StoreResult<bool> {
        let Some(limit) = self.kept.max_database_bytes else { return Ok(false) };
        let used = self.retention.used_bytes().await?;
        Ok(used >= limit / 5 * 4)
    }
}
