//! The process that is a node: `petrel node <folder of nodes> <group> <name>`, started by [`super::nodes`] only.
//!
//! It holds its lock file, inherited as standard input, for its life, says in its `.run` file where it listens, and
//! ends by itself when its registration or the whole data folder is gone. It never talks to the daemon.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{self, Signal};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::files::{Held, NodeFiles, Phase, Registration, Running};
use super::work::Work;
use crate::clock::{self, Clock, SystemClock};
use crate::runners::detached::ProcessIdentity;

/// How soon a node notices that nobody wants it any more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long requests in flight are waited for at the end. Whoever deletes a node usually waits for less, then kills.
const LONGEST_DRAIN: Duration = Duration::from_secs(10);

/// The subcommand `petrel node`.
pub fn node_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may be gone with the data folder; then there is nobody who would read it.
            drop(writeln!(io::stderr(), "petrel node: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let files = files_of(args)?;
    let held = files.inherited().context("cannot take the lock")?;
    let Some(registration) = files.registration()? else {
        return Ok(files.clear(held)?);
    };
    // One thread: a node does nothing but wait, and there may be many.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let node = Node { files, held, registration, clock: Arc::new(SystemClock::new()) };
    runtime.block_on(node.live())
}

fn files_of(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<NodeFiles> {
    const USAGE: &str = "usage: petrel node <folder of nodes> <group> <name>";
    let folder = PathBuf::from(args.next().context(USAGE)?);
    let mut word = || args.next().and_then(|word| word.into_string().ok()).context(USAGE);
    let group = word()?.parse()?;
    Ok(NodeFiles::new(&folder, &group, word()?.parse()?))
}

struct Node {
    files: NodeFiles,
    held: Held,
    registration: Registration,
    clock: Arc<dyn Clock>,
}

impl Node {
    async fn live(self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let process = ProcessIdentity::own()?;
        let running = Running { process, address: address.ip(), port: address.port(), phase: Phase::Booting };
        let work = Arc::new(Work::new(self.registration.clone(), Arc::clone(&self.clock)));
        let end = CancellationToken::new();
        let server = axum::serve(listener, Arc::clone(&work).routes());
        let server = server.with_graceful_shutdown(end.clone().cancelled_owned());
        let mut server = pin!(server.into_future());
        tokio::select! {
            served = &mut server => served.context("cannot serve")?,
            ended = self.until_the_end(&work, running) => ended?,
        }
        end.cancel();
        let drain = if self.registration.knobs.hang { Duration::ZERO } else { LONGEST_DRAIN };
        if clock::timeout(&*self.clock, drain, server).await.is_err() {
            tell("ended with requests in flight");
        }
        self.leave()
    }

    /// Boots, then lives until something ends it.
    async fn until_the_end(&self, work: &Work, mut running: Running) -> anyhow::Result<()> {
        let mut terminated = signal(SignalKind::terminate())?;
        self.files.write_running(&self.held, &running)?;
        let boot = async {
            clock::sleep(&*self.clock, self.registration.knobs.boot_delay()).await;
            running.phase = Phase::Ready;
            self.files.write_running(&self.held, &running)?;
            work.set_ready();
            std::future::pending().await
        };
        tokio::select! {
            failed = boot => failed,
            () = self.crash() => Ok(()),
            () = self.until_unwanted() => Ok(()),
            _ = terminated.recv() => Ok(()),
        }
    }

    /// As if killed, at the time its knob says; else never.
    async fn crash(&self) {
        let Some(after) = self.registration.knobs.crash_after() else { return std::future::pending().await };
        clock::sleep(&*self.clock, after).await;
        if let Err(error) = process::kill_process(process::getpid(), Signal::KILL) {
            tell(&format!("cannot crash: {error}"));
        }
    }

    async fn until_unwanted(&self) {
        while self.is_wanted() {
            clock::sleep(&*self.clock, LOOK_EVERY).await;
        }
    }

    /// Only what is certain ends a node: a folder that cannot be read at the moment may come back.
    fn is_wanted(&self) -> bool {
        let registered =
            self.files.registration().map(|found| found.is_some_and(|found| found.tag == self.registration.tag));
        let locked = self.files.is_still_locked_by(&self.held);
        registered.unwrap_or(true) && locked.unwrap_or(true)
    }

    /// A node that was told to end but is still registered leaves its traces, to be started again.
    fn leave(self) -> anyhow::Result<()> {
        if self.files.registration()?.is_none() && self.files.is_still_locked_by(&self.held)? {
            self.files.clear(self.held)?;
        }
        Ok(())
    }
}

/// Into the node's log.
fn tell(what: &str) {
    // As in `node_main`: without a log nobody reads it.
    drop(writeln!(io::stderr(), "petrel node: {what}"));
}
