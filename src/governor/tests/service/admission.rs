//! Admission: one activity at a time, everything reserved before anything is called, every decision explained.

use std::time::Duration;

use serde_json::json;

use super::desk::{Desk, expand, new_group, web};
use crate::model::decision::{Delays, Request, Row, Verdict};
use crate::model::node::NodePhase;
use crate::model::scaling::{ActivityStatus, Origin};
use crate::requests::Cancellation;
use crate::store::rows::Page;

#[tokio::test]
async fn two_governors_that_are_asked_at_once_open_one_activity() {
    let desk = Desk::serving(&json!({ "max_nodes": 9 })).await;
    let before = desk.workflows.started.lock().unwrap().len();
    let others: Vec<_> = (0..8).map(|_| desk.another_governor()).collect();
    let (name, request) = (web(), expand(Delays::Skip));
    let asked = others.iter().map(|governor| governor.admit(&name, &request));
    let answers = futures_util::future::join_all(asked).await;
    let admitted = answers.iter().filter(|answer| answer.as_ref().unwrap().activity.is_some()).count();
    assert_eq!(admitted, 1);
    let refused = answers.iter().flatten().filter(|answer| answer.is_refused());
    assert!(refused.clone().all(|answer| answer.decision.row == Row::InFlight));
    assert_eq!(refused.count(), 7);
    assert_eq!(desk.group().await.total.get(), 2, "one reservation beside the node that was there");
    assert_eq!(desk.workflows.started.lock().unwrap().len(), before + 1, "what was not written was not let go");
}

#[tokio::test]
async fn names_tags_and_rows_exist_before_anybody_is_called() {
    let desk = Desk::new();
    let admission = desk.governor.create(new_group(&json!({ "min_nodes": 2 })), Origin::Api).await.unwrap();
    let group = desk.group().await;
    let nodes: Vec<_> = group.nodes.iter().map(|node| (node.name.as_str(), node.phase)).collect();
    assert_eq!(nodes, [("web-001", NodePhase::Requested), ("web-002", NodePhase::Requested)]);
    let execution = desk.store.executions().execution_get(admission.execution.unwrap()).await.unwrap();
    assert_eq!((execution.fence, execution.action.as_str()), (0, "default.asg_create"), "nobody has claimed it");
    let id = admission.activity.unwrap();
    assert_eq!(group.activity.unwrap().id, id);
    assert_eq!(
        execution.parameters,
        json!({
            "group": "web", "activity": id, "domain": "example.org", "channel": "ops",
            "roles": { "provider": "cloud", "dns": "none", "load_balancer": "none", "configure": "none", "metrics": "none" },
            "node_parameters": {}, "setup": [],
            "role_parameters": { "dns": {}, "load_balancer": {}, "configure": {}, "metrics": {} }, "boot_timeout": "15m", "drain_timeout": "1m",
            "nodes": [
                { "name": "web-001", "tag": format!("web-001-{id}"), "address": null, "port": null, "phase": "requested" },
                { "name": "web-002", "tag": format!("web-002-{id}"), "address": null, "port": null, "phase": "requested" },
            ],
        })
    );
}

#[tokio::test]
async fn every_decision_is_explained_and_equal_ones_are_counted() {
    let desk = Desk::serving(&json!({})).await;
    let before = desk.governor.explain(&web(), 10).await.unwrap();
    for _ in 0..3 {
        desk.tick().await;
    }
    let explained = desk.governor.explain(&web(), 10).await.unwrap();
    assert_eq!((explained.len(), explained[0].times), (before.len(), before[0].times + 3));
    assert_eq!(explained[0].sentence, "holding: 1 node in service of at most 20; nothing to take away: min_nodes is 1");
    assert_eq!(explained[0].decision["row"], "at_min");
    assert_eq!(desk.group().await.last_decision.unwrap(), explained[0]);
}

#[tokio::test]
async fn what_is_refused_is_recorded_too() {
    let desk = Desk::serving(&json!({ "max_nodes": 1 })).await;
    let answer = desk.ask(&expand(Delays::Skip)).await;
    assert!(answer.is_refused() && answer.reason().contains("max_nodes is 1"), "{}", answer.reason());
    let explained = desk.governor.explain(&web(), 1).await.unwrap();
    assert!(explained[0].sentence.starts_with("refused: "), "{}", explained[0].sentence);
}

#[tokio::test]
async fn without_its_workflow_nothing_is_reserved_and_the_reason_says_so() {
    let desk = Desk::serving(&json!({})).await;
    *desk.workflows.missing.lock().unwrap() = true;
    let answer = desk.ask(&expand(Delays::Skip)).await;
    assert!(answer.is_refused() && answer.activity.is_none());
    assert!(answer.reason().contains("action `default.asg_expand` does not exist"), "{}", answer.reason());
    let group = desk.group().await;
    assert_eq!((group.total.get(), group.activity), (1, None));
}

