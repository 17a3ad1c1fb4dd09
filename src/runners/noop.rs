//! The runner `noop`: does nothing, well. For tests, placeholders and steps that only mark a place.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::{Call, Outcome, RunEnd, Runner, Stop};
use crate::model::action::ParameterSpec;

/// Succeeds whatever it is given.
#[derive(Debug, Default, Clone, Copy)]
pub struct Noop;

#[async_trait]
impl Runner for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        BTreeMap::new()
    }

    async fn run(&self, _call: Call, _stop: Stop) -> RunEnd {
        RunEnd::Finished(Outcome::succeeded(json!({ "failed": false, "succeeded": true, "return_code": 0 })))
    }
}
