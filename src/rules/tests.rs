//! The tables of `tests/rules`, stories about whole rules, and the promise of the index.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, prop, prop_assert_eq, prop_oneof, proptest};
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
        trigger: Trigger {
            trigger_type: "core.event".parse().unwrap(),
            parameters: BTreeMap::new(),
        },
        criteria,
        when: None,
        throttle: None,
        action: RuleAction {
            reference: "core.local".parse().unwrap(),
            parameters: BTreeMap::new(),
        },
        kind: RuleKind::Standard,
        tags: Vec::new(),
        context: Value::Null,
        metadata_file: String::new(),
    }
}

fn test(key: &str, operator: &str, pattern: Value) -> Condition {
    Condition::Test(Criterion {
        key: key.into(),
        operator: operator.into(),
        pattern: Some(pattern),
        condition: None,
    })
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
        for OperatorCase {
            pattern,
            value,
            condition,
            expected,
        } in cases
        {
            let criterion = Criterion {
                key: "trigger.value".into(),
                operator: operator.clone(),
                pattern: Some(pattern.clone()),
                condition: condition.clone(),
            };
            let verdict = evaluate(
                &rule("r", vec![Condition::Test(criterion)]),
                &json!({ "value": value, "other": 1 }),
            );
            assert_eq!(
                outcome(&verdict),
                *expected,
                "{value} {operator} {pattern}: {verdict:?}"
            );
        }
    }
    let tested: Vec<_> = operators::NAMES
        .iter()
        .filter(|(name, _)| !cases.contains_key(*name))
        .collect();
    assert!(
        tested.is_empty(),
        "operators without a case in the table: {tested:?}"
    );
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
        let written = Rule {
            when: case.when,
            ..rule("r", case.criteria.iter().map(condition).collect())
        };
        let verdict = evaluate(&written, &case.payload);
        assert_eq!(
            outcome(&verdict),
            case.expected,
            "{}: {verdict:?}",
            case.promise
        );
    }
}

#[test]
fn everything_wrong_with_a_rule_is_reported_with_place_and_way_out() {
    let broken = Rule {
        when: Some("trigger.x >".into()),
        throttle: Some(Throttle {
            key: "{{ x".into(),
            once_within: Duration::from_secs(1),
        }),
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
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.where_.as_str())
        .collect();
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
    let unknown = Rule {
        when: Some("payload.x == 1".into()),
        ..rule("r", vec![])
    };
    let problems = CompiledRule::compile(&unknown).unwrap_err();
    assert!(problems[0].message.contains("payload"), "{problems:?}");
}

#[test]
fn a_throttle_key_is_rendered_for_a_rule_that_matches() {
    let throttle = Throttle {
        key: "{{ trigger.host }}".into(),
        once_within: Duration::from_mins(1),
    };
    let throttled = Rule {
        throttle: Some(throttle),
        ..rule("r", vec![])
    };
    let verdict = evaluate(&throttled, &json!({"host": "web-1"}));
    assert_eq!(
        verdict,
        Verdict::Matched {
            throttle_key: Some("web-1".into())
        }
    );
    assert!(
        matches!(evaluate(&throttled, &json!({"x": 1})), Verdict::Failed(reason) if reason.contains("trigger.host"))
    );
    assert_eq!(
        compiled(&throttled).once_within(),
        Some(Duration::from_mins(1))
    );
}

#[test]
fn parameters_are_rendered_with_their_types_and_a_missing_name_is_an_error() {
    let parameters = BTreeMap::from([
        ("cmd".to_owned(), json!("echo {{ trigger.n }}")),
        ("count".to_owned(), json!("{{ trigger.n }}")),
        ("fixed".to_owned(), json!([1])),
    ]);
    let reference = "core.local".parse().unwrap();
    let compiled = compiled(&Rule {
        action: RuleAction {
            reference,
            parameters,
        },
        ..rule("r", vec![])
    });
    let rendered = compiled
        .render_parameters(&json!({"trigger": {"n": 3}}), None)
        .unwrap();
    assert_eq!(
        Value::Object(rendered),
        json!({"cmd": "echo 3", "count": 3, "fixed": [1]})
    );
    let error = compiled
        .render_parameters(&json!({"trigger": {}}), None)
        .unwrap_err();
    assert!(
        error.contains("parameter `cmd`") && error.contains("`trigger.n` is undefined"),
        "{error}"
    );
}

