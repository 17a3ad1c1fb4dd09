//! Creates, finds and deletes nodes. Safe to repeat, to do twice at the same time, and to be killed in the middle of.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;

use super::files::{self, Held, NodeFiles, Take};
use crate::clock::{self, Clock};
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::runners::detached::spawn_detached;

pub use super::files::{Phase, Registration, Running};
pub use super::knobs::Knobs;

/// How often files and health are looked at while waiting for them to change.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A process needs milliseconds to start; a machine that needs longer is in trouble.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What SIGKILL has not ended by then hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// A node that hangs must not hold up who asks for its health.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// The nodes of one data folder.
#[derive(Debug)]
pub struct LocalNodes {
    folder: PathBuf,
    program: PathBuf,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The name is somebody else's.
    #[error("node `{name}` exists already and was created with the tag `{tag}`; delete it first, or take another name")]
    NameTaken {
        /// The node.
        name: NodeName,
        /// Who created it.
        tag: String,
    },
    /// It was never created, or is deleted.
    #[error("there is no node `{name}` in group `{group}`; create it with local.create_node")]
    Unknown {
        /// Its group.
        group: GroupName,
        /// The node.
        name: NodeName,
    },
    /// It has died.
    #[error("node `{name}` is not running; create it again with the same tag to start it, or see `{}`", log.display())]
    Dead {
        /// The node.
        name: NodeName,
        /// Its complaints.
        log: PathBuf,
    },
    /// It was deleted while it was created.
    #[error("node `{name}` was deleted while it was created")]
    Deleted {
        /// The node.
        name: NodeName,
    },
    /// It takes too long.
    #[error("node `{name}` did not {what} within {}", crate::model::time::format_duration(*limit))]
    TooLate {
        /// The node.
        name: NodeName,
        /// What it should have done.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The host does not play along.
    #[error("cannot work with node `{name}`")]
    Host {
        /// The node.
        name: NodeName,
        /// Why.
        source: io::Error,
    },
}

/// What is known about one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Whose node it is.
    pub group: GroupName,
    /// What it is called.
    pub name: NodeName,
    /// How it is.
    pub state: NodeState,
    /// As its creator wanted it; absent if it is being deleted.
    pub registration: Option<Registration>,
    /// The process that is or was it; absent if none ever started.
    pub running: Option<Running>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Being started.
    Requested,
    /// Its process runs and is not ready.
    Booting,
    /// Its process runs and works, or hangs.
    Ready,
    /// Wanted, but there is no process.
    Dead,
    /// Not wanted any more, but there is still a process.
    Leaving,
}

impl NodeState {
    /// Is there a process, or about to be one?
    pub const fn is_alive(self) -> bool {
        !matches!(self, Self::Dead)
    }
}

impl LocalNodes {
    /// The nodes below `folder`, run by the `petrel` found at `program`.
    pub fn new(folder: &Path, program: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        // A node lives in `/`, so it is told absolute paths.
        let folder = std::path::absolute(folder)?;
        let http = reqwest::Client::builder().no_proxy().timeout(HEALTH_LIMIT).build()?;
        Ok(Self { folder, program: std::path::absolute(program.into())?, clock, http })
    }

    /// Makes sure that this node is registered and its process lives; says where. The first knobs of a tag hold.
    pub async fn create(&self, wanted: &Registration) -> Result<Running, NodeError> {
        let files = self.files(&wanted.group, &wanted.name);
        let mut started = false;
        let work = async {
            loop {
                if let Some(running) = self.bring_up(&files, wanted, &mut started).await? {
                    return Ok(running);
                }
                clock::sleep(&*self.clock, LOOK_EVERY).await;
            }
        };
        self.within(START_LIMIT, &wanted.name, "start", work).await
    }

    /// Does what can be done now. A process that was `started` by this call and has ended again is not started twice.
    async fn bring_up(
        &self,
        files: &NodeFiles,
        wanted: &Registration,
        started: &mut bool,
    ) -> Result<Option<Running>, NodeError> {
        match files.take_or_make().map_err(host(&wanted.name))? {
            Take::Taken(held) if *started => Err(why_it_ended(files, held, &wanted.name)),
            Take::Taken(held) => {
                register(files, &held, wanted)?;
                self.start(files, held, wanted).await.map_err(host(&wanted.name))?;
                *started = true;
                Ok(None)
            }
            Take::HeldByAnother | Take::Absent => living(files, wanted),
        }
    }

