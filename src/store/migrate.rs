//! The steps that bring a database's schema up to date, and the refusal of a database from a newer Petrel. How a step is
//! carried out is each back end's own.

use super::error::{StoreError, StoreResult};

/// One step; never edited once it was released, a new one is added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// What the log calls it.
    pub(super) name: &'static str,
    /// Its statements, in the shared dialect.
    pub(super) sql: &'static str,
}

/// All steps in order; the n-th makes version n.
pub(super) const STEPS: &[Step] = &[
    Step { name: "initial", sql: include_str!("migrations/0001_initial.sql") },
    Step { name: "cluster", sql: include_str!("migrations/0002_cluster.sql") },
    Step { name: "withdrawals", sql: include_str!("migrations/0003_withdrawals.sql") },
    Step { name: "asked_by", sql: include_str!("migrations/0004_asked_by.sql") },
    Step { name: "suspects", sql: include_str!("migrations/0005_suspects.sql") },
    Step { name: "secrets", sql: include_str!("migrations/0006_secrets.sql") },
];

/// The steps that a database of this version lacks, each with the version it makes.
pub(super) fn steps_after(version: i64) -> StoreResult<impl Iterator<Item = (usize, Step)>> {
    let done = usize::try_from(version).ok().filter(|done| *done <= STEPS.len()).ok_or_else(|| newer(version))?;
    Ok((1..).zip(STEPS.iter().copied()).skip(done))
}

fn newer(version: i64) -> StoreError {
    StoreError::Unavailable(format!(
        "its schema has version {version} and this Petrel knows versions up to {}; \
         start the Petrel that wrote it, or restore a backup of an older one",
        STEPS.len()
    ))
}
