//! The end of an activity and the end of its workflow are one.

use std::time::Duration;

use serde_json::json;

use super::desk::{Desk, expand, new_group, web};
use crate::governor::error::GovernorError;
use crate::model::decision::{Delays, Request};
use crate::model::execution::ExecutionStatus;
use crate::model::node::NodePhase;
use crate::model::scaling::Origin;
use crate::store::StoreError;
use crate::store::rows::Page;

#[tokio::test]
async fn an_activity_ends_in_the_transaction_that_ends_its_workflow() {
    let desk = Desk::serving(&json!({})).await;
    let execution = desk.ask(&expand(Delays::Skip)).await.execution.unwrap();
    desk.report("web-002", NodePhase::InService).await;
    let row = desk.claim().await;
    let end = desk.activity_end(&row, ExecutionStatus::Succeeded).await;

    let stale = crate::store::rows::ExecutionRow { fence: row.fence - 1, ..row.clone() };
    let refused = desk.finish(&stale, ExecutionStatus::Succeeded, end.clone()).await;
    assert_eq!(refused, Err(StoreError::Conflict));
    assert!(desk.group().await.activity.is_some(), "an end that is not accepted ends nothing");

    desk.finish(&row, ExecutionStatus::Succeeded, end).await.unwrap();
    let ended = desk.store.executions().execution_get(execution).await.unwrap();
    assert_eq!((ended.status, desk.group().await.activity), (ExecutionStatus::Succeeded, None));
}

#[tokio::test]
async fn an_end_that_met_another_change_is_prepared_again() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    let row = desk.claim().await;
    let end = desk.activity_end(&row, ExecutionStatus::Succeeded).await;
    desk.report("web-002", NodePhase::InService).await;
    assert_eq!(desk.finish(&row, ExecutionStatus::Succeeded, end).await, Err(StoreError::Conflict));
    let end = desk.activity_end(&row, ExecutionStatus::Succeeded).await;
    desk.finish(&row, ExecutionStatus::Succeeded, end).await.unwrap();
    assert_eq!(desk.group().await.in_service.get(), 2, "the report was not lost");
}

#[tokio::test]
async fn an_execution_that_carries_no_activity_ends_none() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    let mut row = desk.claim().await;
    row.context = json!({ "user": "ann" });
    assert_eq!(desk.activity_end(&row, ExecutionStatus::Succeeded).await, None);
}

#[tokio::test]
async fn an_activity_that_has_ended_does_not_end_again() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    let row = desk.claim().await;
    desk.succeed().await;
    assert_eq!(desk.activity_end(&row, ExecutionStatus::Failed).await, None);
}

#[tokio::test]
async fn a_deleted_group_is_gone_with_its_last_node_and_its_history_stays() {
    let desk = Desk::serving(&json!({ "min_nodes": 2 })).await;
    desk.ask(&Request::Delete { origin: Origin::Api }).await;
    desk.report("web-001", NodePhase::Draining).await;
    desk.report("web-001", NodePhase::Gone).await;
    desk.report("web-001", NodePhase::Gone).await;
    desk.end(ExecutionStatus::Failed).await.unwrap();
    assert_eq!(desk.group().await.total.get(), 1, "what is not proven gone keeps its group");

    desk.ticks_for(Duration::from_mins(1)).await;
    desk.succeed().await;
    assert_eq!(desk.governor.get(&web()).await, Err(GovernorError::NoSuchGroup(web())));
    assert_eq!(desk.governor.names().await.unwrap(), []);
    assert_eq!(desk.governor.activities(&web(), Page { limit: 10, offset: 0 }).await.unwrap().len(), 3);
    assert!(!desk.governor.explain(&web(), 1).await.unwrap().is_empty());
    desk.governor.create(new_group(&json!({})), Origin::Api).await.expect("the name is free again");
}

#[tokio::test]
async fn what_is_left_over_is_cleared_away_by_a_workflow() {
    let desk = Desk::serving(&json!({})).await;
    desk.ask(&expand(Delays::Skip)).await;
    desk.end(ExecutionStatus::Failed).await.unwrap();
    let execution = loop {
        if let Some(execution) = desk.tick().await.execution {
            break execution;
        }
    };
    let row = desk.store.executions().execution_get(execution).await.unwrap();
    assert_eq!((row.action.as_str(), &row.parameters["nodes"][0]["name"]), ("default.asg_deflate", &json!("web-002")));
    desk.report("web-002", NodePhase::Draining).await;
    assert_eq!(desk.group().await.nodes[1].phase, NodePhase::Failed, "it serves nobody: there is nothing to drain");
    desk.report("web-002", NodePhase::Destroying).await;
    desk.succeed().await;
    assert_eq!(desk.group().await.total.get(), 1);
}
