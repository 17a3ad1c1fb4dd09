//! Script engines: one without workflow for loading, and a fresh one per evaluation, which costs next to nothing
//! because the standard package and the builtins are modules that all of them share.

use std::sync::{Arc, LazyLock};

use rhai::packages::{Package, StandardPackage};
use rhai::{Dynamic, Engine, Module, Shared, Token};
use serde_json::Value;

use crate::scripts::{self, Budget, Meter};
use crate::workflows::builtins;
use crate::workflows::bundle::Bundle;
use crate::workflows::convert::from_value;
use crate::workflows::limits::Limits;
use crate::workflows::turn::Turn;

static STANDARD: LazyLock<Shared<Module>> = LazyLock::new(|| StandardPackage::new().as_shared_module());
static BUILTINS: LazyLock<Shared<Module>> = LazyLock::new(|| builtins::module().into());

/// Symbols that no workflow may use. Functions of the same fate are in [`builtins::FORBIDDEN`].
const DISABLED: [&str; 1] = ["eval"];

/// Nesting of expressions; half of it in functions, which have less stack left.
const MAX_EXPRESSION_DEPTH: usize = 64;

/// How builtins find the evaluation they belong to.
#[derive(Clone)]
pub(super) struct TurnTag(pub(super) Arc<Turn>);

/// An engine that compiles scripts and evaluates the constants of modules: no step can be asked in it.
pub(super) fn loading_engine(limits: &Limits) -> Engine {
    let mut engine = base_engine(limits);
    engine.set_max_operations(limits.operations);
    scripts::watch(&mut engine, &Meter::start(Budget::LOADING));
    engine
}

/// The engine for one evaluation.
pub(super) fn turn_engine(bundle: &Bundle, params: &Value, turn: &Arc<Turn>) -> Engine {
    let mut engine = base_engine(turn.limits());
    engine.register_global_module(Shared::clone(&BUILTINS));
    engine.set_module_resolver(bundle.imports());
    engine.set_default_tag(Dynamic::from(TurnTag(Arc::clone(turn))));
    let counting = Arc::clone(turn);
    engine.on_progress(move |_| counting.count_operation().then_some(Dynamic::UNIT));
    resolve_params(&mut engine, from_value(params));
    let (print, debug) = (Arc::clone(turn), Arc::clone(turn));
    engine.on_print(move |text| builtins::print(&print, "info", text));
    engine.on_debug(move |text, _, _| builtins::print(&debug, "debug", text));
    engine
}

/// Makes `params` known everywhere, in functions too, unless a variable or parameter of that name hides it.
///
/// A copy each time: a shared value would be locked while a closure over it asks for it again.
#[expect(deprecated, reason = "marked so by its crate only to say that its signature may change")]
fn resolve_params(engine: &mut Engine, params: Dynamic) {
    engine.on_var(move |name, _, context| {
        Ok((name == "params" && !context.scope().contains(name)).then(|| params.clone()))
    });
}

#[expect(deprecated, reason = "marked so by its crate only to say that its signature may change")]
fn base_engine(limits: &Limits) -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(Shared::clone(&STANDARD));
    scripts::restrict(&mut engine);
    engine.set_max_call_levels(limits.call_depth);
    // The same in every build: what compiles here must compile there.
    engine.set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH / 2);
    engine.set_max_string_size(limits.string_size);
    engine.set_max_array_size(limits.array_size);
    engine.set_max_map_size(limits.map_size);
    engine.set_max_variables(limits.variables);
    for symbol in DISABLED {
        engine.disable_symbol(symbol);
    }
    // A word that the language reserves and does not use.
    engine.on_parse_token(|token, _, _| {
        if let Token::Reserved(word) = &token
            && **word == "spawn"
        {
            return Token::Identifier(word.clone());
        }
        token
    });
    engine
}
