//! Why a command did not do what it was asked, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use reqwest::StatusCode;

use crate::config::TargetError;
use crate::packs::publication::PublicationError;

/// The thing failed.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// The daemon cannot be reached, or does not let us.
pub const OUT_OF_REACH: u8 = 3;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody knows where the daemon is.
    #[error(transparent)]
    NoTarget(#[from] TargetError),
    /// Nobody answers.
    #[error(
        "cannot reach {url}: is `petrel serve` running? Start it, or name another daemon with --data-dir or PETREL_URL"
    )]
    Unreachable {
        /// Where we tried.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The daemon does not let us.
    #[error("{url} does not allow this: {reason}; {}", way_in(*status))]
    NotAllowed {
        /// Whom we asked.
        url: String,
        /// 401 or 403.
        status: StatusCode,
        /// What it said.
        reason: String,
    },
    /// The daemon said no.
    #[error("{reason}")]
    Refused {
        /// Its answer's status.
        status: StatusCode,
        /// What it said.
        reason: String,
    },
    /// The daemon's answer is not what we expect of it.
    #[error("{url} gave an answer that makes no sense to this version: {what}")]
    Unexpected {
        /// Whom we asked.
        url: String,
        /// What was missing.
        what: String,
    },
    /// A file of ours.
    #[error("cannot {doing}")]
    Local {
        /// What we were doing, with the name of the thing.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Content that cannot be sent.
    #[error("cannot publish")]
    Publication(#[from] PublicationError),
    /// Nobody reads what we print.
    #[error("cannot print")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code that says it.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::NoTarget(_) | Self::Unreachable { .. } | Self::NotAllowed { .. } => OUT_OF_REACH,
            Self::Refused { .. }
            | Self::Unexpected { .. }
            | Self::Local { .. }
            | Self::Publication(_)
            | Self::Output(_) => FAILED,
        }
    }

    /// The reader of our output has gone, as `head` does: nothing to complain about.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn way_in(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        "set PETREL_API_KEY or --api-key to a key of that daemon"
    } else {
        "ask an admin for a key with a higher role"
    }
}

/// How a command ended that could do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Done,
    /// What was asked about failed: an execution, a check.
    ThingFailed,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::SUCCESS,
            Ending::ThingFailed => Self::from(FAILED),
        }
    }
}
