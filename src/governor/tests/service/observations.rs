//! Looks around a group that other things happen to.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::desk::{Desk, expand, new_group, web};
use crate::clock::Clock;
use crate::governor::drift::Seen;
use crate::model::decision::{Delays, Request, Row};
use crate::model::execution::ExecutionStatus;
use crate::model::node::NodePhase;
use crate::model::scaling::Origin;

async fn look(desk: &Desk, seen: &Value) -> usize {
    desk.clock.advance(Duration::from_secs(1));
    let seen: Seen = serde_json::from_value(seen.clone()).unwrap();
    desk.governor.observe_surroundings(&web(), &seen, desk.clock.now()).await.unwrap().len()
}

#[tokio::test]
async fn a_node_that_its_provider_has_lost_is_a_failure_after_the_second_look() {
    let desk = Desk::serving(&json!({ "min_nodes": 1 })).await;
    let nothing = json!({ "provider": [] });
    assert_eq!(look(&desk, &nothing).await, 1);
    assert_eq!(desk.group().await.in_service.get(), 1, "once may be chance");
    look(&desk, &nothing).await;
    let group = desk.group().await;
    assert_eq!((group.nodes[0].phase, group.in_service.get()), (NodePhase::Failed, 0));
    assert_eq!(desk.tick().await.decision.row, Row::BelowMin, "and is made good");
}

#[tokio::test]
async fn a_provider_that_has_forgotten_most_of_a_large_group_is_not_believed() {
    let desk = Desk::serving(&json!({ "min_nodes": 6 })).await;
    for _ in 0..3 {
        look(&desk, &json!({ "provider": [{ "name": "web-001" }] })).await;
    }
    let group = desk.group().await;
    assert_eq!((group.in_service.get(), group.drift.len()), (6, 5));
}

#[tokio::test]
async fn a_look_during_which_the_group_changed_counts_for_nothing() {
    let desk = Desk::serving(&json!({})).await;
    let began_at = desk.clock.now();
    let seen: Seen = serde_json::from_value(json!({ "provider": [] })).unwrap();
    desk.ask(&expand(Delays::Skip)).await;
    assert_eq!(desk.governor.observe_surroundings(&web(), &seen, began_at).await.unwrap(), []);
    desk.succeed().await;
    assert_eq!(desk.governor.observe_surroundings(&web(), &seen, began_at).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "somebody else who looks, at the same time")]
async fn whoever_looks_while_a_group_goes_sees_it_going_or_gone() {
    let desk = Arc::new(Desk::new());
    for _ in 0..40 {
        desk.governor.create(new_group(&json!({ "min_nodes": 0 })), Origin::Api).await.unwrap();
        desk.succeed().await;
        desk.ask(&Request::Delete { origin: Origin::Api }).await;
        let watching = Arc::clone(&desk);
        let looks = tokio::spawn(async move {
            while let Ok(group) = watching.governor.get(&web()).await {
                assert!(group.activity.is_some(), "half of the end was seen");
            }
        });
        desk.end(ExecutionStatus::Succeeded).await.unwrap();
        looks.await.unwrap();
    }
}
