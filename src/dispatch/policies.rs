//! What the policies of the catalogue say about one execution: how many may run at once, and what is run again.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::execution::ExecutionStatus;
use crate::model::pack::{Catalogue, OverThreshold, Policy, PolicyRule, RetryOn};
use crate::model::refs::ActionRef;

/// A place that an execution must hold to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// Executions with the same key share the places.
    pub slot: String,
    /// How many places there are.
    pub threshold: u32,
    /// What becomes of those who find none.
    pub over: OverThreshold,
}

/// The concurrency policy that governs an execution, if one does. The first in order of reference decides.
pub fn concurrency_of(
    catalogue: &Catalogue,
    action: &ActionRef,
    parameters: &Map<String, Value>,
) -> Option<Concurrency> {
    policies_of(catalogue, action).find_map(|policy| match &policy.rule {
        PolicyRule::Concurrency { threshold, attributes, over } => {
            let values: Vec<String> = attributes
                .iter()
                .map(|name| format!("{name}={}", parameters.get(name).unwrap_or(&Value::Null)))
                .collect();
            let slot = format!("{} {}", policy.reference, values.join(","));
            Some(Concurrency { slot: slot.trim_end().to_owned(), threshold: *threshold, over: *over })
        }
        PolicyRule::Retry { .. } => None,
    })
}

/// How long to wait before the next attempt of an execution that ended as `status` after `retries` repetitions;
/// `None`: no further attempt.
pub fn retry_delay(
    catalogue: &Catalogue,
    action: &ActionRef,
    status: ExecutionStatus,
    retries: u64,
) -> Option<Duration> {
    policies_of(catalogue, action).find_map(|policy| match &policy.rule {
        PolicyRule::Retry { on, max_retry_count, delay } => {
            let applies = match on {
                RetryOn::Failure => status == ExecutionStatus::Failed,
                RetryOn::Timeout => status == ExecutionStatus::Timeout,
            };
            (applies && retries < u64::from(*max_retry_count)).then_some(*delay)
        }
        PolicyRule::Concurrency { .. } => None,
    })
}

fn policies_of<'c>(catalogue: &'c Catalogue, action: &'c ActionRef) -> impl Iterator<Item = &'c Policy> {
    catalogue.policies.values().map(AsRef::as_ref).filter(move |policy| policy.enabled && policy.resource == *action)
}
