//! StackStorm's parameter attributes, translated to JSON Schema and [`ParameterSpec`].

use serde_json::{Map, Value, json};

use crate::model::action::ParameterSpec;

const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

/// Attributes that say something about the parameter and nothing about its value.
const NOT_SCHEMA: [&str; 5] = ["secret", "position", "immutable", "required", "description"];

/// Reads one parameter as packs declare it.
pub fn translate_parameter(raw: &Value) -> Result<ParameterSpec, String> {
    let empty = Map::new();
    let attributes = match raw {
        Value::Object(attributes) => attributes,
        Value::Null => &empty,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(format!("a parameter is described by attributes such as `type: string`, not by {raw}"));
        }
    };
    let required = flag(attributes, "required")?;
    let schema = translate_attributes(attributes)?;
    Ok(ParameterSpec {
        schema: if required { schema } else { or_null(schema) },
        description: text(attributes, "description")?,
        required,
        default: attributes.get("default").cloned(),
        immutable: flag(attributes, "immutable")?,
        secret: holds_secret(raw),
        position: position(attributes)?,
    })
}

/// Translates a whole schema in StackStorm's flavour, such as a trigger type's `payload_schema`.
///
/// What is JSON Schema already stays as it is.
pub fn translate_schema(raw: &Value) -> Result<Value, String> {
    match raw {
        Value::Object(attributes) => translate_attributes(attributes),
        Value::Bool(_) => Ok(raw.clone()),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(format!("a schema is an object such as `type: string`, not {raw}"))
        }
    }
}

fn flag(attributes: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match attributes.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        // JSON Schema's own list of required members of an object
        Some(Value::Array(_)) if name == "required" => Ok(false),
        Some(other) => Err(format!("`{name}` is {other}; it must be true or false")),
    }
}

fn text(attributes: &Map<String, Value>, name: &str) -> Result<String, String> {
    match attributes.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("`{name}` is {other}; it must be a text")),
    }
}

fn position(attributes: &Map<String, Value>) -> Result<Option<u32>, String> {
    let Some(position) = attributes.get("position").filter(|position| !position.is_null()) else {
        return Ok(None);
    };
    let whole = position.as_u64().and_then(|position| u32::try_from(position).ok());
    whole.map(Some).ok_or_else(|| format!("`position` is {position}; it must be a whole number from 0"))
}

/// A secret inside an object makes the whole parameter one: better masked too much than too little.
fn holds_secret(raw: &Value) -> bool {
    match raw {
        Value::Object(attributes) => {
            attributes.get("secret") == Some(&Value::Bool(true)) || attributes.values().any(holds_secret)
        }
        Value::Array(items) => items.iter().any(holds_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn translate_attributes(attributes: &Map<String, Value>) -> Result<Value, String> {
    check_types(attributes)?;
    let mut schema = Map::new();
    let mut required = own_required(attributes);
    for (name, attribute) in attributes {
        match name.as_str() {
            "properties" => {
                let properties = translate_properties(attribute, &mut required)?;
                schema.insert(name.clone(), properties);
            }
            "patternProperties" => {
                schema.insert(name.clone(), translate_properties(attribute, &mut Vec::new())?);
            }
            "items" | "additionalItems" | "additionalProperties" | "not" | "anyOf" | "oneOf" | "allOf" => {
                schema.insert(name.clone(), translate_nested(attribute)?);
            }
            name if NOT_SCHEMA.contains(&name) => {}
            _ => {
                schema.insert(name.clone(), attribute.clone());
            }
        }
    }
    translate_exclusive(&mut schema, "exclusiveMinimum", "minimum");
    translate_exclusive(&mut schema, "exclusiveMaximum", "maximum");
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    Ok(Value::Object(schema))
}

fn check_types(attributes: &Map<String, Value>) -> Result<(), String> {
    let types = match attributes.get("type") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(types)) => types.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    match types.iter().find(|one| !one.as_str().is_some_and(|name| TYPES.contains(&name))) {
        Some(unknown) => Err(format!("{unknown} is not a type; the types are {}", TYPES.join(", "))),
        None => Ok(()),
    }
}

fn own_required(attributes: &Map<String, Value>) -> Vec<String> {
    let listed = attributes.get("required").and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn translate_nested(raw: &Value) -> Result<Value, String> {
    match raw {
        Value::Array(schemas) => schemas.iter().map(translate_schema).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => translate_schema(raw),
    }
}

/// Translates each property and moves its inline `required` to where JSON Schema has it.
fn translate_properties(raw: &Value, required: &mut Vec<String>) -> Result<Value, String> {
    let Some(properties) = raw.as_object() else {
        return Err(format!("`properties` is {raw}; it must map names to schemas"));
    };
    let mut translated = Map::new();
    for (name, property) in properties {
        let schema = translate_schema(property).map_err(|reason| format!("property `{name}`: {reason}"))?;
        let is_required = property.get("required") == Some(&Value::Bool(true));
        if is_required && !required.contains(name) {
            required.push(name.clone());
        }
        translated.insert(name.clone(), if required.contains(name) { schema } else { or_null(schema) });
    }
    Ok(Value::Object(translated))
}

/// Draft 4 says `exclusiveMinimum: true` beside `minimum`; later drafts give the number itself.
fn translate_exclusive(schema: &mut Map<String, Value>, exclusive: &str, bound: &str) {
    match schema.get(exclusive) {
        Some(Value::Bool(true)) => {
            if let Some(number) = schema.remove(bound) {
                schema.insert(exclusive.to_owned(), number);
            }
        }
        Some(Value::Bool(false)) => {
            schema.remove(exclusive);
        }
        _ => {}
    }
}

/// The same schema, or null.
fn or_null(schema: Value) -> Value {
    let accepts_anything = schema.as_bool() == Some(true) || schema.as_object().is_some_and(Map::is_empty);
    if accepts_anything {
        return schema;
    }
    let Value::Object(mut attributes) = schema else {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    };
    let plain = ["enum", "const", "anyOf", "oneOf", "allOf", "not"].iter().all(|name| !attributes.contains_key(*name));
    match attributes.get("type") {
        Some(Value::String(one)) if plain => {
            let either = json!([one, "null"]);
            attributes.insert("type".to_owned(), either);
            Value::Object(attributes)
        }
        None | Some(Value::Null) if plain => Value::Object(attributes),
        _ => json!({ "anyOf": [attributes, { "type": "null" }] }),
    }
}
