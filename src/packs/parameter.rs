//! From StackStorm's parameter attributes to JSON Schema.
//!
//! StackStorm writes draft 4 with additions: `required`, `secret`, `position` and `immutable` stand inline, and what
//! is optional may be null. Here that becomes a schema of the current draft that means the same.

use serde_json::{Map, Value, json};

use crate::model::action::ParameterSpec;
use crate::packs::suggest::did_you_mean;

const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

const KEYWORDS: [&str; 42] = [
    "type",
    "description",
    "required",
    "default",
    "enum",
    "immutable",
    "secret",
    "position",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "items",
    "properties",
    "additionalProperties",
    "patternProperties",
    "additionalItems",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "multipleOf",
    "title",
    "const",
    "examples",
    "dependencies",
    "prefixItems",
    "$schema",
    "$ref",
    "definitions",
    "id",
    "contains",
    "propertyNames",
];

/// One parameter of an action, runner or configuration from its attributes.
pub fn translate(raw: &Value) -> Result<ParameterSpec, String> {
    let Value::Object(attributes) = raw else {
        return Err("a parameter is described by a map of attributes, as `{type: string}`".to_owned());
    };
    let flag = |name: &str| match attributes.get(name) {
        None | Some(Value::Null | Value::Array(_)) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("`{name}` must be true or false")),
    };
    let position = match attributes.get("position") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            Some(number.ok_or("`position` must be a whole number")?)
        }
    };
    let required = flag("required")?;
    let mut schema = translate_map(attributes)?;
    for own in ["description", "default", "secret"] {
        schema.remove(own);
    }
    if !required {
        allow_null(&mut schema);
    }
    Ok(ParameterSpec {
        schema: Value::Object(schema),
        description: attributes.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        required,
        default: attributes.get("default").filter(|value| !value.is_null()).cloned(),
        immutable: flag("immutable")?,
        secret: flag("secret")?,
        position,
    })
}

/// A whole schema, as trigger types have it, with inline attributes anywhere inside.
pub fn translate_schema(raw: &Value) -> Result<Value, String> {
    match raw {
        Value::Object(attributes) => translate_map(attributes).map(Value::Object),
        Value::Bool(_) | Value::Null => Ok(raw.clone()),
        Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("a schema must be a map, as `{type: object, properties: …}`".to_owned())
        }
    }
}

/// Attributes that are neither StackStorm's nor JSON Schema's, each with a suggestion if there is one near.
pub fn unknown_attributes(raw: &Value) -> Vec<(String, Option<String>)> {
    let attributes = raw.as_object().into_iter().flat_map(Map::keys);
    let unknown = attributes.filter(|name| !KEYWORDS.contains(&name.as_str()) && !name.starts_with("x-"));
    unknown.map(|name| (name.clone(), did_you_mean(name, KEYWORDS))).collect()
}

