//! `on_rollback(action, params)`: registers an undo by itself.

use rhai::{FuncRegistration, Map, Module, NativeCallContext};
use serde_json::json;

use super::{Result, action, json_of_map, turn};
use crate::workflows::request::{Request, StepKind, StepOptions, Undo};

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("on_rollback").set_into_module(
        module,
        |context: NativeCallContext<'_>, reference: &str, params: Map| on_rollback(&context, reference, &params),
    );
    FuncRegistration::new("on_rollback").set_into_module(module, |context: NativeCallContext<'_>, reference: &str| {
        on_rollback(&context, reference, &Map::new())
    });
}

fn on_rollback(context: &NativeCallContext<'_>, reference: &str, params: &Map) -> Result {
    let undo = Undo { action: action(reference)?, params: json_of_map(params)? };
    let request = Request::new(StepKind::OnRollback, json!({ "action": undo.action, "params": undo.params }));
    turn(context)?.step(request.with_options(StepOptions { timeout: None, undo: Some(undo) }))
}
