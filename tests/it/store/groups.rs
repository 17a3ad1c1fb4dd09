//! Autoscaling groups: every change is one batch against the version that was read.

use petrel::store::groups::{DecisionWrite, GroupChange, GroupWrite};
use petrel::store::rows::{ActivityEnd, Completion};
use petrel::store::{Store, StoreError};
use serde_json::json;

use super::{PAGE, at, claimed, end, execution, id};

super::promises![
    a_change_against_an_old_version_writes_nothing,
    a_group_is_made_once_and_goes_with_its_rows,
    equal_decisions_in_a_row_are_counted,
    an_activity_ends_with_its_workflow_or_not_at_all,
];

fn change(version: i64, writes: Vec<GroupWrite>) -> GroupChange {
    GroupChange { group: "web".to_owned(), version, writes, decision: None, execution: None, at: at(1) }
}

fn node(name: &str) -> GroupWrite {
    let (name, phase) = (name.to_owned(), "in_service".to_owned());
    GroupWrite::Node { state: json!({ "name": name }), name, phase }
}

fn activity(status: &str) -> GroupWrite {
    let state = json!({ "status": status });
    GroupWrite::Activity { id: id(1), status: status.to_owned(), execution: Some(id(1)), asked_by: Some(id(2)), state }
}

async fn a_change_against_an_old_version_writes_nothing(store: Store) {
    let groups = store.groups();
    groups.group_create(&change(1, vec![GroupWrite::Group(json!({ "n": 0 }))])).await.unwrap();
    assert!(groups.group_change(&change(1, vec![node("web-001")])).await.unwrap());
    let expands = GroupChange {
        execution: Some(execution(9, at(1))),
        decision: Some(decision("x", 1)),
        ..change(1, vec![node("web-002"), GroupWrite::Group(json!({ "n": 1 }))])
    };
    assert!(!groups.group_change(&expands).await.unwrap());
    let row = groups.group_get("web").await.unwrap();
    assert_eq!((row.version, &row.state, row.nodes.len()), (2, &json!({ "n": 0 }), 1));
    assert!(store.executions().execution_get(id(9)).await.is_err());
    assert_eq!(groups.decision_list("web", PAGE).await.unwrap(), []);
    groups.groups_touch().await.unwrap();
    assert!(!groups.group_change(&change(2, vec![node("web-003")])).await.unwrap(), "touched meanwhile");
    assert!(groups.group_change(&GroupChange { version: 3, ..expands }).await.unwrap());
    assert!(store.executions().execution_get(id(9)).await.is_ok());
}

async fn a_group_is_made_once_and_goes_with_its_rows(store: Store) {
    let groups = store.groups();
    let incident = GroupWrite::Incident { key: "i".to_owned(), state: json!({}) };
    groups.group_create(&change(1, vec![node("web-001"), incident, activity("in_progress")])).await.unwrap();
    assert_eq!(groups.group_create(&change(1, vec![node("web-002")])).await, Err(StoreError::Conflict));
    let row = groups.group_get("web").await.unwrap();
    assert_eq!((row.nodes.len(), row.incidents.len(), row.activities.len()), (1, 1, 1));
    assert!(groups.group_change(&change(1, vec![activity("failed"), GroupWrite::Removed])).await.unwrap());
    assert!(matches!(groups.group_get("web").await, Err(StoreError::NotFound(_))));
    assert_eq!(groups.group_names().await.unwrap(), [""; 0]);
    assert_eq!(groups.activity_list("web", PAGE).await.unwrap(), [json!({ "status": "failed" })], "history stays");
    groups.group_create(&change(1, Vec::new())).await.unwrap();
    let row = groups.group_get("web").await.unwrap();
    assert_eq!((row.nodes.len(), row.incidents.len(), row.activities.len()), (0, 0, 0), "a new group begins empty");
}

fn decision(fingerprint: &str, second: i64) -> DecisionWrite {
    DecisionWrite { fingerprint: fingerprint.to_owned(), decision: json!({ "at": second }), at: at(second) }
}

async fn equal_decisions_in_a_row_are_counted(store: Store) {
    let groups = store.groups();
    groups.group_create(&change(1, Vec::new())).await.unwrap();
    groups.group_create(&GroupChange { group: "db".to_owned(), ..change(1, Vec::new()) }).await.unwrap();
    for (version, fingerprint) in [(1, "hold"), (2, "hold"), (3, "grow"), (4, "hold")] {
        let decision = Some(decision(fingerprint, version));
        let of_web = GroupChange { decision: decision.clone(), ..change(version, Vec::new()) };
        assert!(groups.group_change(&of_web).await.unwrap());
        assert!(groups.group_change(&GroupChange { group: "db".to_owned(), decision: None, ..of_web }).await.unwrap());
    }
    let seen = groups.decision_list("web", PAGE).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|row| (row.times, row.first_at, row.last_at, &row.decision["at"])).collect();
    let (one, two, three, four) = (json!(1), json!(2), json!(3), json!(4));
    assert_eq!(seen, [(1, at(4), at(4), &four), (1, at(3), at(3), &three), (2, at(1), at(2), &two)], "not {one}");
}

async fn an_activity_ends_with_its_workflow_or_not_at_all(store: Store) {
    let groups = store.groups();
    let held = claimed(&store, 1).await;
    groups.group_create(&change(1, vec![node("web-001"), activity("in_progress")])).await.unwrap();
    let (group, _) = groups.activity_of(id(1)).await.unwrap().unwrap();
    assert_eq!(group, "web");
    let ends = |version| {
        let writes = vec![activity("succeeded"), GroupWrite::NodeGone("web-001".to_owned())];
        let activity = Some(ActivityEnd { group: "web".to_owned(), version, writes });
        Completion { activity, ..end(held, at(3)) }
    };
    assert!(groups.group_change(&change(1, Vec::new())).await.unwrap());
    assert_eq!(store.executions().execution_finish(&ends(1)).await, Err(StoreError::Conflict));
    assert!(!store.executions().execution_get(id(1)).await.unwrap().status.is_completed(), "neither of the two");
    assert_eq!(groups.group_get("web").await.unwrap().activities.len(), 1);
    store.executions().execution_finish(&ends(2)).await.unwrap();
    let row = groups.group_get("web").await.unwrap();
    assert_eq!((row.version, row.activities.len(), row.nodes.len()), (3, 0, 0));
    assert!(store.executions().execution_get(id(1)).await.unwrap().status.is_completed());
}
