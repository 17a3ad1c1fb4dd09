//! Messages of which nothing could be made, kept as they came until a person decides.

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::events::first_int;
use super::executions::committed;
use super::rows::Page;
use crate::model::refs::DeadLetterId;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Messages of which nothing could be made.
    DeadLetters
}

/// A message about to be set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    /// Equal for the same bytes from the same source: set aside twice, it lies there once.
    pub id: DeadLetterId,
    /// The queue it came from.
    pub source: String,
    /// What is wrong with it.
    pub reason: String,
    /// The message as it came.
    pub body: Vec<u8>,
    /// When it was set aside.
    pub received_at: Timestamp,
}

/// A message that was set aside, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// Its id.
    pub id: DeadLetterId,
    /// The queue it came from.
    pub source: String,
    /// What is wrong with it.
    pub reason: String,
    /// The length of its body.
    pub size_bytes: i64,
    /// When it was set aside.
    pub received_at: Timestamp,
}

impl DeadLetters {
    /// Sets messages aside, all of them at once. One that lies there already has come again now.
    pub async fn dead_letters_put(&self, letters: &[NewDeadLetter]) -> StoreResult<()> {
        let sql = "INSERT INTO dead_letters (id, source, reason, body, received_at) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, received_at = excluded.received_at";
        let mut batch = Batch::default();
        for NewDeadLetter { id, source, reason, body, received_at } in letters {
            batch.push(sql, cells![*id, source.as_str(), reason.as_str(), body.clone(), *received_at]);
        }
        self.driver.commit(batch).await.map(drop)
    }

    /// What was set aside, newest first, and how many there are in all.
    pub async fn dead_letter_list(&self, page: Page) -> StoreResult<(Vec<DeadLetterRow>, i64)> {
        let sql = "SELECT id, source, reason, length(body), received_at FROM dead_letters
            ORDER BY received_at DESC, id LIMIT ?1 OFFSET ?2";
        let rows = self.driver.query(sql, cells![page.limit, page.offset]).await?;
        let count = first_int(&self.driver.query("SELECT count(*) FROM dead_letters", Vec::new()).await?)?;
        Ok((readable("dead_letters", 0, &rows, letter), count))
    }

    /// One of them, with its body.
    pub async fn dead_letter_get(&self, id: DeadLetterId) -> StoreResult<(DeadLetterRow, Vec<u8>)> {
        let sql = "SELECT id, source, reason, length(body), received_at, body FROM dead_letters WHERE id = ?1";
        let rows = self.driver.query(sql, cells![id]).await?;
        let row = rows.first().ok_or_else(|| unknown(id))?;
        Ok((letter(row)?, row.blob(5)?.to_vec()))
    }

    /// Forgets one of them as it was read. `false`: it is gone, or has come again since.
    pub async fn dead_letter_delete(&self, letter: &DeadLetterRow) -> StoreResult<bool> {
        let mut batch = Batch::default();
        let sql = "DELETE FROM dead_letters WHERE id = ?1 AND received_at = ?2";
        batch.require(sql, cells![letter.id, letter.received_at]);
        committed(self.driver.commit(batch).await)
    }
}

fn unknown(id: DeadLetterId) -> StoreError {
    StoreError::NotFound(format!("dead letter {id}"))
}

fn letter(row: &Row) -> StoreResult<DeadLetterRow> {
    Ok(DeadLetterRow {
        id: row.parse(0)?,
        source: row.text(1)?.to_owned(),
        reason: row.text(2)?.to_owned(),
        size_bytes: row.int(3)?,
        received_at: row.time(4)?,
    })
}
