//! Values between scripts and the journal. Only what JSON can hold crosses; sharing never does.

use rhai::{Array, Dynamic, FnPtr, Map};
use serde_json::{Number, Value};

use crate::workflows::errors::{Raised, misuse};
use crate::workflows::outcome::StepError;

/// The journal is read with a parser that stops at 128.
const DEEPEST: usize = 100;

/// Values that one branch may capture.
const MOST_COPIED: usize = 100_000;

/// The canonical JSON of a script value, or what in it cannot be stored.
pub(super) fn to_value(value: &Dynamic) -> Result<Value, StepError> {
    to_value_at(value, 0).map_err(|what| StepError::new(format!("{what} cannot be stored in the journal")))
}

/// The canonical JSON of a script map.
pub(super) fn map_to_value(map: &Map) -> Result<Value, StepError> {
    map_at(map, 0).map_err(|what| StepError::new(format!("{what} cannot be stored in the journal")))
}

/// A script value from JSON that did not come out of the journal's text (parameters, error details).
pub(super) fn from_value(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => from_number(number),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(from_value).collect::<Array>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.as_str().into(), from_value(value)));
            Dynamic::from_map(fields.collect())
        }
    }
}

/// A copy that shares nothing with the original: not through captured variables, however deep.
pub(super) fn unshared(value: &Dynamic) -> Result<Dynamic, Raised> {
    Copying::default().value(value, 0)
}

/// A closure whose captured values are its own.
pub(super) fn unshared_fn(function: &FnPtr) -> Result<FnPtr, Raised> {
    Copying::default().closure(function, 0)
}

/// Counts what was copied. Closures may capture one another in a circle, and what several of them capture is copied for
/// each, so a copy can be much larger than what it is of.
#[derive(Default)]
struct Copying {
    values: usize,
}

impl Copying {
    fn value(&mut self, value: &Dynamic, depth: usize) -> Result<Dynamic, Raised> {
        self.values += 1;
        if depth > DEEPEST {
            return Err(misuse(format!("a branch captures a value nested more than {DEEPEST} deep")));
        }
        if self.values > MOST_COPIED {
            return Err(misuse(format!(
                "a branch captures more than {MOST_COPIED} values; capture only what it needs"
            )));
        }
        if let Ok(items) = value.as_array_ref() {
            return items.iter().map(|item| self.value(item, depth + 1)).collect::<Result<Array, _>>().map(Into::into);
        }
        if let Ok(fields) = value.as_map_ref() {
            let fields = fields.iter().map(|(name, field)| Ok((name.clone(), self.value(field, depth + 1)?)));
            return fields.collect::<Result<Map, _>>().map(Dynamic::from_map);
        }
        if let Some(function) = value.read_lock::<FnPtr>() {
            return self.closure(&function, depth).map(Dynamic::from);
        }
        Ok(value.flatten_clone())
    }

    fn closure(&mut self, function: &FnPtr, depth: usize) -> Result<FnPtr, Raised> {
        let mut own = function.clone();
        for captured in own.iter_curry_mut() {
            *captured = self.value(captured, depth + 1)?;
        }
        Ok(own)
    }
}

fn from_number(number: &Number) -> Dynamic {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole.into(),
        (None, Some(float)) => float.into(),
        (None, None) => Dynamic::UNIT,
    }
}

fn to_value_at(value: &Dynamic, depth: usize) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err(format!("a value nested more than {DEEPEST} deep"));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(Value::String(text.as_str().to_owned()));
    }
    if let Ok(fields) = value.as_map_ref() {
        return map_at(&fields, depth);
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(|item| to_value_at(item, depth + 1)).collect::<Result<_, _>>().map(Value::Array);
    }
    scalar(value)
}

fn map_at(fields: &Map, depth: usize) -> Result<Value, String> {
    let field = |(name, value): (&rhai::Identifier, &Dynamic)| Ok((name.to_string(), to_value_at(value, depth + 1)?));
    fields.iter().map(field).collect::<Result<_, String>>().map(Value::Object)
}

fn scalar(value: &Dynamic) -> Result<Value, String> {
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(whole) = value.as_int() {
        return Ok(whole.into());
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(flag.into());
    }
    if let Ok(float) = value.as_float() {
        return Number::from_f64(float).map(Value::Number).ok_or_else(|| format!("the number {float}"));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(Value::String(letter.to_string()));
    }
    Err(format!("a value of type `{}`", value.type_name()))
}