fn translate_map(attributes: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut schema = Map::new();
    for (name, value) in attributes {
        match name.as_str() {
            "required" => require(value.as_array().cloned().unwrap_or_default(), &mut schema),
            "type" => {
                schema.insert(name.clone(), checked_type(value)?);
            }
            "properties" => translate_properties(value, &mut schema)?,
            "patternProperties" => {
                schema.insert(name.clone(), translate_each(value)?);
            }
            "items" if value.is_array() => {
                schema.insert("prefixItems".to_owned(), translate_list(value)?);
            }
            "additionalItems" if attributes.get("items").is_some_and(Value::is_array) => {
                schema.insert("items".to_owned(), translate_schema(value)?);
            }
            "position" | "immutable" | "additionalItems" => {}
            "items" | "additionalProperties" | "not" => {
                schema.insert(name.clone(), translate_schema(value)?);
            }
            "anyOf" | "oneOf" | "allOf" => {
                schema.insert(name.clone(), translate_list(value)?);
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                translate_bound(name, value, attributes, &mut schema);
            }
            _ => {
                schema.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(schema)
}

fn checked_type(value: &Value) -> Result<Value, String> {
    let names: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |names| names.iter().collect());
    for name in names {
        let name = name.as_str().ok_or("`type` must be a text or a list of texts")?;
        if !TYPES.contains(&name) {
            let hint = did_you_mean(name, TYPES).unwrap_or_else(|| format!("the types are {}", TYPES.join(", ")));
            return Err(format!("`{name}` is not a type; {hint}"));
        }
    }
    Ok(value.clone())
}

/// Inline `required: true` of the properties becomes the `required` list of their object.
fn translate_properties(value: &Value, schema: &mut Map<String, Value>) -> Result<(), String> {
    let properties = value.as_object().ok_or("`properties` must be a map")?;
    let mut translated = Map::new();
    let mut required = Vec::new();
    for (name, property) in properties {
        let property = property.as_object().ok_or_else(|| format!("property `{name}` must be a map of attributes"))?;
        let mut inner = translate_map(property).map_err(|error| format!("property `{name}`: {error}"))?;
        let is_required = property.get("required") == Some(&Value::Bool(true));
        if is_required {
            required.push(json!(name));
        }
        if !is_required || property.contains_key("default") {
            allow_null(&mut inner);
        }
        translated.insert(name.clone(), Value::Object(inner));
    }
    require(required, schema);
    schema.insert("properties".to_owned(), Value::Object(translated));
    Ok(())
}

fn require(names: Vec<Value>, schema: &mut Map<String, Value>) {
    if names.is_empty() {
        return;
    }
    let list = schema.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(list) = list {
        list.extend(names);
    }
}

fn translate_each(value: &Value) -> Result<Value, String> {
    let map = value.as_object().ok_or("`patternProperties` must be a map")?;
    let pairs = map.iter().map(|(name, schema)| translate_schema(schema).map(|schema| (name.clone(), schema)));
    pairs.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn translate_list(value: &Value) -> Result<Value, String> {
    let list = value.as_array().ok_or("a list of schemas is expected")?;
    list.iter().map(translate_schema).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// Draft 4 says `minimum: 3, exclusiveMinimum: true` for what is `exclusiveMinimum: 3` now.
fn translate_bound(name: &str, value: &Value, attributes: &Map<String, Value>, schema: &mut Map<String, Value>) {
    let exclusive = match name {
        "minimum" => "exclusiveMinimum",
        "maximum" => "exclusiveMaximum",
        _ if value.is_boolean() => return,
        _ => name,
    };
    let is_exclusive = attributes.get(exclusive) == Some(&Value::Bool(true));
    let target = if is_exclusive { exclusive } else { name };
    schema.insert(target.to_owned(), value.clone());
}

/// What is optional may be null, for StackStorm.
fn allow_null(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::String(name)) if name != "null" => {
            let both = json!([name, "null"]);
            schema.insert("type".to_owned(), both);
        }
        Some(Value::Array(names)) if !names.contains(&json!("null")) => names.push(json!("null")),
        _ => {}
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(Value::Array(schemas)) = schema.get_mut(choice)
            && !schemas.contains(&json!({"type": "null"}))
        {
            schemas.push(json!({"type": "null"}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stackstorms_inline_attributes_are_taken_out_of_the_schema() {
        let raw = json!({"type": "string", "description": "what to run", "required": true, "secret": true,
                         "immutable": false, "position": 2, "default": "date", "minLength": 1});
        let spec = translate(&raw).unwrap();
        assert_eq!(spec.schema, json!({"type": "string", "minLength": 1}));
        assert_eq!((spec.required, spec.secret, spec.immutable, spec.position), (true, true, false, Some(2)));
        assert_eq!((spec.description.as_str(), spec.default), ("what to run", Some(json!("date"))));
    }

    #[test]
    fn schemas_mean_the_same_in_the_current_draft() {
        let cases = [
            (json!({"type": "string"}), json!({"type": ["string", "null"]})),
            (json!({"enum": ["a"]}), json!({"enum": ["a", null]})),
            (json!({"type": ["string", "integer"]}), json!({"type": ["string", "integer", "null"]})),
            (json!({"anyOf": [{"type": "string"}]}), json!({"anyOf": [{"type": "string"}, {"type": "null"}]})),
            (
                json!({"type": "integer", "required": true, "minimum": 1, "exclusiveMinimum": true}),
                json!({"type": "integer", "exclusiveMinimum": 1}),
            ),
            (
                json!({"type": "array", "required": true, "items": [{"type": "string"}], "additionalItems": false}),
                json!({"type": "array", "prefixItems": [{"type": "string"}], "items": false}),
            ),
            (
                json!({"type": "object", "required": true, "properties": {
                 "a": {"type": "string", "required": true}, "b": {"type": "integer"}}}),
                json!({"type": "object", "required": ["a"], "properties": {
                 "a": {"type": "string"}, "b": {"type": ["integer", "null"]}}}),
            ),
            (
                json!({"type": "array", "required": true,
                    "items": {"type": "object", "properties": {"a": {"type": "string", "required": true}}}}),
                json!({"type": "array",
                    "items": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}),
            ),
        ];
        for (raw, schema) in cases {
            assert_eq!(translate(&raw).unwrap().schema, schema, "{raw}");
        }
    }

    #[test]
    fn wrong_attributes_are_refused_with_the_way_out() {
        let cases = [
            (json!({"type": "sting"}), "`sting` is not a type; did you mean `string`?"),
            (json!({"position": "first"}), "`position` must be a whole number"),
            (json!({"required": "yes please"}), "`required` must be true or false"),
            (json!("string"), "a parameter is described by a map of attributes, as `{type: string}`"),
            (
                json!({"properties": {"a": {"type": "text"}}}),
                "property `a`: `text` is not a type; the types are string, integer, number, boolean, array, object, null",
            ),
        ];
        for (raw, message) in cases {
            assert_eq!(translate(&raw).unwrap_err(), message, "{raw}");
        }
    }

    #[test]
    fn an_unknown_attribute_is_found_with_what_was_meant() {
        let found = unknown_attributes(&json!({"type": "string", "requierd": true, "x-ui": 1}));
        assert_eq!(found, [("requierd".to_owned(), Some("did you mean `required`?".to_owned()))]);
    }
}
