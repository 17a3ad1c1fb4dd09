//! Time's own work: leases that ran out, sleeps that are over, deadlines, lines before free slots, held triggers. One
//! look does a bounded amount; the next look is the retry.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::control::Steer;
use super::{Dispatcher, LEASE, StopCause};
use crate::bus::Topic;
use crate::model::action::{OnLost, WORKFLOW_RUNNER};
use crate::model::execution::ExecutionStatus as Status;
use crate::model::pack::PolicyRule;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;
use crate::runners::Outcome;
use crate::store::StoreResult;
use crate::store::obligations::{Lost, ObligationRow};
use crate::store::rows::{ExecutionRow, Lease};

/// Sleeps end within this time of their hour, even if every hint is lost.
const EVERY: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Sweeps until the token is cancelled.
    pub async fn run_sweeper(&self, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let now = self.world.clock.now();
            self.sweep(now).await?;
            let latest = self.world.clock.now().plus(EVERY);
            let due = self.stores.obligations.due_next(now).await?.unwrap_or(latest).min(latest);
            tokio::select! {
                () = self.world.clock.sleep_until(due) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// One look.
    pub async fn sweep(&self, now: Timestamp) -> StoreResult<usize> {
        let mut done = self.stores.obligations.timers_ring(now).await?;
        done += self.stores.events.holds_release(now).await?;
        if self.may_take_over(now) {
            done += self.recover_lost(Lost::RunOut { now, longest: now.plus(LEASE * 2) }, now).await?;
        }
        for due in self.stores.obligations.timeouts_due(&self.owner, now).await? {
            self.time_out(&due).await?;
            done += 1;
        }
        done += self.move_lines(now).await?;
        if done > 0 {
            [Topic::Queue, Topic::Instances, Topic::Announcements].into_iter().for_each(|t| self.world.bus.hint(t));
        }
        Ok(done)
    }

    fn may_take_over(&self, now: Timestamp) -> bool {
        let at = self.world.clock.monotonic();
        self.patience.lock().unwrap_or_else(PoisonError::into_inner).is_over(at, now)
    }

    /// Takes over what is lost, but for what is under way here.
    pub async fn recover_lost(&self, lost: Lost<'_>, now: Timestamp) -> StoreResult<usize> {
        let mut recovered = 0;
        let mut rows = self.stores.obligations.leases_lost(lost).await?;
        // After a long sleep of the whole machine our own leases look lost: what runs here is not.
        rows.retain(|row| !self.is_held(row.claim()));
        if rows.is_empty() || !self.leases_can_be_extended(&rows, lost).await? {
            return Ok(0);
        }
        for row in rows {
            // Asked before it is seized: whose it was is part of the proof that nothing had begun.
            let former = self.stores.obligations.lease_owner(row.id).await?;
            if self.takes(&row, lost).await? {
                self.recover(&row, former.as_deref(), now).await?;
                recovered += 1;
            }
        }
        Ok(recovered)
    }

    /// Leases run out when nobody extends them, and also when nobody can: somebody holds a lock on them, or the store is slow.
    /// Then their holders get the time to do so.
    async fn leases_can_be_extended(&self, rows: &[ExecutionRow], lost: Lost<'_>) -> StoreResult<bool> {
        const AT_ONCE: Duration = Duration::from_secs(2);
        let Lost::RunOut { .. } = lost else { return Ok(true) };
        let executions: Vec<ExecutionId> = rows.iter().map(|row| row.id).collect();
        let began = self.world.clock.monotonic();
        self.stores.obligations.leases_touch(&executions).await?;
        let at = self.world.clock.monotonic();
        if at.saturating_sub(began) <= AT_ONCE {
            return Ok(true);
        }
        tracing::warn!(leases = rows.len(), "leases could not be written for a while: nothing is taken over yet");
        self.patience.lock().unwrap_or_else(PoisonError::into_inner).begin(at);
        Ok(false)
    }

    /// What has run out may have been extended meanwhile. Under this owner's name nobody takes it for a claim of his own.
    async fn takes(&self, row: &ExecutionRow, lost: Lost<'_>) -> StoreResult<bool> {
        let Lost::RunOut { now, longest } = lost else { return Ok(true) };
        let lease = Lease { owner: format!("recovery by {}", self.owner), until: now.plus(LEASE) };
        self.stores.obligations.lease_seize(row.claim(), &lease, now, longest).await
    }

    /// An execution whose worker is gone (G3): again, or abandoned, as its action says. A workflow always goes on, and so does
    /// what had provably not begun.
    async fn recover(&self, row: &ExecutionRow, former: Option<&str>, now: Timestamp) -> StoreResult<()> {
        let again = row.on_lost == OnLost::Retry || row.runner == WORKFLOW_RUNNER;
        if again && row.status != Status::Canceling || row.runner == WORKFLOW_RUNNER {
            tracing::info!(execution = %row.id, action = %row.action, "its worker is gone: it is run again");
            self.stores.obligations.lease_requeue(row.claim(), now).await?;
            return Ok(());
        }
        if row.status != Status::Canceling && self.seal_unstarted(row, former).await {
            tracing::info!(execution = %row.id, action = %row.action, "its worker died before it began: it is run again");
            self.stores.obligations.lease_requeue(row.claim(), now).await?;
            return Ok(());
        }
        let (status, error) = match row.status {
            Status::Canceling => (Status::Canceled, "its worker was gone when it was canceled"),
            _ => (Status::Abandoned, "its worker died while it ran; nobody knows how far it came"),
        };
        tracing::warn!(execution = %row.id, action = %row.action, %status, "its worker is gone");
        self.finish(row, Outcome { status, result: json!({ "error": error }) }).await
    }

    /// Is it proven that this attempt started nothing, and never will? Without proof it counts as started.
    async fn seal_unstarted(&self, row: &ExecutionRow, former: Option<&str>) -> bool {
        let (Some(runner), Some(owner)) = (self.registry().get(&row.runner).cloned(), former) else { return false };
        let attempt = u64::try_from(row.fence).unwrap_or(0);
        runner.seal_unstarted(row.id, attempt, owner).await.unwrap_or_else(|problem| {
            tracing::warn!(execution = %row.id, %problem, "whether it had begun could not be found out");
            false
        })
    }

    async fn time_out(&self, due: &ObligationRow) -> StoreResult<()> {
        let row = self.stores.executions.execution_get(due.execution).await?;
        if due.kind == "inquiry" {
            let result = json!({ "error": "nobody answered in time" });
            return self.finish(&row, Outcome { status: Status::Timeout, result }).await;
        }
        if row.runner == WORKFLOW_RUNNER && row.fence > 0 {
            self.steer(due.execution, Steer::Timeout, None).await?;
        } else if !self.stop_running(due.execution, StopCause::Timeout) {
            let result = json!({ "error": "its time was up before it started" });
            self.finish(&row, Outcome { status: Status::Timeout, result }).await?;
        }
        self.stores.obligations.timeout_done(due.execution).await
    }

    /// A release wakes the first in line; this finds the lines that a policy's higher threshold would move.
    async fn move_lines(&self, now: Timestamp) -> StoreResult<usize> {
        let mut moved = 0;
        for (slot, _) in self.stores.obligations.slots_waiting().await? {
            let threshold = self.threshold_of(&slot);
            moved += usize::from(self.stores.executions.slots_sweep(&slot, threshold, now).await?);
        }
        Ok(moved)
    }

    /// A policy that is gone holds nobody back.
    fn threshold_of(&self, slot: &str) -> u32 {
        let reference = slot.split(' ').next().unwrap_or_default();
        let catalogue = self.catalogue();
        let policy =
            catalogue.policies.values().find(|policy| policy.enabled && policy.reference.as_str() == reference);
        match policy.map(|policy| &policy.rule) {
            Some(PolicyRule::Concurrency { threshold, .. }) => *threshold,
            Some(PolicyRule::Retry { .. }) | None => u32::MAX,
        }
    }
}

/// Whether leases that ran out mean anything. When nobody could look for a while, the store was away, or this process did
/// not move or was only just started; whoever lives has a lease's time to say so before anything is taken from him. After a
/// step of the clock the others need a moment more: they follow it first, and then extend.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// The last look, by a clock that nobody sets and by the time of day.
    last: Option<(Duration, Timestamp)>,
    until: Duration,
}

