//! References (`pack.name`) and ids (24 hex digits): parsed once at the edge, typed everywhere inside.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::time::Timestamp;

/// Kinds of things a [`Ref`] or an [`Id`] can point at. Never instantiated.
pub mod kind {
    /// An action, as `core.local`.
    #[derive(Debug)]
    pub enum Action {}
    /// A rule.
    #[derive(Debug)]
    pub enum Rule {}
    /// A trigger type, as `core.st2.webhook`.
    #[derive(Debug)]
    pub enum TriggerType {}
    /// A sensor.
    #[derive(Debug)]
    pub enum Sensor {}
    /// An action alias.
    #[derive(Debug)]
    pub enum Alias {}
    /// A policy.
    #[derive(Debug)]
    pub enum Policy {}
    /// A trigger instance.
    #[derive(Debug)]
    pub enum Instance {}
    /// An execution.
    #[derive(Debug)]
    pub enum Execution {}
    /// An enforcement.
    #[derive(Debug)]
    pub enum Enforcement {}
    /// A scaling activity.
    #[derive(Debug)]
    pub enum Activity {}
    /// A user, token or API key.
    #[derive(Debug)]
    pub enum Identity {}
    /// A message of which nothing could be made.
    #[derive(Debug)]
    pub enum DeadLetter {}
}

/// What kinds of content objects are called in a unique id.
pub trait Noun {
    /// StackStorm's word, as `trigger_type`.
    const NOUN: &'static str;
}

impl Noun for kind::Action {
    const NOUN: &'static str = "action";
}
impl Noun for kind::Rule {
    const NOUN: &'static str = "rule";
}
impl Noun for kind::TriggerType {
    const NOUN: &'static str = "trigger_type";
}
impl Noun for kind::Sensor {
    const NOUN: &'static str = "sensor_type";
}
impl Noun for kind::Alias {
    const NOUN: &'static str = "action_alias";
}
impl Noun for kind::Policy {
    const NOUN: &'static str = "policy";
}

/// `pack.name`. The pack ends at the first dot, so `core.st2.webhook` is `st2.webhook` of pack `core`.
pub struct Ref<K> {
    text: Arc<str>,
    dot: usize,
    kind: PhantomData<fn() -> K>,
}

/// Reference to an action.
pub type ActionRef = Ref<kind::Action>;
/// Reference to a rule.
pub type RuleRef = Ref<kind::Rule>;
/// Reference to a trigger type.
pub type TriggerTypeRef = Ref<kind::TriggerType>;
/// Reference to a sensor.
pub type SensorRef = Ref<kind::Sensor>;
/// Reference to an action alias.
pub type AliasRef = Ref<kind::Alias>;
/// Reference to a policy.
pub type PolicyRef = Ref<kind::Policy>;

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a reference of the form `pack.name` (letters, digits, `_`, `-` and `.`)")]
pub struct BadRef {
    /// What was given.
    pub text: String,
}

impl<K> Ref<K> {
    /// Joins a pack and a name.
    pub fn new(pack: &str, name: &str) -> Result<Self, BadRef> {
        format!("{pack}.{name}").parse()
    }

    /// The part before the first dot.
    pub fn pack(&self) -> &str {
        self.text.split_at(self.dot).0
    }

    /// The part after the first dot.
    pub fn name(&self) -> &str {
        self.text.split_at(self.dot + 1).1
    }

    /// The whole reference.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Noun> Ref<K> {
    /// StackStorm's unique id, which also says what kind of object it is: `action:core:local`.
    pub fn uid(&self) -> String {
        format!("{}:{}:{}", K::NOUN, self.pack(), self.name())
    }
}

impl<K> FromStr for Ref<K> {
    type Err = BadRef;

    fn from_str(text: &str) -> Result<Self, BadRef> {
        let bad = || BadRef { text: text.to_owned() };
        let dot = text.find('.').filter(|&dot| dot > 0 && dot + 1 < text.len()).ok_or_else(bad)?;
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !text.chars().all(legal) {
            return Err(bad());
        }
        Ok(Self { text: text.into(), dot, kind: PhantomData })
    }
}