#[test]
fn an_explanation_evaluates_everything_and_says_why() {
    let explained = Rule {
        when: Some("trigger.n > 5".into()),
        ..rule(
            "r",
            vec![
                test("trigger.a", "eq", json!(1)),
                Condition::Any(vec![
                    test("trigger.n", "gt", json!(9)),
                    test("trigger.s", "gt", json!(1)),
                ]),
                test("trigger.s", "startswith", json!("web")),
            ],
        )
    };
    let rows = compiled(&explained).explain(&json!({"a": 2, "n": 3, "s": "web-1"}), None, now());
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.depth, row.key.as_str(), row.held, row.why.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            (0, "trigger.a", false, "2 eq 1 is false"),
            (
                0,
                "any",
                false,
                "failed: trigger.s gt: a text and a number have no order"
            ),
            (1, "trigger.n", false, "3 gt 9 is false"),
            (
                1,
                "trigger.s",
                false,
                "failed: trigger.s gt: a text and a number have no order"
            ),
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

fn index(rules: &[Rule]) -> RuleIndex {
    RuleIndex::build(rules.iter().map(|rule| Arc::new(compiled(rule))))
}

fn matched(index: &RuleIndex, payload: Value) -> Vec<(String, bool)> {
    let found = match_instance(index, &instance(payload), None, now());
    found
        .iter()
        .map(|(rule, found)| {
            (
                rule.reference().name().to_owned(),
                matches!(found, Match::Matched { .. }),
            )
        })
        .collect()
}

#[test]
fn backstop_rules_fire_only_if_no_standard_rule_matched() {
    let backstop = Rule {
        kind: RuleKind::Backstop,
        ..rule("a_backstop", vec![])
    };
    let index = index(&[backstop, rule("b", vec![test("trigger.n", "gt", json!(5))])]);
    assert_eq!(matched(&index, json!({"n": 6})), [("b".to_owned(), true)]);
    assert_eq!(
        matched(&index, json!({"n": 1})),
        [("a_backstop".to_owned(), true)]
    );
    let both = [("b".to_owned(), false), ("a_backstop".to_owned(), true)];
    assert_eq!(
        matched(&index, json!({"n": "x"})),
        both,
        "a failure is no match"
    );
}

#[test]
fn matches_come_in_the_order_of_references_and_disabled_rules_are_silent() {
    let off = Rule {
        enabled: false,
        ..rule("b", vec![])
    };
    let index = index(&[
        rule("c", vec![]),
        off,
        rule("a", vec![test("trigger.x", "eq", json!(1))]),
    ]);
    assert_eq!(
        matched(&index, json!({"x": 1})),
        [("a".to_owned(), true), ("c".to_owned(), true)]
    );
}

#[test]
fn rules_of_other_triggers_are_not_candidates() {
    let parameters = BTreeMap::from([("url".to_owned(), json!("hook"))]);
    let trigger = Trigger {
        trigger_type: "core.event".parse().unwrap(),
        parameters,
    };
    let index = index(&[Rule {
        trigger,
        ..rule("a", vec![])
    }]);
    assert!(index.candidates("core.event", &json!({})).is_empty());
    assert_eq!(
        index
            .candidates("core.event{url=\"hook\"}", &json!({}))
            .len(),
        1
    );
}

/// G12: the work of an event is that of its candidates.
#[test]
fn g12_rules_that_cannot_match_are_not_even_candidates() {
    let keys: [fn(usize) -> Condition; 6] = [
        |n| test("trigger.body.host", "eq", json!(format!("web-{n}"))),
        |n| {
            test(
                "trigger.body.name",
                "startswith",
                json!(format!("app-{n}-")),
            )
        },
        |n| test("trigger.body.name", "endswith", json!(format!("-{n}"))),
        |n| test("trigger.body.cpu", "gt", json!(n)),
        |n| {
            test(
                "trigger.body.host",
                "in",
                json!([format!("web-{n}"), format!("db-{n}")]),
            )
        },
        |n| test(&format!("trigger.body.field{n}"), "exists", Value::Null),
    ];
    let payload = json!({"body": {"host": "web-7", "name": "app-7-7", "cpu": 0.5, "field7": 1}});
    for key in keys {
        let rules: Vec<Rule> = (0..10_000)
            .map(|n| rule(&format!("r{n}"), vec![key(n)]))
            .collect();
        let index = index(&rules);
        assert_eq!(
            index.candidates("core.event", &payload).len(),
            1,
            "{:?}",
            key(7)
        );
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(0)),
        Just(json!(1)),
        Just(json!(1.0)),
        Just(json!(2.5)),
        Just(json!("a")),
        Just(json!("ab")),
        Just(json!("ba")),
        Just(json!("")),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        scalar(),
        prop::collection::vec(scalar(), 0..3).prop_map(Value::Array)
    ]
}

