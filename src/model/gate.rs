//! What may keep the governor from acting although its table would: a freeze, a suspension, the group's mode.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::group::Part;
use super::moment::moment;
use super::time::Timestamp;

/// What keeps a verdict from having an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "snake_case")]
pub enum Gate {
    /// The whole installation is frozen.
    Frozen {
        /// By whom.
        author: String,
        /// Until when.
        until: Option<Timestamp>,
        /// Why.
        why: String,
    },
    /// A part of the group's work is suspended.
    Suspended {
        /// Which part.
        part: Part,
        /// By whom.
        author: String,
        /// Until when.
        until: Option<Timestamp>,
        /// Why.
        why: String,
    },
    /// The group's mode is `observe`.
    Observe,
    /// The group's mode is `off`.
    Off,
    /// The group's mode is `approve`.
    Approval {
        /// Who has said no.
        denied_by: Option<String>,
    },
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen { author, until, why } => {
                write!(f, "everything is frozen by {author}{}", Ending(*until, "thawed"))?;
                because(f, why)
            }
            Self::Suspended { part, author, until, why } => {
                write!(f, "{part} is suspended by {author}{}", Ending(*until, "resumed"))?;
                because(f, why)
            }
            Self::Observe => f.write_str("the group's mode is observe"),
            Self::Off => f.write_str("the group's mode is off"),
            Self::Approval { denied_by: None } => f.write_str("somebody has to approve it"),
            Self::Approval { denied_by: Some(user) } => write!(f, "{user} has denied it"),
        }
    }
}

fn because(f: &mut fmt::Formatter<'_>, why: &str) -> fmt::Result {
    if why.is_empty() { Ok(()) } else { write!(f, " ({why})") }
}

struct Ending(Option<Timestamp>, &'static str);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(until) => write!(f, " until {}", moment(until)),
            None => write!(f, " until {}", self.1),
        }
    }
}
