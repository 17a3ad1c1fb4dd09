//! What can go wrong when the governor is asked for something, told by what the one who asked can do about it.

use crate::governor::ledger::LedgerError;
use crate::model::group::GroupName;
use crate::store::StoreError;

/// Why the governor could not even decide. A decision against what was asked is no error: see `Admission`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GovernorError {
    /// No group of that name.
    #[error("there is no group `{0}`; `petrel asg list` shows what there is")]
    NoSuchGroup(GroupName),
    /// The name is taken.
    #[error("group `{0}` exists already; delete it first or choose another name")]
    Exists(GroupName),
    /// The definition or configuration makes no sense.
    #[error("group `{name}`: {}", problems.join("; "))]
    BadDefinition {
        /// The group, as it was called.
        name: String,
        /// All of it, each with the way out.
        problems: Vec<String>,
    },
    /// A report about a node or an activity does not fit.
    #[error("group `{group}`: {problem}")]
    Ledger {
        /// The group.
        group: GroupName,
        /// What does not fit.
        problem: LedgerError,
    },
    /// Too many others changed the group at the same time.
    #[error("group `{0}` is being changed by too many at once; try again")]
    Busy(GroupName),
    /// The store could not answer or take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
