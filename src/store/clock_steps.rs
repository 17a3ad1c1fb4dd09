//! What is stored with a time, when the clock by which it was written is set. Deadlines that mean "so long from then" move
//! along with a step; what a wrong clock has left too far in the future is brought back to its own period.

use std::time::Duration;

use serde_json::Value;

use super::driver::{Batch, Row, cells};
use super::error::StoreResult;
use super::events::KEYS_REMEMBERED;
use super::executions::committed;
use super::journal::TIMERS;
use crate::model::refs::{Id, InstanceId};
use crate::model::time::{CLOCK_TOLERANCE, Timestamp};

super::aggregate! {
    /// Steps of the clock.
    ClockSteps
}

/// The setting in which a daemon remembers by which clock the store was written last.
const CLOCK_SETTING: &str = "clock";

/// Everything that is due, or ends, some time after it was written. What names a time of day (`sleep_until`, timers, what
/// people set) stays, and so do the keys of timers: an instant that has fired does not fire again.
const MOVED_ALONG: [&str; 9] = [
    "UPDATE obligations SET due_at = due_at + ?1 WHERE due_at IS NOT NULL AND NOT (kind = 'timer' AND EXISTS
        (SELECT 1 FROM journal WHERE journal.execution_id = obligations.execution_id
            AND journal.position = obligations.obligation_key AND journal.request LIKE '%\"kind\":\"sleep_until\"%'))",
    "UPDATE executions SET requested_at = requested_at + ?1
        WHERE status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned') AND requested_at > ?2",
    "UPDATE held_instances SET due_at = due_at + ?1",
    "UPDATE rule_throttles SET until_at = until_at + ?1",
    "UPDATE leases SET until_at = until_at + ?1",
    "UPDATE deduplication SET expires_at = expires_at + ?1 WHERE trigger_type NOT IN
        ('core.st2.IntervalTimer', 'core.st2.CronTimer', 'core.st2.DateTimer')",
    "UPDATE signals SET expires_at = expires_at + ?1",
    "UPDATE key_values SET expires_at = expires_at + ?1 WHERE expires_at IS NOT NULL",
    "UPDATE tokens SET expires_at = expires_at + ?1",
];

impl ClockSteps {
    /// What a daemon remembered of the clock, in its own words.
    pub async fn clock_remembered(&self) -> StoreResult<Option<String>> {
        let rows = self.driver.query("SELECT value FROM meta WHERE name = ?1", cells![CLOCK_SETTING]).await?;
        rows.first().map(|row| row.text(0).map(str::to_owned)).transpose()
    }

    /// Replaces what is remembered, if it is still `old`. `false`: another daemon was quicker.
    pub async fn clock_remember(&self, old: Option<&str>, new: &str) -> StoreResult<bool> {
        let mut batch = Batch::default();
        push_remember(&mut batch, old, new);
        committed(self.driver.commit(batch).await)
    }

    /// Moves all that is relative along with a step of the clock by `by_micros`, after which it shows `now`; once: `false` if
    /// what is remembered is not `old` any more.
    pub async fn clock_stepped(
        &self,
        by_micros: i64,
        now: Timestamp,
        old: Option<&str>,
        new: &str,
    ) -> StoreResult<bool> {
        let mut batch = Batch::default();
        batch.alone(TIMERS);
        push_remember(&mut batch, old, new);
        for sql in MOVED_ALONG {
            let row = if sql.contains("?2") { cells![by_micros, now] } else { cells![by_micros] };
            batch.push(sql, row);
        }
        committed(self.driver.commit(batch).await)
    }

    /// Brings back what a clock that was ahead has written too far into the future: nothing waits for longer than its own
    /// period. Gives back how many rows.
    pub async fn clock_repair(&self, now: Timestamp) -> StoreResult<usize> {
        let mut batch = Batch::default();
        self.push_waits(&mut batch, now).await?;
        self.push_queue(&mut batch, now).await?;
        self.push_holds(&mut batch, now).await?;
        self.push_keys(&mut batch, now).await?;
        if batch.statements.is_empty() {
            return Ok(0);
        }
        Ok(self.driver.commit(batch).await?.iter().map(|effect| effect.changed).sum())
    }

    /// Sleeps, signals and inquiries say themselves how long they last.
    async fn push_waits(&self, batch: &mut Batch, now: Timestamp) -> StoreResult<()> {
        let sql = "SELECT waiting.execution_id, waiting.kind, waiting.obligation_key, waiting.due_at,
                COALESCE(journal.request, waiting.detail)
            FROM obligations waiting LEFT JOIN journal ON journal.execution_id = waiting.execution_id
                AND journal.position = waiting.obligation_key
            WHERE waiting.kind IN ('timer', 'signal', 'inquiry') AND waiting.due_at > ?1";
        for row in self.driver.query(sql, cells![now.plus(CLOCK_TOLERANCE)]).await? {
            let Some(period) = period_of(row.text(1)?, row.text_or_null(4)?) else { continue };
            let latest = now.plus(period);
            if row.time(3)?.is_ahead_of(latest) {
                push_due(batch, &row, latest)?;
            }
        }
        Ok(())
    }