impl<K> Clone for Ref<K> {
    fn clone(&self) -> Self {
        Self { text: Arc::clone(&self.text), dot: self.dot, kind: PhantomData }
    }
}
impl<K> PartialEq for Ref<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Ref<K> {}
impl<K> PartialOrd for Ref<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Ref<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> Hash for Ref<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> fmt::Display for Ref<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> fmt::Debug for Ref<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text)
    }
}
impl<K> Serialize for Ref<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
impl<'de, K> Deserialize<'de> for Ref<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Twelve bytes shown as 24 hex digits, as StackStorm's clients expect. Ordered by creation within a process.
pub struct Id<K> {
    bytes: [u8; 12],
    kind: PhantomData<fn() -> K>,
}

/// Id of a trigger instance.
pub type InstanceId = Id<kind::Instance>;
/// Id of an execution.
pub type ExecutionId = Id<kind::Execution>;
/// Id of an enforcement.
pub type EnforcementId = Id<kind::Enforcement>;
/// Id of a scaling activity.
pub type ActivityId = Id<kind::Activity>;
/// Id of a user, token or API key.
pub type IdentityId = Id<kind::Identity>;
/// Id of a message of which nothing could be made.
pub type DeadLetterId = Id<kind::DeadLetter>;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id (24 hex digits)")]
pub struct BadId {
    /// What was given.
    pub text: String,
}

impl<K> Id<K> {
    /// An id from its bytes.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// Before every id that is made at `time` or later: ids begin with the second in which they were made.
    pub fn earliest_at(time: Timestamp) -> Self {
        let seconds = u32::try_from(time.as_seconds().max(0)).unwrap_or(u32::MAX);
        let [a, b, c, d] = seconds.to_be_bytes();
        Self::from_bytes([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The second in which it was made, if it was made by us.
    pub fn made_at(&self) -> Timestamp {
        let [a, b, c, d, ..] = self.bytes;
        Timestamp::from_micros(i64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000)
    }

    /// The twelve bytes.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.bytes
    }
}

impl<K> FromStr for Id<K> {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.to_owned() };
        let digits = text.as_bytes();
        if digits.len() != 24 {
            return Err(bad());
        }
        let mut bytes = [0_u8; 12];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(bad());
            };
            *byte = u8::try_from(high * 16 + low).map_err(|_| bad())?;
        }
        Ok(Self::from_bytes(bytes))
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // Every row has some: this is faster than formatting byte by byte.
        let digits = self.bytes.map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        f.write_str(std::str::from_utf8(digits.as_flattened()).map_err(|_| fmt::Error)?)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pack_of_a_reference_ends_at_the_first_dot() {
        let reference: TriggerTypeRef = "core.st2.webhook".parse().unwrap();
        assert_eq!((reference.pack(), reference.name()), ("core", "st2.webhook"));
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        for text in ["", "core", ".x", "core.", "core.lo cal", "core.a/b"] {
            assert!(text.parse::<ActionRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_of_earlier_seconds_come_before_the_earliest_of_a_time() {
        let bound = ExecutionId::earliest_at(Timestamp::from_micros(7_900_000)).to_string();
        assert_eq!(bound, "000000070000000000000000");
        let made_at = |second: u8| ExecutionId::from_bytes([0, 0, 0, second, 9, 9, 9, 9, 9, 9, 9, 9]).to_string();
        assert!(made_at(6) < bound && made_at(7) > bound);
    }

    #[test]
    fn ids_survive_the_way_to_text_and_back() {
        let id = ExecutionId::from_bytes([0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255]);
        assert_eq!(id.to_string(), "000102030405fafbfcfdfeff");
        assert_eq!(id.to_string().parse::<ExecutionId>().unwrap(), id);
        assert!("00010203".parse::<ExecutionId>().is_err());
        assert!("zz0102030405fafbfcfdfeff".parse::<ExecutionId>().is_err());
    }
}
