//! The runner `native`: actions that are part of Petrel, found by the action's reference or its entry point.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Call, Outcome, RunEnd, Runner, Stop};
use crate::model::access::Permission;
use crate::model::action::{Action, ParameterSpec};
use crate::model::execution::ExecutionStatus;

/// An action written in Rust. It gets what it needs when it is made, and parameters when it is called.
#[async_trait]
pub trait NativeAction: Send + Sync {
    /// Does it. Returns soon after `stop` is raised.
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome;
}

/// Reads the parameters, does it, and gives up when asked to: for actions whose next call finds what was begun.
pub async fn answer<P: DeserializeOwned>(
    call: &Call,
    stop: &Stop,
    work: impl AsyncFnOnce(P) -> anyhow::Result<Value>,
) -> Outcome {
    let parameters = match parameters(call) {
        Ok(parameters) => parameters,
        Err(outcome) => return outcome,
    };
    tokio::select! {
        done = work(parameters) => done.map_or_else(|error| Outcome::error(format!("{error:#}")), Outcome::succeeded),
        () = stop.raised() => {
            Outcome { status: ExecutionStatus::Canceled, result: json!({ "error": "stopped on request" }) }
        }
    }
}

/// The parameters of a call as the action's own type.
pub fn parameters<P: DeserializeOwned>(call: &Call) -> Result<P, Outcome> {
    let given: Map<String, Value> = call
        .parameters
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    serde_json::from_value(Value::Object(given))
        .map_err(|error| Outcome::error(format!("parameters of {}: {error}", call.action.reference)))
}

/// The native actions by name.
#[derive(Default, Clone)]
pub struct Native {
    actions: BTreeMap<String, Registered>,
}

#[derive(Clone)]
struct Registered {
    permission: Permission,
    action: Arc<dyn NativeAction>,
}

impl Native {
    /// Adds an action under its reference (`core.uuid`), or under a name that metadata give as `entry_point`, with the
    /// permission of the users who may request it. It belongs to the code and not to the name: metadata of another
    /// pack with this entry point need it as well.
    pub fn add(&mut self, name: impl Into<String>, permission: Permission, action: Arc<dyn NativeAction>) {
        self.actions.insert(name.into(), Registered { permission, action });
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.actions.keys().map(String::as_str).collect()
    }

    /// Metadata name an entry point relative to their folder; what counts of it here is the last part.
    fn find(&self, action: &Action) -> Option<&Registered> {
        let entry_point = || action.entry_point.file_name().and_then(|name| name.to_str());
        let by_reference = self.actions.get(action.reference.as_str());
        by_reference.or_else(|| entry_point().and_then(|name| self.actions.get(name)))
    }
}

#[async_trait]
impl Runner for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        BTreeMap::new()
    }

    fn permission(&self, action: &Action) -> Permission {
        self.find(action).map_or(Permission::ExecutionRun, |registered| registered.permission)
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        let Some(Registered { action, .. }) = self.find(&call.action) else {
            let reference = &call.action.reference;
            return RunEnd::Finished(Outcome::error(format!("no native action is called {reference}")));
        };
        RunEnd::Finished(action.run(&call, &stop).await)
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::action::OnLost;
    use crate::model::refs::ExecutionId;
    use crate::runners::OutputSink;

    struct Says(&'static str);

    #[async_trait]
    impl NativeAction for Says {
        async fn run(&self, _call: &Call, _stop: &Stop) -> Outcome {
            Outcome::succeeded(json!(self.0))
        }
    }

    fn call(reference: &str, entry_point: &str) -> Call {
        let action = Action {
            reference: reference.parse().unwrap(),
            description: String::new(),
            enabled: true,
            runner: "native".to_owned(),
            entry_point: entry_point.into(),
            parameters: BTreeMap::new(),
            output_schema: BTreeMap::new(),
            tags: Vec::new(),
            notify: Value::Null,
            on_lost: OnLost::Retry,
            permission: None,
            metadata_file: String::new(),
        };
        Call {
            execution: ExecutionId::from_bytes([7; 12]),
            attempt: 1,
            action: Arc::new(action),
            parameters: Map::new(),
            user: "admin".to_owned(),
            output: OutputSink::ignored(),
            timeout: None,
        }
    }

    #[tokio::test]
    async fn an_action_is_found_by_its_reference_or_its_entry_point() {
        let mut native = Native::default();
        native.add("core.uuid", Permission::ExecutionRun, Arc::new(Says("by reference")));
        native.add("make_uuid", Permission::GroupWrite, Arc::new(Says("by entry point")));
        let cases = [
            ("core.uuid", "make_uuid", Outcome::succeeded(json!("by reference"))),
            ("my.uuid", "/packs/my/actions/make_uuid", Outcome::succeeded(json!("by entry point"))),
            ("my.other", "", Outcome::error("no native action is called my.other")),
        ];
        for (reference, entry_point, outcome) in cases {
            let end = native.run(call(reference, entry_point), Stop::default()).await;
            assert_eq!(end, RunEnd::Finished(outcome), "{reference}");
        }
        let needed = cases_permission(&native);
        assert_eq!(needed, [Permission::ExecutionRun, Permission::GroupWrite, Permission::ExecutionRun]);
    }

    /// The permission follows the code that is found, whatever the action is called.
    fn cases_permission(native: &Native) -> [Permission; 3] {
        [("core.uuid", "make_uuid"), ("my.uuid", "/packs/my/actions/make_uuid"), ("my.other", "")]
            .map(|(reference, entry_point)| native.permission(&call(reference, entry_point).action))
    }
}
