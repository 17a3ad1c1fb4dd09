//! What executions say while they run, and results too large for their row, in chunks.

use super::driver::{Batch, Driver, Guarded, Row, cells};
use super::error::StoreResult;
use super::events::first_int;
use super::rows::Secrecy;
use super::stream::push_announcement;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Live output of executions.
    Outputs
}

/// Large enough that a big result is few rows, small enough that one row is no burden.
const BLOB_CHUNK_BYTES: usize = 256 * 1024;

/// One piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRow {
    /// Grows within an execution.
    pub sequence: i64,
    /// `stdout`, `stderr` or `other`.
    pub stream: String,
    /// The text, redacted before it was stored.
    pub text: String,
    /// When.
    pub written_at: Timestamp,
}

pub(super) fn push_output(
    batch: &mut Batch,
    execution: ExecutionId,
    sequence: i64,
    stream: &str,
    text: &str,
    now: Timestamp,
) {
    let sql = "INSERT INTO output (execution_id, sequence, stream, text, written_at) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (execution_id, sequence) DO NOTHING";
    batch.push(sql, cells![execution, sequence, stream, text, now]);
}

pub(super) fn push_blob(batch: &mut Batch, owner: &str, content: &[u8], secrecy: Secrecy) {
    batch.push("DELETE FROM blobs WHERE owner = ?1", cells![owner]);
    for (number, chunk) in (0_i64..).zip(content.chunks(BLOB_CHUNK_BYTES)) {
        let sql = "INSERT INTO blobs (owner, chunk, content) VALUES (?1, ?2, ?3)";
        batch.push(sql, cells![owner, number, Guarded(chunk.to_vec(), secrecy)]);
    }
}

pub(super) async fn read_blob(driver: &dyn Driver, owner: &str) -> StoreResult<Vec<u8>> {
    let sql = "SELECT content FROM blobs WHERE owner = ?1 ORDER BY chunk";
    let mut content = Vec::new();
    for row in driver.query(sql, cells![owner]).await? {
        content.extend_from_slice(row.blob(0)?);
    }
    Ok(content)
}

impl Outputs {
    /// Appends pieces of output, numbered by the caller, and tells the event stream.
    pub async fn output_append(&self, execution: ExecutionId, rows: &[OutputRow]) -> StoreResult<()> {
        let mut batch = Batch::default();
        for row in rows {
            push_output(&mut batch, execution, row.sequence, &row.stream, &row.text, row.written_at);
        }
        if let Some(last) = rows.last() {
            let name = "st2.execution.output__create";
            push_announcement(&mut batch, name, &execution.to_string(), None, last.written_at);
        }
        self.driver.commit(batch).await.map(drop)
    }

    /// Output after `after`, in order.
    pub async fn output_read(&self, execution: ExecutionId, after: i64, limit: i64) -> StoreResult<Vec<OutputRow>> {
        let sql = "SELECT sequence, stream, text, written_at FROM output
            WHERE execution_id = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
        self.driver.query(sql, cells![execution, after, limit]).await?.iter().map(output).collect()
    }

    /// The number of the last piece; a second attempt goes on from there.
    pub async fn output_last(&self, execution: ExecutionId) -> StoreResult<i64> {
        let sql = "SELECT COALESCE(max(sequence), 0) FROM output WHERE execution_id = ?1";
        first_int(&self.driver.query(sql, cells![execution]).await?)
    }
}

fn output(row: &Row) -> StoreResult<OutputRow> {
    Ok(OutputRow {
        sequence: row.int(0)?,
        stream: row.text(1)?.to_owned(),
        text: row.text(2)?.to_owned(),
        written_at: row.time(3)?,
    })
}
