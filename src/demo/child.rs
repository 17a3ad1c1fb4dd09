//! The daemon that the demo starts, kills without warning and starts again. It is this binary as anybody would run it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

/// Where everything of one demo is.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Rules, workflows, configuration: where the daemon is started.
    pub(super) site: PathBuf,
    /// The daemon's data folder.
    pub(super) data: PathBuf,
    /// What all the daemons of the demo log.
    pub(super) log: PathBuf,
}

impl Stage {
    /// The stage below this folder.
    pub(super) fn below(folder: &Path) -> Self {
        Self { site: folder.join("site"), data: folder.join("data"), log: folder.join("daemon.log") }
    }
}

/// A running daemon. It is killed with the demo, however that ends.
#[derive(Debug)]
pub(super) struct Daemon(Child);

impl Daemon {
    /// Starts one. It says where it listens in a file that must not be an earlier daemon's.
    pub(super) fn start(stage: &Stage) -> anyhow::Result<Self> {
        match std::fs::remove_file(stage.data.join("endpoints.json")) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem.into()),
            Ok(()) | Err(_) => {}
        }
        let mut command = this_program()?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&stage.data);
        command.current_dir(&stage.site).env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log(stage)?).stderr(log(stage)?);
        Ok(Self(command.spawn().context("starting the daemon")?))
    }

    /// SIGKILL: no farewell, nothing written, nothing handed over.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        self.0.kill().await
    }

    /// Has it ended by itself?
    pub(super) fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.0.try_wait()
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
    let opened = OpenOptions::new().create(true).append(true).open(&stage.log);
    opened.with_context(|| format!("opening {}", stage.log.display()))
}
