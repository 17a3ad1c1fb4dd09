//! Catalogues that were published for all daemons: the last one holds, the last ten are kept, their files lie in blobs.

use super::contents::push_content_change;
use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::output::{push_blob, read_blob};
use super::rows::Secrecy;
use crate::model::time::Timestamp;

super::aggregate! {
    /// What was published for all daemons.
    Catalogues
}

/// So many versions are kept, to go back to.
const KEPT_VERSIONS: u64 = 10;

/// One publication, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRow {
    /// Grows by one each time.
    pub version: u64,
    /// Of its content; `None`: from here on daemons load their own files.
    pub digest: Option<String>,
    /// By whom.
    pub published_by: String,
    /// When.
    pub published_at: Timestamp,
}

const INSERT: &str = "INSERT INTO published_catalogues (version, digest, published_by, published_at)
    VALUES (?1, ?2, ?3, ?4)";

impl Catalogues {
    /// Publishes `content`. [`StoreError::Conflict`]: somebody else has published this version.
    pub async fn catalogue_publish(&self, row: &PublishedRow, content: &[u8]) -> StoreResult<()> {
        let mut batch = batch_of(row);
        // Configurations of packs are among its files, and some of their values are secret.
        push_blob(&mut batch, &owner_of(row.version), content, Secrecy::Sealed);
        self.driver.commit(batch).await.map(drop)
    }

    /// Publishes once more what was `earlier` published. [`StoreError::Conflict`]: somebody else has published this
    /// version, or the earlier one is not kept any more.
    pub async fn catalogue_publish_again(&self, row: &PublishedRow, earlier: u64) -> StoreResult<()> {
        let copy = "INSERT INTO blobs (owner, chunk, content) SELECT ?1, chunk, content FROM blobs WHERE owner = ?2";
        let mut batch = batch_of(row);
        batch.require(copy, cells![owner_of(row.version), owner_of(earlier)]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Sends all daemons back to their own files. [`StoreError::Conflict`]: somebody else has published this version.
    pub async fn catalogue_withdraw(&self, row: &PublishedRow) -> StoreResult<()> {
        self.driver.commit(batch_of(row)).await.map(drop)
    }

    /// The publication that holds; `None`: there never was one.
    pub async fn catalogue_current(&self) -> StoreResult<Option<PublishedRow>> {
        let sql = "SELECT version, digest, published_by, published_at FROM published_catalogues
            ORDER BY version DESC LIMIT 1";
        self.driver.query(sql, Vec::new()).await?.first().map(published).transpose()
    }

    /// All that are kept, the last one first.
    pub async fn catalogue_list(&self) -> StoreResult<Vec<PublishedRow>> {
        let sql = "SELECT version, digest, published_by, published_at FROM published_catalogues ORDER BY version DESC";
        Ok(readable("published_catalogues", 0, &self.driver.query(sql, Vec::new()).await?, published))
    }

    /// What was published as `version`.
    pub async fn catalogue_content(&self, version: u64) -> StoreResult<Vec<u8>> {
        let content = read_blob(&*self.driver, &owner_of(version)).await?;
        if content.is_empty() {
            return Err(StoreError::NotFound(format!("the content of the published catalogue {version}")));
        }
        Ok(content)
    }
}

/// The row, without those that are not kept any more; what comes to lie in it is for the caller to add.
fn batch_of(row: &PublishedRow) -> Batch {
    let mut batch = Batch::default();
    let digest = row.digest.as_deref().unwrap_or_default();
    batch.push(INSERT, cells![number(row.version), digest, row.published_by.as_str(), row.published_at]);
    let last_swept = number(row.version.saturating_sub(KEPT_VERSIONS));
    let blobs = "DELETE FROM blobs WHERE owner IN
        (SELECT 'catalogue/' || CAST(version AS TEXT) FROM published_catalogues WHERE version <= ?1)";
    batch.push(blobs, cells![last_swept]);
    batch.push("DELETE FROM published_catalogues WHERE version <= ?1", cells![last_swept]);
    push_content_change(&mut batch);
    batch
}

fn owner_of(version: u64) -> String {
    format!("catalogue/{version}")
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn published(row: &Row) -> StoreResult<PublishedRow> {
    let version = row.int(0)?;
    let version = u64::try_from(version)
        .map_err(|_| StoreError::Corrupt(format!("a catalogue was published as version {version}")))?;
    let digest = Some(row.text(1)?.to_owned()).filter(|digest| !digest.is_empty());
    Ok(PublishedRow { version, digest, published_by: row.text(2)?.to_owned(), published_at: row.time(3)? })
}
