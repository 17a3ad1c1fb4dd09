//! What a script asks for at a position: written to the journal before anything happens, compared on replay.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::model::refs::ActionRef;

/// What kind of step a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// `run`: a child execution; its outcome is the outcome of the step.
    Run,
    /// `spawn`: a child execution that the script waits for later, or never.
    Spawn,
    /// `wait_any`: which of several spawned children was first. Decided by the evaluation.
    WaitAny,
    /// `parallel`: opens branches. Decided by the evaluation.
    Parallel,
    /// `map_items`: opens one branch per item. Decided by the evaluation.
    MapItems,
    /// The outcome of one finished branch. Decided by the evaluation.
    Branch,
    /// `retry`: opens attempts. Decided by the evaluation.
    Retry,
    /// The pause before another attempt of a `retry`; parameters as for `sleep`.
    RetryDelay,
    /// `sleep`: parameters `{millis}`.
    Sleep,
    /// `sleep_until`: parameters `{until}`, a timestamp.
    SleepUntil,
    /// `wait_signal`: parameters `{name, key?, timeout_millis?}`.
    WaitSignal,
    /// `ask`: an inquiry; parameters `{message, …}` as the `core.ask` action has them.
    Ask,
    /// `now`: the outcome is a timestamp as text.
    Now,
    /// `uuid`: the outcome is a text.
    Uuid,
    /// `random_name`: the outcome is a text; parameters `{prefix}`.
    RandomName,
    /// `kv_get`: parameters `{key, …}`; the outcome is the value or null.
    KvGet,
    /// `kv_set`: parameters `{key, value, …}`.
    KvSet,
    /// `kv_incr`: parameters `{key, by}`; the outcome is the new number.
    KvIncr,
    /// `kv_cas`: parameters `{key, expected, value}`; the outcome is whether it was exchanged.
    KvCas,
    /// `kv_delete`: parameters `{key, …}`; the outcome is whether there was something.
    KvDelete,
    /// `emit`: parameters `{trigger, payload}`.
    Emit,
    /// `notify`: parameters `{channel, message, …}`.
    Notify,
    /// `log`, `print` and `debug`: parameters `{level, message}`.
    Log,
    /// `publish`: parameters `{name, value}`.
    Publish,
    /// `on_rollback`: registers an undo and does nothing else.
    OnRollback,
    /// One step of a rollback. Never asked by a script: the driver journals these.
    Undo,
}

impl StepKind {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Spawn => "spawn",
            Self::WaitAny => "wait_any",
            Self::Parallel => "parallel",
            Self::MapItems => "map_items",
            Self::Branch => "branch",
            Self::Retry => "retry",
            Self::RetryDelay => "retry_delay",
            Self::Sleep => "sleep",
            Self::SleepUntil => "sleep_until",
            Self::WaitSignal => "wait_signal",
            Self::Ask => "ask",
            Self::Now => "now",
            Self::Uuid => "uuid",
            Self::RandomName => "random_name",
            Self::KvGet => "kv_get",
            Self::KvSet => "kv_set",
            Self::KvIncr => "kv_incr",
            Self::KvCas => "kv_cas",
            Self::KvDelete => "kv_delete",
            Self::Emit => "emit",
            Self::Notify => "notify",
            Self::Log => "log",
            Self::Publish => "publish",
            Self::OnRollback => "on_rollback",
            Self::Undo => "undo",
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An action to run if the workflow is rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// What to run.
    pub action: ActionRef,
    /// With what.
    pub params: Value,
}

/// How a step is to be done. Not compared on replay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepOptions {
    /// Without an outcome it fails as `timeout` after this long.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "millis")]
    pub timeout: Option<Duration>,
    /// Registered with the request, before the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
}

/// What the script asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What kind of step.
    pub kind: StepKind,
    /// The action it runs, for the kinds that run one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ActionRef>,
    /// With what: maps are sorted by key. The host may store it with its secrets masked.
    pub params: Value,
    /// How.
    #[serde(default)]
    pub options: StepOptions,
    /// The host's fingerprint of the unmasked `params`; empty until the request is asked.
    #[serde(default)]
    pub digest: String,
}

impl Request {
    /// A request without target, options and digest.
    pub fn new(kind: StepKind, params: Value) -> Self {
        Self { kind, target: None, params, options: StepOptions::default(), digest: String::new() }
    }

    /// The same, running `action`.
    #[must_use]
    pub fn to_run(mut self, action: ActionRef) -> Self {
        self.target = Some(action);
        self
    }

    /// The same, with `options`.
    #[must_use]
    pub fn with_options(mut self, options: StepOptions) -> Self {
        self.options = options;
        self
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        write!(f, "{}", self.kind)?;
        if let Some(target) = &self.target {
            write!(f, " {target}")?;
        }
        let params = self.params.to_string();
        let shown: String = params.chars().take(LONGEST).collect();
        let more = if shown.len() < params.len() { "…" } else { "" };
        write!(f, " {shown}{more}")
    }
}

/// A fingerprint for [`Host::fingerprint`](super::Host::fingerprint): HMAC-SHA256 of the canonical JSON, in hex. The key
/// keeps a secret with few possible values from being guessed out of the journal.
pub fn keyed_digest(key: &[u8], value: &Value) -> String {
    use fmt::Write as _;
    // Infallible: HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(value.to_string().as_bytes());
    mac.finalize().into_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

/// Durations as whole milliseconds: what the journal holds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
