//! What all content objects have in common in StackStorm's JSON: `id`, `uid`, `ref`, `pack`, `name`; and how one is
//! found by reference or by id.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::error::{ApiError, ApiResult};
use crate::model::action::ParameterSpec;
use crate::model::refs::{Noun, Ref};
use crate::packs::digest::sha256;

/// Content lives in files and has no ids of its own; clients want 24 hex digits that stay the same.
pub(super) fn content_id(uid: &str) -> String {
    sha256(uid).chars().take(24).collect()
}

/// The bookkeeping of an object, with its own members over it. `broken` says why it cannot be used.
pub(super) fn object<K: Noun>(reference: &Ref<K>, broken: Option<&String>, own: Value) -> Value {
    let uid = reference.uid();
    let mut shown = json!({
        "id": content_id(&uid),
        "uid": uid,
        "ref": reference,
        "pack": reference.pack(),
        "name": reference.name(),
    });
    if let Some(why) = broken {
        shown["broken"] = json!(why);
    }
    if let (Value::Object(shown), Value::Object(own)) = (&mut shown, own) {
        shown.extend(own);
    }
    shown
}

/// The object that a path names, by reference or by id.
pub(super) fn find<'a, K: Noun, T>(objects: &'a BTreeMap<Ref<K>, T>, named: &str) -> ApiResult<(&'a Ref<K>, &'a T)> {
    let by_reference = named.parse::<Ref<K>>().ok().and_then(|reference| objects.get_key_value(&reference));
    let by_id = || objects.iter().find(|(reference, _)| content_id(&reference.uid()) == named);
    by_reference.or_else(by_id).ok_or_else(|| {
        let noun = K::NOUN.replace('_', " ");
        ApiError::not_found(format!("{noun} `{named}` does not exist"))
    })
}

/// Parameters as StackStorm writes them in metadata.
pub(super) fn parameters(specs: &BTreeMap<String, ParameterSpec>) -> Value {
    specs.iter().map(|(name, spec)| (name.clone(), parameter(spec))).collect::<Map<_, _>>().into()
}

fn parameter(spec: &ParameterSpec) -> Value {
    let mut shown = as_declared(&spec.schema);
    if !spec.description.is_empty() {
        shown.insert("description".to_owned(), json!(spec.description));
    }
    if let Some(default) = &spec.default {
        shown.insert("default".to_owned(), default.clone());
    }
    if let Some(position) = spec.position {
        shown.insert("position".to_owned(), json!(position));
    }
    for (name, flag) in [("required", spec.required), ("immutable", spec.immutable), ("secret", spec.secret)] {
        if flag {
            shown.insert(name.to_owned(), json!(true));
        }
    }
    Value::Object(shown)
}

/// Undoes what made an optional parameter accept null: people wrote `type: string`.
fn as_declared(schema: &Value) -> Map<String, Value> {
    let null = json!({ "type": "null" });
    if let Some([declared, other]) = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
        && *other == null
    {
        return declared.as_object().cloned().unwrap_or_default();
    }
    let mut shown = schema.as_object().cloned().unwrap_or_default();
    if let Some([declared, other]) = shown.get("type").and_then(Value::as_array).map(Vec::as_slice)
        && other == "null"
    {
        let declared = declared.clone();
        shown.insert("type".to_owned(), declared);
    }
    shown
}

/// Name and value pairs.
pub(super) fn tags(tags: &[(String, String)]) -> Value {
    tags.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::translate_parameter;

    #[test]
    fn parameters_are_shown_as_they_were_declared() {
        for declared in [
            json!({"type": "string", "description": "what", "secret": true}),
            json!({"type": "integer", "default": 3, "position": 0, "immutable": true}),
            json!({"type": "string", "enum": ["a", "b"]}),
            json!({"type": "boolean", "required": true}),
            json!({}),
        ] {
            let spec = translate_parameter(&declared).unwrap();
            assert_eq!(parameter(&spec), declared);
        }
    }
}
