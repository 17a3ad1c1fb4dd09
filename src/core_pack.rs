//! The native actions of the pack `core`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::bus::{Bus, Topic};
use crate::clock::{self, Clock, Ids};
use crate::intake::{Intake, IntakeError, Seen};
use crate::model::access::Permission;
use crate::runners::native::{Native, NativeAction};
use crate::runners::{Call, Outcome, Stop};
use crate::store::{Announcements, StoreError};

/// What the actions of `core` work with.
#[derive(Clone)]
pub struct CoreTools {
    /// For `core.inject_trigger`.
    pub intake: Intake,
    /// For `core.announcement`.
    pub announcements: Announcements,
    /// Tells listeners.
    pub bus: Arc<dyn Bus>,
    /// For `core.pause`.
    pub clock: Arc<dyn Clock>,
    /// For `core.uuid`.
    pub ids: Arc<dyn Ids>,
}

/// Adds them to the native runner.
pub fn register(native: &mut Native, tools: &CoreTools) {
    native.add("core.pause", Permission::ExecutionRun, Arc::new(Pause(Arc::clone(&tools.clock))));
    native.add("core.uuid", Permission::ExecutionRun, Arc::new(NewUuid(Arc::clone(&tools.ids))));
    native.add("core.announcement", Permission::ExecutionRun, Arc::new(Announce(tools.clone())));
    native.add("core.inject_trigger", Permission::TriggerEmit, Arc::new(InjectTrigger(tools.clone())));
}

struct Pause(Arc<dyn Clock>);

#[async_trait]
impl NativeAction for Pause {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        let seconds = call.parameters.get("max_pause").and_then(Value::as_u64).unwrap_or_default();
        tokio::select! {
            () = clock::sleep(&*self.0, Duration::from_secs(seconds)) => Outcome::succeeded(json!({})),
            () = stop.raised() => Outcome::error("stopped before the pause was over"),
        }
    }
}

struct NewUuid(Arc<dyn Ids>);

#[async_trait]
impl NativeAction for NewUuid {
    async fn run(&self, _call: &Call, _stop: &Stop) -> Outcome {
        Outcome::succeeded(json!({ "uuid": self.0.uuid_v4() }))
    }
}

struct Announce(CoreTools);

#[async_trait]
impl NativeAction for Announce {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        let text = |name: &str| call.parameters.get(name).and_then(Value::as_str);
        let name = format!("st2.announcement__{}", text("route").unwrap_or("general"));
        // An earlier attempt may have announced it: whoever can look does so before it is said again.
        let payload = json!({ "payload": call.parameters, "repeated": call.attempt > 1 });
        let now = self.0.clock.now();
        let about = call.execution.to_string();
        let announce = || self.0.announcements.announce(&name, &about, &payload, now);
        match while_away(&*self.0.clock, stop, announce, is_away).await {
            Ok(()) => {
                self.0.bus.hint(Topic::Announcements);
                Outcome::succeeded(Value::Object(call.parameters.clone()))
            }
            Err(problem) => Outcome::error(problem.to_string()),
        }
    }
}

struct InjectTrigger(CoreTools);

#[async_trait]
impl NativeAction for InjectTrigger {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        let text = |name: &str| call.parameters.get(name).and_then(Value::as_str);
        let name = text("trigger_name").or_else(|| text("trigger")).unwrap_or_default();
        let trigger_type = match name.parse() {
            Ok(trigger_type) => trigger_type,
            Err(problem) => return Outcome::error(format!("{problem}")),
        };
        // The action may be requested by users who must not speak for others, and content has no need of it.
        if Permission::to_emit(name) != Permission::TriggerEmit {
            return Outcome::error(format!("trigger `{name}` speaks for a user: only its own source emits it"));
        }
        let payload = call.parameters.get("payload").cloned().unwrap_or_else(|| json!({}));
        let seen = Seen {
            trace_tag: text("trace_tag").map(str::to_owned),
            // The same execution tried again injects nothing new.
            dedupe_key: Some(format!("{}/inject", call.execution)),
            ..Seen::of_type(trigger_type, payload)
        };
        let inject = || self.0.intake.accept(seen.clone());
        let passes = |problem: &IntakeError| match problem {
            IntakeError::Store(problem) => is_away(problem),
            IntakeError::Broker(_) => true,
        };
        match while_away(&*self.0.clock, stop, inject, passes).await {
            Ok(receipt) => Outcome::succeeded(json!({ "trigger": name, "trigger_instance": receipt.instance() })),
            Err(problem) => Outcome::error(problem.to_string()),
        }
    }
}

const fn is_away(problem: &StoreError) -> bool {
    matches!(problem, StoreError::Unavailable(_))
}

/// Does the work again for as long as its trouble passes: an action is not failed because the store was away for a moment.
async fn while_away<T, E, F: Future<Output = Result<T, E>>>(
    clock: &dyn Clock,
    stop: &Stop,
    work: impl Fn() -> F,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    const BETWEEN_TRIES: Duration = Duration::from_secs(1);
    loop {
        match work().await {
            Err(problem) if passes(&problem) && !stop.is_raised() => tokio::select! {
                () = clock::sleep(clock, BETWEEN_TRIES) => {}
                () = stop.raised() => {}
            },
            result => return result,
        }
    }
}
