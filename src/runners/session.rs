//! The processes of one attempt: all that live in its guard's session, as `/proc` shows them.
//!
//! A session rather than a process group, because it is known before the first child exists (it is the guard's own
//! process id), and because shells that make process groups of their own stay in it. Whoever wants to outlive his
//! action starts a session of his own (`setsid`); nothing here touches that.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{self, Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

/// How often the process table is read while waiting for an end.
const ROUND: Duration = Duration::from_millis(10);
/// 200 ms: enough to get from `fork` to `setsid` on a busy machine.
const ROUNDS_OF_A_MOMENT: u32 = 20;
/// What SIGKILL has not ended after this many rounds (5 s) hangs in the kernel or belongs to another user.
const ROUNDS_AFTER_KILL: u32 = 500;

/// Names one session for good: process ids come back, but not with the same start time in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    leader: i32,
    started_ticks: u64,
    boot: String,
}

impl Session {
    /// Makes the calling process the leader of a session of its own, and the one who inherits orphans.
    pub(super) fn found() -> io::Result<Self> {
        process::set_child_subreaper(Some(process::getpid()))?;
        let leader = process::setsid()?.as_raw_pid();
        let own = Stat::read(leader)?.ok_or_else(|| io::Error::other("this process is not in /proc"))?;
        Ok(Self { leader, started_ticks: own.started_ticks, boot: boot_id()? })
    }

    /// One without members, for an attempt that has no processes yet.
    pub(super) const fn nobodys() -> Self {
        Self { leader: 0, started_ticks: 0, boot: String::new() }
    }

    /// The living processes of this session, without its leader.
    ///
    /// The kernel gives a session's number to nobody else while the session has a member. So a leader with another
    /// start time is a stranger, and then so are all who name him.
    pub(super) fn members(&self) -> io::Result<Vec<Pid>> {
        if boot_id()? != self.boot || self.is_taken_over()? {
            return Ok(Vec::new());
        }
        let mut members = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Some(stat) = Stat::read(pid)? else {
                continue;
            };
            if stat.session == self.leader && pid != self.leader && !stat.is_dead {
                members.extend(Pid::from_raw(pid));
            }
        }
        Ok(members)
    }

    /// For the leader, when it waits for no child any more: has everybody ended? Since orphans come to it, that is so
    /// when it has no children; the process table of a large host need not be read.
    pub(super) fn is_over() -> io::Result<bool> {
        loop {
            match process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Ok(false),
                Err(Errno::CHILD) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// For the leader: gives those a moment who are about to end by themselves, or to start a session of their own (`setsid x &` as
    /// the last thing a script does), then ends the others.
    pub(super) fn end_after_a_moment(&self, grace: Duration) -> io::Result<Vec<Pid>> {
        if Self::is_over()? || self.wait_until_empty(ROUNDS_OF_A_MOMENT)?.is_empty() {
            return Ok(Vec::new());
        }
        self.end(grace)
    }

    /// Asks all members to end, and ends those who have not done so after `grace`. Gives back who is left.
    pub(super) fn end(&self, grace: Duration) -> io::Result<Vec<Pid>> {
        let members = self.members()?;
        if members.is_empty() {
            return Ok(members);
        }
        for member in members {
            signal(member, Signal::TERM)?;
        }
        let rounds = u32::try_from(grace.as_millis() / ROUND.as_millis()).unwrap_or(u32::MAX);
        if self.wait_until_empty(rounds)?.is_empty() {
            return Ok(Vec::new());
        }
        self.kill()
    }

    /// Ends all members at once. Gives back who is left: nobody, but for what hangs in the kernel or is not ours.
    pub(super) fn kill(&self) -> io::Result<Vec<Pid>> {
        for _ in 0..ROUNDS_AFTER_KILL {
            let members = self.members()?;
            if members.is_empty() {
                return Ok(members);
            }
            // Again in every round: a member may have forked between the reading and the signal.
            for member in members {
                signal(member, Signal::KILL)?;
            }
            pause();
        }
        self.members()
    }

    fn wait_until_empty(&self, rounds: u32) -> io::Result<Vec<Pid>> {
        for _ in 0..rounds {
            let members = self.members()?;
            if members.is_empty() {
                return Ok(members);
            }
            pause();
        }
        self.members()
    }

    fn is_taken_over(&self) -> io::Result<bool> {
        let leader = Stat::read(self.leader)?;
        Ok(leader.is_some_and(|leader| leader.started_ticks != self.started_ticks))
    }
}

/// One round on a thread that may block. Waking early does no harm: the process table is read again.
fn pause() {
    std::thread::park_timeout(ROUND);
}

fn signal(pid: Pid, signal: Signal) -> io::Result<()> {
    match process::kill_process(pid, signal) {
        // Gone meanwhile, or another user's (`sudo`): whether somebody is left is seen by reading again.
        Ok(()) | Err(Errno::SRCH | Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Names this boot of this host.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What `/proc/<pid>/stat` says about a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    session: i32,
    pub(super) started_ticks: u64,
    pub(super) is_dead: bool,
}

impl Stat {
    /// `None` if there is no such process.
    pub(super) fn read(pid: i32) -> io::Result<Option<Self>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name in the second field may hold anything, also brackets; behind its last one come plain numbers.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        Some(Self {
            session: fields.get(3)?.parse().ok()?,
            started_ticks: fields.get(19)?.parse().ok()?,
            is_dead: matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_has_brackets_is_read_right() {
        let text = "42 (a) S 1 (b)) Z 1 40 39 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        assert_eq!(Stat::parse(text), Some(Stat { session: 39, started_ticks: 987_654, is_dead: true }));
        assert_eq!(Stat::parse("42 (short) S 1"), None);
    }

    #[test]
    fn a_session_of_another_boot_or_of_a_reused_number_has_no_members() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stranger = Session { leader: own, started_ticks: 0, boot: boot_id().unwrap() };
        assert_eq!(stranger.members().unwrap(), []);
        let started_ticks = Stat::read(own).unwrap().unwrap().started_ticks;
        let before_boot = Session { leader: own, started_ticks, boot: "another".to_owned() };
        assert_eq!(before_boot.members().unwrap(), []);
    }
}
