//! A pack's own words about its events: a small Rhai function turns a request or a polled source into triggers.
//!
//! Scripts are pure: they have no clock, no files, no network but the getter that a poller is handed, and they are
//! bounded in operations, depth and sizes. What they emit is returned to the caller, who makes it durable.

mod emit;
mod poller;
mod script;
mod time_text;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::emit::Emits;
use self::script::{Failure, Script};

pub use self::emit::Emit;
pub use self::poller::{HttpGet, PollError, Polled, Poller};
pub use self::script::{MapperError, ScriptFailure};

/// A request as scripts see it.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookRequest {
    /// `POST`.
    pub method: String,
    /// Without leading slash.
    pub path: String,
    /// By lower-case name, without what authenticates the sender.
    pub headers: BTreeMap<String, String>,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// The parsed body.
    pub body: Value,
    /// As the request said it.
    pub content_type: Option<String>,
}

/// Why a request became no triggers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The script does not accept the request: the sender's fault.
    #[error("{reason}")]
    Rejected {
        /// 400 to 499.
        status: u16,
        /// What the script said.
        reason: String,
    },
    /// The script does not work: the pack's fault.
    #[error(transparent)]
    Script(#[from] ScriptFailure),
}

impl From<Failure> for MapError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(failure) => Self::Script(failure),
            Failure::Thrown { status, reason } => Self::Rejected { status, reason },
        }
    }
}

/// A compiled `fn map(request)` or `fn map(request, config)`.
#[derive(Debug, Clone)]
pub struct Mapper(Script);

impl Mapper {
    /// Compiles a script; `file_name` is for messages.
    pub fn compile(source: &str, file_name: &str) -> Result<Self, MapperError> {
        Script::compile(source, file_name, "map", "request").map(Self)
    }

    /// The triggers that a request means, in the order in which the script emitted them; all of them or an error.
    pub fn map(&self, request: &WebhookRequest, config: &Value) -> Result<Vec<Emit>, MapError> {
        let emits = Emits::default();
        let mut engine = script::engine();
        emits.offer_to(&mut engine);
        let argument = json!({
            "method": request.method,
            "path": request.path,
            "headers": request.headers,
            "query": request.query,
            "body": request.body,
            "content_type": request.content_type,
        });
        let _returned = self.0.call(&mut engine, &argument, config)?; // what counts was emitted
        Ok(emits.take())
    }
}

#[cfg(test)]
mod newrelic_tests;
#[cfg(test)]
mod prometheus_tests;
#[cfg(test)]
mod tests;
