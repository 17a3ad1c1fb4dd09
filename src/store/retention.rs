//! Deletes what is too old, in small batches, so that a night's cleaning never holds up a night's work.

use super::driver::{Batch, cells};
use super::error::StoreResult;
use super::events::first_int;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Deletes what is too old.
    Retention
}

/// What may go: everything finished before the given times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Finished executions with their journals, results and enforcements.
    pub executions: Timestamp,
    /// Processed trigger instances.
    pub instances: Timestamp,
    /// Output of executions.
    pub output: Timestamp,
    /// Decisions of the governor.
    pub decisions: Timestamp,
    /// Announcements of the event stream.
    pub announcements: Timestamp,
    /// What carries its own expiry: keys, tokens, signals, de-duplication.
    pub now: Timestamp,
}

/// Rows deleted per statement and tick: a few milliseconds of the writer's time.
const CHUNK: i64 = 500;

impl Retention {
    /// Bytes of the database that are in use; pages set free by deletions do not count.
    pub async fn used_bytes(&self) -> StoreResult<u64> {
        let sql = "SELECT (page_count - freelist_count) * page_size
            FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let used = first_int(&self.driver.query(sql, Vec::new()).await?)?;
        Ok(u64::try_from(used).unwrap_or(0))
    }

    /// Deletes one chunk of each kind; gives back how many rows went. Zero: there is nothing left to delete.
    pub async fn sweep(&self, horizon: &Horizon) -> StoreResult<usize> {
        let mut batch = Batch::default();
        push_executions(&mut batch, horizon.executions);
        let plain: [(&'static str, Timestamp); 10] = [
            (
                "DELETE FROM trigger_instances WHERE id IN (SELECT id FROM trigger_instances
                    WHERE status <> 'pending' AND processed_at < ?1 LIMIT ?2)",
                horizon.instances,
            ),
            (
                "DELETE FROM enforcements WHERE id IN (SELECT id FROM enforcements WHERE enforced_at < ?1 LIMIT ?2)",
                horizon.instances.min(horizon.executions),
            ),
            (
                "DELETE FROM output WHERE rowid IN (SELECT rowid FROM output WHERE written_at < ?1 LIMIT ?2)",
                horizon.output,
            ),
            (
                "DELETE FROM asg_decisions WHERE sequence IN
                    (SELECT sequence FROM asg_decisions WHERE last_at < ?1 LIMIT ?2)",
                horizon.decisions,
            ),
            (
                "DELETE FROM announcements WHERE sequence IN
                    (SELECT sequence FROM announcements WHERE announced_at < ?1 LIMIT ?2)",
                horizon.announcements,
            ),
            (
                "DELETE FROM deduplication WHERE rowid IN
                    (SELECT rowid FROM deduplication WHERE expires_at < ?1 LIMIT ?2)",
                horizon.now,
            ),
            (
                "DELETE FROM key_values WHERE rowid IN (SELECT rowid FROM key_values WHERE expires_at < ?1 LIMIT ?2)",
                horizon.now,
            ),
            (
                "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at < ?1 LIMIT ?2)",
                horizon.now,
            ),
            (
                "DELETE FROM rule_throttles WHERE rowid IN
                    (SELECT rowid FROM rule_throttles WHERE until_at < ?1 LIMIT ?2)",
                horizon.now,
            ),
            (
                "DELETE FROM signals WHERE rowid IN (SELECT rowid FROM signals WHERE expires_at < ?1 LIMIT ?2)",
                horizon.now,
            ),
        ];
        for (sql, before) in plain {
            batch.push(sql, cells![before, CHUNK]);
        }
        let effects = self.driver.commit(batch).await?;
        Ok(effects.iter().map(|effect| effect.changed).sum())
    }
}

/// A tree of executions goes as one, once its root is old enough and all of it has ended: a step never outlives its
/// workflow's row, and nothing unfinished goes.
fn push_executions(batch: &mut Batch, before: Timestamp) {
    const OLD: &str = "SELECT id FROM executions WHERE root_id IN
        (SELECT id FROM executions WHERE parent_id IS NULL AND ended_at < ?1 AND NOT EXISTS
            (SELECT 1 FROM executions step WHERE step.root_id = executions.id AND step.status NOT IN
                ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned')) ORDER BY id LIMIT ?2)";
    static STATEMENTS: std::sync::LazyLock<[String; 5]> = std::sync::LazyLock::new(|| {
        [
            format!("DELETE FROM journal WHERE execution_id IN ({OLD})"),
            format!("DELETE FROM workflows WHERE execution_id IN ({OLD})"),
            format!("DELETE FROM output WHERE execution_id IN ({OLD})"),
            format!("DELETE FROM blobs WHERE owner IN ({OLD})"),
            format!("DELETE FROM executions WHERE id IN ({OLD})"),
        ]
    });
    const ROOTS_PER_SWEEP: i64 = 20;
    for sql in STATEMENTS.iter() {
        batch.push(sql, cells![before, ROOTS_PER_SWEEP]);
    }
}
