//! A scaling activity: the one change that is under way in a group, from admission to the end of its workflow.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::NodeName;
use super::refs::{ActivityId, ExecutionId};
use super::time::Timestamp;

/// What an activity does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityKind {
    /// Sets the group up with its minimum of nodes.
    Create,
    /// Adds nodes.
    Expand,
    /// Takes nodes away.
    Deflate,
    /// Takes the whole group away.
    Delete,
    /// Adds one node that somebody asked for.
    AddNode,
    /// Takes away the node that somebody named.
    DeleteNode,
    /// Fills up to the minimum, or (if it wants 0) clears failed nodes away.
    Repair,
    /// Brings load balancer and zone back to what the ledger says.
    Reconcile,
}

impl ActivityKind {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Expand => "expand",
            Self::Deflate => "deflate",
            Self::Delete => "delete",
            Self::AddNode => "add_node",
            Self::DeleteNode => "delete_node",
            Self::Repair => "repair",
            Self::Reconcile => "reconcile",
        }
    }
}

impl fmt::Display for ActivityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who wanted it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The governor's own look.
    Tick,
    /// A rule.
    Rule,
    /// A chat command.
    Chat,
    /// A program at the API.
    Api,
    /// A person.
    Human {
        /// Who.
        user: String,
    },
}

impl Origin {
    /// Nobody in particular asked for it.
    pub const fn is_automatic(&self) -> bool {
        matches!(self, Self::Tick | Self::Rule)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => f.write_str("the governor"),
            Self::Rule => f.write_str("a rule"),
            Self::Chat => f.write_str("chat"),
            Self::Api => f.write_str("the API"),
            Self::Human { user } => f.write_str(user),
        }
    }
}

/// Where an activity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityStatus {
    /// Its workflow runs.
    InProgress,
    /// It was cancelled and is being undone; it still blocks the group.
    Compensating,
    /// Everything it wanted was done.
    Succeeded,
    /// Some of it was done, and stays.
    Partial,
    /// Nothing of it was done.
    Failed,
    /// Somebody stopped it.
    Canceled,
}

impl ActivityStatus {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Compensating => "compensating",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Nothing more will happen to it.
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::InProgress | Self::Compensating)
    }
}

/// One change of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingActivity {
    /// Its id.
    pub id: ActivityId,
    /// What it does.
    pub kind: ActivityKind,
    /// By how many live nodes it means to change the group.
    pub want: i32,
    /// Who wanted it.
    pub origin: Origin,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it counts as stuck.
    pub deadline: Timestamp,
    /// Where it stands.
    pub status: ActivityStatus,
    /// The nodes it reserved, or chose for removal.
    pub nodes: Vec<NodeName>,
    /// Why it was admitted, in words.
    pub reason: String,
    /// The execution that asked for it, if one did.
    #[serde(default)]
    pub asked_by: Option<ExecutionId>,
    /// The workflow that does it, once requested.
    #[serde(default)]
    pub execution: Option<ExecutionId>,
    /// When the governor gave it up as stuck.
    #[serde(default)]
    pub stuck_since: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// What went wrong, in words, if something did.
    #[serde(default)]
    pub problem: Option<String>,
}
