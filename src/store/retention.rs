//! Deletes what is too old, in small batches, so that a night's cleaning never holds up a night's work.

use std::sync::LazyLock;

use super::driver::{Batch, cells};
use super::error::StoreResult;
use super::journal::BUNDLES;
use crate::model::refs::{EnforcementId, ExecutionId, InstanceId};
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
    /// Who did what through the API.
    pub audit: Timestamp,
    /// Announcements of the event stream.
    pub announcements: Timestamp,
    /// What carries its own expiry: keys, tokens, signals, de-duplication.
    pub now: Timestamp,
}

/// Rows deleted per statement and tick: a few milliseconds of the writer's time.
const CHUNK: i64 = 500;

/// The setting that says until when everything is swept.
const SWEPT_AT: &str = "swept_at";

impl Retention {
    /// Bytes of the database that are in use; pages set free by deletions do not count.
    pub async fn used_bytes(&self) -> StoreResult<u64> {
        self.driver.used_bytes().await
    }

    /// Until when everything that was too old is deleted.
    pub async fn swept_at(&self) -> StoreResult<Option<Timestamp>> {
        let rows = self.driver.query("SELECT value FROM meta WHERE name = ?1", cells![SWEPT_AT]).await?;
        let text = rows.first().map(|row| row.text(0)).transpose()?;
        Ok(text.and_then(|text| text.parse().ok()).map(Timestamp::from_micros))
    }

