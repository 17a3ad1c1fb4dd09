//! The places that concurrency policies give: a durable semaphore with a line before it, first come, first served.
//!
//! Who is on its way to a place says so in `obligations.detail` of its queue or lease: from its request on, and again
//! when it is called from the line. Nobody who came later passes it.

use super::driver::{Batch, cells};
use super::error::StoreResult;
use super::executions::{Executions, STILL_CLAIMED, log_entry};
use super::rows::Claim;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;

/// What came of asking for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotTaken {
    /// The execution may run.
    Held,
    /// It stands in line; the lease is gone.
    Waiting,
}

/// Calls the first in line if fewer than ?3 hold a place or are on their way to one.
const CALL_FIRST: &str = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at, detail)
    SELECT execution_id, 'queue', '', ?2, ?1 FROM obligations WHERE kind = 'slot' AND obligation_key = ?1
        AND (SELECT count(*) FROM slots WHERE slot_key = ?1)
            + (SELECT count(*) FROM obligations WHERE detail = ?1 AND (kind = 'lease' OR kind = 'queue' AND due_at <= ?2))
            < ?3
        ORDER BY execution_id LIMIT 1
    ON CONFLICT (execution_id, kind, obligation_key)
    DO UPDATE SET due_at = excluded.due_at, detail = excluded.detail";
const LEAVE_LINE: &str = "DELETE FROM obligations WHERE kind = 'slot' AND obligation_key = ?1 AND execution_id IN
    (SELECT execution_id FROM obligations WHERE detail = ?1 AND kind = 'queue')";

/// Lets go of the places that an execution holds, whatever policy gave them, and calls the first of each line.
pub(super) fn push_slot_release(batch: &mut Batch, holder: ExecutionId, now: Timestamp) {
    let call = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at, detail)
        SELECT line.execution_id, 'queue', '', ?2, line.obligation_key FROM obligations line
        WHERE line.kind = 'slot' AND line.obligation_key IN (SELECT slot_key FROM slots WHERE execution_id = ?1)
            AND line.execution_id = (SELECT min(ahead.execution_id) FROM obligations ahead
                WHERE ahead.kind = 'slot' AND ahead.obligation_key = line.obligation_key)
        ON CONFLICT (execution_id, kind, obligation_key)
        DO UPDATE SET due_at = excluded.due_at, detail = excluded.detail";
    let leave = "DELETE FROM obligations WHERE kind = 'slot'
        AND obligation_key IN (SELECT slot_key FROM slots WHERE execution_id = ?1)
        AND execution_id IN (SELECT called.execution_id FROM obligations called
            WHERE called.kind = 'queue' AND called.detail = obligations.obligation_key)";
    batch.push(call, cells![holder, now]);
    batch.push(leave, cells![holder]);
    batch.push("DELETE FROM slots WHERE execution_id = ?1", cells![holder]);
}

/// Whoever counts the places of a slot does so alone. Who gives one back need not: it can only be counted too late, and
/// then whoever counted calls again.
fn line_turf(slot: &str) -> String {
    format!("slot/{slot}")
}

fn push_call(batch: &mut Batch, slot: &str, threshold: i64, now: Timestamp) {
    batch.push(CALL_FIRST, cells![slot, now, threshold]);
    batch.push(LEAVE_LINE, cells![slot]);
}

impl Executions {
    /// Takes a place in a concurrency policy's semaphore, or a place in the line before it; then calls whoever may come
    /// next. [`StoreError::Conflict`](super::StoreError::Conflict): the claim is old.
    pub async fn slot_take(&self, claim: Claim, slot: &str, threshold: u32, now: Timestamp) -> StoreResult<SlotTaken> {
        let take = "INSERT INTO slots (slot_key, execution_id) SELECT ?1, ?2
            WHERE (SELECT count(*) FROM slots WHERE slot_key = ?1 AND execution_id <> ?2)
                + (SELECT count(*) FROM obligations WHERE kind = 'slot' AND obligation_key = ?1 AND execution_id < ?2)
                + (SELECT count(*) FROM obligations WHERE detail = ?1 AND execution_id < ?2
                    AND (kind = 'lease' OR kind = 'queue' AND due_at <= ?4))
                < ?3
            ON CONFLICT (slot_key, execution_id) DO UPDATE SET slot_key = excluded.slot_key";
        let line_up = "UPDATE obligations SET kind = 'slot', obligation_key = ?1, due_at = NULL, owner = NULL,
                token = NULL
            WHERE execution_id = ?2 AND kind = 'lease'
            AND NOT EXISTS (SELECT 1 FROM slots WHERE slot_key = ?1 AND execution_id = ?2)";
        let delayed = "UPDATE executions SET status = 'delayed', status_log = status_log || ?3 WHERE id = ?1
            AND EXISTS (SELECT 1 FROM obligations WHERE execution_id = ?1 AND kind = 'slot' AND obligation_key = ?2)";
        // It came, called or by another wake: it stands in no line and is expected no longer.
        let came = "DELETE FROM obligations WHERE execution_id = ?1 AND kind = 'slot'";
        let expected = "UPDATE obligations SET detail = NULL WHERE execution_id = ?1 AND kind IN ('queue', 'lease')";
        let threshold = i64::from(threshold);
        let mut batch = Batch::default();
        batch.alone(line_turf(slot));
        batch.require(STILL_CLAIMED, cells![claim.execution, claim.fence]);
        batch.push(came, cells![claim.execution]);
        batch.push(take, cells![slot, claim.execution, threshold, now]);
        batch.push(expected, cells![claim.execution]);
        batch.push(line_up, cells![slot, claim.execution]);
        let log = log_entry(now, ExecutionStatus::Delayed);
        let waits = batch.statements.len();
        batch.push(delayed, cells![claim.execution, slot, log]);
        push_call(&mut batch, slot, threshold, now);
        let effects = self.driver.commit(batch).await?;
        let waits = effects.get(waits).is_some_and(|effect| effect.changed > 0);
        Ok(if waits { SlotTaken::Waiting } else { SlotTaken::Held })
    }

    /// Calls the first of a line that stands still although a place is free: the policy was changed, or the one that
    /// was on its way is gone.
    pub async fn slots_sweep(&self, slot: &str, threshold: u32, now: Timestamp) -> StoreResult<bool> {
        let mut batch = Batch::default();
        batch.alone(line_turf(slot));
        push_call(&mut batch, slot, i64::from(threshold), now);
        let effects = self.driver.commit(batch).await?;
        Ok(effects.first().is_some_and(|effect| effect.changed > 0))
    }
}
