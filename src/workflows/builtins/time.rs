//! `sleep`, `sleep_until`, `now`.

use rhai::{Dynamic, FuncRegistration, Module, NativeCallContext};
use serde_json::{Value, json};

use super::{Result, duration, millis, turn};
use crate::model::time::Timestamp;
use crate::workflows::errors::misuse;
use crate::workflows::request::{Request, StepKind};

pub(super) fn register(module: &mut Module) {
    // One by one, because the standard package has a `sleep` for each kind of number that blocks the thread.
    FuncRegistration::new("sleep")
        .set_into_module(module, |context: NativeCallContext<'_>, text: &str| sleep(&context, &text.into()));
    FuncRegistration::new("sleep")
        .set_into_module(module, |context: NativeCallContext<'_>, seconds: i64| sleep(&context, &seconds.into()));
    FuncRegistration::new("sleep")
        .set_into_module(module, |context: NativeCallContext<'_>, seconds: f64| sleep(&context, &seconds.into()));
    FuncRegistration::new("sleep_until").set_into_module(module, |context: NativeCallContext<'_>, time: &str| {
        sleep_until(&context, time)
    });
    FuncRegistration::new("now").set_into_module(module, |context: NativeCallContext<'_>| {
        turn(&context)?.step(Request::new(StepKind::Now, Value::Null))
    });
}

fn sleep(context: &NativeCallContext<'_>, time: &Dynamic) -> Result {
    let params = json!({ "millis": millis(duration(time)?) });
    turn(context)?.step(Request::new(StepKind::Sleep, params))
}

fn sleep_until(context: &NativeCallContext<'_>, time: &str) -> Result {
    let time: Timestamp = time.parse().map_err(|error: crate::model::time::BadTimestamp| misuse(error.to_string()))?;
    turn(context)?.step(Request::new(StepKind::SleepUntil, json!({ "until": time })))
}
