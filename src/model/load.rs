//! How much work a group has, in whatever unit its metric counts: requests per second, jobs, busy cores. Only the ratio to
//! what one node carries matters.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::group::NodeCount;
use super::time::Timestamp;

/// An amount of work, exact to a thousandth of the metric's unit, so that equal loads are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Load {
    thousandths: u64,
}

/// Why a number is no load.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{number} is no load; write a number from 0 to a billion")]
pub struct BadLoad {
    number: f64,
}

impl Load {
    /// The load that a metric gives. Less than a thousandth is nothing.
    pub fn new(number: f64) -> Result<Self, BadLoad> {
        const MOST: f64 = 1e9;
        if !(0.0..=MOST).contains(&number) {
            return Err(BadLoad { number });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at just before")]
        let thousandths = (number * 1000.0).round() as u64;
        Ok(Self { thousandths })
    }

    /// No work.
    pub const fn is_zero(self) -> bool {
        self.thousandths == 0
    }

    /// How many nodes carry this, if each is to be used to `percent` of what it can carry.
    pub fn nodes_needed(self, capacity: Self, percent: u32) -> NodeCount {
        let one_carries = u128::from(capacity.thousandths) * u128::from(percent);
        if one_carries == 0 {
            return NodeCount::ZERO;
        }
        let needed = (u128::from(self.thousandths) * 100).div_ceil(one_carries);
        NodeCount::new(u32::try_from(needed).unwrap_or(u32::MAX))
    }

    #[expect(clippy::cast_precision_loss, reason = "a load is at most a billion thousandfold, which is exact")]
    fn number(self) -> f64 {
        self.thousandths as f64 / 1000.0
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl Serialize for Load {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.number())
    }
}

impl<'de> Deserialize<'de> for Load {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The highest load within some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// When that time began.
    pub since: Timestamp,
    /// The highest load in it.
    pub load: Load,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(number: f64) -> Load {
        Load::new(number).unwrap()
    }

    #[test]
    fn the_nodes_that_a_load_needs_are_rounded_up() {
        for (all, one, percent, needed) in
            [(0.0, 80.0, 65, 0), (52.0, 80.0, 65, 1), (52.1, 80.0, 65, 2), (240.0, 80.0, 65, 5), (240.0, 80.0, 100, 3)]
        {
            assert_eq!(
                load(all).nodes_needed(load(one), percent),
                NodeCount::new(needed),
                "{all}/{one} at {percent} %"
            );
        }
        assert_eq!(load(7.0).nodes_needed(Load::default(), 65), NodeCount::ZERO, "no capacity is known");
    }

    #[test]
    fn what_is_no_load_is_refused() {
        for number in [-1.0, f64::NAN, f64::INFINITY, 2e9] {
            assert!(Load::new(number).is_err(), "{number}");
        }
        assert!(serde_json::from_str::<Load>("\"7\"").is_err());
    }

    #[test]
    fn a_load_is_written_as_it_was_read() {
        for text in ["0.0", "0.001", "12.5", "1000000000.0"] {
            let read: Load = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }
}
