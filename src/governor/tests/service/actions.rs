//! The pack's native actions, called as the runner calls them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::desk::{Desk, web};
use crate::clock::{Clock, SimClock};
use crate::governor::actions::actions;
use crate::governor::service::Governor;
use crate::model::SYSTEM_USER;
use crate::model::action::{Action, OnLost};
use crate::model::execution::ExecutionStatus;
use crate::model::node::NodePhase;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;
use crate::runners::{Call, Outcome, OutputSink, Stop};

async fn call(desk: &Desk, name: &str, user: &str, parameters: Value) -> Outcome {
    call_of(&desk.governor, 7, name, user, parameters).await
}

/// An attempt of the execution of that number.
async fn call_of(governor: &Arc<Governor>, number: u8, name: &str, user: &str, parameters: Value) -> Outcome {
    let action = Action {
        reference: name.parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "native".to_owned(),
        entry_point: name.into(),
        parameters: BTreeMap::new(),
        output_schema: BTreeMap::new(),
        tags: Vec::new(),
        notify: Value::Null,
        on_lost: OnLost::Retry,
        permission: None,
        metadata_file: String::new(),
    };
    let call = Call {
        execution: ExecutionId::from_bytes([number; 12]),
        attempt: 1,
        action: Arc::new(action),
        parameters: parameters.as_object().unwrap().clone(),
        user: user.to_owned(),
        output: OutputSink::ignored(),
        timeout: None,
    };
    let all = actions(governor);
    let (_, _, action) = all.iter().find(|(known, ..)| *known == name).unwrap();
    action.run(&call, &Stop::default()).await
}

fn alert(state: &str, severity: &str) -> Value {
    json!({
        "application": "shop", "server": null, "entities": ["shop"], "incident_key": "newrelic/1/7",
        "severity": severity, "state": state, "at": "2026-11-21T08:29:00Z",
    })
}

#[tokio::test]
async fn an_alert_expands_and_its_end_closes_the_incident() {
    let desk = Desk::serving(&json!({})).await;
    let outcome = call(&desk, "autoscale.alert", SYSTEM_USER, alert("open", "critical")).await;
    assert_eq!(outcome.status, ExecutionStatus::Succeeded);
    assert_eq!(outcome.result["groups"]["web"]["verdict"], "expand");
    call(&desk, "autoscale.alert", SYSTEM_USER, alert("closed", "info")).await;
    assert_eq!(desk.group().await.incidents, []);
}

#[tokio::test]
async fn information_opens_nothing_and_an_alert_about_nothing_is_refused() {
    let desk = Desk::serving(&json!({})).await;
    let outcome = call(&desk, "autoscale.alert", SYSTEM_USER, alert("open", "info")).await;
    assert_eq!((outcome.status, desk.group().await.incidents), (ExecutionStatus::Succeeded, vec![]));
    let nothing = json!({ "incident_key": "7", "severity": "critical", "state": "open" });
    let outcome = call(&desk, "autoscale.alert", SYSTEM_USER, nothing).await;
    assert!(outcome.result["error"].as_str().unwrap().contains("name the `application`"), "{outcome:?}");
}

#[tokio::test]
async fn not_now_is_an_answer_to_a_rule_and_a_failure_to_a_person() {
    let desk = Desk::serving(&json!({ "max_nodes": 1 })).await;
    for (user, status) in [(SYSTEM_USER, ExecutionStatus::Succeeded), ("ann", ExecutionStatus::Failed)] {
        let outcome = call(&desk, "autoscale.expand", user, json!({ "asg": "web", "by": null, "force": true })).await;
        assert_eq!((outcome.status, &outcome.result["verdict"]), (status, &json!("refuse")), "{user}");
        assert!(outcome.result["reason"].as_str().unwrap().contains("max_nodes is 1"));
    }
    let missing = call(&desk, "autoscale.deflate", "ann", json!({ "asg": "wbe" })).await;
    assert!(missing.result["error"].as_str().unwrap().contains("there is no group `wbe`"), "{missing:?}");
}

