//! Brings the schema up to date. Ten daemons may start at once: one does it, the others wait and find it done.

use deadpool_postgres::Object;

use super::explain::chain;
use crate::store::dialect;
use crate::store::error::{StoreError, StoreResult};
use crate::store::migrate::steps_after;

/// Held by whoever changes the schema: "petrel" in bytes.
const SCHEMA_LOCK: i64 = 0x7065_7472_656c;

pub(super) async fn bring_up_to_date(client: &mut Object) -> StoreResult<()> {
    let transaction = client.transaction().await.map_err(|e| failed(&e))?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await.map_err(|e| failed(&e))?;
    let create = "CREATE TABLE IF NOT EXISTS petrel_schema (version BIGINT NOT NULL)";
    transaction.batch_execute(create).await.map_err(|e| failed(&e))?;
    let version = "SELECT COALESCE(max(version), 0) FROM petrel_schema";
    let version: i64 =
        transaction.query_one(version, &[]).await.and_then(|row| row.try_get(0)).map_err(|e| failed(&e))?;
    for (version, step) in steps_after(version)? {
        transaction.batch_execute(&dialect::schema_for_postgres(step.sql)).await.map_err(|e| failed(&e))?;
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let note = "INSERT INTO petrel_schema (version) VALUES ($1)";
        transaction.execute(note, &[&version]).await.map_err(|e| failed(&e))?;
        tracing::info!(step = step.name, "the database schema was brought up to date");
    }
    transaction.commit().await.map_err(|e| failed(&e))
}

fn failed(problem: &tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable(format!("bringing the schema in PostgreSQL up to date: {}", chain(problem)))
}
