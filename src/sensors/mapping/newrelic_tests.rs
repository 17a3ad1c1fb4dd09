//! The shipped New Relic pack against recorded shapes of all three generations: `tests/webhooks/*.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::sensors::body::{BodyLimits, parse_body};

use super::*;

/// One message, and what it must become.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    says: String,
    content_type: Option<String>,
    /// Exactly one of these three is the body.
    form: Option<BTreeMap<String, Value>>,
    json: Option<Value>,
    text: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, Value>,
    /// Exactly one of these two is the outcome.
    emits: Option<Vec<Expected>>,
    rejected: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    trigger: String,
    /// Fields that the payload must have among others.
    payload: BTreeMap<String, Value>,
    dedupe_key: String,
    delay_seconds: Option<u64>,
    held_as: Option<String>,
    cancels: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn newrelic() -> Mapper {
    Mapper::compile(include_str!("../../../packs/newrelic/sensors/newrelic_hook.rhai"), "newrelic_hook.rhai").unwrap()
}

fn cases(file: &Path) -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn files() -> Vec<PathBuf> {
    std::fs::read_dir(root().join("tests/webhooks")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A form's objects are sent as JSON text, as New Relic did.
fn request(case: &Case) -> WebhookRequest {
    let as_text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (kind, body) = match (&case.form, &case.json, &case.text) {
        (Some(form), None, None) => {
            let pairs = form.iter().map(|(name, value)| (name, as_text(value)));
            (
                "application/x-www-form-urlencoded",
                form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish(),
            )
        }
        (None, Some(json), None) => ("application/json", json.to_string()),
        (None, None, Some(text)) => ("application/json", text.clone()),
        _ => panic!("`{}` needs one of form, json and text", case.says),
    };
    let content_type = case.content_type.clone().unwrap_or_else(|| kind.to_owned());
    WebhookRequest {
        method: "POST".to_owned(),
        path: "st2/nrhook".to_owned(),
        headers: BTreeMap::new(),
        query: BTreeMap::new(),
        body: parse_body(Some(&content_type), body.as_bytes(), BodyLimits::default()).unwrap(),
        content_type: Some(content_type),
    }
}

fn assert_emitted(says: &str, emit: &Emit, expected: &Expected) {
    assert_eq!(emit.trigger.as_str(), expected.trigger, "{says}");
    for (name, value) in &expected.payload {
        assert_eq!(&emit.payload[name], value, "{says}: {name}");
    }
    assert_eq!(emit.dedupe_key.as_ref(), Some(&expected.dedupe_key), "{says}");
    assert_eq!(emit.delay.map(|delay| delay.as_secs()), expected.delay_seconds, "{says}: delay");
    assert_eq!(emit.held_as, expected.held_as, "{says}: held_as");
    assert_eq!(emit.cancels, expected.cancels, "{says}: cancels");
    assert_eq!(json!(emit.occurred_at), emit.payload["at"], "{says}: at");
}

#[test]
fn a04_every_recorded_message_becomes_exactly_the_right_triggers() {
    let (mapper, mut count) = (newrelic(), 0);
    for case in files().iter().flat_map(|file| cases(file)) {
        let outcome = mapper.map(&request(&case), &json!(case.config));
        match (&case.emits, &case.rejected, outcome) {
            (Some(expected), None, Ok(emits)) => {
                assert_eq!(emits.len(), expected.len(), "{}", case.says);
                emits.iter().zip(expected).for_each(|(emit, expected)| assert_emitted(&case.says, emit, expected));
            }
            (None, Some(why), Err(MapError::Rejected { status: 400, reason })) => {
                assert!(reason.contains(why.as_str()), "{}: {reason}", case.says);
            }
            (.., outcome) => panic!("{}: {outcome:?}", case.says),
        }
        count += 1;
    }
    assert!(count > 50, "only {count} messages were found");
}

#[test]
fn the_same_message_twice_has_the_same_key_and_every_state_a_key_of_its_own() {
    let mapper = newrelic();
    let mut keys = BTreeMap::new();
    for case in cases(&root().join("tests/webhooks/channels.json")).iter().filter(|case| case.config.is_empty()) {
        for emit in mapper.map(&request(case), &Value::Null).unwrap() {
            let again = mapper.map(&request(case), &Value::Null).unwrap();
            assert_eq!(again[0], emit);
            keys.entry(emit.dedupe_key.unwrap()).or_insert_with(Vec::new).push(emit.payload["state"].clone());
        }
    }
    assert!(keys.len() > 3);
    for (key, states) in keys {
        assert!(states.iter().all(|state| *state == states[0]), "{key} stands for {states:?}");
    }
}

#[test]
fn messages_with_a_field_missing_or_of_another_kind_never_break_the_script() {
    let mapper = newrelic();
    let odd = [Value::Null, json!(""), json!(7), json!(true), json!([]), json!([{}]), json!({"a": 1}), json!([[1]])];
    let mut tried = 0;
    for name in ["legacy", "channels", "workflows"] {
        let first = cases(&root().join(format!("tests/webhooks/{name}.json"))).remove(0);
        let (message, wrap): (Value, fn(Value) -> Value) = match (first.form, first.json) {
            (Some(mut form), _) => (form.remove("alert").unwrap(), |alert| json!({ "alert": [alert.to_string()] })),
            (None, json) => (json.unwrap(), |json| json),
        };
        for field in message.as_object().unwrap().keys() {
            for value in &odd {
                let mut message = message.clone();
                message[field] = value.clone();
                let request = WebhookRequest { body: wrap(message), ..bare_request() };
                let outcome = mapper.map(&request, &Value::Null);
                assert!(!matches!(outcome, Err(MapError::Script(_))), "{name} {field}={value}: {outcome:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300);
}

fn bare_request() -> WebhookRequest {
    WebhookRequest {
        method: "POST".to_owned(),
        path: "st2/nrhook".to_owned(),
        headers: BTreeMap::new(),
        query: BTreeMap::new(),
        body: Value::Null,
        content_type: None,
    }
}
