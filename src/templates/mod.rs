//! Jinja as StackStorm's packs write it, compiled once: the only place that knows the template engine.
//!
//! A template that is one single expression keeps its value's type; anything else becomes text. A name
//! that is not there is an error that says which. A template cannot run for ever nor recurse without end, and neither
//! its tree nor what it makes grows beyond limits: [`source_limits`] before it is parsed, [`metering`] while it runs.

pub mod compiled_value;
pub mod datastore;
pub mod jsonpath;
pub mod python_regex;

mod budget;
mod filters;
mod json_text;
mod metered_functions;
mod metering;
mod program;
mod source_limits;
mod shell_text;
mod versions;

#[cfg(test)]
mod tests;

pub use compiled_value::{CompiledValue, ValueError};
pub use datastore::{Datastore, Scope};
pub use shell_text::unquoted_data;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;

use self::budget::Rendering;
use self::filters::NONE_MARK;
use self::program::Program;

/// Instructions one rendering may execute: thousands of times what a real pack needs, about 10 ms of work.
const FUEL: u64 = 200_000;

/// Nested macro calls and includes; far below what a thread's stack bears.
const RECURSION_LIMIT: usize = 50;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

static SYNTAX: LazyLock<SyntaxConfig> = LazyLock::new(|| {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    syntax.expect("the default delimiters are valid")
});

/// What every rendering costs, however short its template is.
const RENDERING_BYTES: usize = 512;

/// Why a template was refused or could not be rendered. Lines count from 1 inside the template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not a template, or one that is too large.
    #[error("template syntax, line {line}: {reason}")]
    Syntax {
        /// Where.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// It uses a name that the context does not have.
    #[error("template, line {line}: {names} is undefined; check the spelling or give it a `default(...)`")]
    Undefined {
        /// Where.
        line: usize,
        /// The name, or the names of which one must be it, each in back-ticks.
        names: String,
    },
    /// It executed too many instructions.
    #[error("template, line {line}: stopped after {FUEL} instructions; make its loops smaller")]
    TooExpensive {
        /// Where.
        line: usize,
    },
    /// A filter, method or operator refused its input.
    #[error("template, line {line}: {reason}")]
    Failed {
        /// Where.
        line: usize,
        /// What it said.
        reason: String,
    },
}

/// Whether a text holds Jinja at all; texts that do not are taken as they are.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// The names a template can see: data, and the datastore if there is one.
#[derive(Debug, Clone)]
pub struct Context {
    root: minijinja::Value,
}

impl Context {
    /// The members of a JSON object as top-level names; the datastore adds `st2kv` and `system`.
    pub fn new(names: &Value, kv: Option<&Arc<dyn Datastore>>) -> Self {
        let members = names.as_object().into_iter().flatten();
        Self::from_members(members.map(|(name, value)| (name.as_str(), value)), kv)
    }

    /// One value under one name.
    pub fn of_one(name: &str, value: &Value, kv: Option<&Arc<dyn Datastore>>) -> Self {
        Self::from_members(std::iter::once((name, value)), kv)
    }

