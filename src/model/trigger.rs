//! What can happen (trigger types), what somebody waits for (triggers), and what happened (trigger instances).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refs::{InstanceId, SensorRef, TriggerTypeRef};
use super::time::Timestamp;

/// A kind of event and the shapes of its payload and parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerType {
    /// `pack.name`.
    pub reference: TriggerTypeRef,
    /// For people.
    pub description: String,
    /// JSON Schema of the payload; `Null` accepts anything.
    pub payload_schema: Value,
    /// JSON Schema of the parameters a rule may give; `Null` accepts anything.
    pub parameters_schema: Value,
    /// The metadata file, relative to the pack; empty for built-in types.
    pub metadata_file: String,
}

/// A trigger type with the parameters that a rule gave: one webhook URL, one timer.
///
/// Two rules that say the same wait for the same trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// What kind of event.
    pub trigger_type: TriggerTypeRef,
    /// The rule's parameters, as it wrote them.
    pub parameters: BTreeMap<String, Value>,
}

impl Trigger {
    /// Text that is equal exactly if type and parameters are equal: the identity by which instances find their rules.
    pub fn identity(&self) -> String {
        if self.parameters.is_empty() {
            return self.trigger_type.to_string();
        }
        let parameters: Vec<String> = self.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}{{{}}}", self.trigger_type, parameters.join(","))
    }
}

/// What a sensor declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// `pack.name`.
    pub reference: SensorRef,
    /// For people.
    pub description: String,
    /// A disabled sensor is not started.
    pub enabled: bool,
    /// How it listens.
    pub source: SensorSource,
    /// The trigger types it may emit.
    pub trigger_types: Vec<TriggerTypeRef>,
    /// The metadata file, relative to the pack.
    pub metadata_file: String,
}

/// The ways a declared sensor hears of events.
#[derive(Debug, Clone, PartialEq)]
pub enum SensorSource {
    /// An HTTP path whose body a Rhai function maps to triggers.
    Webhook(WebhookSource),
    /// A Rhai script that is run every so often.
    Polling(PollingSource),
    /// A StackStorm Python sensor: read and listed, not run.
    Python {
        /// The class in the entry point.
        class_name: String,
    },
}

/// A webhook declared by a pack.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookSource {
    /// The path without leading slash, as `st2/nrhook`.
    pub path: String,
    /// A listener of its own: its name in the configuration and its default port.
    pub listener: Option<(String, u16)>,
    /// The Rhai file with `fn map(request)`.
    pub script: std::path::PathBuf,
    /// Source text of `script`, read when the pack was loaded.
    pub source: std::sync::Arc<str>,
}

/// A script that asks a source every so often.
#[derive(Debug, Clone, PartialEq)]
pub struct PollingSource {
    /// Time between the end of one poll and the start of the next.
    pub every: std::time::Duration,
    /// The Rhai file with `fn poll(state)`.
    pub script: std::path::PathBuf,
    /// Source text of `script`, read when the pack was loaded.
    pub source: std::sync::Arc<str>,
}

/// One event: what a sensor saw.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerInstance {
    /// Its id.
    pub id: InstanceId,
    /// The [`Trigger::identity`] it answers: rules that wait for this trigger are candidates.
    pub trigger: String,
    /// What kind of event.
    pub trigger_type: TriggerTypeRef,
    /// What is known about it.
    pub payload: Value,
    /// When it happened, by the source if it says so.
    pub occurred_at: Timestamp,
    /// Follows the event through everything it causes.
    pub trace_tag: String,
    /// How far it has come.
    pub status: InstanceStatus,
}

/// How far a trigger instance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// Durable, not yet matched.
    Pending,
    /// Matched; its enforcements are written.
    Processed,
    /// Matching was given up; the reason is in its enforcements or the log.
    ProcessingFailed,
}

impl InstanceStatus {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::ProcessingFailed => "processing_failed",
        }
    }
}
