//! Content that outlives its files: the last good version of each object, the API's own layer of rules, and the
//! settings of the installation (freeze, generation).

use std::collections::BTreeMap;

use serde_json::Value;

use super::damage::readable;
use super::driver::{Batch, Guarded, cells};
use super::error::{StoreError, StoreResult};
use super::executions::committed;
use super::rows::Secrecy;
use super::stream::push_announcement;
use crate::model::refs::RuleRef;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Last good content, the API's layer of rules, settings.
    Contents
}

/// What the API's layer says about one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleLayer {
    /// The rule.
    pub rule: RuleRef,
    /// The switch, if somebody set it.
    pub enabled: Option<bool>,
    /// The whole rule, if it was made through the API.
    pub definition: Option<Value>,
}

/// The setting in which the daemons over a store agree on the key of encrypted values, by a hash of it.
pub const DATASTORE_KEY: &str = "datastore_key";
/// What an operator can do without it.
pub const KEY_IS_LOST: &str = "If it is lost for good, what was encrypted cannot be read any more, and Petrel goes on with another \
                               key after `DELETE FROM meta WHERE name = 'datastore_key'` in the database";

/// The setting that counts changes of stored content: one small row tells a daemon whether to look.
const CONTENT_CHANGES: &str = "content_changes";

/// Some values of a pack's configuration are secret; which, says a schema that the store does not know.
fn secrecy_of(uid: &str) -> Secrecy {
    if uid.starts_with("config:") { Secrecy::Sealed } else { Secrecy::Clear }
}

pub(super) fn push_content_change(batch: &mut Batch) {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, '1')
        ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)";
    batch.push(sql, cells![CONTENT_CHANGES]);
}

impl Contents {
    /// The last good version of every object: uid → file and text.
    pub async fn last_good_read(&self) -> StoreResult<BTreeMap<String, (String, String)>> {
        let rows = self.driver.query("SELECT uid, file, content FROM last_good_content", Vec::new()).await?;
        let entries =
            rows.iter().map(|row| Ok((row.text(0)?.to_owned(), (row.text(1)?.to_owned(), row.text(2)?.to_owned()))));
        entries.collect()
    }

    /// The last good version of one object: file and text.
    pub async fn last_good_get(&self, uid: &str) -> StoreResult<Option<(String, String)>> {
        let sql = "SELECT file, content FROM last_good_content WHERE uid = ?1";
        let rows = self.driver.query(sql, cells![uid]).await?;
        rows.first().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).transpose()
    }

    /// Replaces the last good versions: what is not named any more is forgotten.
    pub async fn last_good_write(&self, objects: &BTreeMap<String, (String, String)>) -> StoreResult<()> {
        let known = self.last_good_read().await?;
        let mut batch = Batch::default();
        for uid in known.keys().filter(|uid| !objects.contains_key(*uid)) {
            batch.push("DELETE FROM last_good_content WHERE uid = ?1", cells![uid.as_str()]);
        }
        for (uid, version) in objects.iter().filter(|(uid, version)| known.get(*uid) != Some(version)) {
            let sql = "INSERT INTO last_good_content (uid, file, content) VALUES (?1, ?2, ?3)
                ON CONFLICT (uid) DO UPDATE SET file = excluded.file, content = excluded.content";
            let content = Guarded(version.1.as_str(), secrecy_of(uid));
            batch.push(sql, cells![uid.as_str(), version.0.as_str(), content]);
        }
        if batch.statements.is_empty() {
            return Ok(());
        }
        self.driver.commit(batch).await.map(drop)
    }

    /// The API's layer of rules.
    pub async fn rule_layer_read(&self) -> StoreResult<Vec<RuleLayer>> {
        let sql = "SELECT rule_ref, enabled, definition FROM rule_layer ORDER BY rule_ref";
        let rows = self.driver.query(sql, Vec::new()).await?;
        Ok(readable("rule_layer", 0, &rows, |row| {
            Ok(RuleLayer {
                rule: row.parse(0)?,
                enabled: row.int_or_null(1)?.map(|switch| switch != 0),
                definition: row.text_or_null(2)?.map(|_| row.json(2)).transpose()?,
            })
        }))
    }

    /// Writes what the API's layer says about one rule.
    pub async fn rule_layer_write(&self, layer: &RuleLayer, now: Timestamp) -> StoreResult<()> {
        let sql = "INSERT INTO rule_layer (rule_ref, enabled, definition) VALUES (?1, ?2, ?3)
            ON CONFLICT (rule_ref) DO UPDATE SET enabled = excluded.enabled, definition = excluded.definition";
        let mut batch = Batch::default();
        batch.push(sql, cells![&layer.rule, layer.enabled.map(i64::from), layer.definition.as_ref()]);
        push_announcement(&mut batch, "petrel.rule__update", layer.rule.as_str(), None, now);
        push_content_change(&mut batch);
        self.driver.commit(batch).await.map(drop)
    }

    /// Forgets what the API's layer says about one rule.
    pub async fn rule_layer_delete(&self, rule: &RuleRef) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require("DELETE FROM rule_layer WHERE rule_ref = ?1", cells![rule]);
        push_content_change(&mut batch);
        if committed(self.driver.commit(batch).await)? {
            return Ok(());
        }
        Err(StoreError::NotFound(format!("rule {rule} in the API's layer")))
    }

    /// Another number after each change of the API's layer and of what is published.
    pub async fn content_changes(&self) -> StoreResult<Option<String>> {
        self.setting_get(CONTENT_CHANGES).await
    }

    /// A setting of the installation.
    pub async fn setting_get(&self, name: &str) -> StoreResult<Option<String>> {
        let rows = self.driver.query("SELECT value FROM meta WHERE name = ?1", cells![name]).await?;
        rows.first().map(|row| row.text(0).map(str::to_owned)).transpose()
    }

    /// Sets a setting unless it is set; gives back what holds from now on, for whoever asks.
    pub async fn setting_agree(&self, name: &str, proposal: &str) -> StoreResult<String> {
        let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        let mut batch = Batch::default();
        batch.push(sql, cells![name, proposal]);
        self.driver.commit(batch).await?;
        self.setting_get(name).await?.ok_or(StoreError::Conflict)
    }

    /// Sets a setting if it is still `old`. `false`: somebody else has set it.
    pub async fn setting_swap(&self, name: &str, old: Option<&str>, new: &str) -> StoreResult<bool> {
        let mut batch = Batch::default();
        if let Some(old) = old {
            let sql = "UPDATE meta SET value = ?3 WHERE name = ?1 AND value = ?2";
            batch.require(sql, cells![name, old, new]);
        } else {
            let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
            batch.require(sql, cells![name, new]);
        }
        committed(self.driver.commit(batch).await)
    }

    /// Sets a setting of the installation, or forgets it.
    pub async fn setting_put(&self, name: &str, value: Option<&str>) -> StoreResult<()> {
        let mut batch = Batch::default();
        match value {
            Some(value) => {
                let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
                    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                batch.push(sql, cells![name, value]);
            }
            None => batch.push("DELETE FROM meta WHERE name = ?1", cells![name]),
        }
        self.driver.commit(batch).await.map(drop)
    }
}
