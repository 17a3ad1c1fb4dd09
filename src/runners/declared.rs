//! How a runner declares its parameters, and how it gets them back as its own type.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::model::action::ParameterSpec;

/// A parameter of one JSON type, named as StackStorm names it.
pub(super) fn parameter(name: &str, json_type: &str, description: &str) -> (String, ParameterSpec) {
    let spec = ParameterSpec {
        schema: json!({ "type": json_type }),
        description: description.to_owned(),
        ..ParameterSpec::default()
    };
    (name.to_owned(), spec)
}

/// A parameter that has a value if nobody gives one.
pub(super) fn with_default(declared: (String, ParameterSpec), default: Value) -> (String, ParameterSpec) {
    let (name, spec) = declared;
    (name, ParameterSpec { default: Some(default), ..spec })
}

/// A parameter without which the runner can do nothing.
pub(super) fn required(declared: (String, ParameterSpec)) -> (String, ParameterSpec) {
    let (name, spec) = declared;
    (name, ParameterSpec { required: true, ..spec })
}

/// A parameter that is masked wherever it is shown.
pub(super) fn secret(declared: (String, ParameterSpec)) -> (String, ParameterSpec) {
    let (name, spec) = declared;
    (name, ParameterSpec { secret: true, ..spec })
}

/// The parameters of a call as the runner's own type; parameters that it does not know are somebody else's.
pub(super) fn read<T: DeserializeOwned>(parameters: &Map<String, Value>) -> Result<T, Outcome> {
    let given = parameters.iter().filter(|(_, value)| !value.is_null());
    let given: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(given))
        .map_err(|error| Outcome::error(format!("the parameters do not fit the runner: {error}")))
}

/// A value as StackStorm writes it where only text goes: booleans as 1 and 0, lists with commas, objects as JSON.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "1".to_owned(),
        Value::Bool(false) => "0".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(as_text).collect::<Vec<_>>().join(","),
        Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Environment variables and headers: whatever was given, as text.
pub(super) fn as_texts(values: &Map<String, Value>) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| (name.clone(), as_text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text_as_stackstorm_writes_them() {
        let cases = [
            (json!(null), ""),
            (json!(true), "1"),
            (json!(false), "0"),
            (json!("a b"), "a b"),
            (json!(1.5), "1.5"),
            (json!(["a", 2, true]), "a,2,1"),
            (json!({"k": [1]}), r#"{"k":[1]}"#),
        ];
        for (value, text) in cases {
            assert_eq!(as_text(&value), text, "{value}");
        }
    }
}