    /// Remembers that everything that was too old at `now` is deleted.
    pub async fn note_swept(&self, now: Timestamp) -> StoreResult<()> {
        let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let mut batch = Batch::default();
        batch.push(sql, cells![SWEPT_AT, now.as_micros().to_string()]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Deletes one chunk of each kind; gives back how many rows went. Zero: there is nothing left to delete. Nothing here
    /// looks at rows that are to stay: old rows are found by their ids, which begin with the time, or by an index.
    pub async fn sweep(&self, horizon: &Horizon) -> StoreResult<usize> {
        let mut batch = Batch::default();
        batch.alone(BUNDLES);
        for root in self.old_trees(horizon.executions).await? {
            push_tree(&mut batch, root);
        }
        push_events(&mut batch, horizon);
        push_expired(&mut batch, horizon.now);
        let logs: [(&'static str, Timestamp); 4] = [
            (
                "DELETE FROM output WHERE (execution_id, sequence) IN
                    (SELECT execution_id, sequence FROM output WHERE written_at < ?1 LIMIT ?2)",
                horizon.output,
            ),
            (
                "DELETE FROM asg_decisions WHERE last_at < ?1 AND sequence IN
                    (SELECT sequence FROM asg_decisions ORDER BY sequence LIMIT ?2)",
                horizon.decisions,
            ),
            (
                "DELETE FROM announcements WHERE announced_at < ?1 AND sequence IN
                    (SELECT sequence FROM announcements ORDER BY sequence LIMIT ?2)",
                horizon.announcements,
            ),
            (
                "DELETE FROM audit WHERE at < ?1 AND sequence IN
                    (SELECT sequence FROM audit ORDER BY sequence LIMIT ?2)",
                horizon.audit,
            ),
        ];
        for (sql, before) in logs {
            batch.push(sql, cells![before, CHUNK]);
        }
        let effects = self.driver.commit(batch).await?;
        Ok(effects.iter().map(|effect| effect.changed).sum())
    }

    /// A tree of executions goes as one, once its root is old enough and none of it runs any more: a step never outlives
    /// its workflow's row.
    async fn old_trees(&self, before: Timestamp) -> StoreResult<Vec<ExecutionId>> {
        const TREES: i64 = 20;
        let sql = "SELECT id FROM executions root WHERE id < ?1 AND parent_id IS NULL AND ended_at < ?2
            AND NOT EXISTS (SELECT 1 FROM executions step WHERE step.root_id = root.id AND step.parent_id IS NOT NULL
                AND step.status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned'))
            ORDER BY id LIMIT ?3";
        let rows = self.driver.query(sql, cells![ExecutionId::earliest_at(before), before, TREES]).await?;
        rows.iter().map(|row| row.parse(0)).collect()
    }
}

fn push_tree(batch: &mut Batch, root: ExecutionId) {
    const TREE: &str = "SELECT id FROM executions WHERE id = ?1
        UNION ALL SELECT id FROM executions WHERE root_id = ?1 AND parent_id IS NOT NULL";
    static STATEMENTS: LazyLock<[String; 7]> = LazyLock::new(|| {
        [
            format!("DELETE FROM journal WHERE execution_id IN ({TREE})"),
            format!("DELETE FROM workflows WHERE execution_id IN ({TREE})"),
            format!("DELETE FROM output WHERE execution_id IN ({TREE})"),
            format!("DELETE FROM blobs WHERE owner IN ({TREE})"),
            format!("DELETE FROM obligations WHERE execution_id IN ({TREE})"),
            format!("DELETE FROM slots WHERE execution_id IN ({TREE})"),
            format!("DELETE FROM executions WHERE id IN ({TREE})"),
        ]
    });
    for sql in STATEMENTS.iter() {
        batch.push(sql, cells![root]);
    }
}

/// What was seen and what rules made of it.
fn push_events(batch: &mut Batch, horizon: &Horizon) {
    batch.push(
        "DELETE FROM trigger_instances WHERE id IN (SELECT id FROM trigger_instances
            WHERE id < ?1 AND status <> 'pending' AND processed_at < ?2 ORDER BY id LIMIT ?3)",
        cells![InstanceId::earliest_at(horizon.instances), horizon.instances, CHUNK],
    );
    let enforcements = horizon.instances.min(horizon.executions);
    batch.push(
        "DELETE FROM enforcements WHERE id IN (SELECT id FROM enforcements
            WHERE id < ?1 AND enforced_at < ?2 ORDER BY id LIMIT ?3)",
        cells![EnforcementId::earliest_at(enforcements), enforcements, CHUNK],
    );
}

/// What carries its own end, and scripts that no workflow is pinned to any more.
fn push_expired(batch: &mut Batch, now: Timestamp) {
    let expired = [
        "DELETE FROM deduplication WHERE (trigger_type, dedupe_key) IN
            (SELECT trigger_type, dedupe_key FROM deduplication WHERE expires_at < ?1 LIMIT ?2)",
        "DELETE FROM withdrawn_holds WHERE hold_key IN
            (SELECT hold_key FROM withdrawn_holds WHERE expires_at < ?1 LIMIT ?2)",
        "DELETE FROM key_values WHERE (scope, name) IN
            (SELECT scope, name FROM key_values WHERE expires_at < ?1 LIMIT ?2)",
        "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at < ?1 LIMIT ?2)",
        "DELETE FROM signals WHERE (name, correlation, sender_id) IN
            (SELECT name, correlation, sender_id FROM signals WHERE expires_at < ?1 LIMIT ?2)",
        "DELETE FROM rule_throttles WHERE (rule_ref, throttle_key) IN
            (SELECT rule_ref, throttle_key FROM rule_throttles WHERE until_at < ?1 LIMIT ?2)",
    ];
    for sql in expired {
        batch.push(sql, cells![now, CHUNK]);
    }
    batch.push(
        "DELETE FROM bundles WHERE digest IN (SELECT digest FROM bundles WHERE NOT EXISTS
            (SELECT 1 FROM workflows WHERE workflows.bundle_digest = bundles.digest) LIMIT ?1)",
        cells![CHUNK],
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::driver::{Cell, Driver};
    use crate::store::sqlite::SqliteDriver;
    use crate::store::{StoreError, StoreResult};

    const SECOND: i64 = 1_000_000;
    const OLD: i64 = 10 * SECOND;
    const NOW: i64 = 1_000 * SECOND;

    /// The id of something made in this second.
    fn made_at(second: u32, number: u32) -> String {
        format!("{second:08x}00000000{number:08x}")
    }

    struct Desk {
        driver: Arc<dyn Driver>,
        _folder: tempfile::TempDir,
    }

    impl Desk {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let driver = Arc::new(SqliteDriver::open(&folder.path().join("petrel.db"), None).unwrap());
            Self { driver, _folder: folder }
        }

        async fn write(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<()> {
            let mut batch = Batch::default();
            batch.push(sql, cells);
            self.driver.commit(batch).await.map(drop)
        }

        async fn execution(&self, id: &str, parent: Option<&str>, root: &str, status: &str) {
            let sql = "INSERT INTO executions (id, action_ref, runner, status, parent_id, root_id, parameters, context,
                user_name, on_lost, requested_at, ended_at, fence, status_log)
                VALUES (?1, 'a.b', 'noop', ?2, ?3, ?4, '{}', '{}', 'u', 'rerun', 1, ?5, 1, '[]')";
            let ended = (status == "succeeded").then_some(OLD);
            self.write(sql, cells![id, status, parent, root, ended]).await.unwrap();
            let obligation = "INSERT INTO obligations (execution_id, kind, obligation_key) VALUES (?1, 'timer', 'k')";
            self.write(obligation, cells![id]).await.unwrap();
            self.write("INSERT INTO bundles (digest, content) VALUES (?1, 'c')", cells![id]).await.unwrap();
            let workflow = "INSERT INTO workflows (execution_id, bundle_digest, state, steering)
                VALUES (?1, ?1, '{}', '{}')";
            self.write(workflow, cells![id]).await.unwrap();
        }

        async fn texts(&self, sql: &'static str) -> Vec<String> {
            let rows = self.driver.query(sql, Vec::new()).await.unwrap();
            rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
        }

        async fn sweep(&self) {
            let before = Timestamp::from_micros(OLD + 1);
            let horizon = Horizon {
                executions: before,
                instances: before,
                output: before,
                decisions: before,
                audit: before,
                announcements: before,
                now: Timestamp::from_micros(NOW),
            };
            let retention = Retention::new(Arc::clone(&self.driver));
            while retention.sweep(&horizon).await.unwrap() > 0 {}
        }
    }

    #[tokio::test]
    async fn a_finished_tree_goes_with_all_that_belongs_to_it_but_not_while_any_of_it_runs() {
        let desk = Desk::new();
        let [done, done_step, busy, busy_step] = [1, 2, 3, 4].map(|number| made_at(9, number));
        desk.execution(&done, None, &done, "succeeded").await;
        desk.execution(&done_step, Some(&done), &done, "succeeded").await;
        desk.execution(&busy, None, &busy, "succeeded").await;
        desk.execution(&busy_step, Some(&busy), &busy, "running").await;
        desk.sweep().await;
        let left = [busy, busy_step];
        assert_eq!(desk.texts("SELECT id FROM executions ORDER BY id").await, left);
        assert_eq!(desk.texts("SELECT execution_id FROM obligations ORDER BY execution_id").await, left);
        assert_eq!(desk.texts("SELECT digest FROM bundles ORDER BY digest").await, left);
    }

    #[tokio::test]
    async fn old_events_go_once_they_are_processed_and_what_belongs_to_them_with_them() {
        let desk = Desk::new();
        let instance = "INSERT INTO trigger_instances (id, trigger_identity, trigger_type, payload, occurred_at,
            trace_tag, status, processed_at) VALUES (?1, 't', 't', '{}', 1, 'x', ?2, ?3)";
        let enforcement = "INSERT INTO enforcements (id, instance_id, rule_ref, status, enforced_at)
            VALUES (?1, ?1, 'r', 'succeeded', ?2)";
        let [over, pending, late, new] = [(9, 1), (9, 2), (9, 3), (11, 4)].map(|(at, number)| made_at(at, number));
        for (id, status, at) in [(&over, "processed", OLD), (&late, "processed", NOW), (&new, "processed", NOW)] {
            desk.write(instance, cells![id.as_str(), status, at]).await.unwrap();
            desk.write(enforcement, cells![id.as_str(), at]).await.unwrap();
        }
        desk.write(instance, cells![pending.as_str(), "pending", None::<i64>]).await.unwrap();
        desk.sweep().await;
        assert_eq!(
            desk.texts("SELECT id FROM trigger_instances ORDER BY id").await,
            [pending, late.clone(), new.clone()]
        );
        assert_eq!(desk.texts("SELECT id FROM enforcements ORDER BY id").await, [late, new]);
    }

