//! What unfinished executions wait for (G6): one table for leases, timers, timeouts, signals, inquiries and slots. The
//! sweeper asks it what is due.

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::StoreResult;
use super::executions::{committed, execution, push_requeue};
use super::journal::TIMERS;
use super::rows::{Claim, ExecutionRow, Lease};
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Leases, timers, timeouts, answers awaited.
    Obligations
}

/// One thing an execution waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObligationRow {
    /// Who waits.
    pub execution: ExecutionId,
    /// `queue`, `lease`, `slot`, `timer`, `timeout`, `signal` or `inquiry`.
    pub kind: String,
    /// The journal position, slot or signal.
    pub key: String,
    /// When time decides, if it does.
    pub due_at: Option<Timestamp>,
    /// The worker of a lease; the name of a signal.
    pub owner: Option<String>,
    /// What the kind needs beside that, as JSON.
    pub detail: Option<String>,
}

/// Which leases are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost<'a> {
    /// Those that nobody has extended in time.
    RunOut {
        /// It is now.
        now: Timestamp,
        /// A living worker's lease ends before that; one that ends later was written by a clock that was ahead.
        longest: Timestamp,
    },
    /// Those of anybody else: a daemon that alone owns its store need not wait for the leases of its former lives.
    AllBut(&'a str),
    /// Those of one that is known to be dead.
    Of(&'a str),
}

impl Obligations {
    /// Everything that one execution waits for.
    pub async fn obligation_list(&self, execution: ExecutionId) -> StoreResult<Vec<ObligationRow>> {
        let sql = "SELECT execution_id, kind, obligation_key, due_at, owner, detail FROM obligations
            WHERE execution_id = ?1 ORDER BY kind, obligation_key";
        self.driver.query(sql, cells![execution]).await?.iter().map(obligation).collect()
    }

    /// Everything of one kind that anybody waits for, soonest first.
    pub async fn obligation_list_kind(&self, kind: &str, limit: i64) -> StoreResult<Vec<ObligationRow>> {
        let sql = "SELECT execution_id, kind, obligation_key, due_at, owner, detail FROM obligations
            WHERE kind = ?1 ORDER BY due_at, execution_id LIMIT ?2";
        Ok(readable("obligations", 0, &self.driver.query(sql, cells![kind, limit]).await?, obligation))
    }

    /// Extends a worker's leases on these executions. Gives back how many of them it holds.
    pub async fn leases_extend(&self, owner: &str, executions: &[ExecutionId], until: Timestamp) -> StoreResult<usize> {
        if executions.is_empty() {
            return Ok(0);
        }
        let sql = "UPDATE obligations SET due_at = ?2 WHERE kind = 'lease' AND owner = ?1
            AND ?3 LIKE '%,' || execution_id || ',%'";
        let executions: String = executions.iter().flat_map(|id| [",".to_owned(), id.to_string()]).collect();
        let mut batch = Batch::default();
        batch.push(sql, cells![owner, until, executions + ","]);
        Ok(self.driver.commit(batch).await?.first().map_or(0, |effect| effect.changed))
    }

    /// The executions on which a worker has leases.
    pub async fn leases_held(&self, owner: &str) -> StoreResult<Vec<ExecutionId>> {
        let sql = "SELECT execution_id FROM obligations WHERE kind = 'lease' AND owner = ?1";
        self.driver.query(sql, cells![owner]).await?.iter().map(|row| row.parse(0)).collect()
    }

    /// Who has, or had, this execution under way.
    pub async fn lease_owner(&self, execution: ExecutionId) -> StoreResult<Option<String>> {
        let sql = "SELECT owner FROM obligations WHERE execution_id = ?1 AND kind = 'lease'";
        let rows = self.driver.query(sql, cells![execution]).await?;
        rows.first().map_or(Ok(None), |row| Ok(row.text_or_null(0)?.map(str::to_owned)))
    }

    /// Executions that a worker has under way and that somebody has woken meanwhile.
    pub async fn leases_woken(&self, owner: &str, now: Timestamp) -> StoreResult<Vec<ExecutionId>> {
        let sql = "SELECT woken.execution_id FROM obligations woken JOIN obligations held
            ON held.execution_id = woken.execution_id AND held.kind = 'lease' AND held.owner = ?1
            WHERE woken.kind = 'queue' AND woken.due_at <= ?2";
        self.driver.query(sql, cells![owner, now]).await?.iter().map(|row| row.parse(0)).collect()
    }

    /// Executions whose lease of this worker runs out by `until` unless it is extended.
    pub async fn leases_ending(&self, owner: &str, until: Timestamp) -> StoreResult<Vec<ExecutionRow>> {
        let sql = "SELECT id, action_ref, runner, status, parent_id, parent_position, root_id, parameters, context,
                on_lost, requested_at, started_at, ended_at, fence, result, result_size_bytes, status_log
            FROM executions WHERE id IN (SELECT execution_id FROM obligations
                WHERE kind = 'lease' AND owner = ?1 AND due_at <= ?2)
            ORDER BY id";
        Ok(readable("executions", 0, &self.driver.query(sql, cells![owner, until]).await?, execution))
    }

    /// Executions whose lease is lost.
    pub async fn leases_lost(&self, lost: Lost<'_>) -> StoreResult<Vec<ExecutionRow>> {
        let (until, longest, but, of) = match lost {
            Lost::RunOut { now, longest } => (Some(now), Some(longest), None, None),
            Lost::AllBut(survivor) => (None, None, Some(survivor), None),
            Lost::Of(dead) => (None, None, None, Some(dead)),
        };
        let sql = "SELECT id, action_ref, runner, status, parent_id, parent_position, root_id, parameters, context,
                on_lost, requested_at, started_at, ended_at, fence, result, result_size_bytes, status_log
            FROM executions WHERE id IN (SELECT execution_id FROM obligations
                WHERE kind = 'lease' AND (due_at <= ?1 OR owner <> ?2 OR owner = ?3 OR due_at > ?4))
            ORDER BY id";
        Ok(readable("executions", 0, &self.driver.query(sql, cells![until, but, of, longest]).await?, execution))
    }

    /// Writes what is there already for these leases: whoever can do that at once knows that their holders could have extended
    /// them.
    pub async fn leases_touch(&self, executions: &[ExecutionId]) -> StoreResult<()> {
        let sql =
            "UPDATE obligations SET due_at = due_at WHERE kind = 'lease' AND ?1 LIKE '%,' || execution_id || ',%'";
        let executions: String = executions.iter().flat_map(|id| [",".to_owned(), id.to_string()]).collect();
        let mut batch = Batch::default();
        batch.push(sql, cells![executions + ","]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Takes a lease that ran out, unless its holder has extended it meanwhile.
    pub async fn lease_seize(
        &self,
        claim: Claim,
        lease: &Lease,
        now: Timestamp,
        longest: Timestamp,
    ) -> StoreResult<bool> {
        let sql = "UPDATE obligations SET owner = ?3, due_at = ?4 WHERE execution_id = ?1 AND kind = 'lease'
            AND (due_at <= ?5 OR due_at > ?6) AND EXISTS (SELECT 1 FROM executions WHERE id = ?1 AND fence = ?2)";
        let mut batch = Batch::default();
        let row = cells![claim.execution, claim.fence, lease.owner.as_str(), lease.until, now, longest];
        batch.require(sql, row);
        committed(self.driver.commit(batch).await)
    }

    /// Puts a lost execution back into the queue, if its claim is still the last one.
    pub async fn lease_requeue(&self, claim: Claim, now: Timestamp) -> StoreResult<bool> {
        let mut batch = Batch::default();
        let guard = "SELECT id FROM executions WHERE id = ?1 AND fence = ?2
            AND EXISTS (SELECT 1 FROM obligations WHERE execution_id = ?1 AND kind = 'lease')";
        batch.require(guard, cells![claim.execution, claim.fence]);
        push_requeue(&mut batch, claim.execution, now);
        committed(self.driver.commit(batch).await)
    }

    /// Gives back executions that were asked to stop and are held by this worker.
    pub async fn leases_canceling(&self, owner: &str) -> StoreResult<Vec<ExecutionId>> {
        let sql = "SELECT id FROM executions WHERE status = 'canceling' AND id IN
            (SELECT execution_id FROM obligations WHERE kind = 'lease' AND owner = ?1) ORDER BY id";
        self.driver.query(sql, cells![owner]).await?.iter().map(|row| row.parse(0)).collect()
    }

    /// Ends the sleeps that are over and the waits for signals whose time is up: their journal entries get an
    /// outcome and the workflows wake. Gives back how many.
    pub async fn timers_ring(&self, now: Timestamp) -> StoreResult<usize> {
        let due = "UPDATE journal SET outcome = CASE
                WHEN EXISTS (SELECT 1 FROM obligations o WHERE o.execution_id = journal.execution_id
                    AND o.obligation_key = journal.position AND o.kind = 'signal')
                THEN '{\"error\":{\"message\":\"no signal came in time\",\"status\":\"timeout\"}}'
                ELSE '{\"ok\":null}' END
            WHERE outcome IS NULL AND EXISTS (SELECT 1 FROM obligations o
                WHERE o.execution_id = journal.execution_id AND o.obligation_key = journal.position
                AND o.kind IN ('timer', 'signal') AND o.due_at <= ?1)";
        let wake = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at)
            SELECT DISTINCT execution_id, 'queue', '', ?1 FROM obligations
                WHERE kind IN ('timer', 'signal') AND due_at <= ?1
            ON CONFLICT (execution_id, kind, obligation_key) DO UPDATE SET due_at = excluded.due_at";
        let done = "DELETE FROM obligations WHERE kind IN ('timer', 'signal') AND due_at <= ?1";
        if !self.any_due("timer", "signal", now).await? {
            return Ok(0);
        }
        let mut batch = Batch::default();
        batch.alone(TIMERS);
        batch.push(due, cells![now]);
        batch.push(wake, cells![now]);
        batch.push(done, cells![now]);
        Ok(self.driver.commit(batch).await?.last().map_or(0, |effect| effect.changed))
    }

    async fn any_due(&self, kind: &str, or: &str, now: Timestamp) -> StoreResult<bool> {
        let sql = "SELECT 1 FROM obligations WHERE kind IN (?1, ?2) AND due_at <= ?3 LIMIT 1";
        Ok(!self.driver.query(sql, cells![kind, or, now]).await?.is_empty())
    }

    /// Executions whose time is up: workflows past their deadline, inquiries without an answer. What another daemon is at
    /// work on under a lease is not among them: only there it can be stopped, and it has a sweeper of its own.
    pub async fn timeouts_due(&self, owner: &str, now: Timestamp) -> StoreResult<Vec<ObligationRow>> {
        let sql = "SELECT execution_id, kind, obligation_key, due_at, owner, detail FROM obligations
            WHERE kind IN ('timeout', 'inquiry', 'pause') AND due_at <= ?1 AND NOT EXISTS (
                SELECT 1 FROM obligations held WHERE held.execution_id = obligations.execution_id
                AND held.kind = 'lease' AND held.owner <> ?2 AND held.due_at > ?1)
            ORDER BY due_at LIMIT 100";
        Ok(readable("obligations", 0, &self.driver.query(sql, cells![now, owner]).await?, obligation))
    }

    /// Forgets a timeout or the limit of a pause that has been acted on.
    pub async fn timeout_done(&self, execution: ExecutionId) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.push(
            "DELETE FROM obligations WHERE execution_id = ?1 AND kind IN ('timeout', 'pause')",
            cells![execution],
        );
        self.driver.commit(batch).await.map(drop)
    }

    /// The next time after `now` at which time alone decides something: a sleep, a deadline. What was due before and is
    /// still there is for another daemon to do.
    pub async fn due_next(&self, now: Timestamp) -> StoreResult<Option<Timestamp>> {
        let sql = "SELECT min(due_at) FROM obligations
            WHERE kind IN ('timer', 'signal', 'timeout', 'inquiry', 'pause') AND due_at > ?1";
        self.driver.query(sql, cells![now]).await?.first().map_or(Ok(None), |row| row.time_or_null(0))
    }

    /// Slots in which somebody stands in line.
    pub async fn slots_waiting(&self) -> StoreResult<Vec<(String, ExecutionId)>> {
        let sql = "SELECT obligation_key, min(execution_id) FROM obligations WHERE kind = 'slot'
            GROUP BY obligation_key ORDER BY obligation_key";
        let rows = self.driver.query(sql, Vec::new()).await?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.parse(1)?))).collect()
    }

    /// Unfinished executions that wait for nothing: there must be none (G6).
    pub async fn orphans(&self) -> StoreResult<Vec<(ExecutionId, ExecutionStatus)>> {
        let sql = "SELECT id, status FROM executions
            WHERE status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned')
            AND NOT EXISTS (SELECT 1 FROM obligations WHERE execution_id = executions.id)
            AND NOT EXISTS (SELECT 1 FROM journal WHERE execution_id = executions.id AND outcome IS NULL)
            ORDER BY id";
        let rows = self.driver.query(sql, Vec::new()).await?;
        rows.iter().map(|row| Ok((row.parse(0)?, row.parse(1)?))).collect()
    }
}

fn obligation(row: &Row) -> StoreResult<ObligationRow> {
    Ok(ObligationRow {
        execution: row.parse(0)?,
        kind: row.text(1)?.to_owned(),
        key: row.text(2)?.to_owned(),
        due_at: row.time_or_null(3)?,
        owner: row.text_or_null(4)?.map(str::to_owned),
        detail: row.text_or_null(5)?.map(str::to_owned),
    })
}