impl Patience {
    fn begin(&mut self, at: Duration) {
        self.until = self.until.max(at.saturating_add(LEASE));
    }

    fn is_over(&mut self, at: Duration, now: Timestamp) -> bool {
        const GAP: Duration = Duration::from_secs(5);
        let needed = match self.last.replace((at, now)) {
            None => Some(LEASE),
            Some((before, shown)) => {
                let passed = at.saturating_sub(before);
                let expected = shown.plus(passed);
                let stepped = now.is_ahead_of(expected) || expected.is_ahead_of(now);
                if stepped { Some(LEASE * 2) } else { (passed > GAP).then_some(LEASE) }
            }
        };
        self.until = needed.map_or(self.until, |needed| self.until.max(at.saturating_add(needed)));
        at >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Looks each second, while the clock shows `shown`; gives back after how many seconds the patience is over.
    fn looks_until_over(patience: &mut Patience, from: u64, shown: Timestamp) -> Option<u64> {
        (0..120).find(|second| {
            let passed = Duration::from_secs(*second);
            patience.is_over(Duration::from_secs(from) + passed, shown.plus(passed))
        })
    }

    #[test]
    fn leases_of_the_dead_are_taken_over_soon_after_the_clock_steps() {
        let (mut patience, start) = (Patience::default(), Timestamp::from_micros(0).plus(HOUR * 100));
        assert_eq!(looks_until_over(&mut patience, 0, start), Some(LEASE.as_secs()), "the others extend first");
        let (ahead, again) = (start.plus(HOUR), start.plus(Duration::from_secs(100)));
        assert_eq!(looks_until_over(&mut patience, 16, ahead), Some(2 * LEASE.as_secs()));
        assert_eq!(looks_until_over(&mut patience, 60, again), Some(2 * LEASE.as_secs()), "not after an hour");
    }

    #[test]
    fn a_gap_without_looks_costs_one_lease() {
        let (mut patience, start) = (Patience::default(), Timestamp::from_micros(0));
        looks_until_over(&mut patience, 0, start);
        let later = start.plus(Duration::from_secs(60));
        assert_eq!(looks_until_over(&mut patience, 60, later), Some(LEASE.as_secs()));
    }
}
