//! Where the world around a group is not as its ledger says: what was found, how often in a row, and what can be done about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::NodeName;
use super::time::Timestamp;

/// One difference. The ledger is right about what should be; who is wrong is said by the kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "drift", rename_all = "snake_case")]
pub enum Drift {
    /// The provider has no living node where one should serve.
    Lost {
        /// Which.
        node: NodeName,
    },
    /// The load balancer sends it nothing, or elsewhere.
    NotBalanced {
        /// Which.
        node: NodeName,
    },
    /// Its name leads nowhere, or elsewhere.
    NotNamed {
        /// Which.
        node: NodeName,
    },
    /// The load balancer still has a node of ours that is no more.
    StrayBackend {
        /// Which.
        node: NodeName,
    },
    /// The zone still has the name of a node of ours that is no more.
    StrayName {
        /// Which.
        node: NodeName,
    },
    /// Somebody has a thing in the group of which the ledger never knew. It is shown and left alone.
    Unknown {
        /// Who has it: `provider`, `load_balancer` or `dns`.
        at: String,
        /// What it is called there.
        name: String,
    },
}

impl Drift {
    /// Something can be done about it without touching what is not ours.
    pub const fn can_be_mended(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// The node it is about, if it is one of ours.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Lost { node }
            | Self::NotBalanced { node }
            | Self::NotNamed { node }
            | Self::StrayBackend { node }
            | Self::StrayName { node } => Some(node),
            Self::Unknown { .. } => None,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { node } => write!(f, "{node} is in service, and its provider has no living node of that name"),
            Self::NotBalanced { node } => {
                write!(f, "{node} is in service, and the load balancer does not know it there")
            }
            Self::NotNamed { node } => write!(f, "{node} is in service, and its name does not lead to it"),
            Self::StrayBackend { node } => write!(f, "{node} is no more, and the load balancer still has it"),
            Self::StrayName { node } => write!(f, "{node} is no more, and its name is still there"),
            Self::Unknown { at, name } => write!(f, "`{name}` is known to the {at} and not to the ledger"),
        }
    }
}

/// A difference that was found, and for how long it has been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drifting {
    /// What.
    #[serde(flatten)]
    pub drift: Drift,
    /// When it was found first.
    pub since: Timestamp,
    /// How often in a row.
    pub times: u32,
}

impl Drifting {
    /// Seen once it may be passing.
    pub const fn is_certain(&self) -> bool {
        self.times >= 2
    }
}
