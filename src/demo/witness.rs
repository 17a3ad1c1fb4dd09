//! Who looks at the machine itself while the story goes on: which node processes there are and ever were.
//!
//! It believes nobody: not the ledger, not the daemon's answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::door::GROUP;
use crate::clock::{self, Clock};
use crate::local::nodes::{LocalNodes, NodeState, NodeStatus, Running};
use crate::model::group::GroupName;

/// A node lives for seconds; nothing that matters is shorter than this.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The processes that every node ever had, by its name.
pub(super) type Processes = BTreeMap<String, BTreeSet<i32>>;

/// Looks, and remembers.
#[derive(Debug)]
pub(super) struct Witness {
    nodes: LocalNodes,
    folder: PathBuf,
    group: GroupName,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    processes: Processes,
    most: usize,
    serving: Vec<String>,
}

impl Witness {
    /// Of the nodes in this folder.
    pub(super) fn new(folder: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let nodes = LocalNodes::new(folder, std::env::current_exe()?, clock)?;
        Ok(Self { nodes, folder: folder.to_owned(), group: GROUP.parse()?, seen: Mutex::default() })
    }

    /// Looks until it is told to stop.
    pub(super) async fn run(&self, clock: &dyn Clock, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            self.look()?;
            clock::sleep(clock, LOOK_EVERY).await;
        }
        Ok(())
    }

    /// One look; what is seen is remembered.
    pub(super) fn look(&self) -> anyhow::Result<()> {
        let present = processes_of(&self.folder)?;
        let ready = self.registered()?.into_iter().filter(|node| node.state == NodeState::Ready);
        let serving = ready.filter_map(|node| node.running.as_ref().map(Running::url)).collect();
        let mut seen = self.seen();
        seen.most = seen.most.max(present.values().map(BTreeSet::len).sum());
        seen.serving = serving;
        for (name, pids) in present {
            seen.processes.entry(name).or_default().extend(pids);
        }
        Ok(())
    }

    /// The nodes on disk: wanted ones, and those that still have a process.
    pub(super) fn registered(&self) -> anyhow::Result<Vec<NodeStatus>> {
        Ok(self.nodes.list_group(&self.group)?)
    }

    /// One node on disk.
    pub(super) fn node(&self, name: &str) -> anyhow::Result<Option<NodeStatus>> {
        Ok(self.nodes.status(&self.group, &name.parse()?)?)
    }

    /// The processes there are at this moment.
    pub(super) fn processes(&self) -> io::Result<Processes> {
        processes_of(&self.folder)
    }

    /// The processes that were ever seen.
    pub(super) fn ever_seen(&self) -> Processes {
        self.seen().processes.clone()
    }

    /// The most processes that were there at one time.
    pub(super) fn most(&self) -> usize {
        self.seen().most
    }

    /// Where load may go.
    pub(super) fn serving(&self) -> Vec<String> {
        self.seen().serving.clone()
    }

    /// Takes away what a story that broke off has left.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        for node in self.nodes.list()? {
            self.nodes.delete(&node.group, &node.name, None, Duration::ZERO).await?;
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The live processes `petrel node <folder> web <name>`, from the machine's own list.
fn processes_of(folder: &Path) -> io::Result<Processes> {
    let mut found = Processes::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // one that has ended meanwhile has no command line
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(name) = node_of(&line, folder) {
            found.entry(name).or_default().insert(pid);
        }
    }
    Ok(found)
}

fn node_of(line: &[u8], folder: &Path) -> Option<String> {
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let is_node = words.nth(1)? == "node" && words.next()? == folder.to_string_lossy() && words.next()? == GROUP;
    words.next().filter(|_| is_node).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_of_this_folder_are_ours_and_their_starters_are_none() {
        let folder = Path::new("/d/nodes");
        let of = |line: &str| node_of(line.as_bytes(), folder);
        assert_eq!(of("/bin/petrel\0node\0/d/nodes\0web\0web-001\0").as_deref(), Some("web-001"));
        for other in [
            "/bin/petrel\0node\0/e/nodes\0web\0web-001\0",
            "/bin/petrel\0detach\0node\0/d/nodes\0web\0web-001\0",
            "/bin/petrel\0serve\0",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
