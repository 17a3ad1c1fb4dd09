//! An autoscaling group as its owner wrote it: what it is called, what it may do, and who has told it to wait.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::group_config::GroupConfig;
use super::time::Timestamp;

/// Name of a group: 1 to 40 of `a-z`, `0-9` and `-`, neither beginning nor ending with `-`, so that it fits into DNS names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

/// Why a text is not the name of a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a group name; use 1 to 40 of a-z, 0-9 and `-`, not beginning or ending with `-`")]
pub struct BadGroupName {
    /// What was given.
    pub text: String,
}

impl GroupName {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = BadGroupName;

    fn from_str(text: &str) -> Result<Self, BadGroupName> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=40).contains(&text.len()) && text.chars().all(legal);
        if fits && !text.starts_with('-') && !text.ends_with('-') {
            return Ok(Self(text.to_owned()));
        }
        Err(BadGroupName { text: text.to_owned() })
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl Serialize for GroupName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A number of nodes. Subtraction stops at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeCount(u32);

impl NodeCount {
    /// No node.
    pub const ZERO: Self = Self(0);

    /// That many.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// How many items an iterator has.
    pub fn of(items: impl Iterator) -> Self {
        Self(u32::try_from(items.count()).unwrap_or(u32::MAX))
    }

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// For slices and iterators.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// As a signed difference, for an activity's `want`.
    pub fn as_delta(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }

    /// How far this lies above `other`; zero if it does not.
    #[must_use]
    pub const fn above(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for NodeCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 node"),
            count => write!(f, "{count} nodes"),
        }
    }
}

/// A part of the governor's work that can be suspended on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Adding nodes.
    Expand,
    /// Taking nodes away.
    Deflate,
    /// Repair: filling up to the minimum, clearing away failed nodes.
    Replace,
    /// Everything.
    All,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expand => "expand",
            Self::Deflate => "deflate",
            Self::Replace => "replace",
            Self::All => "everything",
        })
    }
}

/// Somebody told a group to leave something be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// What is suspended.
    pub part: Part,
    /// When it ends by itself; `None` until somebody lifts it. A person's wall-clock time, so clock jumps don't move it.
    pub until: Option<Timestamp>,
    /// Who said so.
    pub author: String,
    /// Why.
    pub reason: String,
}

impl Suspension {
    /// Whether it still holds at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it stops `part`.
    pub fn covers(&self, part: Part) -> bool {
        self.part == Part::All || self.part == part
    }
}

/// `petrel freeze`: the whole installation records everything and acts on nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Who said so.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself; `None` until `petrel thaw`.
    pub until: Option<Timestamp>,
}

impl Freeze {
    /// Whether it still holds at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Which pack plays which role for a group; `None` is written `none` by people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roles {
    /// Creates and deletes nodes.
    pub provider: String,
    /// Names them.
    #[serde(default)]
    pub dns: Option<String>,
    /// Sends traffic to them.
    #[serde(default)]
    pub load_balancer: Option<String>,
    /// Configures them.
    #[serde(default)]
    pub configure: Option<String>,
    /// Measures how much work they have.
    #[serde(default)]
    pub metrics: Option<String>,
}

/// What each role's pack is told about a group with every call: which server, which backend, which key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleParameters {
    /// Whoever names the nodes.
    pub dns: BTreeMap<String, Value>,
    /// Whoever sends traffic to them.
    pub load_balancer: BTreeMap<String, Value>,
    /// Whoever configures them.
    pub configure: BTreeMap<String, Value>,
    /// Whoever measures their work.
    pub metrics: BTreeMap<String, Value>,
}

/// An autoscaling group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// DNS domain below which its nodes are named.
    pub domain: String,
    /// What alerts call it: the application or server they name.
    pub application: String,
    /// Limits, steps and delays.
    #[serde(default)]
    pub config: GroupConfig,
    /// Who does the work.
    pub roles: Roles,
    /// Size, image and whatever else the provider's `create_node` takes. A change concerns new nodes only.
    #[serde(default)]
    pub node_parameters: BTreeMap<String, Value>,
    /// What the packs of its other roles are told beside their own configuration.
    #[serde(default)]
    pub role_parameters: RoleParameters,
    /// Where notices go.
    #[serde(default)]
    pub channel: Option<String>,
    /// What somebody suspended.
    #[serde(default)]
    pub suspensions: Vec<Suspension>,
    /// It is being deleted; nothing else will be done with it.
    #[serde(default)]
    pub deleting: bool,
}

impl Group {
    /// The suspension that stops `part` at `now`, if there is one.
    pub fn suspended(&self, part: Part, now: Timestamp) -> Option<&Suspension> {
        self.suspensions.iter().find(|it| it.covers(part) && it.is_active(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_name_fits_into_a_dns_name() {
        for good in ["web", "a", "web-2", &"x".repeat(40)] {
            assert_eq!(good.parse::<GroupName>().unwrap().as_str(), good);
        }
        for bad in ["", "Web", "web.eu", "-web", "web-", "web_1", &"x".repeat(41)] {
            assert!(bad.parse::<GroupName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_suspension_ends_at_its_time() {
        let until = Timestamp::from_micros(10);
        let suspension =
            Suspension { part: Part::All, until: Some(until), author: "ann".into(), reason: String::new() };
        assert!(suspension.is_active(Timestamp::from_micros(9)) && suspension.covers(Part::Deflate));
        assert!(!suspension.is_active(until));
    }
}
