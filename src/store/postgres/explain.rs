//! What PostgreSQL says when something goes wrong, in the store's words. One table gives every SQLSTATE its class; nothing
//! is taken for damage but what the server itself calls damaged.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::commit::Failure;
use crate::store::error::{Class, StoreError, report_unknown};

/// Codes (five characters) and classes of codes (two), the closest match counts.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const STATES: &[(&str, Class, Connection)] = &[
    ("08", Class::Wait, Connection::Lost),         // connection exception
    ("0A000", Class::Wait, Connection::Lost),      // a prepared statement whose tables have changed
    ("21", Class::Refused, Connection::Good),      // cardinality violation
    ("22", Class::Refused, Connection::Good),      // data exception: a number, text or byte that does not fit
    ("23", Class::Refused, Connection::Good),      // integrity constraint violation
    ("23505", Class::Collision, Connection::Good), // unique violation
    ("25", Class::Wait, Connection::Lost), // transaction state; 25006: read-only, a standby; 25P03: idle too long
    ("26000", Class::Wait, Connection::Lost), // a prepared statement that is gone: a pooler, or DISCARD ALL
    ("28", Class::Wait, Connection::Lost), // not let in
    ("3D000", Class::Wait, Connection::Lost), // no such database
    ("40", Class::TryAgain, Connection::Good), // serialization failure, deadlock
    ("40003", Class::Wait, Connection::Lost), // nobody knows whether it was committed
    ("42501", Class::Wait, Connection::Good), // rights that an operator has taken away
    ("53", Class::Wait, Connection::Lost), // resources; 53100: disk full, 53300: too many connections
    ("54", Class::Refused, Connection::Good), // beyond a limit of the server: too large, too complex
    ("55", Class::Wait, Connection::Good), // not in this state; 55P03: lock not available in time
    ("57", Class::Wait, Connection::Lost), // an operator; 57P01 to 57P03: shutdown, crash, starting
    ("57014", Class::Wait, Connection::Good), // statement timeout, or canceled
    ("58", Class::Wait, Connection::Lost), // the system around it
    ("F0", Class::Wait, Connection::Lost), // its configuration file
    ("XX001", Class::Damaged, Connection::Good), // data corrupted
    ("XX002", Class::Damaged, Connection::Good), // index corrupted
];

/// Whether a connection can be used after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Good,
    /// It ends, or leads to a server that is of no use.
    Lost,
}

fn class_of(code: &str) -> (Class, Connection) {
    let found = STATES.iter().filter(|(prefix, ..)| code.starts_with(prefix)).max_by_key(|(prefix, ..)| prefix.len());
    found.map_or((Class::Unknown, Connection::Lost), |(_, class, connection)| (*class, *connection))
}

/// No connection could be had.
pub(super) fn no_connection(problem: &PoolError) -> StoreError {
    let why = match problem {
        PoolError::Backend(problem) => chain(problem),
        PoolError::Timeout(_) => "no connection came free or could be made in time".to_owned(),
        other => chain(other),
    };
    StoreError::Unavailable(format!("PostgreSQL: {why}"))
}

/// The server has no connection left for us; those that we have come free again.
pub(super) fn is_out_of_connections(problem: &PoolError) -> bool {
    matches!(problem, PoolError::Backend(problem) if problem.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
}

/// A statement failed.
pub(super) fn failure(problem: &tokio_postgres::Error, sql: &str) -> Failure {
    let Some(state) = problem.code() else {
        return Failure::Broken(StoreError::Unavailable(format!("PostgreSQL: {}", chain(problem))));
    };
    failure_of(state.code(), &chain(problem), sql)
}

fn failure_of(code: &str, said: &str, sql: &str) -> Failure {
    let (class, connection) = class_of(code);
    let in_statement = || format!("PostgreSQL: {said} (SQLSTATE {code}) in `{sql}`");
    let error = match class {
        Class::TryAgain => return Failure::Met,
        Class::Collision => StoreError::Conflict,
        Class::Wait => StoreError::Unavailable(format!("PostgreSQL: {said}")),
        Class::Refused => StoreError::Refused(in_statement()),
        Class::Damaged => StoreError::Corrupt(in_statement()),
        Class::Unknown => {
            report_unknown("PostgreSQL", code, said);
            StoreError::Unavailable(in_statement())
        }
    };
    match connection {
        Connection::Good => Failure::Store(error),
        Connection::Lost => Failure::Broken(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str) -> &'static str {
        match failure_of(code, "said", "SELECT 1") {
            Failure::Met => "again",
            Failure::Broken(StoreError::Unavailable(_)) => "wait, other connection",
            Failure::Store(StoreError::Unavailable(_)) => "wait",
            Failure::Store(StoreError::Refused(_)) => "refused",
            Failure::Store(StoreError::Corrupt(_)) => "damaged",
            Failure::Store(StoreError::Conflict) => "conflict",
            Failure::Broken(_) | Failure::Store(_) => "other",
        }
    }

    #[test]
    fn every_error_of_the_server_has_a_class() {
        let cases = [
            ("40001", "again"),                  // serialization_failure
            ("40P01", "again"),                  // deadlock_detected
            ("55P03", "wait"),                   // lock_not_available
            ("57014", "wait"),                   // query_canceled: statement_timeout
            ("42501", "wait"),                   // insufficient_privilege
            ("25P03", "wait, other connection"), // idle_in_transaction_session_timeout
            ("25P02", "wait, other connection"), // in_failed_sql_transaction
            ("25006", "wait, other connection"), // read_only_sql_transaction
            ("53100", "wait, other connection"), // disk_full
            ("53300", "wait, other connection"), // too_many_connections
            ("57P01", "wait, other connection"), // admin_shutdown
            ("57P02", "wait, other connection"), // crash_shutdown
            ("57P03", "wait, other connection"), // cannot_connect_now
            ("08006", "wait, other connection"), // connection_failure
            ("58030", "wait, other connection"), // io_error
            ("0A000", "wait, other connection"), // cached plan must not change result type
            ("42P01", "wait, other connection"), // undefined_table: not ours any more, nothing is failed for it
            ("XX000", "wait, other connection"), // internal_error: unknown
            ("ZZ999", "wait, other connection"), // nobody has heard of it
            ("23505", "conflict"),               // unique_violation
            ("23502", "refused"),                // not_null_violation
            ("22021", "refused"),                // character_not_in_repertoire
            ("54000", "refused"),                // program_limit_exceeded
            ("XX001", "damaged"),                // data_corrupted
            ("XX002", "damaged"),                // index_corrupted
        ];
        for (code, expected) in cases {
            assert_eq!(kind(code), expected, "{code}");
        }
    }
}
