//! Where in a script's dynamic order a call stands: the key of the journal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `3` is the third journalled call of the script; `3.1.2` the second call in the first branch (or attempt) of it.
///
/// Numbers count from 1 within their frame. Frame `0` is never used by scripts: it belongs to the rollback.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(Vec<u32>);

impl Position {
    /// The frame of the script itself: what its calls are numbered under. Not the position of any call.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The position of the `number`th undo step of a rollback.
    pub fn rollback(number: u32) -> Self {
        Self(vec![0, number])
    }

    /// The `number`th call of the frame that this position opens.
    #[must_use]
    pub fn child(&self, number: u32) -> Self {
        let mut parts = Vec::with_capacity(self.0.len() + 1);
        parts.extend_from_slice(&self.0);
        parts.push(number);
        Self(parts)
    }

    /// Does `other` lie in the frame that this position opens, or deeper?
    pub fn contains(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }

    /// How many frames deep it lies; 1 for a call of the script itself.
    pub fn depth(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{part}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a journal position such as 3 or 3.1.2")]
pub struct BadPosition {
    /// What was given.
    pub text: String,
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let bad = || BadPosition { text: text.to_owned() };
        let number = |part: &str| match part.parse() {
            Ok(number) if part.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => Err(bad()),
        };
        text.split('.').map(number).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn positions_are_ordered_by_their_numbers_not_their_letters() {
        let ordered = ["1", "2", "2.1", "2.1.1", "2.2", "2.10", "3", "10"];
        assert!(ordered.windows(2).all(|pair| position(pair[0]) < position(pair[1])));
    }

    #[test]
    fn a_position_survives_the_way_to_text_and_back() {
        for text in ["1", "3.1.2", "4294967295"] {
            assert_eq!(position(text).to_string(), text);
        }
        for text in ["", ".", "1.", "a", "-1", "+1", "4294967296"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_position_contains_what_its_frame_holds() {
        assert!(position("3.1").contains(&position("3.1.2")));
        assert!(!position("3.1").contains(&position("3.10")));
        assert!(!position("3.1").contains(&position("3.1")));
    }
}
