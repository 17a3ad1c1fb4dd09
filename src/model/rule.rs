//! A rule: when this trigger happens and these criteria hold, run that action.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refs::{ActionRef, RuleRef};
use super::trigger::Trigger;

/// When, how it is tested, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `pack.name`.
    pub reference: RuleRef,
    /// For people.
    pub description: String,
    /// A disabled rule matches nothing.
    pub enabled: bool,
    /// What it waits for.
    pub trigger: Trigger,
    /// Conditions on the payload, all of which must hold.
    pub criteria: Vec<Condition>,
    /// A Rhai expression over `trigger` that must be true as well.
    pub when: Option<String>,
    /// Lets repetitions pass only so often.
    pub throttle: Option<Throttle>,
    /// What to run.
    pub action: RuleAction,
    /// Standard, or only if nothing else matched.
    pub kind: RuleKind,
    /// Name and value pairs for people and filters.
    pub tags: Vec<(String, String)>,
    /// Free data that is stored and shown.
    pub context: Value,
    /// The metadata file, relative to the pack; empty for rules made through the API.
    pub metadata_file: String,
}

/// The action of a rule with its parameter templates.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleAction {
    /// What to run.
    pub reference: ActionRef,
    /// Values or Jinja templates over `trigger`, `st2kv`, `action_context`, `config_context`.
    pub parameters: BTreeMap<String, Value>,
}

/// Which pass of the matching a rule takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// The ordinary pass.
    Standard,
    /// Only if no standard rule matched the same trigger instance.
    Backstop,
}

/// A node of the criteria tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One comparison.
    Test(Criterion),
    /// Every one of them holds.
    All(Vec<Condition>),
    /// At least one of them holds.
    Any(Vec<Condition>),
    /// None of them holds.
    Not(Vec<Condition>),
}

/// One comparison of a payload value with a pattern, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    /// JSONPath over `{trigger, system}`; what follows `#` only tells two entries apart.
    pub key: String,
    /// The operator's name or alias; empty if none was written (which never holds).
    pub operator: String,
    /// The pattern: a value or a template. `None` if the key is absent, which compares as null.
    pub pattern: Option<Value>,
    /// For `search`: `any`, `all`, `any2any`, `all2any`.
    pub condition: Option<String>,
}

/// `throttle: {key, once_within}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Throttle {
    /// Template of the key under which repetitions are counted.
    pub key: String,
    /// After one enforcement, further ones with the same key are dropped for this long.
    pub once_within: Duration,
}
