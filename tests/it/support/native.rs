//! Native actions called without a daemon around them.

use std::collections::BTreeMap;
use std::sync::Arc;

use petrel::model::action::{Action, OnLost};
use petrel::model::refs::ExecutionId;
use petrel::runners::{Call, OutputSink};
use serde_json::Value;

/// A call of the action `pack.name`, as a workflow makes it.
pub(crate) fn call(reference: &str, parameters: &Value) -> Call {
    let action = Action {
        reference: reference.parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "native".to_owned(),
        entry_point: reference.into(),
        parameters: BTreeMap::new(),
        output_schema: BTreeMap::new(),
        tags: Vec::new(),
        notify: Value::Null,
        on_lost: OnLost::Retry,
        permission: None,
        metadata_file: String::new(),
    };
    Call {
        execution: ExecutionId::from_bytes([8; 12]),
        attempt: 1,
        action: Arc::new(action),
        parameters: parameters.as_object().unwrap().clone(),
        user: "admin".to_owned(),
        output: OutputSink::ignored(),
        timeout: None,
    }
}
