//! The runner `native`: actions that are part of Petrel, found by the action's reference or its entry point.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Call, Outcome, RunEnd, Runner, Stop};
use crate::model::action::ParameterSpec;

/// An action written in Rust. It gets what it needs when it is made, and parameters when it is called.
#[async_trait]
pub trait NativeAction: Send + Sync {
    /// Does it. Returns soon after `stop` is raised.
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome;
}

/// The native actions by name.
#[derive(Default, Clone)]
pub struct Native {
    actions: BTreeMap<String, Arc<dyn NativeAction>>,
}

impl Native {
    /// Adds an action under its reference (`core.uuid`), or under a name that metadata give as `entry_point`.
    pub fn add(&mut self, name: impl Into<String>, action: Arc<dyn NativeAction>) {
        self.actions.insert(name.into(), action);
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.actions.keys().map(String::as_str).collect()
    }

    /// Metadata name an entry point relative to their folder; what counts of it here is the last part.
    fn find(&self, call: &Call) -> Option<&Arc<dyn NativeAction>> {
        let entry_point = || {
            call.action
                .entry_point
                .file_name()
                .and_then(|name| name.to_str())
        };
        let by_reference = self.actions.get(call.action.reference.as_str());
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

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        let Some(action) = self.find(&call) else {
            let reference = &call.action.reference;
            return RunEnd::Finished(Outcome::error(format!(
                "no native action is called {reference}"
            )));
        };
        RunEnd::Finished(action.run(&call, &stop).await)
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
