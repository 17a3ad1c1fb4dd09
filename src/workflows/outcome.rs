//! What came back from a step, and the one text form in which the journal keeps it.

use std::fmt;

use rhai::Dynamic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::execution::ExecutionStatus;
use crate::model::refs::ActionRef;
use crate::workflows::position::Position;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// Well, with this result.
    Ok(Value),
    /// Badly. Scripts can catch it.
    Error(StepError),
}

impl StepOutcome {
    /// The outcome of a step whose child execution ended like this.
    pub fn of_child(action: &ActionRef, status: ExecutionStatus, result: &Value) -> Self {
        if status == ExecutionStatus::Succeeded {
            return Self::Ok(result.clone());
        }
        let said = ["/error", "/stderr", "/errors/0/message", "/body"].into_iter();
        let said = said.filter_map(|place| result.pointer(place)).find_map(Value::as_str).map(str::trim);
        let message = match said.filter(|text| !text.is_empty()) {
            Some(text) => format!("{action} {status}: {text}"),
            None => format!("{action} {status}"),
        };
        Self::Error(StepError {
            message,
            status: status.to_string(),
            action: Some(action.clone()),
            position: None,
            details: result.clone(),
        })
    }

    /// The text that the journal keeps. Scripts only ever see what is read back from it.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| {
            // Infallible: every key is a text. Should that change, the step must not look as if it went well.
            serde_json::json!({ "error": { "message": format!("the outcome cannot be written: {error}") } }).to_string()
        })
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// What is wrong with a step, or with the script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// In words.
    pub message: String,
    /// The status that the child ended with, as `failed` or `timeout`; `failed` for errors of the script's own.
    #[serde(default = "StepError::failed")]
    pub status: String,
    /// The action that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionRef>,
    /// The step that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The child's result, or what the script threw, or `{line, column}` of a mistake in it.
    #[serde(default)]
    pub details: Value,
}

impl StepError {
    /// An error with status `failed` and nothing but a message.
    pub fn new(message: impl Into<String>) -> Self {
        let status = Self::failed();
        Self { message: message.into(), status, action: None, position: None, details: Value::Null }
    }

    fn failed() -> String {
        "failed".to_owned()
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The same as [`StepOutcome`], decoded straight into what scripts hold.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decoded {
    Ok(Dynamic),
    Error(StepError),
}
