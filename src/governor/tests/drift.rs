//! What a look around finds, and what becomes of it.

use serde_json::{Value, json};

use super::world::{World, minutes, nodes};
use crate::governor::drift::{Seen, compare, remembered};
use crate::model::decision::{Row, Verdict};
use crate::model::drift::Drift;
use crate::model::group_config::{GroupConfig, Mode};
use crate::model::scaling::{ActivityKind, ActivityStatus};

/// Two nodes at 10.0.0.1 and 10.0.0.2, port 80; the next gets number 3.
fn world() -> World {
    let config = GroupConfig { min_nodes: nodes(2), max_nodes: nodes(5), ..GroupConfig::default() };
    let mut world = World::serving(2, config);
    for (number, node) in world.state.nodes.iter_mut().enumerate() {
        node.address = Some(format!("10.0.0.{}", number + 1));
        node.port = Some(80);
    }
    world
}

fn seen(value: Value) -> Seen {
    serde_json::from_value(value).unwrap()
}

fn backend(name: &str, address: &str) -> Value {
    json!({ "name": name, "address": address, "port": 80, "state": "ready", "sessions": 3 })
}

fn record(name: &str, data: &str) -> Value {
    json!({ "name": format!("{name}.web.example.org"), "type": "A", "data": data })
}

fn found(value: Value) -> Vec<String> {
    compare(&world().state, &seen(value)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_world_that_is_as_the_ledger_says_has_no_drift() {
    let all = json!({
        "provider": [{ "name": "web-001" }, { "name": "web-002", "alive": true }, { "name": "web-009", "alive": false }],
        "load_balancer": [backend("web-001", "10.0.0.1"), backend("web-002", "10.0.0.2")],
        "dns": [record("web-001", "10.0.0.1"), record("web-002", "10.0.0.2")],
    });
    assert_eq!(found(all), Vec::<String>::new());
    assert_eq!(found(json!({})), Vec::<String>::new(), "whoever was not asked says nothing");
}

#[test]
fn each_difference_says_who_is_wrong() {
    let half = json!({
        "provider": [{ "name": "web-001" }, { "name": "build-7" }],
        "load_balancer": [backend("web-001", "10.0.0.9"), backend("web-000", "10.0.0.8"), backend("static", "10.0.0.7")],
        "dns": [record("web-001", "10.0.0.1"), record("web-000", "10.0.0.8"), record("www", "10.0.0.7")],
    });
    assert_eq!(
        found(half),
        [
            "web-002 is in service, and its provider has no living node of that name",
            "web-001 is in service, and the load balancer does not know it there",
            "web-002 is in service, and the load balancer does not know it there",
            "web-002 is in service, and its name does not lead to it",
            "web-000 is no more, and the load balancer still has it",
            "web-000 is no more, and its name is still there",
            "`www.web.example.org` is known to the dns and not to the ledger",
            "`static` is known to the load_balancer and not to the ledger",
            "`build-7` is known to the provider and not to the ledger",
        ]
    );
    assert_eq!(
        found(json!({ "load_balancer": [backend("web-001", "10.0.0.1"), backend("web-099", "10.0.0.2")] }))
            .last()
            .unwrap(),
        "`web-099` is known to the load_balancer and not to the ledger",
        "that number was never given"
    );
    let mut resting = backend("web-001", "10.0.0.1");
    resting["state"] = json!("maint");
    assert_eq!(
        found(json!({ "load_balancer": [resting, backend("web-002", "10.0.0.2")] })).len(),
        1,
        "maintenance is not service"
    );
}

fn look(world: &mut World, value: Value) {
    let found = compare(&world.state, &seen(value));
    world.state.memory.drift = remembered(&world.state.memory.drift, found, world.now);
}

#[test]
fn what_is_seen_twice_is_mended_and_what_passes_is_forgotten() {
    let mut world = world();
    let forgotten = json!({ "load_balancer": [] });
    look(&mut world, forgotten.clone());
    assert_ne!(world.tick().row, Row::Drifted, "once may be chance");
    look(&mut world, json!({ "load_balancer": [backend("web-001", "10.0.0.1"), backend("web-002", "10.0.0.2")] }));
    look(&mut world, forgotten.clone());
    assert_ne!(world.tick().row, Row::Drifted, "not twice in a row");
    look(&mut world, forgotten);
    let decision = world.tick();
    let mended: Vec<&str> = decision.verdict.mended().iter().map(crate::model::node::NodeName::as_str).collect();
    assert_eq!((decision.row, mended), (Row::Drifted, vec!["web-001", "web-002"]), "{decision}");
    assert_eq!((world.activity().kind, world.activity().want), (ActivityKind::Reconcile, 0));
    world.end(&[], crate::governor::ledger::WorkflowEnd::Succeeded);
    assert_eq!(world.last_status(), ActivityStatus::Succeeded);
    assert_eq!((world.state.in_service(), world.state.memory.last_expand_end), (nodes(2), None));
    assert_ne!(world.tick().row, Row::Drifted, "the next look says whether it helped");
}

#[test]
fn what_nobody_knows_is_shown_and_left_alone() {
    let mut world = world();
    for _ in 0..3 {
        look(&mut world, json!({ "provider": [{ "name": "web-001" }, { "name": "web-002" }, { "name": "build-7" }] }));
    }
    assert_ne!(world.tick().row, Row::Drifted);
    let unknown = Drift::Unknown { at: "provider".into(), name: "build-7".into() };
    assert_eq!((world.state.memory.drift[0].drift.clone(), world.state.memory.drift[0].times), (unknown, 3));
}

#[test]
fn mending_waits_for_mode_and_for_a_rest_after_failures() {
    let mut world = world();
    world.state.group.config.mode = Mode::Observe;
    for _ in 0..2 {
        look(&mut world, json!({ "dns": [] }));
    }
    let recorded = world.tick();
    assert!(matches!(&recorded.verdict, Verdict::Record { would } if would.mended().len() == 2), "{recorded}");
    world.state.group.config.mode = Mode::Auto;
    world.tick();
    world.end(&[], crate::governor::ledger::WorkflowEnd::Failed);
    for _ in 0..2 {
        look(&mut world, json!({ "dns": [] }));
    }
    assert_eq!(world.tick().row, Row::Backoff);
    let (again, waited) = world.tick_until_action(minutes(2));
    assert!(again.row == Row::Drifted && waited > minutes(0), "{again}");
}
