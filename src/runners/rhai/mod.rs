//! The runner `rhai`: a script as a pure function of `params`, run once and within limits. It has no files, no
//! network, no clock and no other actions; who needs those writes a workflow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rhai::packages::{Package, StandardPackage};
use rhai::serde::to_dynamic;
use rhai::{Dynamic, Engine, EvalAltResult, INT, Position, Scope, Shared};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::shell_script::unreadable;
use super::{Call, Outcome, OutputSink, OutputStream, RunEnd, Runner, Stop};
use crate::model::action::ParameterSpec;
use crate::model::execution::ExecutionStatus;
use crate::scripts::{self, Budget, BudgetExceeded, Meter};

/// A second of work, more or less.
const MAX_OPERATIONS: u64 = 10_000_000;
const MAX_CALL_LEVELS: usize = 64;
const MAX_EXPRESSION_DEPTH: usize = 64;
/// Of one value, nested ones counted together; what all of them take is bounded by [`Budget::FUNCTION`].
const MAX_STRING_BYTES: usize = 1 << 20;
const MAX_ITEMS: usize = 50_000;
const MAX_VARIABLES: usize = 256;
/// Lines that may be printed; what a script has to say belongs into its result.
const MAX_PRINTED_LINES: u64 = 10_000;

type Failure = Box<EvalAltResult>;

/// Runs script files as pure functions.
pub struct RhaiScript {
    package: StandardPackage,
}

impl RhaiScript {
    /// The library is made once and shared by all runs.
    pub fn new() -> Self {
        Self { package: StandardPackage::new() }
    }

    fn engine(&self, printer: Printer) -> Engine {
        let mut engine = Engine::new_raw();
        self.package.register_into_engine(&mut engine);
        engine
            .set_max_operations(MAX_OPERATIONS)
            .set_max_call_levels(MAX_CALL_LEVELS)
            .set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH)
            .set_max_string_size(MAX_STRING_BYTES)
            .set_max_variables(MAX_VARIABLES)
            .set_max_modules(0)
            .set_max_array_size(MAX_ITEMS)
            .set_max_map_size(MAX_ITEMS)
            .disable_symbol("eval");
        scripts::restrict(&mut engine);
        engine.register_fn("sleep", |_: INT| refuse("sleep"));
        engine.register_fn("sleep", |_: f64| refuse("sleep"));
        engine.register_fn("timestamp", || refuse("timestamp"));
        let debug = printer.clone();
        engine.on_print(move |text| printer.print(text));
        engine.on_debug(move |text, _, position| debug.print(&format!("{position:?} {text}")));
        engine
    }
}

impl Default for RhaiScript {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RhaiScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RhaiScript")
    }
}

#[async_trait]
impl Runner for RhaiScript {
    fn name(&self) -> &'static str {
        "rhai"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        BTreeMap::new()
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        let script = call.action.entry_point.clone();
        let text = match tokio::fs::read_to_string(&script).await {
            Ok(text) => text,
            Err(error) => return unreadable(&script, &error),
        };
        let (printer, lines) = Printer::new();
        let engine = self.engine(printer);
        let stopping = stop.clone();
        let parameters = call.parameters.clone();
        #[expect(clippy::disallowed_methods, reason = "awaited at once: it cannot outlive its caller unseen")]
        let evaluation = tokio::task::spawn_blocking(move || evaluate(engine, stopping, &text, parameters));
        let (evaluated, ()) = tokio::join!(evaluation, hand_on(lines, &call.output));
        RunEnd::Finished(match evaluated {
            Ok(Ok(result)) => Outcome::succeeded(result),
            Ok(Err(_)) if stop.is_raised() => stopped(),
            Ok(Err(failure)) => failed(&failure, &script),
            Err(error) => Outcome::error(format!("the script's thread ended early: {error}")),
        })
    }
}

