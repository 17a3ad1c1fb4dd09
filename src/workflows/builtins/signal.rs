//! `wait_signal(name[, #{key, timeout}])` and `ask(message[, options])`: what only the outside can answer.

use rhai::{Dynamic, FuncRegistration, Map, Module, NativeCallContext};

use super::{Result, check_keys, duration, json_of_map, millis, turn};
use crate::workflows::errors::misuse;
use crate::workflows::request::{Request, StepKind};

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("wait_signal").set_into_module(module, |context: NativeCallContext<'_>, name: &str| {
        wait_signal(&context, name, Map::new())
    });
    FuncRegistration::new("wait_signal").set_into_module(
        module,
        |context: NativeCallContext<'_>, name: &str, options: Map| wait_signal(&context, name, options),
    );
    FuncRegistration::new("ask")
        .set_into_module(module, |context: NativeCallContext<'_>, message: &str| ask(&context, message, Map::new()));
    FuncRegistration::new("ask").set_into_module(
        module,
        |context: NativeCallContext<'_>, message: &str, options: Map| ask(&context, message, options),
    );
}

fn wait_signal(context: &NativeCallContext<'_>, name: &str, options: Map) -> Result {
    check_keys("wait_signal", &options, &["key", "timeout"])?;
    let mut params = with_timeout_in_millis(options)?;
    params.insert("name".into(), name.into());
    turn(context)?.step(Request::new(StepKind::WaitSignal, json_of_map(&params)?))
}

fn ask(context: &NativeCallContext<'_>, message: &str, options: Map) -> Result {
    if message.is_empty() {
        return Err(misuse("`ask` needs a question"));
    }
    check_keys("ask", &options, &["schema", "route", "roles", "users", "timeout"])?;
    let mut params = with_timeout_in_millis(options)?;
    params.insert("message".into(), message.into());
    turn(context)?.step(Request::new(StepKind::Ask, json_of_map(&params)?))
}

fn with_timeout_in_millis(mut options: Map) -> Result<Map> {
    if let Some(timeout) = options.remove("timeout") {
        let timeout = i64::try_from(millis(duration(&timeout)?)).unwrap_or(i64::MAX);
        options.insert("timeout_millis".into(), Dynamic::from(timeout));
    }
    Ok(options)
}
