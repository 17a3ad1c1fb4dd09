//! Brings a database's schema up to date, one numbered step at a time, and refuses a database from a newer Petrel.

use rusqlite::Connection;

use super::error::{StoreError, StoreResult};
use super::sqlite::explain;

/// The steps in order; a step is never edited once it was released, a new one is added.
const STEPS: &[(&str, &str)] = &[
    ("initial", include_str!("migrations/0001_initial.sql")),
    ("cluster", include_str!("migrations/0002_cluster.sql")),
];

pub(super) fn bring_up_to_date(connection: &mut Connection) -> StoreResult<()> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| explain(&e))?;
    let known = STEPS.len();
    let done = usize::try_from(version).ok().filter(|done| *done <= known).ok_or_else(|| newer(version))?;
    for (number, (name, sql)) in STEPS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(|e| explain(&e))?;
        let sql = sql.replace("{SEQUENCE}", "INTEGER PRIMARY KEY AUTOINCREMENT").replace("{BY_KEY}", "WITHOUT ROWID");
        transaction.execute_batch(&sql).map_err(|e| explain(&e))?;
        transaction.execute_batch(&format!("PRAGMA user_version = {}", number + 1)).map_err(|e| explain(&e))?;
        transaction.commit().map_err(|e| explain(&e))?;
        tracing::info!(step = name, "the database schema was brought up to date");
    }
    Ok(())
}

fn newer(version: i64) -> StoreError {
    StoreError::Unavailable(format!(
        "its schema has version {version} and this Petrel knows versions up to {}; \
         start the Petrel that wrote it, or restore a backup of an older one",
        STEPS.len()
    ))
}
