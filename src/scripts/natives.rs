//! Bounded versions of native functions of Rhai's standard packages, in their place.
//!
//! Rhai checks the size of a result once it is there. That is late for a function that makes gigabytes out of two texts
//! of a MiB, and no help against one that recurses into its argument. What is not here makes at most a small multiple of
//! what it is given, and is caught by the size checks or the meter before the next operation.

use std::sync::LazyLock;

use rhai::{
    Array, Dynamic, EvalAltResult, FuncRegistration, INT, ImmutableString, Map, Module, NativeCallContext, Position,
    Shared,
};

use super::values::{Printer, ensure_parts, ensure_plain, size_of};
use super::{failure, report_long_text};

type Native<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

static MODULE: LazyLock<Shared<Module>> = LazyLock::new(|| {
    let mut module = Module::new();
    register_texts(&mut module);
    register_splits(&mut module);
    register_lists(&mut module);
    register_printing(&mut module);
    register_comparisons(&mut module);
    register_refusals(&mut module);
    module.into()
});

pub(super) fn module() -> Shared<Module> {
    Shared::clone(&MODULE)
}

/// Does not change its first argument, so it may be a constant.
fn pure(name: &str) -> FuncRegistration {
    FuncRegistration::new(name).with_purity(true)
}

#[expect(clippy::unnecessary_box_returns, reason = "what the script engine wants")]
fn too_large(what: &str) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE))
}

fn check_text(context: &Context<'_>, bytes: Option<usize>) -> Native<()> {
    let most = context.engine().max_string_size();
    match bytes {
        Some(bytes) if most == 0 || bytes <= most => Ok(()),
        _ => Err(too_large("Length of string")),
    }
}

fn check_list(context: &Context<'_>, items: usize) -> Native<()> {
    let most = context.engine().max_array_size();
    if most > 0 && items > most { Err(too_large("Size of array/BLOB")) } else { Ok(()) }
}

fn register_texts(module: &mut Module) {
    FuncRegistration::new("replace")
        .set_into_module(module, |context: Context<'_>, text: &mut ImmutableString, find: &str, with: &str| {
            replace(&context, text, find, with)
        });
    FuncRegistration::new("replace").set_into_module(
        module,
        |context: Context<'_>, text: &mut ImmutableString, find: char, with: &str| {
            replace(&context, text, find.encode_utf8(&mut [0; 4]), with)
        },
    );
    FuncRegistration::new("to_chars").set_into_module(module, |context: Context<'_>, text: &str| -> Native<Array> {
        check_list(&context, text.chars().count())?;
        Ok(text.chars().map(Dynamic::from).collect())
    });
}

fn replace(context: &Context<'_>, text: &mut ImmutableString, find: &str, with: &str) -> Native<()> {
    let found = text.matches(find).count();
    let rest = text.len() - found * find.len();
    check_text(context, found.checked_mul(with.len()).and_then(|added| added.checked_add(rest)))?;
    if found > 0 {
        *text = text.replace(find, with).into();
    }
    Ok(())
}

fn register_splits(module: &mut Module) {
    pure("split").set_into_module(module, |context: Context<'_>, text: &mut ImmutableString| -> Native<Array> {
        check_list(&context, text.split_whitespace().count())?;
        Ok(text.split_whitespace().map(Into::into).collect())
    });
    for (name, from_end) in [("split", false), ("split_rev", true)] {
        pure(name).set_into_module(module, move |context: Context<'_>, text: &mut ImmutableString, at: &str| {
            split(&context, text, at, INT::MAX, from_end)
        });
        pure(name).set_into_module(module, move |context: Context<'_>, text: &mut ImmutableString, at: char| {
            split(&context, text, at.encode_utf8(&mut [0; 4]), INT::MAX, from_end)
        });
        pure(name).set_into_module(
            module,
            move |context: Context<'_>, text: &mut ImmutableString, at: &str, pieces: INT| {
                split(&context, text, at, pieces, from_end)
            },
        );
        pure(name).set_into_module(
            module,
            move |context: Context<'_>, text: &mut ImmutableString, at: char, pieces: INT| {
                split(&context, text, at.encode_utf8(&mut [0; 4]), pieces, from_end)
            },
        );
    }
}

