//! `uuid`, `random_name`: random once, journalled ever after.

use rhai::{FuncRegistration, Module, NativeCallContext};
use serde_json::{Value, json};

use super::{Result, turn};
use crate::workflows::request::{Request, StepKind};

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("uuid").set_into_module(module, |context: NativeCallContext<'_>| {
        turn(&context)?.step(Request::new(StepKind::Uuid, Value::Null))
    });
    FuncRegistration::new("random_name")
        .set_into_module(module, |context: NativeCallContext<'_>| random_name(&context, ""));
    FuncRegistration::new("random_name").set_into_module(module, |context: NativeCallContext<'_>, prefix: &str| {
        random_name(&context, prefix)
    });
}

fn random_name(context: &NativeCallContext<'_>, prefix: &str) -> Result {
    turn(context)?.step(Request::new(StepKind::RandomName, json!({ "prefix": prefix })))
}
