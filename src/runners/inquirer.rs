//! The runner `inquirer`: asks people, and says so instead of waiting itself.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::declared::{parameter, read, with_default};
use super::{Call, RunEnd, Runner, Stop, WaitsFor};
use crate::model::action::ParameterSpec;

/// A day, as in StackStorm.
const DEFAULT_TTL_MINUTES: u64 = 1440;

/// Opens an inquiry.
#[derive(Debug, Default, Clone, Copy)]
pub struct Inquirer;

#[async_trait]
impl Runner for Inquirer {
    fn name(&self) -> &'static str {
        "inquirer"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        BTreeMap::from([
            with_default(parameter("schema", "object", "JSON Schema of the answer."), default_schema()),
            with_default(parameter("route", "string", "Where the question is announced."), json!("")),
            with_default(parameter("roles", "array", "Who may answer, by role; empty: everybody."), json!([])),
            with_default(parameter("users", "array", "Who may answer, by name; empty: everybody."), json!([])),
            with_default(
                parameter("ttl", "integer", "Without an answer it times out after this many minutes."),
                json!(DEFAULT_TTL_MINUTES),
            ),
        ])
    }

    async fn run(&self, call: Call, _stop: Stop) -> RunEnd {
        match read::<Given>(&call.parameters) {
            Ok(given) => RunEnd::Waiting(given.into_inquiry()),
            Err(outcome) => RunEnd::Finished(outcome),
        }
    }
}

#[derive(Deserialize)]
struct Given {
    #[serde(default = "default_schema")]
    schema: Value,
    #[serde(default)]
    route: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default = "default_ttl_minutes")]
    ttl: u64,
}

impl Given {
    fn into_inquiry(self) -> WaitsFor {
        WaitsFor::Inquiry {
            schema: with_required_lifted(self.schema),
            route: self.route,
            roles: self.roles,
            users: self.users,
            ttl: Duration::from_secs(self.ttl.saturating_mul(60)),
        }
    }
}

fn default_ttl_minutes() -> u64 {
    DEFAULT_TTL_MINUTES
}

fn default_schema() -> Value {
    json!({
        "title": "response_data",
        "type": "object",
        "properties": {
            "continue": { "type": "boolean", "description": "Would you like to continue the workflow?" },
        },
        "required": ["continue"],
    })
}

/// StackStorm's schemas say `required: true` inside a property (draft 3); JSON Schema wants the list beside them.
fn with_required_lifted(mut schema: Value) -> Value {
    let Some(object) = schema.as_object_mut() else {
        return schema;
    };
    let names = object.get_mut("properties").and_then(Value::as_object_mut).map(take_required).unwrap_or_default();
    if names.is_empty() {
        return schema;
    }
    let listed = object.entry("required").or_insert_with(|| json!([]));
    if let Some(listed) = listed.as_array_mut() {
        listed.extend(names.into_iter().map(Value::String));
    }
    schema
}

fn take_required(properties: &mut Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, property) in properties {
        let inline = property.as_object_mut().filter(|inside| inside.get("required").is_some_and(Value::is_boolean));
        if inline.and_then(|inside| inside.remove("required")) == Some(Value::Bool(true)) {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry(parameters: &Value) -> WaitsFor {
        let parameters = parameters.as_object().unwrap().clone();
        read::<Given>(&parameters).unwrap().into_inquiry()
    }

    #[test]
    fn without_parameters_it_asks_whether_to_continue_for_a_day() {
        let expected = WaitsFor::Inquiry {
            schema: default_schema(),
            route: String::new(),
            roles: Vec::new(),
            users: Vec::new(),
            ttl: Duration::from_hours(24),
        };
        assert_eq!(inquiry(&json!({})), expected);
    }

    #[test]
    fn a_stackstorm_schema_becomes_json_schema() {
        let given = json!({
            "ttl": 1,
            "schema": { "type": "object", "properties": {
                "pin": { "type": "integer", "required": true },
                "note": { "type": "string", "required": false },
            }},
        });
        let WaitsFor::Inquiry { schema, ttl, .. } = inquiry(&given) else { panic!("no inquiry") };
        assert_eq!(ttl, Duration::from_mins(1));
        let expected = json!({
            "type": "object",
            "properties": { "pin": { "type": "integer" }, "note": { "type": "string" } },
            "required": ["pin"],
        });
        assert_eq!(schema, expected);
    }
}
