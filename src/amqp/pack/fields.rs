//! AMQP's tables and bodies as JSON, and back.

use base64::prelude::{BASE64_STANDARD, Engine};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use serde_json::{Map, Number, Value, json};

/// Headers as they travel. A name longer than AMQP allows is an error that says so.
pub(super) fn table_of(headers: &Map<String, Value>) -> Result<FieldTable, String> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short("headers", name)?, field_of(value)?);
    }
    Ok(table)
}

fn field_of(value: &Value) -> Result<AMQPValue, String> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => number_of(number),
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(items) => {
            AMQPValue::FieldArray(FieldArray::from(items.iter().map(field_of).collect::<Result<Vec<_>, _>>()?))
        }
        Value::Object(members) => AMQPValue::FieldTable(table_of(members)?),
    })
}

fn number_of(number: &Number) -> AMQPValue {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => AMQPValue::LongLongInt(whole),
        (None, Some(broken)) => AMQPValue::Double(broken),
        (None, None) => AMQPValue::LongString(number.to_string().into()),
    }
}

/// A short text of AMQP: at most 255 bytes.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text).map_err(|_| format!("{what}: AMQP has room for 255 bytes, and this has {}", text.len()))
}

/// Headers as JSON.
pub(super) fn headers_of(table: &FieldTable) -> Value {
    table.inner().iter().map(|(name, value)| (name.to_string(), json_of(value))).collect::<Map<_, _>>().into()
}

fn json_of(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(flag) => json!(flag),
        AMQPValue::ShortShortInt(number) => json!(number),
        AMQPValue::ShortShortUInt(number) => json!(number),
        AMQPValue::ShortInt(number) => json!(number),
        AMQPValue::ShortUInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::Float(number) => json!(number),
        AMQPValue::Double(number) => json!(number),
        AMQPValue::DecimalValue(number) => json!(decimal(*number)),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongString(text) => text_of(text.as_bytes()),
        AMQPValue::FieldArray(items) => items.as_slice().iter().map(json_of).collect(),
        AMQPValue::Timestamp(seconds) => json!(seconds),
        AMQPValue::FieldTable(table) => headers_of(table),
        AMQPValue::ByteArray(bytes) => json!(BASE64_STANDARD.encode(bytes.as_slice())),
        AMQPValue::Void => Value::Null,
    }
}

fn decimal(DecimalValue { scale, value }: DecimalValue) -> f64 {
    f64::from(value) / 10_f64.powi(i32::from(scale))
}

fn text_of(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!(BASE64_STANDARD.encode(bytes)), |text| json!(text))
}

/// A body, and how it is shown: `json` if it says that it is and is, `text` if it can be read, else `base64`.
pub(super) fn body_of(content_type: Option<&str>, bytes: &[u8]) -> (Value, &'static str) {
    if content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return (value, "json");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (json!(text), "text"),
        Err(_) => (json!(BASE64_STANDARD.encode(bytes)), "base64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_out_as_they_went_in() {
        let headers = json!({
            "text": "ä", "whole": -7, "broken": 0.5, "yes": true, "none": null,
            "list": [1, "two", [3]], "table": { "inner": { "deep": 1 } },
        });
        let table = table_of(headers.as_object().unwrap()).unwrap();
        assert_eq!(headers_of(&table), headers);
        let long = json!({ "n".repeat(256): 1 });
        assert!(table_of(long.as_object().unwrap()).unwrap_err().contains("255 bytes, and this has 256"));
    }

    #[test]
    fn what_others_write_and_json_does_not_have_is_shown_as_near_as_can_be() {
        assert_eq!(json_of(&AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1250 })), json!(12.5));
        assert_eq!(json_of(&AMQPValue::LongString(vec![0xff, 0].into())), json!("/wA="));
        assert_eq!(json_of(&AMQPValue::Timestamp(1_790_000_000)), json!(1_790_000_000));
    }

    #[test]
    fn a_body_is_a_value_only_if_it_says_so_and_is_one() {
        assert_eq!(body_of(Some("application/json; charset=utf-8"), b"{\"a\": 1}"), (json!({ "a": 1 }), "json"));
        assert_eq!(body_of(Some("application/JSON"), b"{oops"), (json!("{oops"), "text"));
        assert_eq!(body_of(None, b"[1]"), (json!("[1]"), "text"));
        assert_eq!(body_of(Some("image/png"), &[0xff, 0]), (json!("/wA="), "base64"));
    }
}
