//! The promise of the index: it leaves out only what can neither match nor fail.

use proptest::prelude::{Just, Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::*;

/// G12: the work of an event is that of its candidates.
#[test]
fn g12_rules_that_cannot_match_are_not_even_candidates() {
    let keys: [fn(usize) -> Condition; 6] = [
        |n| test("trigger.body.host", "eq", json!(format!("web-{n}"))),
        |n| test("trigger.body.name", "startswith", json!(format!("app-{n}-"))),
        |n| test("trigger.body.name", "endswith", json!(format!("-{n}"))),
        |n| test("trigger.body.cpu", "gt", json!(n)),
        |n| test("trigger.body.host", "in", json!([format!("web-{n}"), format!("db-{n}")])),
        |n| test(&format!("trigger.body.field{n}"), "exists", Value::Null),
    ];
    let payload = json!({"body": {"host": "web-7", "name": "app-7-7", "cpu": 0.5, "field7": 1}});
    for key in keys {
        let rules: Vec<Rule> = (0..10_000).map(|n| rule(&format!("r{n}"), vec![key(n)])).collect();
        let index = index_of(&rules);
        assert_eq!(index.candidates("core.event", &payload).len(), 1, "{:?}", key(7));
    }
}

/// What all rules ask for first (that it is critical, say) tells them apart no better than their trigger does.
#[test]
fn g12_a_criterion_that_all_rules_share_is_not_their_key() {
    let shared: [fn() -> Condition; 2] = [
        || test("trigger.body.severity", "eq", json!("critical")),
        || test("trigger.body.severity", "exists", json!(0)),
    ];
    let own: [fn(usize) -> Condition; 2] = [
        |n| test("trigger.body.host", "eq", json!(format!("web-{n}"))),
        |n| test("trigger.body.name", "startswith", json!(format!("app-{n}-"))),
    ];
    let payload = json!({"body": {"severity": "critical", "host": "web-7", "name": "app-7-7"}});
    for (shared, own) in shared.iter().flat_map(|shared| own.iter().map(move |own| (shared, own))) {
        let rules: Vec<Rule> = (0..1_000).map(|n| rule(&format!("r{n}"), vec![shared(), own(n)])).collect();
        assert_eq!(index_of(&rules).candidates("core.event", &payload).len(), 1, "{:?}", rules[7].criteria);
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
    prop_oneof![scalar(), prop::collection::vec(scalar(), 0..3).prop_map(Value::Array)]
}

fn payload() -> impl Strategy<Value = Value> {
    let name = || prop_oneof![Just("x".to_owned()), Just("y".to_owned()), Just("z".to_owned())];
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
    let names: Vec<&str> = operators::NAMES.iter().map(|(name, _)| *name).filter(|name| *name != "search").collect();
    (key, prop::sample::select(names), value()).prop_map(|(key, operator, pattern)| test(key, operator, pattern))
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