    /// Starts the process and hands the lock to it, without a moment in which nobody holds it.
    async fn start(&self, files: &NodeFiles, held: Held, wanted: &Registration) -> io::Result<()> {
        files.forget_running(&held)?;
        let log = files.make_log(&held)?;
        let args: [OsString; 4] =
            ["node".into(), self.folder.clone().into(), wanted.group.as_str().into(), wanted.name.as_str().into()];
        let pid = spawn_detached(&self.program, &args, held.pass_on(), log).await?;
        tracing::info!(group = %wanted.group, node = %wanted.name, pid = pid.as_raw_pid(), "started a local node");
        Ok(())
    }

    /// Makes sure that there is no such node: asks it to finish its requests within `drain`, then kills it. With a
    /// `tag`, only if the node was created with it. Says whether there was anything to do.
    pub async fn delete(
        &self,
        group: &GroupName,
        name: &NodeName,
        tag: Option<&str>,
        drain: Duration,
    ) -> Result<bool, NodeError> {
        let files = self.files(group, name);
        let limit = drain.saturating_add(KILL_LIMIT);
        let work = async { self.end(&files, tag, drain).await.map_err(host(name)) };
        self.within(limit, name, "end", work).await
    }

    async fn end(&self, files: &NodeFiles, tag: Option<&str>, drain: Duration) -> io::Result<bool> {
        let registration = files.registration()?;
        if let (Some(registration), Some(tag)) = (&registration, tag)
            && registration.tag != tag
        {
            return Ok(false);
        }
        files.remove_registration()?;
        let kill_at = self.clock.monotonic().saturating_add(drain);
        let mut found = registration.is_some();
        loop {
            match files.take()? {
                Take::Absent => return Ok(found),
                Take::Taken(held) if files.registration()?.is_none() => return files.clear(held).map(|()| found),
                // Created anew meanwhile: the one that was to be deleted is gone.
                Take::Taken(_) => return Ok(true),
                Take::HeldByAnother => found = true,
            }
            // In this order: a process of a new node is never read without its registration being there.
            let running = files.running()?;
            if files.registration()?.is_some() {
                return Ok(true);
            }
            let signal = if self.clock.monotonic() < kill_at { Signal::TERM } else { Signal::KILL };
            running.map_or(Ok(()), |running| running.process.signal(signal))?;
            clock::sleep(&*self.clock, LOOK_EVERY).await;
        }
    }

    /// Waits until the node answers that it is healthy; says where.
    pub async fn wait_ready(&self, group: &GroupName, name: &NodeName, limit: Duration) -> Result<Running, NodeError> {
        let work = async {
            loop {
                let status = self.status(group, name)?;
                let Some(status) = status.filter(|status| status.registration.is_some()) else {
                    return Err(NodeError::Unknown { group: group.clone(), name: name.clone() });
                };
                if !status.state.is_alive() {
                    return Err(NodeError::Dead { name: name.clone(), log: self.files(group, name).log_path() });
                }
                if let Some(running) = status.running
                    && self.is_healthy(&running).await
                {
                    return Ok(running);
                }
                clock::sleep(&*self.clock, LOOK_EVERY).await;
            }
        };
        self.within(limit, name, "become ready", work).await
    }

