//! `kv_get kv_set kv_incr kv_cas kv_delete`: the datastore, read and written once per step.

use rhai::{Dynamic, FuncRegistration, Map, Module, NativeCallContext};
use serde_json::{Value, json};

use super::{Result, check_keys, duration, json_of, millis, turn};
use crate::workflows::request::{Request, StepKind};

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("kv_get").set_into_module(module, |context: NativeCallContext<'_>, key: &str| {
        step(&context, StepKind::KvGet, json!({ "key": key }))
    });
    FuncRegistration::new("kv_get").set_into_module(
        module,
        |context: NativeCallContext<'_>, key: &str, default: Dynamic| {
            let value = step(&context, StepKind::KvGet, json!({ "key": key }))?;
            Result::Ok(if value.is_unit() { default } else { value })
        },
    );
    FuncRegistration::new("kv_set").set_into_module(
        module,
        |context: NativeCallContext<'_>, key: &str, value: Dynamic| kv_set(&context, key, &value, &Map::new()),
    );
    FuncRegistration::new("kv_set").set_into_module(
        module,
        |context: NativeCallContext<'_>, key: &str, value: Dynamic, options: Map| {
            kv_set(&context, key, &value, &options)
        },
    );
    FuncRegistration::new("kv_incr").set_into_module(module, |context: NativeCallContext<'_>, key: &str| {
        step(&context, StepKind::KvIncr, json!({ "key": key, "by": 1 }))
    });
    FuncRegistration::new("kv_incr").set_into_module(
        module,
        |context: NativeCallContext<'_>, key: &str, by: i64| {
            step(&context, StepKind::KvIncr, json!({ "key": key, "by": by }))
        },
    );
    FuncRegistration::new("kv_cas").set_into_module(
        module,
        |context: NativeCallContext<'_>, key: &str, expected: Dynamic, value: Dynamic| {
            let params = json!({ "key": key, "expected": json_of(&expected)?, "value": json_of(&value)? });
            step(&context, StepKind::KvCas, params)
        },
    );
    FuncRegistration::new("kv_delete").set_into_module(module, |context: NativeCallContext<'_>, key: &str| {
        step(&context, StepKind::KvDelete, json!({ "key": key }))
    });
}

fn kv_set(context: &NativeCallContext<'_>, key: &str, value: &Dynamic, options: &Map) -> Result {
    check_keys("kv_set", options, &["ttl"])?;
    let mut params = json!({ "key": key, "value": json_of(value)? });
    if let Some(ttl) = options.get("ttl") {
        params["ttl_millis"] = millis(duration(ttl)?).into();
    }
    step(context, StepKind::KvSet, params)
}

fn step(context: &NativeCallContext<'_>, kind: StepKind, params: Value) -> Result {
    turn(context)?.step(Request::new(kind, params))
}