/// Drops the engine with its printer at the end, which closes the way for printed lines.
fn evaluate(mut engine: Engine, stop: Stop, text: &str, parameters: Map<String, Value>) -> Result<Value, Failure> {
    scripts::check_source(text)?;
    let meter = Meter::start(Budget::FUNCTION);
    let watching = Shared::clone(&meter);
    engine.on_progress(move |_| match watching.check() {
        Some(exceeded) => Some(Dynamic::from(exceeded)),
        None => stop.is_raised().then_some(Dynamic::UNIT),
    });
    let tree = engine.compile(text)?;
    let mut scope = Scope::new();
    scope.push_constant_dynamic("params", to_dynamic(Value::Object(parameters))?);
    let result = engine.eval_ast_with_scope(&mut scope, &tree);
    // A `sort` drops the error that ended its comparisons.
    if let (Ok(_), Some(exceeded)) = (&result, meter.check()) {
        return Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(exceeded), Position::NONE)));
    }
    let result: Dynamic = result?;
    Ok(scripts::to_json(&result)?)
}

fn refuse(function: &str) -> Result<(), Failure> {
    Err(format!("a rhai action has no `{function}`: it is a pure function of its parameters; use a workflow").into())
}

fn stopped() -> Outcome {
    Outcome { status: ExecutionStatus::Canceled, result: json!({ "error": "stopped on request" }) }
}

/// Message and place; what was thrown stays a value, for those who look at it.
fn failed(failure: &EvalAltResult, script: &Path) -> Outcome {
    let inner = failure.unwrap_inner();
    let at = inner.position();
    let (reason, thrown) = reason(inner);
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    let mut result = json!({ "error": format!("{name}{}: {reason}", place(at)) });
    if let Some(result) = result.as_object_mut() {
        result.insert("line".to_owned(), json!(at.line()));
        result.insert("column".to_owned(), json!(at.position()));
        if !thrown.is_null() {
            result.insert("thrown".to_owned(), thrown);
        }
    }
    Outcome::failed(result)
}

fn reason(failure: &EvalAltResult) -> (String, Value) {
    if let EvalAltResult::ErrorRuntime(value, _) = failure {
        return (scripts::text_of(value), scripts::to_json(value).unwrap_or(Value::Null));
    }
    if let EvalAltResult::ErrorTerminated(token, _) = failure
        && let Some(exceeded) = token.clone().try_cast::<BudgetExceeded>()
    {
        return (exceeded.to_string(), Value::Null);
    }
    if matches!(failure, EvalAltResult::ErrorTooManyOperations(_)) {
        return (format!("the script did not end within {MAX_OPERATIONS} operations"), Value::Null);
    }
    (without_position(failure), Value::Null)
}

fn place(at: Position) -> String {
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        (Some(line), None) => format!(":{line}"),
        (None, _) => String::new(),
    }
}

fn without_position(failure: &EvalAltResult) -> String {
    let text = failure.to_string();
    match text.rsplit_once(" (line ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

/// The way of printed lines out of a blocking thread.
#[derive(Clone)]
struct Printer {
    lines: mpsc::Sender<String>,
    printed: Arc<AtomicU64>,
}

impl Printer {
    fn new() -> (Self, mpsc::Receiver<String>) {
        let (lines, reader) = mpsc::channel(16);
        (Self { lines, printed: Arc::default() }, reader)
    }

    fn print(&self, text: &str) {
        let before = self.printed.fetch_add(1, Ordering::Relaxed);
        let line = match before {
            MAX_PRINTED_LINES => "[… more was printed …]".to_owned(),
            more if more > MAX_PRINTED_LINES => return,
            _ => text.to_owned(),
        };
        let sent = self.lines.blocking_send(line + "\n");
        drop(sent); // Fails only when the call was dropped, and its output with it.
    }
}

async fn hand_on(mut lines: mpsc::Receiver<String>, output: &OutputSink) {
    while let Some(line) = lines.recv().await {
        output.write(OutputStream::Stdout, line).await;
    }
}

#[cfg(test)]
mod tests;