    async fn is_healthy(&self, running: &Running) -> bool {
        let answer = self.http.get(format!("{}/health", running.url())).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Kills the process and leaves the registration, as a machine dies. Says whether there was one to kill.
    pub fn crash(&self, group: &GroupName, name: &NodeName) -> Result<bool, NodeError> {
        let unknown = || NodeError::Unknown { group: group.clone(), name: name.clone() };
        let status = self.status(group, name)?.ok_or_else(unknown)?;
        let Some(running) = status.running.filter(|_| status.state.is_alive()) else { return Ok(false) };
        running.process.signal(Signal::KILL).map(|()| true).map_err(host(name))
    }

    /// All nodes, those that are wanted and those that still have a process, by group and name.
    pub fn list(&self) -> Result<Vec<NodeStatus>, ListError> {
        let mut nodes = Vec::new();
        for group in files::groups(&self.folder)? {
            nodes.extend(self.list_group(&group)?);
        }
        Ok(nodes)
    }

    /// As [`LocalNodes::list`], of one group.
    pub fn list_group(&self, group: &GroupName) -> Result<Vec<NodeStatus>, ListError> {
        let mut nodes = Vec::new();
        for name in files::names(&self.folder, group)? {
            nodes.extend(self.status(group, &name)?);
        }
        Ok(nodes)
    }

    /// One node, if it is wanted or has a process.
    pub fn status(&self, group: &GroupName, name: &NodeName) -> Result<Option<NodeStatus>, NodeError> {
        read_status(&self.files(group, name), group, name).map_err(host(name))
    }

    fn files(&self, group: &GroupName, name: &NodeName) -> NodeFiles {
        NodeFiles::new(&self.folder, group, name.clone())
    }

    async fn within<T>(
        &self,
        limit: Duration,
        name: &NodeName,
        what: &'static str,
        work: impl Future<Output = Result<T, NodeError>>,
    ) -> Result<T, NodeError> {
        let done = clock::timeout(&*self.clock, limit, work).await;
        done.unwrap_or_else(|_elapsed| Err(NodeError::TooLate { name: name.clone(), what, limit }))
    }
}

/// Why nodes cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A folder.
    #[error("cannot read the folder of nodes")]
    Folder(#[from] io::Error),
    /// A file.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// The host's error, with the node's name.
fn host(name: &NodeName) -> impl FnOnce(io::Error) -> NodeError {
    |source| NodeError::Host { name: name.clone(), source }
}

/// For a process that was started a moment ago and does not hold its lock any more.
fn why_it_ended(files: &NodeFiles, held: Held, name: &NodeName) -> NodeError {
    let ended = match files.registration() {
        Ok(Some(_)) => Ok(NodeError::Dead { name: name.clone(), log: files.log_path() }),
        Ok(None) => files.clear(held).map(|()| NodeError::Deleted { name: name.clone() }),
        Err(error) => Err(error),
    };
    ended.unwrap_or_else(host(name))
}

/// Under the lock: what is registered now is what will be.
fn register(files: &NodeFiles, held: &Held, wanted: &Registration) -> Result<(), NodeError> {
    let written = match files.registration() {
        Ok(Some(existing)) => return same_tag(&existing, wanted),
        Ok(None) => files.write_registration(held, wanted),
        Err(error) => Err(error),
    };
    written.map_err(host(&wanted.name))
}

/// The wanted node's process. `None` while it is being started, or an earlier node of this name is still leaving.
fn living(files: &NodeFiles, wanted: &Registration) -> Result<Option<Running>, NodeError> {
    let Some(existing) = files.registration().map_err(host(&wanted.name))? else { return Ok(None) };
    same_tag(&existing, wanted)?;
    let Some(running) = files.running().map_err(host(&wanted.name))? else { return Ok(None) };
    let alive = running.process.is_alive().map_err(host(&wanted.name))?;
    Ok(alive.then_some(running))
}

fn same_tag(existing: &Registration, wanted: &Registration) -> Result<(), NodeError> {
    if existing.tag == wanted.tag {
        return Ok(());
    }
    Err(NodeError::NameTaken { name: existing.name.clone(), tag: existing.tag.clone() })
}

fn read_status(files: &NodeFiles, group: &GroupName, name: &NodeName) -> io::Result<Option<NodeStatus>> {
    let (registration, held, running) = (files.registration()?, files.is_held()?, files.running()?);
    let state = match (&registration, held, &running) {
        (None, false, _) => return Ok(None),
        (None, true, _) => NodeState::Leaving,
        (Some(_), false, _) => NodeState::Dead,
        (Some(_), true, None) => NodeState::Requested,
        (Some(_), true, Some(Running { phase: Phase::Booting, .. })) => NodeState::Booting,
        (Some(_), true, Some(Running { phase: Phase::Ready, .. })) => NodeState::Ready,
    };
    Ok(Some(NodeStatus { group: group.clone(), name: name.clone(), state, registration, running }))
}
