//! What the original pack got wrong where its parts met, each fault by its number in the list of faults.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::desk::{Desk, expand, web};
use super::incidents::report;
use crate::governor::definition::NewGroup;
use crate::governor::incidents::Report;
use crate::governor::phases::NodeReport;
use crate::model::decision::{Delays, Request, Row};
use crate::model::execution::ExecutionStatus;
use crate::model::incident::IncidentState;
use crate::model::node::NodePhase;
use crate::model::scaling::{ActivityStatus, Origin};
use crate::store::rows::Page;

#[tokio::test]
async fn fault_02_reports_of_many_nodes_at_once_lose_no_update() {
    let desk = Desk::serving(&json!({ "expand_by": 12 })).await;
    let nodes = desk.ask(&expand(Delays::Skip)).await.view().nodes;
    let reports =
        nodes.into_iter().map(|node| NodeReport { node, phase: NodePhase::InService, address: None, port: None });
    let (name, reports): (_, Vec<_>) = (web(), reports.collect());
    for told in join_all(reports.iter().map(|report| desk.governor.node_phase(&name, report))).await {
        told.unwrap();
    }
    desk.end(ExecutionStatus::Succeeded).await.unwrap();
    assert_eq!(desk.group().await.in_service.get(), 13);
}

#[tokio::test]
async fn fault_03_a_node_counts_from_its_reservation_and_serves_when_it_serves() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    let group = desk.group().await;
    assert_eq!((group.total.get(), group.in_service.get()), (2, 1));
    desk.end(ExecutionStatus::Failed).await.unwrap();
    let group = desk.group().await;
    assert_eq!((group.total.get(), group.in_service.get()), (2, 1), "not proven gone, and no capacity");
}

#[tokio::test]
async fn fault_04_a_workflow_that_claims_success_makes_no_node_serve() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    desk.end(ExecutionStatus::Succeeded).await.unwrap();
    let activities = desk.governor.activities(&web(), Page { limit: 1, offset: 0 }).await.unwrap();
    assert_eq!(activities[0]["status"], json!(ActivityStatus::Failed));
    assert_eq!(desk.group().await.in_service.get(), 1);
}

#[tokio::test]
async fn fault_06_a_refused_expansion_leaves_nothing_behind() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Respect)).await;
    desk.succeed().await;
    desk.ticks_for(Duration::from_secs(90)).await;
    assert_eq!(desk.ask(&expand(Delays::Respect)).await.decision.row, Row::ExpandDelay);
    assert_eq!(desk.group().await.activity, None);
    assert!(desk.ask(&expand(Delays::Skip)).await.activity.is_some(), "and the next one is not stuck");
}

#[tokio::test]
async fn fault_07_a_long_build_gets_no_second_expansion_beside_it() {
    let desk = Desk::serving(&json!({})).await;
    desk.governor.observe(&report("shop", IncidentState::Open)).await.unwrap();
    let started = desk.workflows.started.lock().unwrap().len();
    let rows = desk.ticks_for(Duration::from_mins(20)).await;
    assert_eq!(rows, [Row::InFlight, Row::Stuck, Row::InFlight]);
    assert_eq!(desk.workflows.started.lock().unwrap().len(), started);
}

#[tokio::test]
async fn fault_08_a_command_a_pulse_and_a_tick_at_once_are_one_expansion() {
    let desk = Desk::serving(&json!({})).await;
    desk.governor.observe(&report("shop", IncidentState::Acknowledged)).await.unwrap();
    let rule = Request::Expand { by: None, delays: Delays::Respect, origin: Origin::Rule };
    let (name, human) = (web(), expand(Delays::Skip));
    let asked = [&human, &rule, &Request::Tick].map(|request| desk.governor.admit(&name, request));
    join_all(asked).await;
    assert_eq!(desk.group().await.total.get(), 2);
}

#[tokio::test]
async fn fault_09_one_recovery_of_two_is_not_the_end() {
    let desk = Desk::serving(&json!({ "max_nodes": 1 })).await;
    let memory = |state| Report { key: "memory".to_owned(), ..report("shop", state) };
    desk.governor.observe(&report("shop", IncidentState::Open)).await.unwrap();
    desk.governor.observe(&memory(IncidentState::Open)).await.unwrap();
    desk.clock.advance(Duration::from_secs(30));
    let seen = desk.governor.observe(&report("shop", IncidentState::Closed)).await.unwrap();
    assert_eq!(seen[0].1.decision.row, Row::AtMax);
    assert_eq!(desk.group().await.incidents.len(), 1);
}

#[tokio::test]
async fn fault_10_the_alert_itself_expands() {
    let desk = Desk::serving(&json!({})).await;
    let seen = desk.governor.observe(&report("shop", IncidentState::Open)).await.unwrap();
    assert_eq!(seen[0].1.view().verdict, "expand");
}

#[tokio::test]
async fn fault_12_an_alert_reaches_every_group_of_its_application_and_no_other() {
    let desk = Desk::serving(&json!({})).await;
    for (name, application) in [("web-2", "shop"), ("api", "shop-api"), ("asg-shop", "blog")] {
        let new = NewGroup {
            name: name.parse().unwrap(),
            application: Some(application.to_owned()),
            ..super::desk::new_group(&json!({ "mode": "observe" }))
        };
        desk.governor.create(new, Origin::Api).await.unwrap();
    }
    let seen = desk.governor.observe(&report("shop", IncidentState::Open)).await.unwrap();
    let names: Vec<String> = seen.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["web", "web-2"]);
}

#[tokio::test]
async fn fault_15_a_group_is_not_deleted_beside_a_running_expansion() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    let delete = Request::Delete { origin: Origin::Chat };
    let refused = desk.ask(&delete).await;
    assert!(refused.is_refused() && refused.decision.row == Row::InFlight);
    assert!(!desk.group().await.deleting);
    desk.succeed().await;
    assert_eq!(desk.ask(&delete).await.view().nodes.len(), 2);
}
