//! `key=value` words become JSON by the schema of what they are for, as StackStorm's client reads them.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::failure::Failure;

/// JSON Schemas by parameter name.
pub(super) type Schemas = Map<String, Value>;

/// Reads all words. With a parameter `cmd`, words from the first one without `=` on are a command line.
pub(super) fn read_words(words: &[String], schemas: &Schemas) -> Result<Map<String, Value>, Failure> {
    let mut read = Map::new();
    for (place, word) in words.iter().enumerate() {
        let Some((name, text)) = word.split_once('=').filter(|(name, _)| is_name(name)) else {
            if !schemas.contains_key("cmd") {
                return Err(Failure::Usage(format!("`{word}` is no parameter: write it as key=value")));
            }
            let command = words.get(place..).unwrap_or_default().join(" ");
            read.insert("cmd".to_owned(), command.into());
            break;
        };
        let value = read_value(text, schemas.get(name).unwrap_or(&Value::Null));
        let value = value.map_err(|problem| Failure::Usage(format!("parameter `{name}`: {problem}")))?;
        read.insert(name.to_owned(), value);
    }
    Ok(read)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Reads one value; `Err` says what was expected. With several types the first that fits is taken.
fn read_value(text: &str, schema: &Value) -> Result<Value, String> {
    let types = types_of(schema);
    if types.is_empty() {
        return Ok(text.into());
    }
    let mut problem = String::new();
    for name in &types {
        match read_as(name, text, schema) {
            Ok(value) => return Ok(value),
            Err(expected) => problem = format!("`{text}` is not {expected}"),
        }
    }
    Err(problem)
}

fn types_of(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => {
            let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.sort_by_key(|name| *name == "string");
            names
        }
        _ => {
            let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten();
            let mut names: Vec<&str> = alternatives.flat_map(types_of).collect();
            names.sort_by_key(|name| *name == "string");
            names
        }
    }
}

fn read_as(type_name: &str, text: &str, schema: &Value) -> Result<Value, &'static str> {
    match type_name {
        "integer" => text.trim().parse::<i64>().ok().map(Value::from).ok_or("a whole number"),
        "number" => read_number(text.trim()).ok_or("a number"),
        "boolean" => read_boolean(text.trim()).ok_or("true or false"),
        "array" => read_list(text, schema.get("items").unwrap_or(&Value::Null)),
        "object" => read_object(text).ok_or("a JSON object, nor key:value pairs with commas"),
        "null" => text.is_empty().then_some(Value::Null).ok_or("empty"),
        _ => Ok(text.into()),
    }
}

fn read_number(text: &str) -> Option<Value> {
    let integer = text.parse::<i64>().map(Value::from);
    integer.ok().or_else(|| serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number))
}

fn read_boolean(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "1" => Some(true.into()),
        "false" | "no" | "n" | "off" | "0" => Some(false.into()),
        _ => None,
    }
}

/// JSON, or items with commas.
fn read_list(text: &str, items: &Value) -> Result<Value, &'static str> {
    if text.trim_start().starts_with('[') {
        let list = serde_json::from_str::<Value>(text).ok().filter(Value::is_array);
        return list.ok_or("a JSON list, nor items with commas");
    }
    let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
    let values: Result<Vec<Value>, String> = pieces.map(|piece| read_value(piece, items)).collect();
    values.ok().map(Value::Array).ok_or("a list with the right kind of items")
}

/// JSON, or `a:1,b:x`.
fn read_object(text: &str) -> Option<Value> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    }
    let pairs = text.split(',').filter(|piece| !piece.trim().is_empty());
    pairs.map(|pair| pair.split_once(':').map(|(key, value)| (key.trim().to_owned(), json!(value.trim())))).collect()
}

