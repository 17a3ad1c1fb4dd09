//! What can go wrong in the store, told by what the caller can do about it.

/// Answer, re-read, wait, or stop.
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
    /// What is stored makes no sense: stop and look.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// Shorthand of the store's answers.
pub type StoreResult<T> = Result<T, StoreError>;