#[tokio::test]
async fn a_freeze_records_and_holds_until_it_is_lifted_or_runs_out() {
    let desk = Desk::serving(&json!({ "min_nodes": 1 })).await;
    desk.governor.configure(&web(), json!({ "min_nodes": 2 }).as_object().unwrap()).await.unwrap();
    desk.governor.freeze("ann", "moving house", Some(Duration::from_mins(2))).await.unwrap();
    let look = desk.tick().await;
    assert!(matches!(look.decision.verdict, Verdict::Record { .. }), "{}", look.decision);
    assert!(look.reason().contains("frozen by ann") && look.reason().contains("moving house"), "{}", look.reason());
    assert!(desk.ask(&expand(Delays::Skip)).await.is_refused());
    desk.ticks_for(Duration::from_mins(1)).await;
    assert_eq!(desk.group().await.activity, None, "two minutes are not over");
    assert!(desk.tick().await.activity.is_some());
    assert_eq!(desk.governor.frozen().await.unwrap(), None);
}

#[tokio::test]
async fn what_was_being_decided_when_the_freeze_came_is_decided_again() {
    let desk = Desk::serving(&json!({})).await;
    let read = desk.store.groups().group_get("web").await.unwrap();
    desk.governor.freeze("ann", "", None).await.unwrap();
    let now = desk.store.groups().group_get("web").await.unwrap();
    assert!(now.version > read.version, "a decision made on the older version cannot be written any more");
    assert!(desk.governor.thaw("ann").await.unwrap().is_some());
    assert!(desk.ask(&expand(Delays::Skip)).await.activity.is_some());
}

#[tokio::test]
async fn a_group_defined_in_a_freeze_is_set_up_after_it() {
    let desk = Desk::new();
    desk.governor.freeze_after_restore(None).await.unwrap();
    let admission = desk.governor.create(new_group(&json!({})), Origin::Api).await.unwrap();
    assert!(admission.is_refused() && admission.reason().contains("a backup was restored"), "{}", admission.reason());
    assert_eq!(desk.group().await.total.get(), 0);
    desk.governor.thaw("ann").await.unwrap();
    assert_eq!(desk.tick().await.view().verdict, "create_group");
}

#[tokio::test]
async fn a_stuck_activity_is_cancelled_and_told_again_until_it_has_ended() {
    let desk = Desk::serving(&json!({ "activity_timeout": "1m" })).await;
    let execution = desk.ask(&expand(Delays::Skip)).await.execution.unwrap();
    desk.ticks_for(Duration::from_mins(2)).await;
    let cancelled = desk.workflows.cancelled.lock().unwrap().clone();
    assert!(cancelled.len() > 1 && cancelled.iter().all(|id| *id == execution), "{cancelled:?}");
    assert_eq!(desk.group().await.activity.unwrap().status, ActivityStatus::Compensating, "it still blocks the group");
}

#[tokio::test]
async fn an_activity_whose_workflow_is_lost_does_not_block_its_group_for_ever() {
    let desk = Desk::serving(&json!({ "activity_timeout": "1m" })).await;
    desk.ask(&expand(Delays::Skip)).await;
    *desk.workflows.cancellation.lock().unwrap() = Cancellation::Over;
    desk.ticks_for(Duration::from_secs(90)).await;
    assert_eq!(desk.group().await.activity, None);
    let activities = desk.governor.activities(&web(), Page { limit: 1, offset: 0 }).await.unwrap();
    assert_eq!(activities[0]["status"], "failed");
}

#[tokio::test]
async fn a_broken_group_costs_no_other_its_look() {
    let desk = Desk::serving(&json!({})).await;
    let broken = crate::store::groups::GroupChange {
        group: "broken".to_owned(),
        version: 1,
        writes: Vec::new(),
        decision: None,
        execution: None,
        at: crate::clock::Clock::now(&*desk.clock),
    };
    desk.store.groups().group_create(&broken).await.unwrap();
    desk.governor.configure(&web(), json!({ "min_nodes": 3 }).as_object().unwrap()).await.unwrap();
    let report = desk.governor.tick_all().await.unwrap();
    assert_eq!((report.groups, report.acted.len(), report.problems.len()), (2, 1, 1));
    assert_eq!(report.acted[0].0, web());
    assert!(matches!(desk.ask(&Request::Tick).await.decision.verdict, Verdict::Hold));
}
