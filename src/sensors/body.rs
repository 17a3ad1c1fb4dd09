//! Reads the body of a webhook as StackStorm's users expect it: JSON as itself, a form as a map of lists.

use serde_json::{Map, Value};

/// How deep arrays and objects may be nested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Levels of arrays and objects; a flat object has one. More than 127 is never read.
    pub max_depth: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { max_depth: 64 }
    }
}

/// Why a body cannot be read, and what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Bytes that are no text.
    #[error("the body is not UTF-8 from byte {valid_up_to} on; send text encoded as UTF-8")]
    NotUtf8 {
        /// How many bytes are fine.
        valid_up_to: usize,
    },
    /// Text that is no JSON.
    #[error("the body is not JSON: {problem}; send JSON, or say what it is with a Content-Type header")]
    NotJson {
        /// What the parser found, with line and column.
        problem: String,
    },
    /// More levels than allowed.
    #[error("the body is nested deeper than {max_depth} levels; send a flatter one")]
    TooDeep {
        /// The limit.
        max_depth: usize,
    },
    /// A type that nobody here understands.
    #[error(
        "bodies of type `{content_type}` are not understood; send application/json, application/x-www-form-urlencoded or text/plain"
    )]
    UnknownType {
        /// What the request said.
        content_type: String,
    },
}

impl BodyError {
    /// The HTTP status that tells the sender.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotUtf8 { .. } | Self::NotJson { .. } | Self::TooDeep { .. } => 400,
            Self::UnknownType { .. } => 415,
        }
    }
}

/// Reads a body whose size the caller has checked.
///
/// No body is `{}`. No content type means JSON. Every value of a form is a list, blank ones are left out. Plain text
/// becomes `{"raw": text}`. JSON that calls itself a form, as `curl -d` sends it, is read as JSON.
pub fn parse_body(content_type: Option<&str>, bytes: &[u8], limits: BodyLimits) -> Result<Value, BodyError> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| BodyError::NotUtf8 { valid_up_to: error.valid_up_to() })?.trim();
    if text.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let essence = content_type.map_or("", |full| full.split(';').next().unwrap_or(full).trim()).to_ascii_lowercase();
    match essence.as_str() {
        "" | "application/json" | "text/json" => parse_json(text, limits),
        "application/x-www-form-urlencoded" => match parse_json(text, limits) {
            Ok(json @ (Value::Object(_) | Value::Array(_))) => Ok(json),
            Err(error @ BodyError::TooDeep { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(parse_form(text)),
        },
        kind if kind.ends_with("+json") => parse_json(text, limits),
        kind if kind.starts_with("text/") => Ok(Value::Object(Map::from_iter([("raw".to_owned(), text.into())]))),
        _ => Err(BodyError::UnknownType { content_type: essence }),
    }
}

/// JSON of bounded depth.
pub(super) fn parse_json(text: &str, limits: BodyLimits) -> Result<Value, BodyError> {
    let too_deep = BodyError::TooDeep { max_depth: limits.max_depth };
    match serde_json::from_str(text) {
        Ok(value) if depth(&value) <= limits.max_depth => Ok(value),
        Ok(_) => Err(too_deep),
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => Err(too_deep),
        Err(error) => Err(BodyError::NotJson { problem: error.to_string() }),
    }
}

/// Recursion is safe: the JSON parser has already refused what is nested deeper than 127 levels.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn parse_form(text: &str) -> Value {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()).filter(|(_, value)| !value.is_empty()) {
        let values = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(value.into());
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded; charset=utf-8");

    #[test]
    fn every_kind_of_body_becomes_what_stackstorms_users_expect() {
        let cases: [(Option<&str>, &str, Value); 10] = [
            (None, "", json!({})),
            (Some("application/json"), " \n", json!({})),
            (None, r#"{"a": [1, null]}"#, json!({"a": [1, null]})),
            (Some("application/json; charset=utf-8"), "[1]", json!([1])),
            (Some("application/vnd.github+JSON"), "{}", json!({})),
            (FORM, "a=1&b=x+y%26&a=2", json!({"a": ["1", "2"], "b": ["x y&"]})),
            (FORM, "a=&b=1", json!({"b": ["1"]})),
            (FORM, r#"{"a": 1}"#, json!({"a": 1})),
            (FORM, "12", json!({})),
            (Some("text/plain"), "disk full", json!({"raw": "disk full"})),
        ];
        for (content_type, body, expected) in cases {
            let parsed = parse_body(content_type, body.as_bytes(), BodyLimits::default());
            assert_eq!(parsed, Ok(expected), "{content_type:?} {body}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why_and_what_to_send() {
        let cases: [(Option<&str>, &[u8], u16, &str); 4] = [
            (None, b"{\"a\": }", 400, "the body is not JSON: expected value at line 1 column 7"),
            (None, b"{\"a\": \"\xff\"}", 400, "not UTF-8 from byte 7"),
            (Some("image/png"), b"x", 415, "`image/png` are not understood; send application/json"),
            (Some("multipart/form-data; boundary=x"), b"--x", 415, "`multipart/form-data` are not understood"),
        ];
        for (content_type, body, status, message) in cases {
            let error = parse_body(content_type, body, BodyLimits::default()).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.status(), status);
        }
    }

    #[test]
    fn depth_is_bounded_whatever_the_body_calls_itself() {
        let limits = BodyLimits { max_depth: 64 };
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_body(None, nested(64).as_bytes(), limits).is_ok());
        for levels in [65, 200, 100_000] {
            for content_type in [None, FORM] {
                let parsed = parse_body(content_type, nested(levels).as_bytes(), limits);
                assert_eq!(parsed, Err(BodyError::TooDeep { max_depth: 64 }), "{levels} {content_type:?}");
            }
        }
    }
}
