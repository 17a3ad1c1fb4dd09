//! A rule in the words of its metadata: what `GET /rules` shows and `PUT /rules` takes back.

use serde_json::{Map, Value, json};

use crate::api::content::{object, tags};
use crate::model::pack::Catalogue;
use crate::model::rule::{Condition, Criterion, Rule, RuleKind};
use crate::model::time::format_duration;

/// A rule as clients see it.
pub(super) fn shown(rule: &Rule, catalogue: &Catalogue) -> Value {
    object(&rule.reference, catalogue.broken.get(&rule.reference.uid()), definition(rule))
}

/// What the rule says, without bookkeeping.
fn definition(rule: &Rule) -> Value {
    let kind = match rule.kind {
        RuleKind::Standard => "standard",
        RuleKind::Backstop => "backstop",
    };
    let mut own = json!({
        "description": rule.description,
        "enabled": rule.enabled,
        "trigger": {
            "type": rule.trigger.trigger_type,
            "ref": rule.trigger.trigger_type,
            "parameters": rule.trigger.parameters,
        },
        "criteria": conditions(&rule.criteria),
        "action": { "ref": rule.action.reference, "parameters": rule.action.parameters },
        "type": { "ref": kind, "parameters": {} },
        "tags": tags(&rule.tags),
        "context": rule.context,
        "metadata_file": rule.metadata_file,
    });
    if let Some(when) = &rule.when {
        own["when"] = json!(when);
    }
    if let Some(throttle) = &rule.throttle {
        own["throttle"] = json!({ "key": throttle.key, "once_within": format_duration(throttle.once_within) });
    }
    own
}

fn conditions(all: &[Condition]) -> Value {
    Value::Object(all.iter().map(condition).collect::<Map<_, _>>())
}

fn condition(condition: &Condition) -> (String, Value) {
    let group = |members: &[Condition]| members.iter().map(alternative).collect();
    match condition {
        Condition::Test(test) => (test.key.clone(), criterion(test)),
        Condition::All(members) => ("all".to_owned(), group(members)),
        Condition::Any(members) => ("any".to_owned(), group(members)),
        Condition::Not(members) => ("not".to_owned(), group(members)),
    }
}

/// An item of a group: criteria that hold together stand in one map.
fn alternative(member: &Condition) -> Value {
    conditions(std::slice::from_ref(member))
}

fn criterion(test: &Criterion) -> Value {
    let mut shown = Map::new();
    if !test.operator.is_empty() {
        shown.insert("type".to_owned(), json!(test.operator));
    }
    if let Some(pattern) = &test.pattern {
        shown.insert("pattern".to_owned(), pattern.clone());
    }
    if let Some(condition) = &test.condition {
        shown.insert("condition".to_owned(), json!(condition));
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packs::rule_layer::read_definition;

    #[test]
    fn what_is_shown_of_a_rule_can_be_given_back() {
        let written = json!({
            "name": "r", "pack": "default", "enabled": true, "when": "trigger.n > 1", "type": "backstop",
            "trigger": {"type": "core.st2.webhook", "parameters": {"url": "x"}},
            "criteria": {
                "trigger.body.a": {"type": "eq", "pattern": 1},
                "any": [{"trigger.body.b": {"type": "exists"}}, {"trigger.body.c": {"type": "gt", "pattern": 3}}],
                "not": [{"trigger.body.d": {"type": "exists"}}],
            },
            "throttle": {"key": "{{ trigger.body.host }}", "once_within": "10m"},
            "action": {"ref": "core.local", "parameters": {"cmd": "date"}},
            "tags": [{"name": "team", "value": "night"}],
        });
        let rule = read_definition(&written).unwrap();
        let shown = shown(&rule, &Catalogue::default());
        assert_eq!(read_definition(&shown).unwrap(), rule);
        assert_eq!(shown["uid"], "rule:default:r");
        assert_eq!(shown["id"].as_str().unwrap().len(), 24);
    }
}
