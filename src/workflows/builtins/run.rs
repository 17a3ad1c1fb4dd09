//! `run(action[, params[, options]])`: a child execution, waited for.

use rhai::{Array, Dynamic, FuncRegistration, Map, Module, NativeCallContext};

use super::{Result, action, check_keys, duration, json_of_map, turn};
use crate::workflows::errors::misuse;
use crate::workflows::request::{Request, StepKind, StepOptions, Undo};

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("run").set_into_module(module, |context: NativeCallContext<'_>, reference: &str| {
        run(&context, reference, &Map::new(), &Map::new())
    });
    FuncRegistration::new("run").set_into_module(
        module,
        |context: NativeCallContext<'_>, reference: &str, params: Map| run(&context, reference, &params, &Map::new()),
    );
    FuncRegistration::new("run").set_into_module(
        module,
        |context: NativeCallContext<'_>, reference: &str, params: Map, options: Map| {
            run(&context, reference, &params, &options)
        },
    );
}

fn run(context: &NativeCallContext<'_>, reference: &str, params: &Map, options: &Map) -> Result {
    let request = child_request(StepKind::Run, reference, params, options)?;
    turn(context)?.step(request)
}

/// The request for a child execution.
pub(super) fn child_request(kind: StepKind, reference: &str, params: &Map, options: &Map) -> Result<Request> {
    let options = step_options(kind.as_str(), options)?;
    Ok(Request::new(kind, json_of_map(params)?).to_run(action(reference)?).with_options(options))
}

fn step_options(builtin: &str, options: &Map) -> Result<StepOptions> {
    check_keys(builtin, options, &["timeout", "undo"])?;
    let timeout = options.get("timeout").map(duration).transpose()?;
    let undo = options.get("undo").map(undo).transpose()?;
    Ok(StepOptions { timeout, undo })
}

/// `["pack.action", #{…}]`.
fn undo(value: &Dynamic) -> Result<Undo> {
    let wrong = || misuse("`undo` has to be an action and its parameters, as `[\"pack.action\", #{…}]`");
    let pair = value.clone().try_cast::<Array>().ok_or_else(wrong)?;
    let [reference, params] = pair.as_slice() else { return Err(wrong()) };
    let reference = reference.as_immutable_string_ref().map_err(|_| wrong())?;
    let params = params.as_map_ref().map_err(|_| wrong())?;
    Ok(Undo { action: action(&reference)?, params: json_of_map(&params)? })
}
