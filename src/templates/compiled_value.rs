//! JSON values in which the texts that hold templates are compiled once: a rule's action parameters.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::templates::budget::Rendering;
use crate::templates::{Context, Template, TemplateError, is_template};

/// A JSON value whose templates are compiled.
#[derive(Debug, Clone)]
pub enum CompiledValue {
    /// Holds no template anywhere.
    Literal(Value),
    /// A text that is a template.
    Template(Template),
    /// A list of which some item holds a template.
    List(Vec<CompiledValue>),
    /// An object of which some member holds a template.
    Map(Vec<(String, CompiledValue)>),
}

/// What is wrong with one template inside a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct ValueError {
    /// Where in the value, as `hosts[0].name`; empty for the value itself.
    pub path: String,
    /// What.
    pub error: TemplateError,
}

impl ValueError {
    fn describe(&self) -> String {
        if self.path.is_empty() { self.error.to_string() } else { format!("`{}`: {}", self.path, self.error) }
    }

    fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

impl CompiledValue {
    /// Compiles every template in `value`; all that is wrong is reported, not only the first.
    pub fn compile(value: &Value) -> Result<Self, Vec<ValueError>> {
        match value {
            Value::String(text) if is_template(text) => {
                let at_top = |error| vec![ValueError { path: String::new(), error }];
                Template::compile(text).map(Self::Template).map_err(at_top)
            }
            Value::Array(items) => compile_list(items),
            Value::Object(members) => compile_map(members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Self::Literal(value.clone())),
        }
    }

    /// The value with every template replaced by what it renders to. All of them together have one budget.
    pub fn render(&self, context: &Context) -> Result<Value, ValueError> {
        let _rendering = Rendering::begin();
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Template(template) => {
                template.render(context).map_err(|error| ValueError { path: String::new(), error })
            }
            Self::List(items) => {
                let render = |(index, item): (usize, &Self)| {
                    item.render(context).map_err(|error| error.below(&format!("[{index}]")))
                };
                items.iter().enumerate().map(render).collect()
            }
            Self::Map(members) => {
                let render = |(name, member): &(String, Self)| {
                    member.render(context).map(|value| (name.clone(), value)).map_err(|error| error.below(name))
                };
                members.iter().map(render).collect()
            }
        }
    }

    /// The top-level names its templates use.
    pub fn references(&self) -> BTreeSet<String> {
        match self {
            Self::Literal(_) => BTreeSet::new(),
            Self::Template(template) => template.references(),
            Self::List(items) => items.iter().flat_map(Self::references).collect(),
            Self::Map(members) => members.iter().flat_map(|(_, member)| member.references()).collect(),
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

fn compile_list(items: &[Value]) -> Result<CompiledValue, Vec<ValueError>> {
    let compiled = all_or_errors(
        items
            .iter()
            .enumerate()
            .map(|(index, item)| CompiledValue::compile(item).map_err(|errors| below(errors, &format!("[{index}]")))),
    )?;
    if compiled.iter().all(CompiledValue::is_literal) {
        return Ok(CompiledValue::Literal(Value::Array(items.to_vec())));
    }
    Ok(CompiledValue::List(compiled))
}

fn compile_map(members: &serde_json::Map<String, Value>) -> Result<CompiledValue, Vec<ValueError>> {
    let compiled = all_or_errors(members.iter().map(|(name, member)| {
        let named = |value| (name.clone(), value);
        CompiledValue::compile(member).map(named).map_err(|errors| below(errors, name))
    }))?;
    if compiled.iter().all(|(_, member)| member.is_literal()) {
        return Ok(CompiledValue::Literal(Value::Object(members.clone())));
    }
    Ok(CompiledValue::Map(compiled))
}

fn below(errors: Vec<ValueError>, step: &str) -> Vec<ValueError> {
    errors.into_iter().map(|error| error.below(step)).collect()
}

fn all_or_errors<T, E>(results: impl Iterator<Item = Result<T, Vec<E>>>) -> Result<Vec<T>, Vec<E>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}
