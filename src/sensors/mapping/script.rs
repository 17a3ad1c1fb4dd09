//! The bounded Rhai engine in which sensor scripts run, and what their errors mean.

use std::sync::{Arc, OnceLock};

use rhai::packages::{Package, StandardPackage};
use rhai::serde::to_dynamic;
use rhai::{AST, Dynamic, Engine, EvalAltResult, Map, Module, Position, Scope, ScriptFuncDef, Shared};
use serde_json::Value;

use crate::scripts::{self, Budget, Meter};
use crate::sensors::body::{BodyError, BodyLimits, parse_json};

use super::time_text;

/// Some tens of milliseconds: a mapping looks at one body, it does not compute.
const MAX_OPERATIONS: u64 = 500_000;
const MAX_CALL_LEVELS: usize = 32;
const MAX_EXPRESSION_DEPTH: usize = 64;
/// As large as the largest body that doors accept.
const MAX_STRING_BYTES: usize = 1 << 20;
const MAX_ITEMS: usize = 20_000;

/// Why a script was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct MapperError {
    /// The script.
    pub file: String,
    /// From 1; 0 if the script as a whole is meant.
    pub line: usize,
    /// From 1; 0 if the line as a whole is meant.
    pub column: usize,
    /// What is wrong, and what to write.
    pub message: String,
}

/// A script that failed while it ran: a mistake in it, or a limit it exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: the script failed: {message}")]
pub struct ScriptFailure {
    /// The script.
    pub file: String,
    /// From 1; 0 if not known.
    pub line: usize,
    /// From 1; 0 if not known.
    pub column: usize,
    /// What happened.
    pub message: String,
}

/// How a call ended badly.
pub(super) enum Failure {
    /// The script said no, by `throw` or `reject`.
    Thrown {
        status: u16,
        reason: String,
    },
    Broken(ScriptFailure),
}

/// What the entry function is called inside the engine.
const ENTRY: &str = "sensor_entry";

/// A script's own `fn map(x)` would take the place of the arrays' `map` in `list.map(|x| …)`: it gets another name.
fn rename_entry(ast: &AST, entry: &str) -> AST {
    let mut functions = Module::new();
    for (.., function) in ast.shared_lib().iter_script_fn_info() {
        let mut function = ScriptFuncDef::clone(function);
        if function.name == entry {
            function.name = ENTRY.into();
        }
        functions.set_script_fn(function);
    }
    AST::new(ast.statements().iter().cloned(), functions)
}

pub(super) type NativeResult<T> = Result<T, Box<EvalAltResult>>;

/// What is thrown when the script, not its input, is to blame: told apart by its type.
#[derive(Clone)]
struct Mistake(String);

/// An error that blames the script.
#[expect(clippy::unnecessary_box_returns, reason = "natives fail with the box, as Rhai defines")]
pub(super) fn mistake(message: impl Into<String>) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(Mistake(message.into())), Position::NONE))
}

/// An error that blames the input; scripts may catch it.
#[expect(clippy::unnecessary_box_returns, reason = "natives fail with the box, as Rhai defines")]
pub(super) fn refusal(message: impl Into<String>) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(message.into()), Position::NONE))
}

/// A compiled script with its one entry function.
#[derive(Debug, Clone)]
pub(super) struct Script {
    ast: Arc<AST>,
    file: Arc<str>,
    takes_config: bool,
}