    /// What was requested in the future waits for its delay from now on; what was claimed before is due at once.
    async fn push_queue(&self, batch: &mut Batch, now: Timestamp) -> StoreResult<()> {
        let sql = "SELECT waiting.execution_id, waiting.kind, waiting.obligation_key, waiting.due_at,
                execution.requested_at, execution.fence
            FROM obligations waiting JOIN executions execution ON execution.id = waiting.execution_id
            WHERE waiting.kind IN ('queue', 'timeout') AND waiting.due_at > ?1";
        for row in self.driver.query(sql, cells![now.plus(CLOCK_TOLERANCE)]).await? {
            let (due, requested) = (row.time(3)?, row.time(4)?);
            if requested.is_ahead_of(now) && due >= requested {
                push_due(batch, &row, now.plus(due.since(requested)))?;
            } else if row.text(1)? == "queue" && row.int(5)? > 0 {
                push_due(batch, &row, now)?;
            }
        }
        Ok(())
    }

    /// No key is remembered for longer than from now on.
    async fn push_keys(&self, batch: &mut Batch, now: Timestamp) -> StoreResult<()> {
        let latest = now.plus(KEYS_REMEMBERED);
        let found = "SELECT trigger_type FROM deduplication WHERE expires_at > ?1 AND trigger_type NOT IN
            ('core.st2.IntervalTimer', 'core.st2.CronTimer', 'core.st2.DateTimer') LIMIT 1";
        let bound = latest.plus(CLOCK_TOLERANCE);
        if !self.driver.query(found, cells![bound]).await?.is_empty() {
            let sql = "UPDATE deduplication SET expires_at = ?1 WHERE expires_at > ?2 AND trigger_type NOT IN
                ('core.st2.IntervalTimer', 'core.st2.CronTimer', 'core.st2.DateTimer')";
            batch.push(sql, cells![latest, bound]);
        }
        Ok(())
    }

    /// The id of a held instance begins with the second in which it was made.
    async fn push_holds(&self, batch: &mut Batch, now: Timestamp) -> StoreResult<()> {
        let sql = "SELECT hold_key, instance_id, due_at FROM held_instances WHERE due_at > ?1";
        for row in self.driver.query(sql, cells![now.plus(CLOCK_TOLERANCE)]).await? {
            let (id, due): (InstanceId, Timestamp) = (row.parse(1)?, row.time(2)?);
            let made = made_at(id);
            if made.is_ahead_of(now) && due >= made {
                let sql = "UPDATE held_instances SET due_at = ?2 WHERE hold_key = ?1 AND due_at = ?3";
                batch.push(sql, cells![row.text(0)?, now.plus(due.since(made)), due]);
            }
        }
        Ok(())
    }
}

fn push_remember(batch: &mut Batch, old: Option<&str>, new: &str) {
    if let Some(old) = old {
        batch.require("UPDATE meta SET value = ?3 WHERE name = ?1 AND value = ?2", cells![CLOCK_SETTING, old, new]);
    } else {
        let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        batch.require(sql, cells![CLOCK_SETTING, new]);
    }
}

fn push_due(batch: &mut Batch, row: &Row, due: Timestamp) -> StoreResult<()> {
    let sql = "UPDATE obligations SET due_at = ?4
        WHERE execution_id = ?1 AND kind = ?2 AND obligation_key = ?3 AND due_at = ?5";
    batch.push(sql, cells![row.text(0)?, row.text(1)?, row.text(2)?, due, row.time(3)?]);
    Ok(())
}

/// How long a wait lasts by its own request; `None` if it names a time of day or does not say.
fn period_of(kind: &str, detail: Option<&str>) -> Option<Duration> {
    let detail: Value = serde_json::from_str(detail?).ok()?;
    let number = |pointer: &str| detail.pointer(pointer).and_then(Value::as_u64);
    match kind {
        "timer" => number("/params/millis").map(Duration::from_millis),
        "signal" => number("/params/timeout_millis").map(Duration::from_millis),
        "inquiry" => number("/ttl_minutes").map(|minutes| Duration::from_secs(minutes.saturating_mul(60))),
        _ => None,
    }
}

fn made_at<K>(id: Id<K>) -> Timestamp {
    let text = id.to_string();
    let seconds = text.get(..8).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    Timestamp::from_micros(seconds.saturating_mul(1_000_000))
}
