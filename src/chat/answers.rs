//! The actions of the pack `chatops`: what came of a command, in the words of its alias, to whoever asked. They announce on
//! the route of chat; adapters and StackStorm's bots listen there.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::alias::ChatAlias;
use super::desk::as_text;
use crate::bus::{Bus, Topic};
use crate::clock::Clock;
use crate::model::access::Permission;
use crate::model::pack::Catalogue;
use crate::runners::native::{Native, NativeAction};
use crate::runners::{Call, Outcome, Stop};
use crate::store::Announcements;
use crate::templates::Context;

/// What chat listens to.
const ANNOUNCEMENT: &str = "st2.announcement__chatops";
/// Longer answers are cut: no room wants to read them.
const LONGEST: usize = 4000;

/// What the actions work with.
#[derive(Clone)]
pub struct Tools {
    /// The aliases there are.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Where it is said.
    pub announcements: Announcements,
    /// Tells listeners.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Adds them to the native runner.
pub fn register(native: &mut Native, tools: &Tools) {
    native.add("chatops.post_message", Permission::ExecutionRun, Arc::new(PostMessage(tools.clone())));
    native.add("chatops.post_result", Permission::ExecutionRun, Arc::new(PostResult(tools.clone())));
}

struct PostMessage(Tools);

#[async_trait]
impl NativeAction for PostMessage {
    async fn run(&self, call: &Call, _stop: &Stop) -> Outcome {
        self.0.say(call, call.parameters.clone()).await
    }
}

struct PostResult(Tools);

#[async_trait]
impl NativeAction for PostResult {
    async fn run(&self, call: &Call, _stop: &Stop) -> Outcome {
        let payload = call.parameters.get("notification").cloned().unwrap_or_default();
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let alias = self.0.alias(text("/data/action_alias"));
        let said = alias.as_ref().and_then(|alias| in_its_words(alias, &payload));
        let mut message = Map::new();
        message.insert("message".to_owned(), json!(shortened(said.unwrap_or_else(|| in_our_words(&payload)))));
        message.insert("channel".to_owned(), json!(text("/data/source_channel")));
        message.insert("user".to_owned(), json!(text("/data/user")));
        message.insert("route".to_owned(), payload["route"].clone());
        message.insert("execution_id".to_owned(), payload["execution_id"].clone());
        message.insert("extra".to_owned(), alias.map(|alias| alias.result.extra).unwrap_or_default());
        self.0.say(call, message).await
    }
}

impl Tools {
    fn alias(&self, reference: &str) -> Option<ChatAlias> {
        let catalogue = self.catalogue.borrow();
        let alias = catalogue.aliases.get(&reference.parse().ok()?)?;
        ChatAlias::compile(alias).ok()
    }

    async fn say(&self, call: &Call, mut message: Map<String, Value>) -> Outcome {
        message.insert("whisper".to_owned(), message.get("whisper").cloned().unwrap_or(json!(false)));
        // An earlier attempt may have announced it: whoever can look does so before it is said again.
        let payload = json!({ "payload": message, "repeated": call.attempt > 1 });
        let (id, now) = (call.execution.to_string(), self.clock.now());
        match self.announcements.announce(ANNOUNCEMENT, &id, &payload, now).await {
            Ok(()) => {
                self.bus.hint(Topic::Announcements);
                Outcome::succeeded(Value::Object(message))
            }
            Err(problem) => Outcome::error(problem.to_string()),
        }
    }
}

/// `None`: the alias has none.
fn in_its_words(alias: &ChatAlias, payload: &Value) -> Option<String> {
    let format = alias.result.format.as_ref()?;
    let result = result(payload);
    let execution = json!({
        "id": payload["execution_id"], "status": payload["status"], "result": result,
        "action": { "ref": payload["action_ref"] }, "runner": { "name": payload["runner_ref"] },
        "start_timestamp": payload["start_timestamp"], "end_timestamp": payload["end_timestamp"],
    });
    let about = json!({ "ref": alias.reference, "name": alias.reference.name(), "description": alias.description });
    let names = json!({ "execution": execution, "actionalias": about, "alias": about });
    let said = format.render(&Context::new(&names, None));
    Some(said.map_or_else(|problem| format!("{} ({problem})", in_our_words(payload)), |text| as_text(&text)))
}

/// The result travels as text, masked already.
fn result(payload: &Value) -> Value {
    let text = payload.pointer("/data/result").and_then(Value::as_str).unwrap_or("null");
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn in_our_words(payload: &Value) -> String {
    let text = |name: &str| payload[name].as_str().unwrap_or_default();
    let result = result(payload);
    let said = match (&result["error"], &result["stdout"]) {
        (Value::String(error), _) => error.clone(),
        (_, Value::String(output)) => output.trim_end().to_owned(),
        _ if result.is_null() => String::new(),
        _ => result.to_string(),
    };
    format!("{} {}: {said}", text("action_ref"), text("status"))
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}
