//! `parallel([|| …, || …][, options])` and `map_items(items, |item| …[, options])`.

use rhai::{Array, Dynamic, FnPtr, FuncRegistration, Map, Module, NativeCallContext};

use super::{Result, check_keys, turn};
use crate::scripts::text_of;
use crate::workflows::branches::Branches;
use crate::workflows::convert::{unshared, unshared_fn};
use crate::workflows::errors::misuse;
use crate::workflows::request::StepKind;

/// Enough to be quick, few enough not to flood a provider.
const DEFAULT_CONCURRENCY: usize = 50;

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("parallel").set_into_module(module, |context: NativeCallContext<'_>, branches: Array| {
        parallel(&context, &branches, &Map::new())
    });
    FuncRegistration::new("parallel")
        .set_into_module(module, |context: NativeCallContext<'_>, branches: Array, options: Map| {
            parallel(&context, &branches, &options)
        });
    FuncRegistration::new("map_items")
        .set_into_module(module, |context: NativeCallContext<'_>, items: Array, body: FnPtr| {
            map_items(&context, &items, &body, &Map::new())
        });
    FuncRegistration::new("map_items").set_into_module(
        module,
        |context: NativeCallContext<'_>, items: Array, body: FnPtr, options: Map| {
            map_items(&context, &items, &body, &options)
        },
    );
}

fn parallel(context: &NativeCallContext<'_>, branches: &Array, options: &Map) -> Result {
    let closure = |branch: &Dynamic| branch.clone().try_cast::<FnPtr>();
    let closures: Option<Vec<FnPtr>> = branches.iter().map(closure).collect();
    let closures = closures.ok_or_else(|| misuse("`parallel` takes an array of closures, as `[|| …, || …]`"))?;
    let body = |index: usize| {
        let branch = closures.get(index).ok_or_else(|| misuse("there is no such branch"))?;
        unshared_fn(branch)?.call_raw(context, None, [])
    };
    let concurrency = concurrency("parallel", options)?;
    Branches { kind: StepKind::Parallel, count: count(closures.len())?, concurrency, body: &body }
        .run(turn(context)?.as_ref())
}

fn map_items(context: &NativeCallContext<'_>, items: &Array, body: &FnPtr, options: &Map) -> Result {
    let body = |index: usize| {
        let item = items.get(index).ok_or_else(|| misuse("there is no such item"))?;
        unshared_fn(body)?.call_raw(context, None, [unshared(item)?])
    };
    let concurrency = concurrency("map_items", options)?;
    Branches { kind: StepKind::MapItems, count: count(items.len())?, concurrency, body: &body }
        .run(turn(context)?.as_ref())
}

fn concurrency(builtin: &str, options: &Map) -> Result<usize> {
    check_keys(builtin, options, &["concurrency"])?;
    let Some(value) = options.get("concurrency") else {
        return Ok(DEFAULT_CONCURRENCY);
    };
    let number = value.as_int().ok().and_then(|number| usize::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| misuse(format!("`concurrency` has to be a number from 1, not `{}`", text_of(value))))
}

fn count(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_beyond| misuse("that are too many branches"))
}
