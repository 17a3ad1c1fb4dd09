//! Deletes what is older than the configuration keeps, a little at a time; when the database nears its limit the
//! oldest goes before its time. Watches over the place of the store as well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::config::Retention as Kept;
use crate::model::time::{Timestamp, format_duration};
use crate::store::retention::Horizon;
use crate::store::{Events, Retention, StoreResult};

/// Between two looks at the files of the store.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// Between two cleanings.
const EVERY: Duration = Duration::from_mins(1);
/// Announcements are for listeners that come back soon.
const ANNOUNCEMENTS: Duration = Duration::from_hours(24);
/// When the clock is this far from where the last cleaning left it, it may be wrong.
const LEAP: Duration = Duration::from_hours(1);
/// So long an operator has to set a wrong clock right before anything is deleted by it.
const PATIENCE: Duration = Duration::from_hours(1);
/// Even a full database keeps this much of the past.
const LEAST: Duration = Duration::from_hours(1);

/// Keeps the store small.
#[derive(Debug)]
pub struct Housekeeping {
    retention: Retention,
    events: Events,
    kept: Kept,
    clock: Arc<dyn Clock>,
    /// Nothing is deleted before then, by the clock that nobody sets.
    patience_until: Mutex<Option<Duration>>,
    looked_at: Mutex<Option<Timestamp>>,
    noted_at: Mutex<Option<Timestamp>>,
}

impl Housekeeping {
    /// Over `retention`, keeping what `kept` says.
    pub fn new(retention: Retention, events: Events, kept: Kept, clock: Arc<dyn Clock>) -> Self {
        Self {
            retention,
            events,
            kept,
            clock,
            patience_until: Mutex::default(),
            looked_at: Mutex::default(),
            noted_at: Mutex::default(),
        }
    }

    /// Watches and cleans until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            cleaned = self.keep_clean(&stop) => cleaned,
            () = self.watch() => Ok(()),
        }
    }

    /// Tells in the log that what is accepted would be lost, as soon as that is so: whoever asks `/readyz` is told as well.
    async fn watch(&self) {
        let mut told = None;
        loop {
            match (self.events.check_store(), told.take()) {
                (Ok(()), Some(_)) => tracing::info!("the store can be written again"),
                (Ok(()), None) => {}
                (Err(problem), before) => {
                    if before.as_ref() != Some(&problem) {
                        tracing::error!(%problem, "nothing is accepted");
                    }
                    told = Some(problem);
                }
            }
            clock::sleep(&*self.clock, WATCH_EVERY).await;
        }
    }

    async fn keep_clean(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            self.tick(self.clock.now(), stop).await?;
            tokio::select! {
                () = clock::sleep(&*self.clock, EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Deletes everything that may go now. Gives back how many rows went.
    pub async fn tick(&self, now: Timestamp, stop: &CancellationToken) -> StoreResult<usize> {
        if self.must_wait(now).await? && !self.is_nearly_full().await? {
            return Ok(0);
        }
        let gone = self.clean(now, stop).await?;
        if self.is_to_be_noted(now) {
            self.retention.note_swept(now).await?;
        }
        Ok(gone)
    }

    /// After a long pause or a leap of the clock, what looks old may have been written a moment ago: by a right clock, while
    /// this one is wrong. What is deleted does not come back, so nothing is for an hour.
    async fn must_wait(&self, now: Timestamp) -> StoreResult<bool> {
        let at = self.clock.monotonic();
        let before = match self.looked_at() {
            Some(before) => Some(before),
            None => self.note_from_store().await?,
        };
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        let mut until = self.patience_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leap) = before.map(|before| now.since(before)).filter(|leap| *leap > LEAP) {
            let leap = format_duration(leap);
            tracing::warn!(
                leap,
                "nothing was cleaned for so long, or the clock was set: old data is kept for an hour more"
            );
            *until = Some(at.saturating_add(PATIENCE));
        }
        Ok(until.is_some_and(|until| at < until))
    }

    /// What an earlier life noted, which need not be noted again soon after.
    async fn note_from_store(&self) -> StoreResult<Option<Timestamp>> {
        let swept_at = self.retention.swept_at().await?;
        *self.noted_at.lock().unwrap_or_else(PoisonError::into_inner) = swept_at;
        Ok(swept_at)
    }

    /// Once in a while is enough to know a leap from a pause.
    fn is_to_be_noted(&self, now: Timestamp) -> bool {
        let mut noted_at = self.noted_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = noted_at.is_none_or(|noted_at| now < noted_at || now.since(noted_at) > LEAP / 6);
        if is_due {
            *noted_at = Some(now);
        }
        is_due
    }

    fn looked_at(&self) -> Option<Timestamp> {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn clean(&self, now: Timestamp, stop: &CancellationToken) -> StoreResult<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;
    use crate::model::refs::Id;
    use crate::store::Store;
    use crate::store::identities::{TokenRow, UserRow};

    fn kept() -> Kept {
        let kept = Duration::from_hours(24);
        Kept { executions: kept, instances: kept, output: kept, decisions: kept, audit: kept, max_database_bytes: None }
    }

    #[tokio::test]
    async fn nothing_is_deleted_in_the_hour_after_a_leap_of_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
        let time: Arc<dyn Clock> = Arc::<SimClock>::clone(&clock);
        let cleaner = || Housekeeping::new(store.retention(), store.events(), kept(), Arc::clone(&time));
        let stop = CancellationToken::new();
        let running = cleaner();
        running.tick(clock.now(), &stop).await.unwrap();
        let (name, now) = ("ann".to_owned(), clock.now());
        let ann = UserRow { name: name.clone(), password_hash: None, role: "operator".to_owned(), created_at: now };
        store.identities().user_put(&ann).await.unwrap();
        let token = TokenRow { id: Id::from_bytes([1; 12]), user: name, expires_at: now };
        store.identities().token_put(&token, "hash", None).await.unwrap();

        clock.advance(EVERY);
        clock.step(400 * 24 * 3_600_000_000);
        assert_eq!(running.tick(clock.now(), &stop).await.unwrap(), 0);
        clock.advance(PATIENCE / 2);
        assert_eq!(running.tick(clock.now(), &stop).await.unwrap(), 0, "the clock may yet be set right");
        assert_eq!(cleaner().tick(clock.now(), &stop).await.unwrap(), 0, "a start is not taken for patience");
        clock.advance(PATIENCE / 2);
        assert_eq!(running.tick(clock.now(), &stop).await.unwrap(), 1);
    }
}
