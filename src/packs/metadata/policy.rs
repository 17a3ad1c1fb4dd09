//! Policies: how many at once, and what is tried again.

use std::time::Duration;

use crate::model::pack::{OverThreshold, Policy, PolicyRule, RetryOn};
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::metadata::{BOOKKEEPING, Origin, read_reference, read_target, read_word};
use crate::packs::yaml::Node;

#[derive(Clone, Copy)]
enum PolicyType {
    Concurrency,
    ConcurrencyByAttribute,
    Retry,
}

const TYPES: [(&str, PolicyType); 3] = [
    ("action.concurrency", PolicyType::Concurrency),
    ("action.concurrency.attr", PolicyType::ConcurrencyByAttribute),
    ("action.retry", PolicyType::Retry),
];
const OVER: [(&str, OverThreshold); 2] = [("delay", OverThreshold::Delay), ("cancel", OverThreshold::Cancel)];
const RETRY_ON: [(&str, RetryOn); 2] = [("failure", RetryOn::Failure), ("timeout", RetryOn::Timeout)];

/// A policy.
pub fn read_policy(node: &Node, origin: &Origin, report: &mut Report) -> Option<Policy> {
    let mut fields = Fields::open(node, "policy", report)?;
    let name = fields.required_text("name", report);
    let reference = read_reference(name, &mut fields, origin, report);
    let resource = read_target("resource_ref", &mut fields, report);
    let enabled = fields.flag("enabled", report).unwrap_or(true);
    let policy_type = read_word("policy_type", &TYPES, &mut fields, report);
    if fields.node("policy_type").is_none() {
        fields.missing("policy_type", report);
    }
    let parameters = fields.node("parameters");
    if parameters.is_none() {
        fields.missing("parameters", report);
    }
    fields.bookkeeping(BOOKKEEPING);
    fields.bookkeeping(&["description"]);
    fields.finish(report);
    let rule = match policy_type?.ok()? {
        PolicyType::Concurrency => read_concurrency(parameters?, report),
        PolicyType::ConcurrencyByAttribute => read_concurrency_by_attribute(parameters?, report),
        PolicyType::Retry => read_retry(parameters?, report),
    };
    Some(Policy {
        reference: reference?,
        enabled,
        resource: resource?,
        rule: rule?,
        metadata_file: origin.metadata_file.clone(),
    })
}

fn read_concurrency(node: &Node, report: &mut Report) -> Option<PolicyRule> {
    let mut fields = Fields::open(node, "concurrency policy", report)?;
    let rule = read_threshold(&mut fields, Vec::new(), report);
    fields.finish(report);
    rule
}

fn read_concurrency_by_attribute(node: &Node, report: &mut Report) -> Option<PolicyRule> {
    let mut fields = Fields::open(node, "concurrency policy", report)?;
    let attributes = fields.texts("attributes", report);
    if attributes.is_empty() {
        fields.missing("attributes", report);
    }
    let rule = read_threshold(&mut fields, attributes, report);
    fields.finish(report);
    rule
}

fn read_threshold(fields: &mut Fields<'_>, attributes: Vec<String>, report: &mut Report) -> Option<PolicyRule> {
    if fields.node("threshold").is_none() {
        fields.missing("threshold", report);
    }
    let threshold = fields.count("threshold", report);
    let over = read_word("action", &OVER, fields, report).unwrap_or(Ok(OverThreshold::Delay));
    if threshold == Some(0) {
        report.error(fields.span(), "a threshold of 0 would let nothing run");
        report.help("disable the action instead, or give a threshold of at least 1");
        return None;
    }
    Some(PolicyRule::Concurrency { threshold: threshold?, attributes, over: over.ok()? })
}

fn read_retry(node: &Node, report: &mut Report) -> Option<PolicyRule> {
    let mut fields = Fields::open(node, "retry policy", report)?;
    let on = read_word("retry_on", &RETRY_ON, &mut fields, report);
    if fields.node("retry_on").is_none() {
        fields.missing("retry_on", report);
    }
    let max_retry_count = fields.count("max_retry_count", report).unwrap_or(2);
    let delay = fields.duration("delay", report).unwrap_or(Duration::ZERO);
    fields.finish(report);
    if !(1..=5).contains(&max_retry_count) {
        report.warning(node.locate(&["max_retry_count"]), "StackStorm allows 1 to 5 retries");
    }
    if delay > Duration::from_mins(2) {
        report.warning(node.locate(&["delay"]), "StackStorm allows a delay of at most 120 seconds");
    }
    Some(PolicyRule::Retry { on: on?.ok()?, max_retry_count, delay })
}
