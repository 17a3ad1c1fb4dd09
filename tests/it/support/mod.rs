//! What the stories share: a site on disk with an engine, the real binary, processes, waiting for a condition.

pub(crate) mod daemon;
pub(crate) mod native;
pub(crate) mod processes;
pub mod site;

use std::fs;
use std::time::Duration;

use petrel::clock::{Clock, SystemClock, sleep};

/// Slow machines need long; who is right does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    while clock.monotonic() < PATIENCE {
        if let Some(seen) = look().await {
            return seen;
        }
        sleep(&clock, LOOK_EVERY).await;
    }
    panic!("did not happen within {PATIENCE:?}: {what}");
}

/// Fields of `/proc/<pid>/stat` behind the name: state, parent, group, session.
pub(crate) fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

/// Not there, or only not yet picked up by its parent.
pub(crate) fn is_dead(pid: i32) -> bool {
    stat(pid).is_none_or(|fields| fields[0] == "Z")
}
