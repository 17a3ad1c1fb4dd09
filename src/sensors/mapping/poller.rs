//! Polling sensors: `fn poll(state)` looks at a source and says what is new and what to remember.

use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, Map};
use serde_json::Value;

use crate::scripts;

use super::emit::{Emit, Emits};
use super::script::{Failure, MapperError, NativeResult, Script, ScriptFailure, engine, refusal};

/// Fetches a URL; how, how long and which ones is the caller's business.
pub type HttpGet = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// Why a poll brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// The source could not be read, or the script gave up on it.
    #[error("the poll gave up: {reason}")]
    GaveUp {
        /// What the script, or the fetch, said.
        reason: String,
    },
    /// The script does not work.
    #[error(transparent)]
    Script(#[from] ScriptFailure),
}

impl From<Failure> for PollError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(failure) => Self::Script(failure),
            Failure::Thrown { reason, .. } => Self::GaveUp { reason },
        }
    }
}

/// What a poll brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Polled {
    /// To be given to the next poll; make it durable together with the triggers.
    pub state: Value,
    /// What happened since the last one.
    pub emits: Vec<Emit>,
}

/// A compiled `fn poll(state)` or `fn poll(state, config)`.
#[derive(Debug, Clone)]
pub struct Poller(Script);

impl Poller {
    /// Compiles a script; `file_name` is for messages.
    pub fn compile(source: &str, file_name: &str) -> Result<Self, MapperError> {
        Script::compile(source, file_name, "poll", "state").map(Self)
    }

    /// Runs the script once. `state` is what the last poll returned, `null` at first.
    ///
    /// The script returns `#{state: …, emit: [#{trigger, payload, …}]}`, both optional, or calls `emit` itself.
    pub fn poll(&self, state: &Value, config: &Value, http_get: HttpGet) -> Result<Polled, PollError> {
        let emits = Emits::default();
        let mut engine = engine();
        emits.offer_to(&mut engine);
        offer_http_get(&mut engine, http_get);
        let answer = self.0.call(&mut engine, state, config)?;
        let state = self.read_answer(&answer, state, &emits)?;
        Ok(Polled { state, emits: emits.take() })
    }

    fn read_answer(&self, answer: &Dynamic, old_state: &Value, emits: &Emits) -> Result<Value, Failure> {
        if answer.is_unit() {
            return Ok(old_state.clone());
        }
        let shape = || Failure::Broken(self.0.broken("`poll` must return nothing or `#{state: …, emit: […]}`"));
        let answer = answer.as_map_ref().map_err(|_kind| shape())?;
        if answer.keys().any(|name| name != "state" && name != "emit") {
            return Err(shape());
        }
        if let Some(list) = answer.get("emit").filter(|list| !list.is_unit()) {
            let list = list.as_array_ref().map_err(|_kind| shape())?;
            push_all(&list, emits).map_err(|error| self.0.explain(*error))?;
        }
        match answer.get("state") {
            Some(state) => scripts::to_json(state)
                .map_err(|error| Failure::Broken(self.0.broken(format!("the state is not plain data: {error}")))),
            None => Ok(old_state.clone()),
        }
    }
}

fn push_all(list: &Array, emits: &Emits) -> NativeResult<()> {
    list.iter().try_for_each(|item| match item.as_map_ref() {
        Ok(map) => emits.push_map(&map),
        Err(_) => emits.push_map(&Map::new()),
    })
}

fn offer_http_get(engine: &mut Engine, http_get: HttpGet) {
    engine.register_fn("http_get", move |url: &str| -> NativeResult<String> {
        http_get(url).map_err(|problem| refusal(format!("GET {url}: {problem}")))
    });
}
