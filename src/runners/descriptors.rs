//! The limit of open files: raised for the daemon at its start, given back to its children, shared out to listeners.
//!
//! Systemd and Go do the same: the soft limit is low only for programs that use `select`, and those may be among the
//! children. So a guard sets the limit of before for what it starts.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this limit listeners get half of it; above it everything but this half.
const MOST_RESERVED: u64 = 1024;

/// The soft limit with which the process was started; set once it was raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit of this process to its hard limit. To be called once, before anything is started.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => {
            tracing::debug!(from = ?limit.current, to = ?limit.maximum, "the limit of open files was raised");
            BEFORE.get_or_init(|| limit.current.unwrap_or(u64::MAX));
        }
        Err(problem) => tracing::warn!(%problem, "the limit of open files could not be raised"),
    }
}

/// The soft limit that children get; `None`: the one that this process has.
pub(super) fn limit_of_children() -> Option<u64> {
    BEFORE.get().copied()
}

/// Gives this process, a guard, the soft limit that its child is to have.
pub(super) fn lower_limit(soft: u64) -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.map_or(soft, |hard| hard.min(soft)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}

/// How many connections all listeners together may have, so that enough descriptors are left for the store and for
/// starting actions.
pub fn connections_allowed() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(left_for_connections(limit)).unwrap_or(usize::MAX)
}

fn left_for_connections(limit: u64) -> u64 {
    (limit - MOST_RESERVED.min(limit / 2)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_never_take_all_descriptors() {
        for (limit, left) in [(0, 1), (64, 32), (1024, 512), (2048, 1024), (4096, 3072), (1 << 20, (1 << 20) - 1024)] {
            assert_eq!(left_for_connections(limit), left, "of {limit}");
        }
    }
}
