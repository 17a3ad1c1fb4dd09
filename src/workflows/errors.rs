//! Step errors inside scripts: how they are raised, what `catch` sees, and how one that nobody caught comes back out.

use rhai::{Dynamic, EvalAltResult, Map, Position as Place};
use serde_json::{Value, json};

use crate::scripts;
use crate::workflows::convert::{from_value, to_value};
use crate::workflows::outcome::StepError;

/// An error on its way through the script engine.
pub(super) type Raised = Box<EvalAltResult>;

/// Raises an error that scripts can catch, as a map of its fields.
#[expect(clippy::unnecessary_box_returns, reason = "what the script engine wants")]
pub(super) fn raise(error: &StepError) -> Raised {
    let text = |text: Option<String>| text.map_or(Dynamic::UNIT, Dynamic::from);
    let mut fields = Map::new();
    fields.insert("message".into(), error.message.clone().into());
    fields.insert("status".into(), error.status.clone().into());
    fields.insert("action".into(), text(error.action.as_ref().map(ToString::to_string)));
    fields.insert("position".into(), text(error.position.as_ref().map(ToString::to_string)));
    fields.insert("details".into(), from_value(&error.details));
    Box::new(EvalAltResult::ErrorRuntime(fields.into(), Place::NONE))
}

/// Raises a mistake in how a builtin was called.
#[expect(clippy::unnecessary_box_returns, reason = "what the script engine wants")]
pub(super) fn misuse(message: impl Into<String>) -> Raised {
    raise(&StepError::new(message))
}

/// What an error of the script engine says.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other error is the engine's own")]
pub(super) fn step_error(error: &EvalAltResult) -> StepError {
    match error.unwrap_inner() {
        EvalAltResult::ErrorRuntime(thrown, _) => thrown_error(thrown),
        inner => StepError { details: place_of(error), ..StepError::new(message_of(inner)) },
    }
}

/// What a script threw: one of our maps, a map of its own with a message, or anything.
#[expect(clippy::wildcard_enum_match_arm, reason = "anything may be thrown")]
fn thrown_error(thrown: &Dynamic) -> StepError {
    let Ok(value) = to_value(thrown) else {
        return StepError::new(scripts::text_of(thrown));
    };
    match value {
        Value::Object(fields) if fields.get("message").is_some_and(Value::is_string) => map_error(fields),
        Value::String(message) => StepError::new(message),
        other => StepError { details: other.clone(), ..StepError::new(other.to_string()) },
    }
}

fn map_error(mut fields: serde_json::Map<String, Value>) -> StepError {
    fn text(value: Option<&Value>) -> Option<String> {
        value.and_then(Value::as_str).map(str::to_owned)
    }
    let mut error = StepError::new(text(fields.remove("message").as_ref()).unwrap_or_default());
    if let Some(status) = text(fields.remove("status").as_ref()) {
        error.status = status;
    }
    error.action = text(fields.remove("action").as_ref()).and_then(|action| action.parse().ok());
    error.position = text(fields.remove("position").as_ref()).and_then(|position| position.parse().ok());
    let details = fields.remove("details");
    error.details = details.unwrap_or_else(|| if fields.is_empty() { Value::Null } else { Value::Object(fields) });
    error
}

/// The message without the place, which is in the details.
fn message_of(error: &EvalAltResult) -> String {
    let text = error.to_string();
    let place = format!(" ({})", error.position());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

fn place_of(error: &EvalAltResult) -> Value {
    let place = error.unwrap_inner().position();
    json!({ "line": place.line(), "column": place.position() })
}
