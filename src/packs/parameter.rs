//! The attributes that a parameter may have, to find the misspelt ones. What they mean is decided by [`crate::schema`].

use serde_json::{Map, Value};

use crate::packs::suggest::did_you_mean;

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

/// Attributes that are neither StackStorm's nor JSON Schema's, each with a suggestion if there is one near.
pub fn unknown_attributes(raw: &Value) -> Vec<(String, Option<String>)> {
    let attributes = raw.as_object().into_iter().flat_map(Map::keys);
    let unknown = attributes.filter(|name| !KEYWORDS.contains(&name.as_str()) && !name.starts_with("x-"));
    unknown.map(|name| (name.clone(), did_you_mean(name, KEYWORDS))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_attribute_is_found_with_what_was_meant() {
        let found = unknown_attributes(&json!({"type": "string", "requierd": true, "x-ui": 1}));
        assert_eq!(found, [("requierd".to_owned(), Some("did you mean `required`?".to_owned()))]);
    }
}
