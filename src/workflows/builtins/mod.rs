//! What scripts can call, one file per family. A builtin checks its arguments, makes a request of them and leaves the
//! rest to the turn.

mod branch;
mod control;
mod kv;
mod message;
mod random;
mod rollback;
mod run;
mod signal;
mod spawn;
mod time;

use std::sync::Arc;
use std::time::Duration;

use rhai::{Dynamic, Map, Module, NativeCallContext};
use serde_json::Value;

use crate::model::refs::ActionRef;
use crate::model::time::parse_duration;
use crate::scripts::text_of;
use crate::workflows::convert::{map_to_value, to_value};
use crate::workflows::engine::TurnTag;
use crate::workflows::errors::{Raised, misuse, raise};
use crate::workflows::turn::Turn;

pub(super) use message::print;

/// Functions of the standard package that are no part of workflows, and what to use instead.
pub(super) const FORBIDDEN: [(&str, &str); 2] =
    [("timestamp", "use `now()`"), ("exit", "use `return`, or `fail(message)`")];

/// All builtins.
pub(super) fn module() -> Module {
    let mut module = Module::new();
    run::register(&mut module);
    spawn::register(&mut module);
    branch::register(&mut module);
    control::register(&mut module);
    rollback::register(&mut module);
    time::register(&mut module);
    random::register(&mut module);
    signal::register(&mut module);
    kv::register(&mut module);
    message::register(&mut module);
    module
}

/// What a builtin gives back.
type Result<T = Dynamic> = std::result::Result<T, Raised>;

/// The evaluation that a call belongs to.
fn turn(context: &NativeCallContext<'_>) -> Result<Arc<Turn>> {
    let tag = context.tag().and_then(|tag| tag.read_lock::<TurnTag>().map(|tag| Arc::clone(&tag.0)));
    tag.ok_or_else(|| misuse(format!("`{}` can only be called by a running workflow", context.fn_name())))
}

fn action(reference: &str) -> Result<ActionRef> {
    reference.parse().map_err(|error: crate::model::refs::BadRef| misuse(error.to_string()))
}

fn json_of(value: &Dynamic) -> Result<Value> {
    to_value(value).map_err(|error| raise(&error))
}

fn json_of_map(map: &Map) -> Result<Value> {
    map_to_value(map).map_err(|error| raise(&error))
}

/// `"10m"`, or a number of seconds.
fn duration(value: &Dynamic) -> Result<Duration> {
    if let Ok(text) = value.as_immutable_string_ref() {
        return parse_duration(&text).map_err(|error| misuse(error.to_string()));
    }
    if let Some(seconds) = value.as_int().ok().and_then(|seconds| u64::try_from(seconds).ok()) {
        return Ok(Duration::from_secs(seconds));
    }
    let seconds = value.as_float().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| {
        misuse(format!("`{}` is not a duration; write `\"10m\"`, or a number of seconds", text_of(value)))
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Options of which every key has to be known: a misspelt one must not be ignored.
fn check_keys(builtin: &str, options: &Map, known: &[&str]) -> Result<()> {
    match options.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let known = known.join("`, `");
            Err(misuse(format!("`{builtin}` has no option `{key}`; there is `{known}`")))
        }
    }
}
