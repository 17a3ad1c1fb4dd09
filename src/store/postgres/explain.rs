//! What PostgreSQL says when something goes wrong, in the store's words.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::commit::Failure;
use crate::store::error::StoreError;

/// No connection could be had.
pub(super) fn no_connection(problem: &PoolError) -> StoreError {
    let why = match problem {
        PoolError::Backend(problem) => chain(problem),
        PoolError::Timeout(_) => "no connection came free or could be made in time".to_owned(),
        other => chain(other),
    };
    StoreError::Unavailable(format!("PostgreSQL: {why}"))
}

/// A statement failed.
pub(super) fn failure(problem: &tokio_postgres::Error, sql: &str) -> Failure {
    let Some(state) = problem.code() else {
        return Failure::Broken(StoreError::Unavailable(format!("PostgreSQL: {}", chain(problem))));
    };
    if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state) {
        return Failure::Met;
    }
    if *state == SqlState::UNIQUE_VIOLATION {
        return StoreError::Conflict.into();
    }
    let said = chain(problem);
    match state.code().get(..2) {
        // Connection, resources, an operator's doing, the system around it, a read-only standby: it will be there again.
        Some("08" | "25" | "53" | "57" | "58") => {
            Failure::Broken(StoreError::Unavailable(format!("PostgreSQL: {said}")))
        }
        _ => StoreError::Corrupt(format!("PostgreSQL: {said} in `{sql}`")).into(),
    }
}

/// The problem with its causes: the outermost alone says only "db error".
pub(super) fn chain(problem: &dyn std::error::Error) -> String {
    let mut said = problem.to_string();
    let mut cause = problem.source();
    while let Some(inner) = cause {
        said = format!("{said}: {inner}");
        cause = inner.source();
    }
    said
}
