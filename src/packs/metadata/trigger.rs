//! Trigger types: files of their own, and those that a sensor declares.

use serde_json::Value;

use crate::model::trigger::TriggerType;
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::metadata::{BOOKKEEPING, Origin, read_reference};
use crate::packs::yaml::{Entry, Node};
use crate::schema::translate_schema;

/// A trigger type.
pub fn read_trigger_type(node: &Node, origin: &Origin, report: &mut Report) -> Option<TriggerType> {
    let mut fields = Fields::open(node, "trigger type", report)?;
    let name = fields.required_text("name", report);
    let reference = read_reference(name, &mut fields, origin, report);
    let description = fields.text("description", report).unwrap_or_default();
    let payload_schema = read_schema("payload_schema", &mut fields, report);
    let parameters_schema = read_schema("parameters_schema", &mut fields, report);
    fields.bookkeeping(BOOKKEEPING);
    fields.not_acted_on(&["payload_info", "tags"], report);
    fields.finish(report);
    Some(TriggerType {
        reference: reference?,
        description,
        payload_schema,
        parameters_schema,
        metadata_file: origin.metadata_file.clone(),
    })
}

/// A schema; absent or empty accepts anything. StackStorm lets a wrong one pass, so it is only warned about.
fn read_schema(key: &'static str, fields: &mut Fields<'_>, report: &mut Report) -> Value {
    let raw = fields.json(key);
    if raw.is_null() || raw.as_object().is_some_and(serde_json::Map::is_empty) {
        return Value::Null;
    }
    translate_schema(&raw).unwrap_or_else(|error| {
        let span = fields.entry(key).and_then(Entry::place);
        report.warning(span, format!("`{key}`: {error}")).help("until it is corrected, anything is accepted");
        Value::Null
    })
}
