//! From what a template rendered to what a parameter is declared as.

use serde_json::{Number, Value};

use crate::model::action::ParameterSpec;

/// Casts a rendered value to the declared type as StackStorm does.
///
/// Null stays null and what has a declared type already stays as it is. Texts become numbers, booleans,
/// lists or objects; a number or boolean becomes a text where a text is wanted, written as Jinja writes it,
/// because a single-expression template keeps its type here.
pub fn cast(spec: &ParameterSpec, value: Value) -> Result<Value, String> {
    let types = declared_types(&spec.schema);
    if types.is_empty() || value.is_null() || types.iter().any(|name| is_of_type(&value, name)) {
        return Ok(value);
    }
    let wanted = || types.join(" or ");
    let candidates = types.iter().filter_map(|name| cast_to(name, &value));
    candidates.into_iter().next().ok_or_else(|| format!("{value} cannot be read as {}", wanted()))
}

/// The `type` of a schema, also where [`crate::schema::parameters`] wrapped it in `anyOf` with null.
fn declared_types(schema: &Value) -> Vec<&str> {
    let named: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => {
            let alternatives = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
            alternatives.flat_map(declared_types).collect()
        }
    };
    named.into_iter().filter(|name| *name != "null").collect()
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn cast_to(name: &str, value: &Value) -> Option<Value> {
    match (name, value) {
        ("integer", Value::String(text)) => whole(text.trim()),
        ("integer", Value::Number(number)) => number.as_f64().and_then(|float| whole(&float.trunc().to_string())),
        ("number", Value::String(text)) => number(text.trim()),
        ("integer" | "number", Value::Bool(flag)) => Some(Value::from(i64::from(*flag))),
        ("boolean", Value::String(text)) => boolean(text.trim()),
        ("array" | "object", Value::String(text)) => {
            serde_json::from_str(text).ok().filter(|parsed| is_of_type(parsed, name))
        }
        ("string", Value::Bool(true)) => Some(Value::from("True")),
        ("string", Value::Bool(false)) => Some(Value::from("False")),
        ("string", other) => Some(Value::String(other.to_string())),
        _ => None,
    }
}

fn whole(text: &str) -> Option<Value> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let signed = text.parse::<i64>().map(Value::from);
    signed.or_else(|_| text.parse::<u64>().map(Value::from)).ok()
}

fn number(text: &str) -> Option<Value> {
    whole(text).or_else(|| text.parse().ok().and_then(Number::from_f64).map(Value::Number))
}

fn boolean(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(Value::Bool(true)),
        "false" | "0" => Some(Value::Bool(false)),
        _ => None,
    }
}