    #[tokio::test]
    async fn throttles_go_when_they_are_over_and_the_audit_when_it_is_old() {
        let desk = Desk::new();
        let throttle =
            "INSERT INTO rule_throttles (rule_ref, throttle_key, holder, until_at) VALUES ('r', ?1, 'h', ?2)";
        desk.write(throttle, cells!["over", NOW - 1]).await.unwrap();
        desk.write(throttle, cells!["holds", NOW]).await.unwrap();
        let audit = "INSERT INTO audit (at, user_name, what, subject, detail) VALUES (?1, 'u', 'w', ?2, 'd')";
        desk.write(audit, cells![OLD, "old"]).await.unwrap();
        desk.write(audit, cells![OLD + 1, "new"]).await.unwrap();
        desk.sweep().await;
        assert_eq!(desk.texts("SELECT throttle_key FROM rule_throttles").await, ["holds"]);
        assert_eq!(desk.texts("SELECT subject FROM audit").await, ["new"]);
    }

    #[tokio::test]
    async fn only_a_row_that_is_there_already_is_a_collision() {
        let desk = Desk::new();
        let bundle = "INSERT INTO bundles (digest, content) VALUES (?1, ?2)";
        desk.write(bundle, cells!["a", "x"]).await.unwrap();
        assert_eq!(desk.write(bundle, cells!["a", "y"]).await, Err(StoreError::Conflict));
        let mistake = desk.write(bundle, cells!["b", None::<String>]).await;
        let Err(StoreError::Refused(why)) = mistake else { panic!("{mistake:?}") };
        assert!(why.contains("bundles.content") && why.contains(bundle), "{why}");
    }
}
