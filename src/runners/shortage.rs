//! What a host may run out of just when something is to be started. Nothing has begun then, so it may be tried again.

use std::fmt;
use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A resource of the host that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortage {
    /// `EMFILE`, `ENFILE`.
    Descriptors,
    /// `EAGAIN` of `fork` and of threads.
    Processes,
    /// `ENOMEM`.
    Memory,
    /// `ENOSPC`, `EDQUOT`, `EFBIG`.
    Disk,
}

impl Shortage {
    /// The shortage that an error means. To be asked only of errors of opening, writing and starting: `EAGAIN` means other
    /// things elsewhere.
    pub fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::AGAIN => Some(Self::Processes),
            Errno::NOMEM => Some(Self::Memory),
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Some(Self::Disk),
            _ => None,
        }
    }

    /// What the operator can do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "raise the limit of open files (LimitNOFILE= of the systemd unit, `ulimit -n`, or fs.file-max)"
            }
            Self::Processes => "raise the limit of processes (TasksMax= of the systemd unit, `ulimit -u`)",
            Self::Memory => "free some memory, or raise MemoryMax= of the systemd unit",
            Self::Disk => "free some space, or raise the quota, where the data folder lies",
        }
    }

    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Processes => "processes",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    /// By which exit code a guard tells its daemon.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Self::Descriptors => 81,
            Self::Processes => 82,
            Self::Memory => 83,
            Self::Disk => 84,
        }
    }

    /// The reverse of [`Self::exit_code`].
    pub(super) fn of_exit_code(code: i32) -> Option<Self> {
        let all = [Self::Descriptors, Self::Processes, Self::Memory, Self::Disk];
        all.into_iter().find(|shortage| i32::from(shortage.exit_code()) == code)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "file descriptors",
            Self::Processes => "processes",
            Self::Memory => "memory",
            Self::Disk => "disk space",
        })
    }
}

/// Nothing of a call was started, and why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotBegun {
    /// What was used up; `None`: whatever was to start it was killed before.
    pub shortage: Option<Shortage>,
    /// What was tried, and what the system said.
    pub reason: String,
}

impl NotBegun {
    /// Nothing was started for want of a resource; `None`: the error means something else.
    pub fn for_want(what: impl fmt::Display, error: &io::Error) -> Option<Self> {
        let shortage = Shortage::of(error)?;
        Some(Self { shortage: Some(shortage), reason: format!("{what}: {error}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_used_up_resources_are_told_from_mistakes() {
        let cases = [
            (Errno::MFILE, Some(Shortage::Descriptors)),
            (Errno::NFILE, Some(Shortage::Descriptors)),
            (Errno::AGAIN, Some(Shortage::Processes)),
            (Errno::NOMEM, Some(Shortage::Memory)),
            (Errno::NOSPC, Some(Shortage::Disk)),
            (Errno::DQUOT, Some(Shortage::Disk)),
            (Errno::NOENT, None),
            (Errno::ACCESS, None),
            (Errno::TOOBIG, None),
        ];
        for (errno, shortage) in cases {
            assert_eq!(Shortage::of(&errno.into()), shortage, "{errno}");
            let told = shortage.and_then(|shortage| Shortage::of_exit_code(shortage.exit_code().into()));
            assert_eq!(told, shortage);
        }
        assert_eq!(Shortage::of(&io::Error::other("of our own")), None);
    }
}
