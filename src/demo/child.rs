//! The daemons that the demo starts, kills without warning and starts again. Each is this binary as anybody would run it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

use crate::private;

/// Where everything of one demo is.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Rules, workflows, configuration: where daemons are started.
    pub(super) site: PathBuf,
    /// Each daemon's data folder.
    pub(super) data: Vec<PathBuf>,
    /// Where the nodes of all daemons live.
    pub(super) nodes: PathBuf,
    /// What all the daemons of the demo log.
    pub(super) log: PathBuf,
    /// What they are told beside that.
    settings: Vec<(&'static str, String)>,
    /// Where the daemon's API is; several daemons take free ports.
    listen: String,
}

/// What several daemons share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    /// Their store.
    pub(super) store_url: String,
    /// Their broker, if they have one.
    pub(super) bus_url: Option<String>,
}

/// So many daemons make a cluster: enough that one can go and there is still more than one.
const DAEMONS: usize = 3;

impl Stage {
    /// The stage of one daemon below this folder.
    pub(super) fn below(folder: &Path) -> Self {
        let nodes = folder.join("nodes");
        let settings = vec![("PETREL__LOCAL__NODES_DIR", nodes.display().to_string())];
        let (site, log) = (folder.join("site"), folder.join("daemon.log"));
        let listen = "127.0.0.1:0".to_owned();
        Self { site, data: vec![folder.join("data")], nodes, log, settings, listen }
    }

    /// With doors that others know, so that they are the same after a restart.
    pub(super) fn listening(mut self, api: u16, newrelic: u16) -> Self {
        self.listen = format!("127.0.0.1:{api}");
        self.settings.push(("PETREL__LISTENERS__NEWRELIC__ADDRESS", format!("127.0.0.1:{newrelic}")));
        self
    }

    /// The stage of several daemons below this folder.
    pub(super) fn of_cluster(folder: &Path, shared: &Shared) -> Self {
        let mut stage = Self::below(folder);
        stage.data = (1..=DAEMONS).map(|number| folder.join(format!("data-{number}"))).collect();
        let key = folder.join("datastore.key").display().to_string();
        stage.settings.push(("PETREL__STORE__URL", shared.store_url.clone()));
        stage.settings.push(("PETREL__SECRETS__KEY_FILE", key));
        stage.settings.extend(shared.bus_url.clone().map(|url| ("PETREL__BUS__URL", url)));
        stage
    }
}

/// A running daemon. It is killed with the demo, however that ends.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    /// Its data folder.
    pub(super) data: PathBuf,
}

impl Daemon {
    /// Starts one. It says where it listens in a file that must not be an earlier daemon's.
    pub(super) fn start(stage: &Stage, data: &Path) -> anyhow::Result<Self> {
        match std::fs::remove_file(data.join("endpoints.json")) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem.into()),
            Ok(()) | Err(_) => {}
        }
        let mut command = this_program()?;
        command.args(["serve", "--listen", &stage.listen, "--data-dir"]).arg(data);
        command.current_dir(&stage.site).env_clear().envs(stage.settings.iter().map(|(name, value)| (name, value)));
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(log(stage)?).stderr(log(stage)?);
        let child = command.spawn().context("starting a daemon")?;
        Ok(Self { child, data: data.to_owned() })
    }

    /// Its process, while it has not ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL: no farewell, nothing written, nothing handed over.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Has it ended by itself?
    pub(super) fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the daemon is the object of the demo, to be killed alone: no guard may end with it or for it"
)]
fn this_program() -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn log(stage: &Stage) -> anyhow::Result<File> {
    let opened = private::options().create(true).append(true).open(&stage.log);
    opened.with_context(|| format!("opening {}", stage.log.display()))
}
