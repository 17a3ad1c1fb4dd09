//! An action: metadata plus an entry point for one runner.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access::Permission;
use super::refs::ActionRef;

/// What can be done, and by which runner.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// `pack.name`.
    pub reference: ActionRef,
    /// For people.
    pub description: String,
    /// A disabled action is refused when it is called.
    pub enabled: bool,
    /// The runner's name, aliases resolved: `local-shell-cmd`, `workflow`, …
    pub runner: String,
    /// The file that the runner runs, as an absolute path; empty for runners that need none.
    pub entry_point: PathBuf,
    /// The action's own parameters, over those of its runner.
    pub parameters: BTreeMap<String, ParameterSpec>,
    /// JSON Schema of the result, property by property; empty if not declared.
    pub output_schema: BTreeMap<String, ParameterSpec>,
    /// Name and value pairs for people and filters.
    pub tags: Vec<(String, String)>,
    /// What to announce on completion, as StackStorm's `notify`; `Null` if not given.
    pub notify: Value,
    /// What to do with a run whose worker died in the middle.
    pub on_lost: OnLost,
    /// What a user must be permitted to request it, beside what its runner asks for; `None`: nothing more.
    pub permission: Option<Permission>,
    /// The metadata file, relative to the pack: `actions/local.yaml`.
    pub metadata_file: String,
}

/// The runner whose executions wait for their steps.
pub const WORKFLOW_RUNNER: &str = "workflow";

/// What becomes of an execution that was in flight when its worker died (G3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// It ends as `abandoned`: nobody knows how far it came.
    Fail,
    /// It is run again with the same execution id as key: the action is idempotent.
    Retry,
}

/// One parameter of an action or a runner.
#[expect(clippy::struct_excessive_bools, reason = "three independent attributes of StackStorm's metadata")]
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// JSON Schema of the value: StackStorm's attributes translated (no inline `required`, no `secret` …).
    pub schema: Value,
    /// For people.
    pub description: String,
    /// Must be given, unless there is a default.
    pub required: bool,
    /// Taken when nothing is given; may be a template.
    pub default: Option<Value>,
    /// The caller may not set it.
    pub immutable: bool,
    /// Masked wherever it is shown (G9).
    pub secret: bool,
    /// Place among the positional arguments of a script.
    pub position: Option<u32>,
}

/// Secrets shorter than this are not masked: they occur in innocent text, and masking them there would only tell where.
pub const SHORTEST_MASKED_BYTES: usize = 4;

impl ParameterSpec {
    /// The texts that are secret in a value of this parameter.
    pub fn secret_texts(&self, value: &Value) -> Vec<String> {
        if self.secret { texts_in(value) } else { Vec::new() }
    }
}

/// All texts and numbers in a value.
pub fn texts_in(value: &Value) -> Vec<String> {
    match value {
        Value::Null | Value::Bool(_) => Vec::new(),
        Value::Number(number) => vec![number.to_string()],
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts_in).collect(),
        Value::Object(members) => members.values().flat_map(texts_in).collect(),
    }
}

impl Default for ParameterSpec {
    fn default() -> Self {
        Self {
            schema: Value::Object(serde_json::Map::new()),
            description: String::new(),
            required: false,
            default: None,
            immutable: false,
            secret: false,
            position: None,
        }
    }
}
