//! The criteria of a rule: StackStorm's map of tests, and Petrel's `any`, `all` and `not` around them.

use crate::model::rule::{Condition, Criterion};
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::yaml::{Entry, Node, NodeKind};

/// The conditions of a map, in the order in which they are written; all of them must hold.
pub fn read_criteria(entries: &[Entry], report: &mut Report) -> Vec<Condition> {
    entries.iter().filter_map(|entry| read_condition(entry, report)).collect()
}

fn read_condition(entry: &Entry, report: &mut Report) -> Option<Condition> {
    let group: Option<fn(Vec<Condition>) -> Condition> = match entry.key.as_str() {
        "any" => Some(Condition::Any),
        "all" => Some(Condition::All),
        "not" => Some(Condition::Not),
        _ => None,
    };
    match group.filter(|_| is_group(&entry.value)) {
        Some(group) => read_group(entry, report).map(group),
        None => read_criterion(entry, report).map(Condition::Test),
    }
}

/// A group holds a list, or a map of tests; a single test has a `type` that is a text.
fn is_group(node: &Node) -> bool {
    match &node.kind {
        NodeKind::List(_) => true,
        NodeKind::Map(entries) => entries.iter().all(|entry| entry.value.scalar().is_none()),
        NodeKind::Scalar(_) => false,
    }
}

fn read_group(entry: &Entry, report: &mut Report) -> Option<Vec<Condition>> {
    let conditions = match &entry.value.kind {
        NodeKind::List(items) => {
            let alternatives: Vec<_> = items.iter().filter_map(|item| read_alternative(item, report)).collect();
            if alternatives.len() < items.len() {
                return None;
            }
            alternatives
        }
        NodeKind::Map(entries) => read_criteria(entries, report),
        NodeKind::Scalar(_) => Vec::new(),
    };
    if conditions.is_empty() {
        report.error(entry.key_span, format!("the group `{}` is empty", entry.key));
        report.help("give it criteria, or remove it");
        return None;
    }
    Some(conditions)
}

/// One item of a group's list: a map of criteria that hold together.
fn read_alternative(node: &Node, report: &mut Report) -> Option<Condition> {
    let Some(entries) = node.entries().filter(|entries| !entries.is_empty()) else {
        report.error(node.span, format!("an item of a group must be a map of criteria, not {}", node.shape()));
        return None;
    };
    let mut conditions = read_criteria(entries, report);
    if conditions.len() < entries.len() {
        return None;
    }
    if conditions.len() == 1 { conditions.pop() } else { Some(Condition::All(conditions)) }
}

fn read_criterion(entry: &Entry, report: &mut Report) -> Option<Criterion> {
    let mut fields = Fields::open(&entry.value, "criterion", report)?;
    let operator = fields.text("type", report);
    if operator.is_none() {
        report.warning(entry.key_span, format!("the criterion `{}` has no `type`, so it never holds", entry.key));
        report.help("add an operator, as `type: equals`");
    }
    let pattern = fields.entry("pattern").map(|entry| entry.value.to_json());
    let condition = fields.text("condition", report);
    fields.finish(report);
    Some(Criterion { key: entry.key.clone(), operator: operator.unwrap_or_default(), pattern, condition })
}