/// At least one piece, as the original.
fn split(context: &Context<'_>, text: &str, at: &str, pieces: INT, from_end: bool) -> Native<Array> {
    let pieces = usize::try_from(pieces.max(1)).unwrap_or(usize::MAX);
    check_list(context, (text.matches(at).count() + 1).min(pieces))?;
    Ok(if from_end {
        text.rsplitn(pieces, at).map(Into::into).collect()
    } else {
        text.splitn(pieces, at).map(Into::into).collect()
    })
}

fn register_lists(module: &mut Module) {
    FuncRegistration::new("pad").set_into_module(
        module,
        |context: Context<'_>, list: &mut Array, length: INT, item: Dynamic| -> Native<()> {
            let length = usize::try_from(length).unwrap_or(0);
            if length <= list.len() {
                return Ok(());
            }
            check_list(&context, length)?;
            // Each as large as the limits allow, but not all of them together.
            ensure_parts(std::iter::once(&item)).map_err(failure)?;
            let size = size_of(&item);
            let added = length - list.len();
            check_list(&context, size.values.saturating_mul(added))?;
            check_text(&context, size.bytes.checked_mul(added))?;
            list.resize(length, item);
            Ok(())
        },
    );
}

fn register_printing(module: &mut Module) {
    for name in ["print", "to_string", "debug", "to_debug"] {
        pure(name).set_into_module(module, |context: Context<'_>, list: &mut Array| {
            print(&context, |printer| printer.push_list(list, 0))
        });
        pure(name).set_into_module(module, |context: Context<'_>, map: &mut Map| {
            print(&context, |printer| printer.push_map(map, 0))
        });
    }
    for name in ["debug", "to_debug"] {
        FuncRegistration::new(name).set_into_module(module, |context: Context<'_>, text: ImmutableString| {
            print(&context, |printer| printer.push_debug(&text.into(), 0))
        });
    }
    pure("to_json").set_into_module(module, |map: &mut Map| -> Native<String> {
        map.values().try_for_each(ensure_plain).map_err(failure)?;
        Ok(rhai::format_map_as_json(map))
    });
}

/// Never fails and never makes more than a text may hold: Rhai would print the value itself then, without any bound. What
/// is nested too deep is left out; what is too long ends the script before its next operation.
fn print(context: &Context<'_>, push: impl FnOnce(&mut Printer)) -> ImmutableString {
    let longest = context.engine().max_string_size();
    let mut printer = Printer::new(if longest == 0 { usize::MAX } else { longest });
    push(&mut printer);
    let (text, whole) = printer.end();
    if !whole {
        report_long_text(longest);
    }
    text.into()
}

fn register_comparisons(module: &mut Module) {
    for (name, wanted) in [("==", true), ("!=", false)] {
        pure(name).set_into_module(module, move |context: Context<'_>, one: &mut Array, mut other: Array| {
            equal_lists(&context, one, &mut other).map(|equal| equal == wanted)
        });
        pure(name).set_into_module(module, move |context: Context<'_>, one: &mut Map, mut other: Map| {
            equal_maps(&context, one, &mut other).map(|equal| equal == wanted)
        });
    }
}

fn equal_lists(context: &Context<'_>, one: &mut Array, other: &mut Array) -> Native<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    ensure_parts(one.iter()).map_err(failure)?;
    for (left, right) in one.iter_mut().zip(other) {
        if !equal(context, left, right)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(context: &Context<'_>, one: &mut Map, other: &mut Map) -> Native<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    ensure_parts(one.values()).map_err(failure)?;
    for (name, left) in one {
        let Some(right) = other.get_mut(name) else { return Ok(false) };
        if !equal(context, left, right)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As scripts compare; values of different types that no operator compares are not equal.
fn equal(context: &Context<'_>, left: &mut Dynamic, right: &mut Dynamic) -> Native<bool> {
    let same_type = left.type_id() == right.type_id();
    match context.call_native_fn_raw("==", true, &mut [left, right]) {
        Ok(answer) => Ok(answer.as_bool().unwrap_or(false)),
        Err(error) if !same_type && matches!(*error, EvalAltResult::ErrorFunctionNotFound(..)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whoever offers one of these registers it after.
fn register_refusals(module: &mut Module) {
    let refuse = |name: &'static str| move || Err::<(), _>(failure(format!("`{name}` is not there in this script")));
    let (sleep, timestamp) = (refuse("sleep"), refuse("timestamp"));
    FuncRegistration::new("sleep").set_into_module(module, move |_: INT| sleep());
    FuncRegistration::new("sleep").set_into_module(module, move |_: f64| sleep());
    FuncRegistration::new("timestamp").set_into_module(module, timestamp);
}