#[tokio::test]
async fn a_report_of_a_node_may_be_repeated_and_never_goes_backwards() {
    let desk = Desk::serving(&json!({})).await;
    call(&desk, "autoscale.expand", "ann", json!({ "asg": "web", "force": true })).await;
    let report = |phase: &str| json!({ "group": "web", "node": "web-002", "phase": phase, "address": "10.0.0.7:80" });
    for phase in ["booting", "booting", "in_service", "in_service"] {
        let outcome = call(&desk, "autoscale.node_phase", SYSTEM_USER, report(phase)).await;
        assert_eq!(outcome, Outcome::succeeded(json!({ "phase": phase })));
    }
    let node = &desk.group().await.nodes[1];
    assert_eq!((node.phase, node.address.as_deref()), (NodePhase::InService, Some("10.0.0.7:80")));
    let back = call(&desk, "autoscale.node_phase", SYSTEM_USER, report("booting")).await;
    assert!(back.result["error"].as_str().unwrap().contains("is in_service and cannot become booting"), "{back:?}");
}

#[tokio::test]
async fn the_tick_looks_at_every_group_and_says_what_it_started() {
    let desk = Desk::serving(&json!({})).await;
    desk.governor.configure(&web(), json!({ "min_nodes": 2 }).as_object().unwrap()).await.unwrap();
    let outcome = call(&desk, "autoscale.governor_tick", SYSTEM_USER, json!({})).await;
    assert_eq!(outcome.status, ExecutionStatus::Succeeded);
    assert_eq!(outcome.result["acted"][0][1]["verdict"], "expand");
    let info = call(&desk, "autoscale.group_info", SYSTEM_USER, json!({ "group": "web" })).await;
    assert_eq!((&info.result["total"], &info.result["roles"]["dns"]), (&json!(2), &json!("none")));
}

#[tokio::test]
async fn an_execution_that_asks_again_is_told_what_was_opened_for_it_before() {
    let desk = Desk::serving(&json!({})).await;
    let expand = json!({ "asg": "web", "force": true });
    let first = call_of(&desk.governor, 7, "autoscale.expand", "ann", expand.clone()).await;
    let while_under_way = call_of(&desk.governor, 7, "autoscale.expand", "ann", expand.clone()).await;
    desk.succeed().await;
    let after_its_end = call_of(&desk.governor, 7, "autoscale.expand", "ann", expand.clone()).await;
    for again in [while_under_way, after_its_end] {
        assert_eq!(again, first);
    }
    assert_eq!((first.result["verdict"].as_str(), desk.group().await.total.get()), (Some("expand"), 2));
    let another = call_of(&desk.governor, 8, "autoscale.expand", "ann", expand).await;
    assert_ne!(another.result["activity"], first.result["activity"]);
}

/// Nobody can write to the store until somebody waits.
#[derive(Debug)]
struct LockedUntilAwaited {
    clock: Arc<SimClock>,
    lock: Mutex<Option<rusqlite::Connection>>,
}

#[async_trait]
impl Clock for LockedUntilAwaited {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn follow(&self, shown: Timestamp) {
        self.clock.follow(shown);
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    async fn sleep_until(&self, _at: Timestamp) {
        drop(self.lock.lock().unwrap().take());
    }

    async fn sleep_for(&self, _duration: Duration) {
        drop(self.lock.lock().unwrap().take());
    }
}

#[tokio::test]
async fn an_action_waits_for_a_store_that_is_away_and_then_does_what_was_asked() {
    let desk = Desk::serving(&json!({})).await;
    let lock = rusqlite::Connection::open(desk.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let clock = LockedUntilAwaited { clock: Arc::clone(&desk.clock), lock: Mutex::new(Some(lock)) };
    let governor = Arc::new(desk.another_governor_with(Arc::new(clock)));
    let outcome = call_of(&governor, 7, "autoscale.expand", "ann", json!({ "asg": "web", "force": true })).await;
    assert_eq!((outcome.status, &outcome.result["verdict"]), (ExecutionStatus::Succeeded, &json!("expand")));
}
