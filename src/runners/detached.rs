//! Starts processes that are nobody's child: they live on when the daemon ends, however it ends.
//!
//! `petrel detach` stands in between for a moment. It founds a session of its own, starts the program in it, says
//! which process that is, and ends; the orphan is inherited by the host's first process, so it is no zombie of ours
//! and no signal to our group reaches it. Must never be used for actions: those live under a guard.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use rustix::io::Errno;
use rustix::process::{self, Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::session::Stat;

/// Names one process for good within one boot: its number comes back, but not with the same start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pid: i32,
    start_ticks: u64,
}

impl ProcessIdentity {
    /// Of the calling process.
    pub fn own() -> io::Result<Self> {
        let pid = process::getpid().as_raw_pid();
        let stat = Stat::read(pid)?.ok_or_else(|| io::Error::other("this process is not in /proc"))?;
        Ok(Self { pid, start_ticks: stat.started_ticks })
    }

    /// As `ps` shows it.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Does it exist, and has it not ended?
    pub fn is_alive(&self) -> io::Result<bool> {
        let stat = Stat::read(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.started_ticks == self.start_ticks && !stat.is_dead))
    }

    /// Sends a signal to it and to nobody else; of no effect if it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        // The descriptor stays with the process it was opened for, so what is checked after is what is signalled.
        let sent = match process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(_) if !self.is_alive()? => Ok(()),
            Ok(process) => process::pidfd_send_signal(process, signal),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Starts `petrel` (found at `program`) with `args`, as a process that outlives this one.
///
/// It keeps `held` open as its standard input for as long as it lives, so a lock on that file passes to it without a
/// moment in between. What it prints as errors goes to `log`; its environment is empty and its folder is `/`, so paths
/// in `args` must be absolute.
pub async fn spawn_detached(program: &Path, args: &[OsString], held: File, log: File) -> io::Result<Pid> {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever outlives the daemon cannot be under a guard of the daemon's"
    )]
    let mut command = tokio::process::Command::new(program);
    command.arg("detach").args(args).env_clear().current_dir("/");
    command.stdin(held).stdout(Stdio::piped()).stderr(log);
    let said = command.spawn()?.wait_with_output().await?;
    let said = String::from_utf8_lossy(&said.stdout);
    let pid = said.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other(format!("a process could not be detached: {}", said.trim())))
}

/// The subcommand `petrel detach`: runs this program with what follows as arguments, and leaves it alone.
pub fn detach_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let (said, code) = match detach(args) {
        Ok(pid) => (pid.to_string(), ExitCode::SUCCESS),
        Err(error) => (error.to_string(), ExitCode::FAILURE),
    };
    // If whoever wanted to know has died, there is nobody else to tell.
    drop(writeln!(io::stdout(), "{said}"));
    code
}

fn detach(args: impl Iterator<Item = OsString>) -> io::Result<u32> {
    process::setsid()?;
    #[expect(clippy::disallowed_methods, reason = "this process exists to start another one")]
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(args).stdin(Stdio::inherit()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Ok(command.spawn()?.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_number_that_was_given_to_somebody_else_is_not_signalled() {
        let own = ProcessIdentity::own().unwrap();
        assert!(own.is_alive().unwrap());
        let stranger = ProcessIdentity { start_ticks: own.start_ticks + 1, ..own };
        assert!(!stranger.is_alive().unwrap());
        stranger.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_process_that_is_gone_takes_every_signal() {
        let gone = ProcessIdentity { pid: i32::MAX, start_ticks: 1 };
        assert!(!gone.is_alive().unwrap());
        gone.signal(Signal::KILL).unwrap();
    }
}
