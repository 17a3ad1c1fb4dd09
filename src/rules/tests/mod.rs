//! The tables of `tests/rules`, and stories about whole rules.

mod index;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::model::refs::InstanceId;
use crate::model::rule::{Condition, Criterion, RuleAction, Throttle};
use crate::model::trigger::{InstanceStatus, Trigger};
use crate::templates::Scope;

struct Store;

impl Datastore for Store {
    fn get(&self, scope: Scope, key: &str) -> Result<Option<String>, String> {
        Ok((scope == Scope::System && key == "threshold.cpu").then(|| "90".to_owned()))
    }

    fn is_prefix(&self, _: Scope, prefix: &str) -> Result<bool, String> {
        Ok(prefix == "threshold")
    }

    fn decrypt(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

fn now() -> Timestamp {
    "2026-11-21T08:30:00Z".parse().unwrap()
}

fn rule(name: &str, criteria: Vec<Condition>) -> Rule {
    Rule {
        reference: format!("test.{name}").parse().unwrap(),
        description: String::new(),
        enabled: true,
        trigger: Trigger { trigger_type: "core.event".parse().unwrap(), parameters: BTreeMap::new() },
        criteria,
        when: None,
        throttle: None,
        action: RuleAction { reference: "core.local".parse().unwrap(), parameters: BTreeMap::new() },
        kind: RuleKind::Standard,
        tags: Vec::new(),
        context: Value::Null,
        metadata_file: String::new(),
    }
}

fn test(key: &str, operator: &str, pattern: Value) -> Condition {
    Condition::Test(Criterion { key: key.into(), operator: operator.into(), pattern: Some(pattern), condition: None })
}

fn condition(written: &Value) -> Condition {
    let (key, body) = written.as_object().unwrap().iter().next().unwrap();
    let members = || body.as_array().unwrap().iter().map(condition).collect();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    match key.as_str() {
        "any" => Condition::Any(members()),
        "all" => Condition::All(members()),
        "not" => Condition::Not(members()),
        key => Condition::Test(Criterion {
            key: key.to_owned(),
            operator: text("type").unwrap_or_default(),
            pattern: body.get("pattern").cloned(),
            condition: text("condition"),
        }),
    }
}

fn compiled(rule: &Rule) -> CompiledRule {
    CompiledRule::compile(rule).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn evaluate(rule: &Rule, payload: &Value) -> Verdict {
    let store: Arc<dyn Datastore> = Arc::new(Store);
    compiled(rule).evaluate(payload, Some(&store), now())
}

fn outcome(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Matched { .. } => json!(true),
        Verdict::NotMatched { .. } => json!(false),
        Verdict::Failed(_) => json!("fails"),
    }
}

fn table<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = format!("{}/tests/rules/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct OperatorCase {
    pattern: Value,
    value: Value,
    condition: Option<String>,
    expected: Value,
}

#[test]
fn operators_decide_as_the_table_says() {
    let cases: BTreeMap<String, Vec<OperatorCase>> = table("operators.yaml");
    for (operator, cases) in &cases {
        for OperatorCase { pattern, value, condition, expected } in cases {
            let criterion = Criterion {
                key: "trigger.value".into(),
                operator: operator.clone(),
                pattern: Some(pattern.clone()),
                condition: condition.clone(),
            };
            let verdict =
                evaluate(&rule("r", vec![Condition::Test(criterion)]), &json!({ "value": value, "other": 1 }));
            assert_eq!(outcome(&verdict), *expected, "{value} {operator} {pattern}: {verdict:?}");
        }
    }
    let tested: Vec<_> = operators::NAMES.iter().filter(|(name, _)| !cases.contains_key(*name)).collect();
    assert!(tested.is_empty(), "operators without a case in the table: {tested:?}");
}

#[derive(Deserialize)]
struct CriteriaCase {
    promise: String,
    criteria: Vec<Value>,
    when: Option<String>,
    payload: Value,
    expected: Value,
}

#[test]
fn criteria_decide_as_the_table_says() {
    for case in table::<Vec<CriteriaCase>>("criteria.yaml") {
        let written = Rule { when: case.when, ..rule("r", case.criteria.iter().map(condition).collect()) };
        let verdict = evaluate(&written, &case.payload);
        assert_eq!(outcome(&verdict), case.expected, "{}: {verdict:?}", case.promise);
    }
}

#[test]
fn everything_wrong_with_a_rule_is_reported_with_place_and_way_out() {
    let broken = Rule {
        when: Some("trigger.x >".into()),
        throttle: Some(Throttle { key: "{{ x".into(), once_within: Duration::from_secs(1) }),
        action: RuleAction {
            reference: "core.local".parse().unwrap(),
            parameters: BTreeMap::from([("cmd".to_owned(), json!({"a": ["{{ x"]}))]),
        },
        ..rule(
            "r",
            vec![
                test("trigger.a", "equls", json!(1)),
                test("body.n", "eq", json!(1)),
                Condition::Any(vec![test("trigger.b[1:2]", "regex", json!("("))]),
                test("trigger.c", "startswith", json!(5)),
                test("trigger.d", "search", json!({"item.x": {"type": "foo"}})),
                test("trigger.e", "eq", json!("{{ x")),
            ],
        )
    };
    let problems = CompiledRule::compile(&broken).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.where_.as_str()).collect();
    assert_eq!(
        places,
        [
            "criteria.trigger.a",
            "criteria.body.n",
            "criteria.any[0].trigger.b[1:2]",
            "criteria.any[0].trigger.b[1:2]",
            "criteria.trigger.c",
            "criteria.trigger.d",
            "criteria.trigger.d.pattern.item.x",
            "criteria.trigger.e",
            "when",
            "throttle.key",
            "action.parameters.cmd.a[0]",
        ]
    );
    assert_eq!(problems[0].help, "did you mean `equals`?");
    assert_eq!(problems[1].help, "write `trigger.body.n`");
}

#[test]
fn a_condition_over_an_unknown_name_is_refused_when_it_is_compiled() {
    let unknown = Rule { when: Some("payload.x == 1".into()), ..rule("r", vec![]) };
    let problems = CompiledRule::compile(&unknown).unwrap_err();
    assert!(problems[0].message.contains("payload"), "{problems:?}");
}

#[test]
fn a_throttle_key_is_rendered_for_a_rule_that_matches() {
    let throttle = Throttle { key: "{{ trigger.host }}".into(), once_within: Duration::from_mins(1) };
    let throttled = Rule { throttle: Some(throttle), ..rule("r", vec![]) };
    let verdict = evaluate(&throttled, &json!({"host": "web-1"}));
    assert_eq!(verdict, Verdict::Matched { throttle_key: Some("web-1".into()) });
    assert!(
        matches!(evaluate(&throttled, &json!({"x": 1})), Verdict::Failed(reason) if reason.contains("trigger.host"))
    );
    assert_eq!(compiled(&throttled).once_within(), Some(Duration::from_mins(1)));
}

#[test]
fn parameters_are_rendered_with_their_types_and_a_missing_name_is_an_error() {
    let parameters = BTreeMap::from([
        ("cmd".to_owned(), json!("echo {{ trigger.n }}")),
        ("count".to_owned(), json!("{{ trigger.n }}")),
        ("fixed".to_owned(), json!([1])),
    ]);
    let reference = "core.local".parse().unwrap();
    let compiled = compiled(&Rule { action: RuleAction { reference, parameters }, ..rule("r", vec![]) });
    let rendered = compiled.render_parameters(&json!({"trigger": {"n": 3}}), None).unwrap();
    assert_eq!(Value::Object(rendered), json!({"cmd": "echo 3", "count": 3, "fixed": [1]}));
    let error = compiled.render_parameters(&json!({"trigger": {}}), None).unwrap_err();
    assert!(error.contains("parameter `cmd`") && error.contains("`trigger.n` is undefined"), "{error}");
}

#[test]
fn an_explanation_evaluates_everything_and_says_why() {
    let explained = Rule {
        when: Some("trigger.n > 5".into()),
        ..rule(
            "r",
            vec![
                test("trigger.a", "eq", json!(1)),
                Condition::Any(vec![test("trigger.n", "gt", json!(9)), test("trigger.s", "gt", json!(1))]),
                test("trigger.s", "startswith", json!("web")),
            ],
        )
    };
    let rows = compiled(&explained).explain(&json!({"a": 2, "n": 3, "s": "web-1"}), None, now());
    let shown: Vec<_> = rows.iter().map(|row| (row.depth, row.key.as_str(), row.held, row.why.as_str())).collect();
    assert_eq!(
        shown,
        [
            (0, "trigger.a", false, "2 eq 1 is false"),
            (0, "any", false, "failed: trigger.s gt: a text and a number have no order"),
            (1, "trigger.n", false, "3 gt 9 is false"),
            (1, "trigger.s", false, "failed: trigger.s gt: a text and a number have no order"),
            (0, "trigger.s", true, "\"web-1\" startswith \"web\" is true"),
            (0, "when", false, "it did not hold"),
        ]
    );
}

fn instance(payload: Value) -> TriggerInstance {
    TriggerInstance {
        id: InstanceId::from_bytes([0; 12]),
        trigger: "core.event".into(),
        trigger_type: "core.event".parse().unwrap(),
        payload,
        occurred_at: now(),
        trace_tag: String::new(),
        status: InstanceStatus::Pending,
    }
}

fn index_of(rules: &[Rule]) -> RuleIndex {
    RuleIndex::build(rules.iter().map(|rule| Arc::new(compiled(rule))))
}

fn matched(index: &RuleIndex, payload: Value) -> Vec<(String, bool)> {
    let found = match_instance(index, &instance(payload), None, now());
    found
        .iter()
        .map(|(rule, found)| (rule.reference().name().to_owned(), matches!(found, Match::Matched { .. })))
        .collect()
}

#[test]
fn backstop_rules_fire_only_if_no_standard_rule_matched() {
    let backstop = Rule { kind: RuleKind::Backstop, ..rule("a_backstop", vec![]) };
    let index = index_of(&[backstop, rule("b", vec![test("trigger.n", "gt", json!(5))])]);
    assert_eq!(matched(&index, json!({"n": 6})), [("b".to_owned(), true)]);
    assert_eq!(matched(&index, json!({"n": 1})), [("a_backstop".to_owned(), true)]);
    let both = [("b".to_owned(), false), ("a_backstop".to_owned(), true)];
    assert_eq!(matched(&index, json!({"n": "x"})), both, "a failure is no match");
}

#[test]
fn matches_come_in_the_order_of_references_and_disabled_rules_are_silent() {
    let off = Rule { enabled: false, ..rule("b", vec![]) };
    let index = index_of(&[rule("c", vec![]), off, rule("a", vec![test("trigger.x", "eq", json!(1))])]);
    assert_eq!(matched(&index, json!({"x": 1})), [("a".to_owned(), true), ("c".to_owned(), true)]);
}

#[test]
fn rules_of_other_triggers_are_not_candidates() {
    let parameters = BTreeMap::from([("url".to_owned(), json!("hook"))]);
    let trigger = Trigger { trigger_type: "core.event".parse().unwrap(), parameters };
    let index = index_of(&[Rule { trigger, ..rule("a", vec![]) }]);
    assert!(index.candidates("core.event", &json!({})).is_empty());
    assert_eq!(index.candidates("core.event{url=\"hook\"}", &json!({})).len(), 1);
}