impl Script {
    pub(super) fn compile(source: &str, file: &str, entry: &'static str, parameter: &str) -> Result<Self, MapperError> {
        scripts::check_source(source).map_err(|message| MapperError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
        })?;
        let ast = engine().compile(source).map_err(|error| {
            let (line, column) = place(error.position());
            MapperError { file: file.to_owned(), line, column, message: error.err_type().to_string() }
        })?;
        let arity = ast.iter_functions().filter(|function| function.name == entry).map(|f| f.params.len()).max();
        let wanted = format!("write `fn {entry}({parameter})` or `fn {entry}({parameter}, config)`");
        let wrong = |problem: String| {
            let message = format!("{problem}; {wanted}");
            Err(MapperError { file: file.to_owned(), line: 0, column: 0, message })
        };
        let takes_config = match arity {
            Some(1) => false,
            Some(2) => true,
            Some(other) => return wrong(format!("function `{entry}` has {other} parameters")),
            None => return wrong(format!("the script has no function `{entry}`")),
        };
        Ok(Self { ast: Arc::new(rename_entry(&ast, entry)), file: file.into(), takes_config })
    }

    pub(super) fn call(&self, engine: &mut Engine, argument: &Value, config: &Value) -> Result<Dynamic, Failure> {
        let meter = Meter::start(Budget::FUNCTION);
        scripts::watch(engine, &meter);
        let answer = self.try_call(engine, argument, config);
        if let Some(exceeded) = meter.check() {
            let line = answer.err().and_then(|error| error.unwrap_inner().position().line()).unwrap_or(0);
            return Err(Failure::Broken(ScriptFailure { line, ..self.broken(exceeded.to_string()) }));
        }
        answer.map_err(|error| self.explain(*error))
    }

    fn try_call(&self, engine: &Engine, argument: &Value, config: &Value) -> NativeResult<Dynamic> {
        let argument = to_dynamic(argument)?;
        let config = if config.is_null() { Map::new().into() } else { to_dynamic(config)? };
        let scope = &mut Scope::new();
        if self.takes_config {
            engine.call_fn(scope, &self.ast, ENTRY, (argument, config))
        } else {
            engine.call_fn(scope, &self.ast, ENTRY, (argument,))
        }
    }

    /// An error outside of a call, such as an answer of the wrong shape.
    pub(super) fn broken(&self, message: impl Into<String>) -> ScriptFailure {
        ScriptFailure { file: self.file.to_string(), line: 0, column: 0, message: message.into() }
    }

    pub(super) fn explain(&self, error: EvalAltResult) -> Failure {
        let mut innermost = innermost(error);
        let (line, column) = place(innermost.take_position());
        let EvalAltResult::ErrorRuntime(thrown, _) = &innermost else {
            return Failure::Broken(ScriptFailure { line, column, ..self.broken(scripts::error_text(&innermost)) });
        };
        match thrown.read_lock::<Mistake>() {
            Some(mistake) => Failure::Broken(ScriptFailure { line, column, ..self.broken(mistake.0.as_str()) }),
            None => thrown_failure(thrown),
        }
    }
}

/// `throw "why"` is a 400; `throw #{status: 422, reason: "why"}` chooses among the 4xx.
fn thrown_failure(thrown: &Dynamic) -> Failure {
    let (mut status, mut reason) = (400, scripts::text_of(thrown));
    if let Ok(map) = thrown.as_map_ref() {
        let wanted = map.get("status").and_then(|value| value.as_int().ok()).and_then(|int| u16::try_from(int).ok());
        status = wanted.filter(|status| (400..=499).contains(status)).unwrap_or(status);
        reason = map.get("reason").or_else(|| map.get("message")).map_or(reason, scripts::text_of);
    }
    Failure::Thrown { status, reason }
}

fn innermost(error: EvalAltResult) -> EvalAltResult {
    let mut error = error;
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) = error {
        error = *inner;
    }
    error
}

fn place(position: Position) -> (usize, usize) {
    (position.line().unwrap_or(0), position.position().unwrap_or(0))
}

/// An engine with the standard functions, the helpers that every script has, and all limits.
pub(super) fn engine() -> Engine {
    static STANDARD: OnceLock<Shared<Module>> = OnceLock::new();
    let standard = STANDARD.get_or_init(|| StandardPackage::new().as_shared_module());
    let mut engine = Engine::new_raw();
    engine.register_global_module(Shared::clone(standard));
    scripts::restrict(&mut engine);
    engine.disable_symbol("eval").disable_symbol("import");
    engine.set_max_operations(MAX_OPERATIONS);
    engine.set_max_call_levels(MAX_CALL_LEVELS);
    engine.set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH);
    engine.set_max_string_size(MAX_STRING_BYTES);
    engine.set_max_array_size(MAX_ITEMS);
    engine.set_max_map_size(MAX_ITEMS);
    register_helpers(&mut engine);
    engine
}

fn register_helpers(engine: &mut Engine) {
    engine.register_fn("parse_json", |text: &str| -> NativeResult<Dynamic> {
        to_dynamic(parse_json(text, BodyLimits::default()).map_err(|error| refusal(explain_text(&error)))?)
    });
    engine.register_fn("reject", |reason: &str| -> NativeResult<()> { Err(refusal(reason)) });
    engine.register_fn("to_time", |time: Dynamic| -> NativeResult<String> {
        let time =
            time_text::parse(&time).ok_or_else(|| refusal(format!("`{}` is not a time", scripts::text_of(&time))))?;
        Ok(time.to_string())
    });
    // Standard functions that wait or look at the clock: a mapping must give the same answer every time.
    engine.register_fn("timestamp", || -> NativeResult<()> { Err(mistake("a sensor script has no clock")) });
    engine.register_fn("sleep", |_seconds: i64| -> NativeResult<()> { Err(mistake("a sensor script cannot wait")) });
    engine.register_fn("sleep", |_seconds: f64| -> NativeResult<()> { Err(mistake("a sensor script cannot wait")) });
}

/// A text inside of a body is not the body.
fn explain_text(error: &BodyError) -> String {
    match error {
        BodyError::NotJson { problem } => format!("the text is not JSON: {problem}"),
        BodyError::TooDeep { max_depth } => format!("the JSON text is nested deeper than {max_depth} levels"),
        BodyError::NotUtf8 { .. } | BodyError::UnknownType { .. } => error.to_string(),
    }
}
