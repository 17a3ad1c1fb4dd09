//! `when:` — a Rhai expression over `trigger`, in an engine that can do nothing but compute, and not for long.

use std::fmt;
use std::sync::LazyLock;

use rhai::packages::{
    BasicArrayPackage, BasicMapPackage, BasicMathPackage, CorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, Dynamic, Engine, EvalAltResult, Scope};

use crate::scripts::{self, Budget};

/// A few milliseconds of work.
const MAX_OPERATIONS: u64 = 50_000;
/// Characters in a text an expression may build.
const MAX_STRING_SIZE: usize = 1 << 20;
/// Items or members in a list or map it may build; a large payload has to fit.
const MAX_COLLECTION_SIZE: usize = 100_000;

/// Operators inside operators; the same in every build, unlike the engine's default.
const MAX_EXPRESSION_DEPTH: usize = 64;

static ENGINE: LazyLock<Engine> = LazyLock::new(engine);

/// A compiled `when:`.
pub(super) struct When {
    source: String,
    ast: AST,
}

impl When {
    /// Compiles an expression; names other than `trigger` are refused.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        scripts::check_source(source)?;
        let scope = scope_with(Dynamic::UNIT);
        let ast = ENGINE.compile_expression_with_scope(&scope, source).map_err(|error| error.to_string())?;
        Ok(Self { source: source.to_owned(), ast })
    }

    /// As written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is true for this payload.
    pub(super) fn holds(&self, trigger: Dynamic) -> Result<bool, String> {
        let evaluate = || ENGINE.eval_ast_with_scope(&mut scope_with(trigger), &self.ast);
        let (answer, exceeded) = scripts::metered(Budget::CONDITION, evaluate);
        if let Some(exceeded) = exceeded {
            return Err(format!("when: {exceeded}"));
        }
        let answer: Dynamic = answer.map_err(|error| format!("when: {}", scripts::error_text(&error)))?;
        answer
            .as_bool()
            .map_err(|kind| format!("when: `{}` gave a value of type {kind}, not true or false", self.source))
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("When").field(&self.source).finish()
    }
}

fn scope_with(trigger: Dynamic) -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push_dynamic("trigger", trigger);
    scope
}

/// The standard library without time; `sleep` is refused: an expression neither waits nor reads a clock.
fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    CorePackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    scripts::restrict(&mut engine);
    scripts::watch_thread(&mut engine);
    engine.register_fn("sleep", |_: i64| refuse_sleep());
    engine.register_fn("sleep", |_: f64| refuse_sleep());
    engine.disable_symbol("eval");
    engine.set_strict_variables(true);
    engine.set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH);
    engine.set_max_operations(MAX_OPERATIONS);
    engine.set_max_string_size(MAX_STRING_SIZE);
    engine.set_max_array_size(MAX_COLLECTION_SIZE);
    engine.set_max_map_size(MAX_COLLECTION_SIZE);
    engine
}

fn refuse_sleep() -> Result<(), Box<EvalAltResult>> {
    Err("a condition cannot sleep".into())
}