/// `key=value` words without a schema: what looks like JSON is JSON, the rest is text.
pub(super) fn read_free_words(words: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut read = Map::new();
    for word in words {
        let pair = word.split_once('=');
        let (name, text) = pair.ok_or_else(|| Failure::Usage(format!("`{word}` is not key=value")))?;
        read.insert(name.to_owned(), serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    }
    Ok(read)
}

/// JSON as it is written, `@FILE`, or `-` for standard input.
pub(super) fn read_json(text: &str) -> Result<Value, Failure> {
    match text.strip_prefix('@') {
        Some(file) => read_json_file(Path::new(file)),
        None if text == "-" => read_json_file(Path::new("-")),
        None => parse(text, "the argument"),
    }
}

/// A file of JSON, `-` for standard input.
pub(super) fn read_json_file(path: &Path) -> Result<Value, Failure> {
    if path == Path::new("-") {
        return parse(&read_standard_input()?, "standard input");
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| Failure::Local { doing: format!("read {}", path.display()), source })?;
    parse(&text, &path.display().to_string())
}

/// A file of one JSON object, `-` for standard input.
pub(super) fn read_object_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let mut value = read_json_file(path)?;
    let members = value.as_object_mut().map(std::mem::take);
    members.ok_or_else(|| Failure::Usage(format!("{} is not a JSON object", path.display())))
}

/// Everything that is piped in.
pub(super) fn read_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| Failure::Local { doing: "read standard input".to_owned(), source })?;
    Ok(text)
}

fn parse(text: &str, place: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("{place} is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_value_is_read_by_its_schema() {
        let cases = [
            (json!({"type": "integer"}), "5", json!(5)),
            (json!({"type": "number"}), "5", json!(5)),
            (json!({"type": "number"}), "0.5", json!(0.5)),
            (json!({"type": "boolean"}), "True", json!(true)),
            (json!({"type": "boolean"}), "0", json!(false)),
            (json!({"type": "string"}), "5", json!("5")),
            (json!({}), "5", json!("5")),
            (json!(null), "a=b", json!("a=b")),
            (json!({"type": "array"}), "a, b", json!(["a", "b"])),
            (json!({"type": "array"}), "", json!([])),
            (json!({"type": "array", "items": {"type": "integer"}}), "1,2", json!([1, 2])),
            (json!({"type": "array"}), r#"["a,b", 1]"#, json!(["a,b", 1])),
            (json!({"type": "object"}), r#"{"a": [1]}"#, json!({"a": [1]})),
            (json!({"type": "object"}), "a:1,b:x:y", json!({"a": "1", "b": "x:y"})),
            (json!({"type": ["string", "integer"]}), "5", json!(5)),
            (json!({"type": ["string", "integer"]}), "x", json!("x")),
            (json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}), "yes", json!(true)),
        ];
        for (schema, text, value) in cases {
            assert_eq!(read_value(text, &schema), Ok(value), "{text} as {schema}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_with_what_was_expected() {
        let cases = [
            ("integer", "1.5", "`1.5` is not a whole number"),
            ("number", "x", "`x` is not a number"),
            ("boolean", "maybe", "`maybe` is not true or false"),
            ("array", "[1", "`[1` is not a JSON list, nor items with commas"),
            ("object", "{", "`{` is not a JSON object, nor key:value pairs with commas"),
            ("object", "a", "`a` is not a JSON object, nor key:value pairs with commas"),
        ];
        for (name, text, problem) in cases {
            assert_eq!(read_value(text, &json!({"type": name})), Err(problem.to_owned()));
        }
    }

    #[test]
    fn words_without_an_equals_sign_are_a_command_where_there_is_one() {
        let schemas = json!({"cmd": {"type": "string"}, "timeout": {"type": "integer"}});
        let schemas = schemas.as_object().unwrap();
        let read = read_words(&words(&["timeout=5", "echo", "a=b"]), schemas).unwrap();
        assert_eq!(Value::Object(read), json!({"timeout": 5, "cmd": "echo a=b"}));
        let refusal = read_words(&words(&["date"]), &Map::new()).unwrap_err();
        assert_eq!(refusal.to_string(), "`date` is no parameter: write it as key=value");
    }

    #[test]
    fn without_a_schema_json_is_json_and_the_rest_is_text() {
        let read = read_free_words(&words(&["a=1", "b=10m", "c=[true]"])).unwrap();
        assert_eq!(Value::Object(read), json!({"a": 1, "b": "10m", "c": [true]}));
        assert!(read_free_words(&words(&["a"])).is_err());
    }
}
