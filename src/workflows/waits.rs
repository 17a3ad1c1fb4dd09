//! What steps that take time wait for: sleeps, signals, answers; and how long at most.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::position::Position;
use super::request::{Request, StepKind};
use crate::model::time::Timestamp;
use crate::store::journal::Wait;

/// A signal that nobody sends is given up after this long, if the script says nothing else (G6).
const SIGNAL_PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What `ask` takes beside what `core.ask` has: a message, shown with the inquiry, and a time limit.
pub(super) fn ask_parameters(mut parameters: Map<String, Value>) -> Map<String, Value> {
    if let Some(message) = parameters.remove("message") {
        let schema = parameters.entry("schema").or_insert_with(|| json!({ "type": "object" }));
        if schema.get("description").is_none()
            && let Value::Object(members) = schema
        {
            members.insert("description".to_owned(), message);
        }
    }
    if let Some(millis) = parameters.remove("timeout_millis").and_then(|millis| millis.as_u64()) {
        parameters.insert("ttl".to_owned(), json!(millis.div_ceil(60_000).max(1)));
    }
    parameters
}

/// What a step that takes time waits for.
pub(super) fn wait_of(at: &Position, request: &Request, now: Timestamp) -> Result<Wait, String> {
    let position = at.to_string();
    let millis = |name: &str| request.params.get(name).and_then(Value::as_u64).map(Duration::from_millis);
    let text = |name: &str| request.params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match request.kind {
        StepKind::SleepUntil => {
            let until = text("until").parse::<Timestamp>().map_err(|problem| problem.to_string())?;
            Ok(Wait::Timer { position, due_at: until })
        }
        StepKind::WaitSignal => {
            let due_at = now.plus(millis("timeout_millis").unwrap_or(SIGNAL_PATIENCE));
            Ok(Wait::Signal { position, name: text("name"), correlation: text("key"), due_at })
        }
        _ => Ok(Wait::Timer { position, due_at: now.plus(millis("millis").unwrap_or_default()) }),
    }
}
