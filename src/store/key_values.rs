//! The datastore: names with text values in a scope, versions for compare-and-swap, values that expire.

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::events::first_int;
use super::executions::committed;
use super::rows::Page;
use crate::model::time::Timestamp;

super::aggregate! {
    /// StackStorm's datastore.
    KeyValues
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `system`, or `user:<name>`.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// Its value; sealed if it is secret.
    pub value: String,
    /// Is the value sealed?
    pub secret: bool,
    /// Grows with each change.
    pub version: i64,
    /// It is gone after that.
    pub expires_at: Option<Timestamp>,
}

/// A change of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWrite {
    /// `system`, or `user:<name>`.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// The new value, sealed if secret; `None` deletes.
    pub value: Option<String>,
    /// Is the value sealed?
    pub secret: bool,
    /// Gone after that.
    pub expires_at: Option<Timestamp>,
    /// What must be there for the write to happen.
    pub expected: Expected,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever.
    Anything,
    /// Nothing.
    Absent,
    /// This version.
    Version(i64),
}

/// Adds a write to a batch; what has expired is not there, swept or not. An expectation that does not hold ends the batch in a conflict.
pub(super) fn push_key_write(batch: &mut Batch, write: &KeyWrite, now: Timestamp) {
    let (scope, name) = (write.scope.as_str(), write.name.as_str());
    let secret = i64::from(write.secret);
    match (&write.value, write.expected) {
        (Some(value), Expected::Anything) => {
            let sql = "INSERT INTO key_values (scope, name, value, secret, version, expires_at)
                VALUES (?1, ?2, ?3, ?4, 1, ?5) ON CONFLICT (scope, name) DO UPDATE SET value = excluded.value,
                secret = excluded.secret, version = key_values.version + 1, expires_at = excluded.expires_at";
            batch.push(sql, cells![scope, name, value.as_str(), secret, write.expires_at]);
        }
        (Some(value), Expected::Absent) => {
            let sql = "INSERT INTO key_values (scope, name, value, secret, version, expires_at)
                VALUES (?1, ?2, ?3, ?4, 1, ?5) ON CONFLICT (scope, name) DO NOTHING";
            let gone = "DELETE FROM key_values WHERE scope = ?1 AND name = ?2 AND expires_at <= ?3";
            batch.push(gone, cells![scope, name, now]);
            batch.require(sql, cells![scope, name, value.as_str(), secret, write.expires_at]);
        }
        (Some(value), Expected::Version(version)) => {
            let sql = "UPDATE key_values SET value = ?3, secret = ?4, version = version + 1, expires_at = ?5
                WHERE scope = ?1 AND name = ?2 AND version = ?6 AND (expires_at IS NULL OR expires_at > ?7)";
            batch.require(sql, cells![scope, name, value.as_str(), secret, write.expires_at, version, now]);
        }
        (None, Expected::Version(version)) => {
            let sql = "DELETE FROM key_values WHERE scope = ?1 AND name = ?2 AND version = ?3
                AND (expires_at IS NULL OR expires_at > ?4)";
            batch.require(sql, cells![scope, name, version, now]);
        }
        (None, Expected::Anything | Expected::Absent) => {
            batch.push("DELETE FROM key_values WHERE scope = ?1 AND name = ?2", cells![scope, name]);
        }
    }
}

const GET: &str = "SELECT scope, name, value, secret, version, expires_at FROM key_values
    WHERE scope = ?1 AND name = ?2 AND (expires_at IS NULL OR expires_at > ?3)";

impl KeyValues {
    /// One value, unless it has expired.
    pub async fn key_get(&self, scope: &str, name: &str, now: Timestamp) -> StoreResult<Option<KeyRow>> {
        self.driver.query(GET, cells![scope, name, now]).await?.first().map(key).transpose()
    }

    /// The same from a thread that may block: templates and workflows read while they are evaluated.
    pub fn key_get_blocking(&self, scope: &str, name: &str, now: Timestamp) -> StoreResult<Option<KeyRow>> {
        self.driver.query_blocking(GET, cells![scope, name, now])?.first().map(key).transpose()
    }

    /// Whether some name begins with `prefix`; from a thread that may block.
    pub fn key_has_prefix_blocking(&self, scope: &str, prefix: &str, now: Timestamp) -> StoreResult<bool> {
        let sql = "SELECT 1 FROM key_values WHERE scope = ?1 AND substr(name, 1, length(?2)) = ?2
            AND (expires_at IS NULL OR expires_at > ?3) LIMIT 1";
        Ok(!self.driver.query_blocking(sql, cells![scope, prefix, now])?.is_empty())
    }

    /// Values whose names begin with `prefix`, of one scope or of all, by scope and name.
    pub async fn key_list(
        &self,
        scope: Option<&str>,
        prefix: &str,
        page: Page,
        now: Timestamp,
    ) -> StoreResult<Vec<KeyRow>> {
        let sql = "SELECT scope, name, value, secret, version, expires_at FROM key_values
            WHERE (?1 IS NULL OR scope = ?1) AND substr(name, 1, length(?2)) = ?2
            AND (expires_at IS NULL OR expires_at > ?3) ORDER BY scope, name LIMIT ?4 OFFSET ?5";
        let rows = self.driver.query(sql, cells![scope, prefix, now, page.limit, page.offset]).await?;
        Ok(readable("key_values", 1, &rows, key))
    }

    /// How many values [`KeyValues::key_list`] would give without its page.
    pub async fn key_count(&self, scope: Option<&str>, prefix: &str, now: Timestamp) -> StoreResult<i64> {
        let sql = "SELECT count(*) FROM key_values WHERE (?1 IS NULL OR scope = ?1)
            AND substr(name, 1, length(?2)) = ?2 AND (expires_at IS NULL OR expires_at > ?3)";
        first_int(&self.driver.query(sql, cells![scope, prefix, now]).await?)
    }

    /// Writes one value, as of `now`. `false`: the expectation did not hold.
    pub async fn key_write(&self, write: &KeyWrite, now: Timestamp) -> StoreResult<bool> {
        let mut batch = Batch::default();
        push_key_write(&mut batch, write, now);
        committed(self.driver.commit(batch).await)
    }

    /// Deletes one value, or says that there is none.
    pub async fn key_delete(&self, scope: &str, name: &str) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require("DELETE FROM key_values WHERE scope = ?1 AND name = ?2", cells![scope, name]);
        match self.driver.commit(batch).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict) => Err(StoreError::NotFound(format!("key `{name}` in scope {scope}"))),
            Err(problem) => Err(problem),
        }
    }
}

fn key(row: &Row) -> StoreResult<KeyRow> {
    Ok(KeyRow {
        scope: row.text(0)?.to_owned(),
        name: row.text(1)?.to_owned(),
        value: row.text(2)?.to_owned(),
        secret: row.int(3)? != 0,
        version: row.int(4)?,
        expires_at: row.time_or_null(5)?,
    })
}
