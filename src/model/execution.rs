//! One run of an action, and the state machine it goes through.
//!
//! ```text
//!  requested ─► scheduled ─► running ─► succeeded | failed | timeout | abandoned
//!      │  ▲         ▲          │ ▲ ▲
//!      ▼  │         │          │ │ └──── pending (an inquiry waits for its answer)
//!   delayed ────────┘          │ └────── pausing ─► paused ─► resuming
//!                              └───────► canceling ─► canceled
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// StackStorm's fourteen statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionStatus {
    /// Wanted; nobody has looked at it yet.
    Requested,
    /// Claimed by a worker that is about to start it.
    Scheduled,
    /// Waits for a time or for a free place.
    Delayed,
    /// Running, or a workflow that waits for its steps.
    Running,
    /// Done, well.
    Succeeded,
    /// Done, badly.
    Failed,
    /// Ended because its time was up.
    Timeout,
    /// Lost with its worker; nobody knows how far it came.
    Abandoned,
    /// Asked to stop; descendants or rollback are still at work.
    Canceling,
    /// Stopped on request.
    Canceled,
    /// An inquiry without an answer.
    Pending,
    /// Asked to pause; steps in flight are finishing.
    Pausing,
    /// Paused.
    Paused,
    /// Asked to go on.
    Resuming,
}

impl ExecutionStatus {
    /// All of them, in StackStorm's order.
    pub const ALL: [Self; 14] = [
        Self::Requested,
        Self::Scheduled,
        Self::Delayed,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Timeout,
        Self::Abandoned,
        Self::Canceling,
        Self::Canceled,
        Self::Pending,
        Self::Pausing,
        Self::Paused,
        Self::Resuming,
    ];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Scheduled => "scheduled",
            Self::Delayed => "delayed",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Abandoned => "abandoned",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Pending => "pending",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Resuming => "resuming",
        }
    }

    /// Nothing more will happen to it.
    pub const fn is_completed(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Timeout | Self::Canceled | Self::Abandoned)
    }

    /// It ended otherwise than it should have.
    pub const fn is_failed(self) -> bool {
        matches!(self, Self::Failed | Self::Timeout | Self::Abandoned)
    }

    /// A cancel request is accepted in this state.
    pub const fn is_cancelable(self) -> bool {
        matches!(
            self,
            Self::Requested
                | Self::Scheduled
                | Self::Delayed
                | Self::Running
                | Self::Pending
                | Self::Pausing
                | Self::Paused
                | Self::Resuming
        )
    }
}

impl fmt::Display for ExecutionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an execution status")]
pub struct BadStatus(pub String);

impl FromStr for ExecutionStatus {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<Self, BadStatus> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| BadStatus(text.to_owned()))
    }
}
