//! The daemons over one store: who lives, and what only one of them does at a time.

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::StoreResult;
use super::executions::committed;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Daemons and what they hold alone.
    Daemons
}

/// A daemon as it last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonRow {
    /// The name of its leases; another one at each start.
    pub owner: String,
    /// Where it runs.
    pub host: String,
    /// As which process.
    pub pid: i64,
    /// Of which Petrel.
    pub version: String,
    /// What it does, as `api,workers`.
    pub roles: String,
    /// Where it answers.
    pub api: String,
    /// What it has loaded.
    pub catalogue: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it last said so.
    pub seen_at: Timestamp,
}

/// Something that one daemon does alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// What it is, as `sensor:github.poll`.
    pub name: String,
    /// Who does it.
    pub owner: String,
    /// Until when, unless it is extended.
    pub until: Timestamp,
}

impl Daemons {
    /// A daemon says that it lives.
    pub async fn daemon_seen(&self, daemon: &DaemonRow) -> StoreResult<()> {
        let sql = "INSERT INTO daemons (owner, host, pid, version, roles, api, catalogue, started_at, seen_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (owner)
            DO UPDATE SET catalogue = excluded.catalogue, seen_at = excluded.seen_at";
        let DaemonRow { owner, host, pid, version, roles, api, catalogue, started_at, seen_at } = daemon;
        let row = cells![
            owner.as_str(),
            host.as_str(),
            *pid,
            version.as_str(),
            roles.as_str(),
            api.as_str(),
            catalogue.as_str(),
            *started_at,
            *seen_at
        ];
        let mut batch = Batch::default();
        batch.push(sql, row);
        self.driver.commit(batch).await.map(drop)
    }

    /// A daemon goes in order: what it held alone is free at once.
    pub async fn daemon_gone(&self, owner: &str) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.push("DELETE FROM daemons WHERE owner = ?1", cells![owner]);
        batch.push("DELETE FROM leases WHERE owner = ?1", cells![owner]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Daemons that said something since `since`, the oldest first.
    pub async fn daemon_list(&self, since: Timestamp) -> StoreResult<Vec<DaemonRow>> {
        let sql = "SELECT owner, host, pid, version, roles, api, catalogue, started_at, seen_at FROM daemons
            WHERE seen_at >= ?1 ORDER BY started_at, owner";
        Ok(readable("daemons", 0, &self.driver.query(sql, cells![since]).await?, daemon))
    }

    /// Forgets daemons that have said nothing since `before`.
    pub async fn daemons_forget(&self, before: Timestamp) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.push("DELETE FROM daemons WHERE seen_at < ?1", cells![before]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Takes or extends what one daemon does alone. `false`: another one has it. What is held for longer than a lease that
    /// begins now was taken by a clock that was ahead, and is free.
    pub async fn lease_take(&self, name: &str, owner: &str, until: Timestamp, now: Timestamp) -> StoreResult<bool> {
        let sql = "INSERT INTO leases (name, owner, until_at) VALUES (?1, ?2, ?3) ON CONFLICT (name)
            DO UPDATE SET owner = excluded.owner, until_at = excluded.until_at
            WHERE leases.owner = excluded.owner OR leases.until_at <= ?4 OR leases.until_at > ?5";
        let mut batch = Batch::default();
        batch.require(sql, cells![name, owner, until, now, until.plus(until.since(now))]);
        committed(self.driver.commit(batch).await)
    }

    /// What is held just now, by name.
    pub async fn lease_list(&self, now: Timestamp) -> StoreResult<Vec<LeaseRow>> {
        let sql = "SELECT name, owner, until_at FROM leases WHERE until_at > ?1 ORDER BY name";
        Ok(readable("leases", 0, &self.driver.query(sql, cells![now]).await?, lease))
    }

    /// What the store's own clock shows; `None` if it has none but the machine's.
    pub async fn store_time(&self) -> StoreResult<Option<Timestamp>> {
        self.driver.time().await
    }

    /// How many executions each daemon has under way: owner and count.
    pub async fn running_by_owner(&self) -> StoreResult<Vec<(String, i64)>> {
        let sql = "SELECT owner, count(*) FROM obligations WHERE kind = 'lease' GROUP BY owner ORDER BY owner";
        let rows = self.driver.query(sql, Vec::new()).await?;
        rows.iter().map(|row| Ok((row.text_or_null(0)?.unwrap_or_default().to_owned(), row.int(1)?))).collect()
    }
}

fn daemon(row: &Row) -> StoreResult<DaemonRow> {
    Ok(DaemonRow {
        owner: row.text(0)?.to_owned(),
        host: row.text(1)?.to_owned(),
        pid: row.int(2)?,
        version: row.text(3)?.to_owned(),
        roles: row.text(4)?.to_owned(),
        api: row.text(5)?.to_owned(),
        catalogue: row.text(6)?.to_owned(),
        started_at: row.time(7)?,
        seen_at: row.time(8)?,
    })
}

fn lease(row: &Row) -> StoreResult<LeaseRow> {
    Ok(LeaseRow { name: row.text(0)?.to_owned(), owner: row.text(1)?.to_owned(), until: row.time(2)? })
}
