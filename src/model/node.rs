//! A node of a group and the phases it goes through.
//!
//! ```text
//!  requested ─► booting ─► configuring ─► ready ─► in_service ─► draining ─► destroying ─► gone
//!      └───────────┴────────────┴───────────┴──────────┴────────────┴────► failed ─► destroying
//! ```
//!
//! A node counts from the moment its name is reserved until it is proven gone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::group::GroupName;
use super::refs::ActivityId;
use super::time::Timestamp;

/// Name of a node: one DNS label of at most 63 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// Why a text is not the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a node name; use 1 to 63 of a-z, 0-9 and `-`, not beginning or ending with `-`")]
pub struct BadNodeName {
    /// What was given.
    pub text: String,
}

impl NodeName {
    /// The `number`th node of a group, as `web-007`. Fits one DNS label, because a group's name has at most 40 characters.
    pub fn numbered(group: &GroupName, number: u32) -> Self {
        Self(format!("{group}-{number:03}"))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = BadNodeName;

    fn from_str(text: &str) -> Result<Self, BadNodeName> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=63).contains(&text.len()) && text.chars().all(legal);
        if fits && !text.starts_with('-') && !text.ends_with('-') {
            return Ok(Self(text.to_owned()));
        }
        Err(BadNodeName { text: text.to_owned() })
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodePhase {
    /// Its name is reserved; the provider may or may not have been asked.
    Requested,
    /// The provider has made it.
    Booting,
    /// It answers and is being set up.
    Configuring,
    /// Set up, not yet behind the load balancer.
    Ready,
    /// Serves.
    InService,
    /// Gets no new requests and finishes the old ones.
    Draining,
    /// The provider was asked to remove it.
    Destroying,
    /// Proven to be no more.
    Gone,
    /// Left over from an activity that went wrong; exists perhaps, serves nobody, must be cleared away.
    Failed,
}

impl NodePhase {
    /// On its way into service or in it: what the governor counts as capacity.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Requested | Self::Booting | Self::Configuring | Self::Ready | Self::InService)
    }

    /// It may exist at the provider, so it counts against the maximum.
    pub const fn counts(self) -> bool {
        !matches!(self, Self::Gone)
    }

    /// Whether a node may go from here to `next`. Staying is always allowed, so that a repeated report is harmless.
    pub fn may_become(self, next: Self) -> bool {
        if self == next {
            return true;
        }
        match next {
            Self::Requested => false,
            Self::Booting | Self::Configuring | Self::Ready | Self::InService => self.is_live() && self < next,
            Self::Draining => self.is_live(),
            Self::Destroying | Self::Failed | Self::Gone => self != Self::Gone,
        }
    }

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Booting => "booting",
            Self::Configuring => "configuring",
            Self::Ready => "ready",
            Self::InService => "in_service",
            Self::Draining => "draining",
            Self::Destroying => "destroying",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for NodePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A node's row in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Unique within its group and never used again.
    pub name: NodeName,
    /// Where it belongs.
    pub group: GroupName,
    /// How far it has come.
    pub phase: NodePhase,
    /// Since when it is in that phase.
    pub phase_since: Timestamp,
    /// When its name was reserved.
    pub created_at: Timestamp,
    /// The governor never chooses it for removal.
    #[serde(default)]
    pub protected: bool,
    /// Where it answers, once known.
    #[serde(default)]
    pub address: Option<String>,
    /// And on which port, if its provider says one.
    #[serde(default)]
    pub port: Option<u16>,
    /// What the provider is told with `create_node`, so that a repeated create finds the first one's node.
    pub tag: String,
    /// The activity that made it, or the one that last touched it.
    #[serde(default)]
    pub activity: Option<ActivityId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_goes_forward_and_never_comes_back_from_the_dead() {
        use NodePhase::{Booting, Configuring, Destroying, Draining, Failed, Gone, InService, Ready, Requested};
        let forward = [Requested, Booting, Configuring, Ready, InService, Draining, Destroying, Gone];
        for pair in forward.windows(2) {
            assert!(pair[0].may_become(pair[1]), "{pair:?}");
            assert!(!pair[1].may_become(pair[0]), "{pair:?} backwards");
        }
        assert!(Booting.may_become(Failed) && Failed.may_become(Destroying) && Failed.may_become(Gone));
        assert!(!Failed.may_become(InService) && !Gone.may_become(Failed));
    }

    #[test]
    fn the_name_of_a_node_is_one_dns_label() {
        let group: GroupName = "x".repeat(40).parse().unwrap();
        let name = NodeName::numbered(&group, u32::MAX);
        assert_eq!(name.as_str().parse::<NodeName>().unwrap(), name);
        assert_eq!(NodeName::numbered(&"web".parse().unwrap(), 7).as_str(), "web-007");
    }
}