fn payload() -> impl Strategy<Value = Value> {
    let name = || {
        prop_oneof![
            Just("x".to_owned()),
            Just("y".to_owned()),
            Just("z".to_owned())
        ]
    };
    let members = || prop::collection::btree_map(name(), value(), 0..3);
    (members(), members()).prop_map(|(top, below)| {
        let mut top: Map<String, Value> = top.into_iter().collect();
        top.insert("b".to_owned(), Value::Object(below.into_iter().collect()));
        Value::Object(top)
    })
}

fn any_test() -> impl Strategy<Value = Condition> {
    let key = prop_oneof![
        Just("trigger.x"),
        Just("trigger.y"),
        Just("trigger.b.z"),
        Just("trigger..x"),
        Just("trigger.y[0]")
    ];
    let names: Vec<&str> = operators::NAMES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "search")
        .collect();
    (key, prop::sample::select(names), value())
        .prop_map(|(key, operator, pattern)| test(key, operator, pattern))
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let members = || prop::collection::vec(any_test(), 0..3);
    prop_oneof![
        6 => any_test(),
        1 => members().prop_map(Condition::All),
        1 => members().prop_map(Condition::Any),
        1 => members().prop_map(Condition::Not),
    ]
}

proptest! {
    #[test]
    fn the_index_finds_exactly_what_a_scan_of_all_rules_finds(
        criteria in prop::collection::vec(prop::collection::vec(any_condition(), 0..4), 1..12),
        payloads in prop::collection::vec(payload(), 1..6),
    ) {
        let rules: Vec<Arc<CompiledRule>> = criteria
            .into_iter()
            .enumerate()
            .filter_map(|(number, criteria)| CompiledRule::compile(&rule(&format!("r{number:02}"), criteria)).ok())
            .map(Arc::new)
            .collect();
        let index = RuleIndex::build(rules.iter().cloned());
        for payload in payloads {
            let decide = |rule: &Arc<CompiledRule>| (rule.reference().clone(), rule.evaluate(&payload, None, now()));
            let counts = |(_, verdict): &(RuleRef, Verdict)| !matches!(verdict, Verdict::NotMatched { .. });
            let scanned: Vec<_> = rules.iter().map(decide).filter(counts).collect();
            let candidates = index.candidates("core.event", &payload);
            let found: Vec<_> = candidates.into_iter().map(decide).filter(counts).collect();
            prop_assert_eq!(found, scanned);
        }
    }
}
