//! `spawn`, `wait`, `wait_all`, `wait_any`: child executions that run while the script goes on.
//!
//! A handle is a map `#{handle: position, action: reference}`: a value like any other, so it may be stored and returned.

use rhai::{Array, Dynamic, FuncRegistration, Map, Module, NativeCallContext};
use serde_json::{Value, json};

use super::run::child_request;
use super::{Result, turn};
use crate::workflows::errors::misuse;
use crate::workflows::outcome::StepOutcome;
use crate::workflows::position::Position;
use crate::workflows::request::{Request, StepKind};
use crate::workflows::turn::Turn;

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("spawn").set_into_module(module, |context: NativeCallContext<'_>, reference: &str| {
        spawn(&context, reference, &Map::new(), &Map::new())
    });
    FuncRegistration::new("spawn").set_into_module(
        module,
        |context: NativeCallContext<'_>, reference: &str, params: Map| spawn(&context, reference, &params, &Map::new()),
    );
    FuncRegistration::new("spawn").set_into_module(
        module,
        |context: NativeCallContext<'_>, reference: &str, params: Map, options: Map| {
            spawn(&context, reference, &params, &options)
        },
    );
    FuncRegistration::new("wait").set_into_module(module, |context: NativeCallContext<'_>, handle: Map| {
        let turn = turn(&context)?;
        turn.outcome(&spawned(&turn, &handle)?)
    });
    FuncRegistration::new("wait_all").set_into_module(module, |context: NativeCallContext<'_>, handles: Array| {
        wait_all(&context, &handles)
    });
    FuncRegistration::new("wait_any").set_into_module(module, |context: NativeCallContext<'_>, handles: Array| {
        wait_any(&context, &handles)
    });
}

fn spawn(context: &NativeCallContext<'_>, reference: &str, params: &Map, options: &Map) -> Result {
    let request = child_request(StepKind::Spawn, reference, params, options)?;
    let at = turn(context)?.start(request)?;
    let handle = [("handle", at.to_string()), ("action", reference.to_owned())];
    Ok(Dynamic::from_map(handle.into_iter().map(|(name, text)| (name.into(), text.into())).collect()))
}

/// The results in the order of the handles, when all are there; then the error of the first that failed.
fn wait_all(context: &NativeCallContext<'_>, handles: &Array) -> Result {
    let turn = turn(context)?;
    let positions = all_spawned(&turn, handles)?;
    loop {
        let open: Vec<Position> = positions.iter().filter(|at| !turn.has_outcome(at)).cloned().collect();
        if open.is_empty() {
            break;
        }
        turn.wait_for(open)?;
    }
    positions.iter().map(|at| turn.outcome(at)).collect::<Result<Array>>().map(Dynamic::from)
}

/// `#{index, result}` of the first one that is there, or its error. Which one that was is journalled.
fn wait_any(context: &NativeCallContext<'_>, handles: &Array) -> Result {
    let turn = turn(context)?;
    let positions = all_spawned(&turn, handles)?;
    if positions.is_empty() {
        return Err(misuse("`wait_any` needs at least one handle"));
    }
    let asked: Vec<String> = positions.iter().map(ToString::to_string).collect();
    let request = Request::new(StepKind::WaitAny, json!({ "handles": asked }));
    let (_, index) = turn.decided(request, || first_with_outcome(&turn, &positions))?;
    let chosen = index.as_int().ok().and_then(|index| positions.get(usize::try_from(index).ok()?));
    let result = turn.outcome(chosen.ok_or_else(|| misuse("the journal names a handle that is not there"))?)?;
    let fields = [("index", index), ("result", result)];
    Ok(Dynamic::from_map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect()))
}

fn first_with_outcome(turn: &Turn, positions: &[Position]) -> Result<StepOutcome> {
    loop {
        if let Some(index) = positions.iter().position(|at| turn.has_outcome(at)) {
            return Ok(StepOutcome::Ok(Value::from(index)));
        }
        turn.wait_for(positions.to_vec())?;
    }
}

fn all_spawned(turn: &Turn, handles: &Array) -> Result<Vec<Position>> {
    let handle = |handle: &Dynamic| {
        let handle = handle.as_map_ref().map_err(|_| not_a_handle())?;
        spawned(turn, &handle)
    };
    handles.iter().map(handle).collect()
}

fn spawned(turn: &Turn, handle: &Map) -> Result<Position> {
    turn.check_stop()?;
    let text = handle.get("handle").and_then(|text| text.as_immutable_string_ref().ok()?.parse().ok());
    let at: Position = text.ok_or_else(not_a_handle)?;
    turn.entry_of_kind(&at, StepKind::Spawn).map(|_| at).ok_or_else(not_a_handle)
}

fn not_a_handle() -> crate::workflows::errors::Raised {
    misuse("this is not a handle that `spawn` gave")
}
