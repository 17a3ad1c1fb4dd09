//! Schemas refuse what they should, and StackStorm's flavour is understood.

use serde_json::json;

use super::*;
use crate::model::action::ParameterSpec;

fn accepts(schema: &Value, value: &Value) -> bool {
    Schema::compile(schema).unwrap().validate(value).is_ok()
}

#[test]
fn every_violation_is_named_with_its_place() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}, "s": {"pattern": "^a(?!b)"}}});
    let schema = Schema::compile(&schema).unwrap();
    assert_eq!(schema.validate(&json!({"n": 1, "s": "ac"})), Ok(()));
    let violations = schema.validate(&json!({"n": "x", "s": "ab"})).unwrap_err();
    let places: Vec<_> = violations.iter().map(|violation| violation.path.as_str()).collect();
    assert_eq!(places, ["/n", "/s"]);
    assert!(violations[0].to_string().starts_with("/n: "), "{}", violations[0]);
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    let error = Schema::compile(&json!({"properties": {"n": {"type": "whole"}}})).unwrap_err();
    assert!(error.to_string().contains("/properties/n/type"), "{error}");
}

#[test]
fn an_attribute_of_a_parameter_is_not_part_of_its_schema() {
    let raw = json!({
        "type": "string", "description": "d", "required": true, "secret": true, "position": 2,
        "immutable": true, "default": "x", "minLength": 1
    });
    let spec = translate_parameter(&raw).unwrap();
    assert_eq!(spec.schema, json!({"type": "string", "default": "x", "minLength": 1}));
    let rest = (spec.description.as_str(), spec.required, spec.secret, spec.immutable, spec.position);
    assert_eq!(rest, ("d", true, true, true, Some(2)));
    assert_eq!(spec.default, Some(json!("x")));
}

#[test]
fn what_is_optional_may_be_null() {
    let cases = [
        json!({"type": "integer"}),
        json!({"type": "string", "enum": ["a", "b"]}),
        json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"type": ["string", "integer"]}),
        json!({}),
        json!(null),
    ];
    for raw in cases {
        assert!(accepts(&translate_parameter(&raw).unwrap().schema, &Value::Null), "{raw}");
    }
    let required = translate_parameter(&json!({"type": "integer", "required": true})).unwrap();
    assert!(!accepts(&required.schema, &Value::Null));
    let listed = translate_parameter(&json!({"type": "string", "enum": ["a"]})).unwrap();
    assert!(!accepts(&listed.schema, &json!("c")));
}

#[test]
fn required_inside_a_property_is_required_of_the_object() {
    let raw = json!({"type": "object", "required": true, "additionalProperties": false, "properties": {
        "host": {"type": "string", "required": true},
        "port": {"type": "integer", "secret": true, "minimum": 0, "exclusiveMinimum": true},
        "more": {"type": "array", "items": {"type": "object", "properties": {"x": {"required": true}}}}
    }});
    let spec = translate_parameter(&raw).unwrap();
    assert!(spec.secret, "a secret inside makes the whole a secret");
    for good in [json!({"host": "a"}), json!({"host": "a", "port": null}), json!({"host": "a", "more": [{"x": 1}]})] {
        assert!(accepts(&spec.schema, &good), "{good}");
    }
    for bad in [json!({}), json!({"host": null}), json!({"host": "a", "port": 0}), json!({"host": "a", "more": [{}]})] {
        assert!(!accepts(&spec.schema, &bad), "{bad}");
    }
}

#[test]
fn attributes_that_make_no_sense_are_refused() {
    let cases = [
        (json!({"type": "bool"}), "is not a type"),
        (json!({"required": "yes"}), "`required`"),
        (json!({"position": -1}), "`position`"),
        (json!({"type": "object", "properties": {"a": {"type": "str"}}}), "property `a`"),
        (json!("string"), "attributes"),
    ];
    for (raw, part) in cases {
        let error = translate_parameter(&raw).unwrap_err();
        assert!(error.contains(part), "{raw}: {error}");
    }
}

#[test]
fn rendered_texts_become_what_is_declared() {
    let spec = |types: Value| ParameterSpec { schema: json!({ "type": types }), ..ParameterSpec::default() };
    let cases = [
        (json!("integer"), json!(" 5 "), Some(json!(5))),
        (json!("integer"), json!(5.7), Some(json!(5))),
        (json!("integer"), json!("x"), None),
        (json!("integer"), json!(""), None),
        (json!(["integer", "null"]), json!("7"), Some(json!(7))),
        (json!("number"), json!("1.5"), Some(json!(1.5))),
        (json!("number"), json!("nan"), None),
        (json!("boolean"), json!("True"), Some(json!(true))),
        (json!("boolean"), json!("no"), None),
        (json!("array"), json!("[1]"), Some(json!([1]))),
        (json!("array"), json!("{}"), None),
        (json!("object"), json!(r#"{"a": 1}"#), Some(json!({"a": 1}))),
        (json!("string"), json!(5), Some(json!("5"))),
        (json!("string"), json!(true), Some(json!("True"))),
        (json!("string"), json!({"a": 1}), Some(json!(r#"{"a":1}"#))),
        (json!("string"), json!("5"), Some(json!("5"))),
        (json!(["integer", "string"]), json!("5"), Some(json!("5"))),
        (json!("integer"), json!(null), Some(json!(null))),
    ];
    for (types, value, expected) in cases {
        assert_eq!(cast(&spec(types.clone()), value.clone()).ok(), expected, "{value} as {types}");
    }
    let wrapped = translate_parameter(&json!({"type": "integer", "enum": [1, 2]})).unwrap();
    assert_eq!(cast(&wrapped, json!("2")), Ok(json!(2)));
}

#[test]
fn a_schema_that_refers_to_itself_for_ever_is_no_danger() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"not": {"$ref": "#"}}]}),
        json!({"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}, "$ref": "#/definitions/a"}),
        json!({"if": {"$ref": "#"}, "then": {"$ref": "#"}}),
    ] {
        // Refused or without an end to its references: whatever is said, it is said.
        if let Ok(schema) = Schema::compile(&schema) {
            drop(schema.validate(&json!({"a": [1]})));
        }
    }
}
