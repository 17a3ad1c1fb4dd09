//! Why a rule fires or does not: every condition is evaluated, also those after one that did not hold.

use serde_json::{Value, json};

use crate::rules::CompiledRule;
use crate::rules::criteria::{Check, Compiled, Outcome, Test};
use crate::rules::facts::Facts;
use crate::rules::values;

/// One condition, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// How deep inside groups it stands; 0 is the top.
    pub depth: usize,
    /// The criterion's key; `all`, `any`, `not` for a group; `when`; `throttle`; `payload`.
    pub key: String,
    /// As written; empty for groups.
    pub operator: String,
    /// What it was compared with, rendered; null if there is none.
    pub pattern: Value,
    /// What the payload has there; null if nothing.
    pub value: Value,
    /// Whether it held.
    pub held: bool,
    /// In words.
    pub why: String,
}

/// How a condition is called in a verdict.
pub(super) fn name_of(condition: &Compiled) -> String {
    match condition {
        Compiled::Test(test) => format!("{} {}", test.key, test.operator_name),
        Compiled::All(_) => "all".to_owned(),
        Compiled::Any(_) => "any".to_owned(),
        Compiled::Not(_) => "not".to_owned(),
    }
}

pub(super) fn explain(rule: &CompiledRule, facts: &Facts<'_>) -> Vec<Explanation> {
    let mut rows = Vec::new();
    if !rule.criteria.is_empty() && values::is_empty(facts.root) {
        rows.push(Explanation {
            value: facts.root.clone(),
            ..row("payload", &Outcome::NotHeld, "a rule with criteria never matches an empty payload")
        });
    }
    for condition in &rule.criteria {
        explain_condition(condition, 0, facts, &mut rows);
    }
    if let Some(when) = &rule.when {
        let outcome = Outcome::from(rule.when_holds(facts));
        rows.push(Explanation { operator: when.source().to_owned(), ..row("when", &outcome, "") });
    }
    if let Some(throttle) = &rule.throttle {
        let (outcome, key) = match rule.throttle_key(facts) {
            Ok(key) => (Outcome::Held, json!(key)),
            Err(reason) => (Outcome::Failed(reason), Value::Null),
        };
        let pattern = Value::from(throttle.key.source());
        rows.push(Explanation { value: key, pattern, ..row("throttle", &outcome, "repetitions count under this key") });
    }
    rows
}

fn row(key: &str, outcome: &Outcome, why: &str) -> Explanation {
    let why = match outcome {
        Outcome::Failed(reason) => format!("failed: {reason}"),
        Outcome::Held if why.is_empty() => "it held".to_owned(),
        Outcome::NotHeld if why.is_empty() => "it did not hold".to_owned(),
        Outcome::Held | Outcome::NotHeld => why.to_owned(),
    };
    Explanation {
        depth: 0,
        key: key.to_owned(),
        operator: String::new(),
        pattern: Value::Null,
        value: Value::Null,
        held: *outcome == Outcome::Held,
        why,
    }
}

fn explain_condition(condition: &Compiled, depth: usize, facts: &Facts<'_>, rows: &mut Vec<Explanation>) {
    let (members, needed) = match condition {
        Compiled::Test(test) => {
            rows.push(Explanation { depth, ..explain_test(test, facts) });
            return;
        }
        Compiled::All(members) => (members, "every one has to hold"),
        Compiled::Any(members) => (members, "one has to hold"),
        Compiled::Not(members) => (members, "none may hold"),
    };
    let group = row(&name_of(condition), &condition.outcome(facts), needed);
    rows.push(Explanation { depth, ..group });
    for member in members {
        explain_condition(member, depth + 1, facts, rows);
    }
}

fn explain_test(test: &Test, facts: &Facts<'_>) -> Explanation {
    let outcome = test.outcome(facts);
    let value = test.value(facts).map(std::borrow::Cow::into_owned).unwrap_or_default();
    let pattern = test.pattern(facts).unwrap_or_default();
    let why = match &test.check {
        Check::Never => "no operator is given (`type:`), so it never holds".to_owned(),
        Check::Search(..) => String::new(),
        Check::Literal(_) | Check::Rendered(..) => sentence(test, &value, &pattern, &outcome),
    };
    Explanation { operator: test.operator_name.clone(), pattern, value, ..row(&test.key, &outcome, &why) }
}

fn sentence(test: &Test, value: &Value, pattern: &Value, outcome: &Outcome) -> String {
    let answer = if *outcome == Outcome::Held { "true" } else { "false" };
    let missing = if value.is_null() { " (nothing there)" } else { "" };
    format!("{value}{missing} {} {pattern} is {answer}", test.operator_name)
}