    fn from_members<'v>(members: impl Iterator<Item = (&'v str, &'v Value)>, kv: Option<&Arc<dyn Datastore>>) -> Self {
        let data = members.map(|(name, value)| (name.to_owned(), minijinja::Value::from(Serde(value))));
        let stored = kv.into_iter().flat_map(datastore::names);
        Self { root: minijinja::Value::from_pairs(stored.chain(data)) }
    }

    fn has(&self, dotted: &str) -> bool {
        let mut value = self.root.clone();
        for name in dotted.split('.') {
            match value.get_attr(name) {
                Ok(found) if !found.is_undefined() => value = found,
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}

/// A template, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Template {
    compiled: Arc<Compiled>,
}

struct Compiled {
    source: String,
    program: Program,
    /// Dotted, as far as they are plain: `trigger.body.name`.
    names: BTreeSet<String>,
}

impl Template {
    /// Parses and compiles.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        let harmless =
            source_limits::check(source, &SYNTAX).map_err(|(line, reason)| TemplateError::Syntax { line, reason })?;
        let program = match compile_expression(source, &harmless) {
            Some(program) => program,
            None => Program::of_text(source, &harmless, &ENVIRONMENT, &SYNTAX).map_err(|error| syntax_error(&error))?,
        };
        let names = program.names.iter().filter(|name| !is_built_in(name)).cloned().collect();
        Ok(Self { compiled: Arc::new(Compiled { source: source.to_owned(), program, names }) })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// The top-level names it uses, such as `trigger`.
    pub fn references(&self) -> BTreeSet<String> {
        self.compiled.names.iter().map(|name| first_name(name).to_owned()).collect()
    }

    /// Its value in this context.
    pub fn render(&self, context: &Context) -> Result<Value, TemplateError> {
        let rendering = Rendering::begin();
        let rendered = budget::charge(RENDERING_BYTES + self.compiled.source.len())
            .and_then(|()| self.compiled.program.evaluate(&ENVIRONMENT, context.root.clone()))
            .and_then(|value| to_json(&value));
        drop(rendering);
        match rendered {
            Ok(Value::String(text)) if text == NONE_MARK => Ok(Value::Null),
            Ok(value) => Ok(value),
            Err(error) => Err(self.explain(&error, context)),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the engine's kinds of error grow")]
    fn explain(&self, error: &minijinja::Error, context: &Context) -> TemplateError {
        let line = error.line().unwrap_or(1);
        match error.kind() {
            ErrorKind::UndefinedError => TemplateError::Undefined { line, names: self.missing_names(context) },
            ErrorKind::OutOfFuel => TemplateError::TooExpensive { line },
            _ => TemplateError::Failed { line, reason: reason_of(error) },
        }
    }

    /// The engine does not say which name it missed, so every name used is looked up again.
    fn missing_names(&self, context: &Context) -> String {
        let missing: Vec<String> =
            self.compiled.names.iter().filter(|name| !context.has(name)).map(|name| format!("`{name}`")).collect();
        if missing.is_empty() { format!("something in `{}`", self.compiled.source) } else { missing.join(" or ") }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.compiled.source).finish()
    }
}

/// `{{ ... }}` and nothing else. `None` if it is not that, or if what is inside is no expression.
fn compile_expression(source: &str, harmless: &str) -> Option<Program> {
    Program::of_expression(inside_braces(source)?, inside_braces(harmless)?, &ENVIRONMENT).ok()
}

fn inside_braces(source: &str) -> Option<&str> {
    let inside = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    Some(inside.strip_suffix(['-', '+']).unwrap_or(inside))
}

fn syntax_error(error: &minijinja::Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(1), reason: reason_of(error) }
}

fn reason_of(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

fn first_name(dotted: &str) -> &str {
    dotted.split_once('.').map_or(dotted, |(first, _)| first)
}

fn is_built_in(dotted: &str) -> bool {
    ENVIRONMENT.globals().any(|(global, _)| global == first_name(dotted))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(filters::python_method);
    environment.set_formatter(|out, state, value| {
        check_printable(value)?;
        budget::charge_for(std::slice::from_ref(value))?;
        minijinja::escape_formatter(out, state, value)
    });
    environment.set_syntax(SYNTAX.clone());
    // it would print everything a template can see, secrets too; and `debug` is a common parameter name
    environment.remove_global("debug");
    metered_functions::register(&mut environment);
    filters::register(&mut environment);
    environment
}

/// Half a key of the datastore, or a macro, has no text of its own.
fn check_printable(value: &minijinja::Value) -> Result<(), minijinja::Error> {
    if value.kind() != ValueKind::Plain {
        return Ok(());
    }
    let reason = format!("`{value}` is not a value; name the whole key");
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
}

/// The JSON of a template's value; undefined parts are errors, also deep inside.
pub(crate) fn to_json(value: &minijinja::Value) -> Result<Value, minijinja::Error> {
    budget::charge_for(std::slice::from_ref(value))?;
    convert(value)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the engine's kinds of value grow")]
fn convert(value: &minijinja::Value) -> Result<Value, minijinja::Error> {
    check_printable(value)?;
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.checked().map(|item| convert(&item?)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        ValueKind::Map => value
            .try_iter()?
            .checked()
            .map(|key| {
                let key = key?;
                Ok((key.to_string(), convert(&value.get_item(&key)?)?))
            })
            .collect::<Result<_, _>>()
            .map(Value::Object),
        _ => serde_json::to_value(value)
            .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())),
    }
}
