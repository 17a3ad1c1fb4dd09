//! Instances that happen later unless they are withdrawn. What was said counts by the source's own time and not by the
//! order in which it arrives here: behind a broker, and with several daemons, that order is anybody's.

use std::time::Duration;

use super::driver::{Batch, cells};
use super::error::{StoreError, StoreResult};
use super::events::{Events, HeldInstance};
use crate::model::time::Timestamp;

/// Claimed by whoever holds or withdraws, so that what is released is what was seen.
const HOLDS: &str = "holds";
/// So long a withdrawal is remembered: what it withdraws may still lie in a broker while the store is away.
const REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// Who holds and who withdraws under one key come one after the other: neither overlooks the other.
fn claim(batch: &mut Batch, key: &str) {
    batch.share(HOLDS);
    batch.alone(format!("hold {key}"));
}

pub(super) fn push_hold(batch: &mut Batch, held: &HeldInstance) {
    let sql = "INSERT INTO held_instances (hold_key, instance_id, trigger_identity, trigger_type, payload,
            trace_tag, occurred_at, due_at)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
        WHERE NOT EXISTS (SELECT 1 FROM withdrawn_holds WHERE hold_key = ?1 AND said_at > ?7)
        ON CONFLICT (hold_key) DO UPDATE SET
            instance_id = excluded.instance_id, payload = excluded.payload, trace_tag = excluded.trace_tag,
            trigger_identity = excluded.trigger_identity, trigger_type = excluded.trigger_type,
            occurred_at = excluded.occurred_at, due_at = excluded.due_at
        WHERE held_instances.occurred_at <= excluded.occurred_at";
    let HeldInstance { key, instance: new, due_at } = held;
    claim(batch, key);
    let payload = new.payload.to_string();
    let (trigger, tag) = (new.trigger.as_str(), new.trace_tag.as_str());
    let row = cells![key.as_str(), new.id, trigger, &new.trigger_type, payload, tag, new.occurred_at, *due_at];
    batch.push(sql, row);
}

/// A withdrawal that says when it was said also counts for what comes after it and is from before it.
pub(super) fn push_withdrawal(batch: &mut Batch, key: &str, said_at: Option<Timestamp>, now: Timestamp) {
    let sql = "DELETE FROM held_instances WHERE hold_key = ?1 AND (?2 IS NULL OR occurred_at <= ?2)";
    claim(batch, key);
    batch.push(sql, cells![key, said_at]);
    if let Some(said_at) = said_at {
        let sql = "INSERT INTO withdrawn_holds (hold_key, said_at, expires_at) VALUES (?1, ?2, ?3)
            ON CONFLICT (hold_key) DO UPDATE SET said_at = excluded.said_at, expires_at = excluded.expires_at
            WHERE withdrawn_holds.said_at < excluded.said_at";
        batch.push(sql, cells![key, said_at, now.plus(REMEMBERED)]);
    }
}

impl Events {
    /// Lets the held instances whose time has come happen; gives back how many.
    pub async fn holds_release(&self, now: Timestamp) -> StoreResult<usize> {
        let mut batch = Batch::default();
        batch.alone(HOLDS);
        let happen = "INSERT INTO trigger_instances
                (id, trigger_identity, trigger_type, payload, occurred_at, trace_tag, status)
            SELECT instance_id, trigger_identity, trigger_type, payload, due_at, trace_tag, 'pending'
            FROM held_instances WHERE due_at <= ?1 ON CONFLICT (id) DO NOTHING";
        batch.push(happen, cells![now]);
        batch.require("DELETE FROM held_instances WHERE due_at <= ?1", cells![now]);
        match self.driver.commit(batch).await {
            Ok(effects) => Ok(effects.first().map_or(0, |effect| effect.changed)),
            Err(StoreError::Conflict) => Ok(0),
            Err(problem) => Err(problem),
        }
    }

    /// When the next held instance is due.
    pub async fn holds_next(&self) -> StoreResult<Option<Timestamp>> {
        let rows = self.driver.query("SELECT min(due_at) FROM held_instances", Vec::new()).await?;
        rows.first().map_or(Ok(None), |row| row.time_or_null(0))
    }
}
