//! A rule's metadata. Criteria have a file of their own.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::refs::{ActionRef, TriggerTypeRef};
use crate::model::rule::{Rule, RuleAction, RuleKind, Throttle};
use crate::model::trigger::Trigger;
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::metadata::criteria::read_criteria;
use crate::packs::metadata::{BOOKKEEPING, Origin, read_reference, read_target, read_word};
use crate::packs::yaml::{Entry, Node};

const KINDS: [(&str, RuleKind); 2] = [("standard", RuleKind::Standard), ("backstop", RuleKind::Backstop)];

/// A rule. As in StackStorm it is disabled unless it says otherwise.
pub fn read_rule(node: &Node, origin: &Origin, report: &mut Report) -> Option<Rule> {
    let mut fields = Fields::open(node, "rule", report)?;
    let name = fields.required_text("name", report);
    let reference = read_reference(name, &mut fields, origin, report);
    let description = fields.text("description", report).unwrap_or_default();
    let enabled = read_enabled(&mut fields, report);
    let trigger = read_part("trigger", &mut fields, report, read_trigger);
    let criteria = read_criteria(fields.map("criteria", report), report);
    let when = fields.text("when", report);
    let throttle = fields.node("throttle").map(|node| read_throttle(node, report));
    let action = read_part("action", &mut fields, report, read_rule_action);
    let kind = fields.node("type").map(|node| read_kind(node, report));
    let tags = fields.tags(report);
    let context = fields.json("context");
    fields.bookkeeping(BOOKKEEPING);
    // A rule whose `criteria` is misspelt would match everything.
    fields.refuse_rest(report);
    Some(Rule {
        reference: reference?,
        description,
        enabled,
        trigger: trigger?,
        criteria,
        when,
        throttle: match throttle {
            None => None,
            Some(read) => Some(read?),
        },
        action: action?,
        kind: kind.unwrap_or(Some(RuleKind::Standard))?,
        tags,
        context,
        metadata_file: origin.metadata_file.clone(),
    })
}

fn read_enabled(fields: &mut Fields<'_>, report: &mut Report) -> bool {
    let enabled = fields.flag("enabled", report);
    if enabled.is_none() {
        report.note(fields.span(), "the rule does not say `enabled`, so it is disabled, as in StackStorm");
        report.help("add `enabled: true` to switch it on");
    }
    enabled.unwrap_or(false)
}

fn read_part<T>(
    key: &'static str,
    fields: &mut Fields<'_>,
    report: &mut Report,
    read: fn(&Node, &mut Report) -> Option<T>,
) -> Option<T> {
    let node = fields.node(key);
    if node.is_none() {
        fields.missing(key, report);
    }
    read(node?, report)
}

fn read_trigger(node: &Node, report: &mut Report) -> Option<Trigger> {
    let mut fields = Fields::open(node, "trigger", report)?;
    let trigger_type: Option<TriggerTypeRef> = read_target("type", &mut fields, report);
    let parameters = read_values(&mut fields, report);
    fields.bookkeeping(&["ref", "description", "id", "uid"]);
    fields.finish(report);
    Some(Trigger { trigger_type: trigger_type?, parameters })
}

fn read_rule_action(node: &Node, report: &mut Report) -> Option<RuleAction> {
    let mut fields = Fields::open(node, "action of the rule", report)?;
    let reference: Option<ActionRef> = read_target("ref", &mut fields, report);
    let parameters = read_values(&mut fields, report);
    fields.bookkeeping(&["description", "id"]);
    fields.finish(report);
    Some(RuleAction { reference: reference?, parameters })
}

fn read_values(fields: &mut Fields<'_>, report: &mut Report) -> BTreeMap<String, Value> {
    let entries = fields.map("parameters", report);
    entries.iter().map(|entry: &Entry| (entry.key.clone(), entry.value.to_json())).collect()
}

fn read_throttle(node: &Node, report: &mut Report) -> Option<Throttle> {
    let mut fields = Fields::open(node, "throttle", report)?;
    let key = fields.text("key", report).unwrap_or_default();
    if fields.node("once_within").is_none() {
        fields.missing("once_within", report);
    }
    let once_within = fields.duration("once_within", report);
    fields.finish(report);
    Some(Throttle { key, once_within: once_within? })
}

/// `type: {ref: backstop}`, or for short `type: backstop`.
fn read_kind(node: &Node, report: &mut Report) -> Option<RuleKind> {
    if let Some((_, kind)) = KINDS.iter().find(|(word, _)| node.text() == Some(word)) {
        return Some(*kind);
    }
    let mut fields = Fields::open(node, "type of the rule", report)?;
    let kind = read_word("ref", &KINDS, &mut fields, report).unwrap_or(Ok(RuleKind::Standard));
    fields.bookkeeping(&["parameters"]);
    fields.finish(report);
    kind.ok()
}
