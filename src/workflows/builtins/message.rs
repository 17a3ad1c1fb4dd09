//! `emit`, `notify`, `log`, `publish`, and where `print` and `debug` go.

use rhai::{Dynamic, FuncRegistration, Map, Module, NativeCallContext};
use serde_json::{Value, json};

use super::{Result, check_keys, json_of, json_of_map, turn};
use crate::model::refs::{BadRef, TriggerTypeRef};
use crate::workflows::errors::misuse;
use crate::workflows::request::{Request, StepKind};
use crate::workflows::turn::Turn;

const LEVELS: [&str; 4] = ["debug", "info", "warning", "error"];

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("emit").set_into_module(
        module,
        |context: NativeCallContext<'_>, trigger: &str, payload: Map| {
            let trigger: TriggerTypeRef = trigger.parse().map_err(|error: BadRef| misuse(error.to_string()))?;
            let params = json!({ "trigger": trigger, "payload": json_of_map(&payload)? });
            step(&context, StepKind::Emit, params)
        },
    );
    FuncRegistration::new("notify").set_into_module(
        module,
        |context: NativeCallContext<'_>, channel: &str, message: &str| notify(&context, channel, message, Map::new()),
    );
    FuncRegistration::new("notify").set_into_module(
        module,
        |context: NativeCallContext<'_>, channel: &str, message: &str, options: Map| {
            notify(&context, channel, message, options)
        },
    );
    FuncRegistration::new("log")
        .set_into_module(module, |context: NativeCallContext<'_>, message: &str| log(&context, "info", message));
    FuncRegistration::new("log").set_into_module(
        module,
        |context: NativeCallContext<'_>, level: &str, message: &str| log(&context, level, message),
    );
    FuncRegistration::new("publish").set_into_module(
        module,
        |context: NativeCallContext<'_>, name: &str, value: Dynamic| {
            step(&context, StepKind::Publish, json!({ "name": name, "value": json_of(&value)? }))
        },
    );
}

/// What the script engine calls for `print` and `debug`. It takes no error: a stop is flagged, and ends the next
/// operation.
pub(in crate::workflows) fn print(turn: &Turn, level: &str, message: &str) {
    let flagged = turn.step(log_request(level, message));
    drop(flagged);
}

fn log(context: &NativeCallContext<'_>, level: &str, message: &str) -> Result {
    if !LEVELS.contains(&level) {
        return Err(misuse(format!("`{level}` is not a log level; there is `{}`", LEVELS.join("`, `"))));
    }
    turn(context)?.step(log_request(level, message))
}

fn log_request(level: &str, message: &str) -> Request {
    Request::new(StepKind::Log, json!({ "level": level, "message": message }))
}

fn notify(context: &NativeCallContext<'_>, channel: &str, message: &str, options: Map) -> Result {
    check_keys("notify", &options, &["route", "severity", "details"])?;
    let mut params = options;
    params.insert("channel".into(), channel.into());
    params.insert("message".into(), message.into());
    step(context, StepKind::Notify, json_of_map(&params)?)
}

fn step(context: &NativeCallContext<'_>, kind: StepKind, params: Value) -> Result {
    turn(context)?.step(Request::new(kind, params))
}
