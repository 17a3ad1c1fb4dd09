//! What is on disk about one node, below `<data-dir>/nodes/<group>/`, and the lock that says whether it lives.
//!
//! - `<name>.json`, the registration: the node is wanted. Written by its creator, removed by whoever deletes it.
//! - `<name>.lock`: held by the creator and passed on to the node, which holds it until it ends.
//! - `<name>.run`: which process it is and where it listens. Written by the holder of the lock.
//! - `<name>.log`: what the node complains about.
//!
//! Nothing is synced to disk: a power loss ends the nodes as well.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::knobs::Knobs;
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::model::time::Timestamp;
use crate::private;
use crate::runners::detached::ProcessIdentity;

/// A node that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Whose node it is.
    pub group: GroupName,
    /// What it is called.
    pub name: NodeName,
    /// Who asked for it: the same name with the same tag is the same node.
    pub tag: String,
    /// A label; a process has no size.
    pub size: Option<String>,
    /// How it behaves.
    pub knobs: Knobs,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A node that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which process it is.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// Where it listens.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// How far it has come.
    pub phase: Phase,
}

impl Running {
    /// Where it serves, as `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.port)
    }
}

/// How far a running node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It answers everything with 503.
    Booting,
    /// It works.
    Ready,
}

/// The files of one node.
#[derive(Debug, Clone)]
pub(super) struct NodeFiles {
    folder: PathBuf,
    name: NodeName,
}

/// A node's lock, held by this process. Whoever has it may write the node's files.
#[derive(Debug)]
pub(super) struct Held(File);

/// What taking a node's lock came to.
#[derive(Debug)]
pub(super) enum Take {
    Taken(Held),
    HeldByAnother,
    /// There is no lock file: nobody has created the node, or it was cleared away.
    Absent,
}

impl Held {
    /// The open file, for the process that is to hold the lock next.
    pub(super) fn pass_on(self) -> File {
        self.0
    }
}

impl NodeFiles {
    pub(super) fn new(nodes: &Path, group: &GroupName, name: NodeName) -> Self {
        Self { folder: nodes.join(group.as_str()), name }
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.name))
    }

    /// Where new content is written before it takes the place of the old.
    fn unfinished(&self, kind: &str) -> PathBuf {
        self.folder.join(format!(".{}.{kind}", self.name))
    }

    /// What the node complains about.
    pub(super) fn log_path(&self) -> PathBuf {
        self.path("log")
    }

    /// Takes the lock, its file made if need be.
    pub(super) fn take_or_make(&self) -> io::Result<Take> {
        private::create_folder(&self.folder)?;
        self.take_with(private::options().create(true))
    }

    /// Takes the lock if there is one.
    pub(super) fn take(&self) -> io::Result<Take> {
        self.take_with(&mut private::options())
    }

    fn take_with(&self, options: &mut OpenOptions) -> io::Result<Take> {
        loop {
            let Some(file) = if_there(options.open(self.path("lock")))? else {
                return Ok(Take::Absent);
            };
            match file.try_lock() {
                Ok(()) if self.is_own_lock(&file)? => return Ok(Take::Taken(Held(file))),
                // Its last holder removed it between our opening and our locking.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Take::HeldByAnother),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The lock that the creator passed on to this process as its standard input.
    pub(super) fn inherited(&self) -> io::Result<Held> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let is_ours = file.try_lock().is_ok() && self.is_own_lock(&file)?;
        let not_ours = || io::Error::other("a node is started by `local.create_node`, which gives it its lock");
        is_ours.then_some(Held(file)).ok_or_else(not_ours)
    }

    /// Is anybody holding the lock?
    pub(super) fn is_held(&self) -> io::Result<bool> {
        let Some(file) = if_there(File::open(self.path("lock")))? else { return Ok(false) };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Is the lock still the one that others find?
    pub(super) fn is_still_locked_by(&self, held: &Held) -> io::Result<bool> {
        self.is_own_lock(&held.0)
    }

    fn is_own_lock(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        let found = if_there(fs::metadata(self.path("lock")))?;
        Ok(found.is_some_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())))
    }

    pub(super) fn registration(&self) -> io::Result<Option<Registration>> {
        read(&self.path("json"))
    }

    pub(super) fn running(&self) -> io::Result<Option<Running>> {
        read(&self.path("run"))
    }

    pub(super) fn write_registration(&self, _held: &Held, registration: &Registration) -> io::Result<()> {
        self.replace("json", registration)
    }

    pub(super) fn write_running(&self, _held: &Held, running: &Running) -> io::Result<()> {
        self.replace("run", running)
    }

    /// A reader finds the old content or the new one, never a part.
    fn replace(&self, kind: &str, content: &impl Serialize) -> io::Result<()> {
        let unfinished = self.unfinished(kind);
        let mut file = private::options().create(true).truncate(true).open(&unfinished)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        fs::rename(unfinished, self.path(kind))
    }

    /// From here on the node is not wanted and ends by itself.
    pub(super) fn remove_registration(&self) -> io::Result<()> {
        if_there(fs::remove_file(self.path("json"))).map(drop)
    }

    /// Forgets what an earlier process of this node left behind.
    pub(super) fn forget_running(&self, _held: &Held) -> io::Result<()> {
        if_there(fs::remove_file(self.path("run"))).map(drop)
    }

    /// Removes what is left of a node that nobody wants. The lock goes last: until then it keeps others away.
    pub(super) fn clear(&self, held: Held) -> io::Result<()> {
        let left =
            [self.unfinished("json"), self.unfinished("run"), self.path("run"), self.path("log"), self.path("lock")];
        for path in left {
            if_there(fs::remove_file(path))?;
        }
        drop(held);
        Ok(())
    }

    /// An empty file for the node's complaints.
    pub(super) fn make_log(&self, _held: &Held) -> io::Result<File> {
        private::options().create(true).append(true).open(self.log_path())
    }
}

