//! A real server that the demo starts for itself and ends with itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::clock::{self, Clock};
use crate::private;

/// None of them takes longer on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Whoever does not end in this time when asked is killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A server that runs.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it; what it says goes to a file of its own in `folder`.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = private::options().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("opening {}", log.display()))?;
        let child = command(program)
            .args(arguments)
            .current_dir(folder)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(File::try_clone(&out)?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Waits until it listens on this port.
    pub(super) async fn listens(&mut self, port: u16, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
        let begun = clock.monotonic();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let Self { name, child, log } = self;
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("{name} ended while it started ({status}); see {}", log.display());
            }
            let waited = clock.monotonic().saturating_sub(begun);
            anyhow::ensure!(waited < PATIENCE, "{name} does not listen on port {port}; see {}", log.display());
            clock::sleep(&**clock, LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Ends it, kindly at first.
    pub(super) async fn end(mut self, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::TERM).with_context(|| format!("ending {}", self.name))?;
        }
        if clock::timeout(&**clock, FAREWELL, self.child.wait()).await.is_err() {
            self.child.kill().await.with_context(|| format!("killing {}", self.name))?;
        }
        Ok(())
    }
}

/// Runs a program that does its work and ends; gives back what it says.
pub(super) async fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let ended = command(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let ended = ended.with_context(|| format!("starting {}", program.display()))?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let complained = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(ended.status.success(), "{} failed ({}): {complained}{said}", program.display(), ended.status);
    Ok(said)
}

#[expect(clippy::disallowed_methods, reason = "the servers of the demo are no actions: they live as long as it does")]
fn command(program: &Path) -> Command {
    Command::new(program)
}
