//! What can go wrong in the store, told by what the caller can do about it.

/// Answer, re-read, wait, refuse, or stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing: say so.
    #[error("{0} was not found")]
    NotFound(String),
    /// Somebody else was quicker, or it was done before: read again.
    #[error("the change collides with another one")]
    Conflict,
    /// The database cannot be used just now (disk full, locked, gone): nothing was written; wait.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The database does not take what was to be written, now or later: it does not fit. The database itself is sound.
    #[error("the store refuses what was to be written: {0}")]
    Refused(String),
    /// What is stored makes no sense: stop and look.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether trying again leads to the same: the thing is at fault, not the moment.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Corrupt(_) | Self::NotFound(_) => true,
            Self::Unavailable(_) | Self::Conflict => false,
        }
    }
}

/// Shorthand of the store's answers.
pub type StoreResult<T> = Result<T, StoreError>;

/// What an error of a database means, whichever database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Two changes met each other, and this one was undone: run it again now.
    TryAgain,
    /// The row is there already.
    Collision,
    /// It passes: somebody holds a lock, resources or the server are missing.
    Wait,
    /// What was to be written does not fit, and never will.
    Refused,
    /// What is stored cannot be read.
    Damaged,
    /// Nobody has thought of it: it is tried again, and reported.
    Unknown,
}

/// An error that no table knows is reported once, by its code.
pub(super) fn report_unknown(database: &str, code: &str, text: &str) {
    static REPORTED: std::sync::Mutex<std::collections::BTreeSet<String>> =
        std::sync::Mutex::new(std::collections::BTreeSet::new());
    let mut reported = REPORTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if reported.insert(format!("{database} {code}")) {
        tracing::error!(
            database,
            code,
            text,
            "the database gave an error that Petrel does not know; it is tried again"
        );
    }
}