/// The groups that have, or had, nodes, in order.
pub(super) fn groups(nodes: &Path) -> io::Result<Vec<GroupName>> {
    let names = names_in(nodes)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The nodes of one group of which anything is left, in order.
pub(super) fn names(nodes: &Path, group: &GroupName) -> io::Result<Vec<NodeName>> {
    let files = names_in(&nodes.join(group.as_str()))?;
    let stems = files.iter().filter_map(|file| file.strip_suffix(".json").or_else(|| file.strip_suffix(".lock")));
    let mut names: Vec<NodeName> = stems.filter_map(|stem| stem.parse().ok()).collect();
    names.dedup();
    Ok(names)
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = if_there(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(content) = if_there(fs::read(path))? else { return Ok(None) };
    let parsed = serde_json::from_slice(&content);
    parsed.map(Some).map_err(|error| io::Error::other(format!("`{}` is damaged: {error}", path.display())))
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> NodeFiles {
        NodeFiles::new(folder, &"web".parse().unwrap(), "web-001".parse().unwrap())
    }

    fn taken(take: Take) -> Held {
        match take {
            Take::Taken(held) => held,
            other @ (Take::HeldByAnother | Take::Absent) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lock_has_one_holder_and_is_free_when_he_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        assert!(matches!(files.take().unwrap(), Take::Absent));
        let held = taken(files.take_or_make().unwrap());
        assert!(files.is_held().unwrap());
        assert!(matches!(files.take_or_make().unwrap(), Take::HeldByAnother));
        drop(held);
        assert!(!files.is_held().unwrap());
        taken(files.take().unwrap());
    }

    #[test]
    fn a_lock_that_was_removed_and_made_again_is_not_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let old = taken(files.take_or_make().unwrap());
        fs::remove_file(files.path("lock")).unwrap();
        assert!(!files.is_still_locked_by(&old).unwrap());
        let new = taken(files.take_or_make().unwrap());
        assert!(files.is_still_locked_by(&new).unwrap());
        assert!(!files.is_still_locked_by(&old).unwrap());
    }

    #[test]
    fn a_cleared_node_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let held = taken(files.take_or_make().unwrap());
        files.make_log(&held).unwrap();
        files.clear(held).unwrap();
        assert_eq!(names_in(&folder.path().join("web")).unwrap(), Vec::<String>::new());
        assert_eq!(names(folder.path(), &"web".parse().unwrap()).unwrap(), []);
        assert_eq!(groups(&folder.path().join("nothing")).unwrap(), []);
    }
}
