//! Executions from their request to their end.

use petrel::model::execution::ExecutionStatus as Status;
use petrel::model::refs::ExecutionId;
use petrel::model::trigger::InstanceStatus;
use petrel::store::events::MatchRecord;
use petrel::store::executions::{ExecutionFilter, TopLevel};
use petrel::store::rows::{Claim, Completion, NewEnforcement, NewExecution, Start};
use petrel::store::{Store, StoreError};
use serde_json::json;

use super::{
    PAGE, accept, at, claim, claimed, end, end_with, execution, id, instance, lease, request, step, waits_for,
};

super::promises![
    what_is_due_first_is_claimed_first,
    nothing_is_claimed_twice_or_before_its_time,
    a_wake_waits_until_the_lease_is_given_back,
    a_lost_claim_writes_nothing,
    what_has_ended_stays_ended,
    a_large_result_comes_back_whole,
    a_request_that_failed_is_there_to_be_seen,
    a_retry_takes_the_place_of_the_end,
    a_status_changes_only_from_where_it_may,
    an_inquiry_takes_the_place_of_the_lease,
    lists_and_counts_show_what_is_asked_for,
];

async fn what_is_due_first_is_claimed_first(store: Store) {
    for (number, due) in [(1, 3), (2, 1), (3, 2), (4, 1)] {
        let new = NewExecution { start: Start::Queued { due_at: at(due), line: None }, ..execution(number, at(1)) };
        store.executions().execution_request(&new).await.unwrap();
    }
    assert_eq!(store.executions().queue_next().await.unwrap(), Some(at(1)));
    let mut order: Vec<ExecutionId> = Vec::new();
    for round in 0..4 {
        order.extend(claim(&store, &format!("t{round}"), 1, at(5)).await.iter().map(|row| row.id));
    }
    assert_eq!(order, [id(2), id(4), id(3), id(1)]);
    assert_eq!(store.executions().queue_next().await.unwrap(), None);
}

async fn nothing_is_claimed_twice_or_before_its_time(store: Store) {
    let later = NewExecution { start: Start::Queued { due_at: at(10), line: None }, ..execution(4, at(1)) };
    store.executions().execution_request(&later).await.unwrap();
    request(&store, [1, 2, 3]).await;
    assert_eq!(store.executions().execution_get(id(4)).await.unwrap().status, Status::Delayed);
    let first: Vec<_> = claim(&store, "a", 2, at(1)).await.into_iter().map(|row| row.id).collect();
    let second: Vec<_> = claim(&store, "b", 100, at(1)).await.into_iter().map(|row| row.id).collect();
    assert_eq!((first, second), (vec![id(1), id(2)], vec![id(3)]));
    assert_eq!(claim(&store, "c", 100, at(9)).await, []);
    let row = &claim(&store, "d", 100, at(10)).await[0];
    assert_eq!((row.id, row.status, row.fence, row.started_at), (id(4), Status::Running, 1, Some(at(10))));
}

async fn a_wake_waits_until_the_lease_is_given_back(store: Store) {
    let held = claimed(&store, 1).await;
    store.executions().execution_wake(id(1), at(2)).await.unwrap();
    store.executions().execution_wake(id(1), at(2)).await.unwrap();
    assert_eq!(claim(&store, "b", 1, at(3)).await, []);
    assert_eq!(store.executions().queue_next().await.unwrap(), None);
    store.executions().execution_release(held, at(3)).await.unwrap();
    let again = &claim(&store, "c", 1, at(3)).await[0];
    assert_eq!((again.fence, again.started_at), (2, Some(at(1))), "it started when it first started");
}

async fn a_lost_claim_writes_nothing(store: Store) {
    let old = claimed(&store, 1).await;
    assert!(store.obligations().lease_requeue(old, at(2)).await.unwrap());
    let new = claim(&store, "b", 1, at(2)).await[0].claim();
    let executions = store.executions();
    assert_eq!(executions.execution_finish(&end(old, at(3))).await, Err(StoreError::Conflict));
    assert_eq!(executions.execution_release(old, at(3)).await, Err(StoreError::Conflict));
    let asks = executions.execution_await_answer(old, &json!({}), at(9), at(3)).await;
    assert_eq!(asks, Err(StoreError::Conflict));
    assert_eq!(waits_for(&store, id(1)).await, ["lease"]);
    executions.execution_finish(&end(new, at(4))).await.unwrap();
    let row = executions.execution_get(id(1)).await.unwrap();
    assert_eq!((row.status, row.ended_at), (Status::Succeeded, Some(at(4))));
}

async fn what_has_ended_stays_ended(store: Store) {
    let held = claimed(&store, 1).await;
    let executions = store.executions();
    executions.execution_finish(&end(held, at(2))).await.unwrap();
    assert_eq!(executions.execution_finish(&end(held, at(3))).await, Err(StoreError::Conflict));
    executions.execution_wake(id(1), at(3)).await.unwrap();
    assert!(!store.obligations().lease_requeue(held, at(3)).await.unwrap());
    assert_eq!((claim(&store, "b", 9, at(9)).await, waits_for(&store, id(1)).await), (vec![], vec![]));
    let log: Vec<Status> =
        executions.execution_get(id(1)).await.unwrap().status_log.into_iter().map(|(_, status)| status).collect();
    assert_eq!(log, [Status::Requested, Status::Running, Status::Succeeded]);
}

async fn a_large_result_comes_back_whole(store: Store) {
    for (number, size) in [(1, 10), (2, 64 * 1024), (3, 700 * 1024)] {
        let result = json!({ "stdout": "ä".repeat(size / 2) });
        let held = claimed(&store, number).await;
        store.executions().execution_finish(&end_with(held, result.clone(), at(2))).await.unwrap();
        let row = store.executions().execution_get(id(number)).await.unwrap();
        assert!(row.result == Some(result.clone()), "{size} bytes");
        assert_eq!(usize::try_from(row.result_size_bytes).unwrap(), result.to_string().len());
    }
    let (listed, _) = store.executions().execution_list(&ExecutionFilter::default(), PAGE).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.result.is_some()).collect::<Vec<_>>(), [false, false, true]);
}

async fn a_request_that_failed_is_there_to_be_seen(store: Store) {
    let result = json!({ "error": "no such parameter" });
    let new = NewExecution { start: Start::Failed { result: result.clone() }, ..execution(1, at(1)) };
    store.executions().execution_request(&new).await.unwrap();
    let row = store.executions().execution_get(id(1)).await.unwrap();
    assert_eq!((row.status, row.result, row.ended_at), (Status::Failed, Some(result), Some(at(1))));
    assert_eq!((waits_for(&store, id(1)).await, claim(&store, "a", 9, at(9)).await), (vec![], vec![]));
}

async fn a_retry_takes_the_place_of_the_end(store: Store) {
    let held = claimed(&store, 1).await;
    let retry = NewExecution { start: Start::Queued { due_at: at(5), line: None }, ..execution(2, at(2)) };
    let end = Completion { status: Status::Failed, retry: Some(Box::new(retry)), ..end(held, at(2)) };
    store.executions().execution_finish(&end).await.unwrap();
    assert_eq!(store.executions().execution_get(id(1)).await.unwrap().status, Status::Failed);
    assert_eq!(claim(&store, "b", 9, at(5)).await[0].id, id(2));
}

async fn a_status_changes_only_from_where_it_may(store: Store) {
    let held = claimed(&store, 1).await;
    let executions = store.executions();
    let from = [Status::Paused, Status::Pausing];
    assert!(!executions.status_change(id(1), &from, Status::Resuming, at(2)).await.unwrap());
    // `running` is no part of another status's name, nor is an empty list everything.
    assert!(!executions.status_change(id(1), &[], Status::Canceling, at(2)).await.unwrap());
    assert!(executions.status_change(id(1), &[Status::Running], Status::Canceling, at(2)).await.unwrap());
    assert_eq!(store.obligations().leases_canceling("w").await.unwrap(), [id(1)]);
    assert!(store.obligations().leases_canceling("other").await.unwrap().is_empty());
    executions.execution_finish(&Completion { status: Status::Canceled, ..end(held, at(3)) }).await.unwrap();
    let all = [Status::Canceled, Status::Running, Status::Canceling];
    assert!(!executions.status_change(id(9), &all, Status::Running, at(4)).await.unwrap(), "there is none");
}

async fn an_inquiry_takes_the_place_of_the_lease(store: Store) {
    let held = claimed(&store, 1).await;
    let detail = json!({ "route": "ops" });
    store.executions().execution_await_answer(held, &detail, at(60), at(2)).await.unwrap();
    assert_eq!(waits_for(&store, id(1)).await, ["inquiry"]);
    assert_eq!(store.executions().execution_get(id(1)).await.unwrap().status, Status::Pending);
    assert_eq!(store.obligations().timeouts_due("a", at(59)).await.unwrap(), []);
    let due = store.obligations().timeouts_due("a", at(60)).await.unwrap();
    assert_eq!(due[0].detail.as_deref(), Some(detail.to_string().as_str()));
    store.executions().execution_finish(&end(held, at(61))).await.unwrap();
    assert_eq!(waits_for(&store, id(1)).await, [""; 0]);
}

async fn lists_and_counts_show_what_is_asked_for(store: Store) {
    let executions = store.executions();
    accept(&store.events(), &instance(1), at(1)).await.unwrap();
    let by_rule = NewEnforcement {
        id: id(1),
        rule: "default.rule".parse().unwrap(),
        failure_reason: None,
        execution: Some(NewExecution { action: "core.http".parse().unwrap(), ..execution(1, at(1)) }),
    };
    let record = MatchRecord {
        instance: id(1),
        catalogue_version: 1,
        status: InstanceStatus::Processed,
        enforcements: vec![by_rule],
    };
    assert!(store.events().match_record(&record, at(1)).await.unwrap());
    let bobs = NewExecution { context: json!({ "user": "bob" }), ..execution(2, at(5)) };
    executions.execution_request(&bobs).await.unwrap();
    executions.execution_request(&step(3, id(2), "1", at(6))).await.unwrap();
    let first = Claim { execution: id(1), fence: 1 };
    assert_eq!(claim(&store, "a", 1, at(1)).await[0].claim(), first);

    let list = async |filter: ExecutionFilter| {
        let (rows, count) = executions.execution_list(&filter, PAGE).await.unwrap();
        assert_eq!(i64::try_from(rows.len()).unwrap(), count);
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let any = ExecutionFilter::default;
    let cases = [
        (any(), vec![3, 2, 1]),
        (ExecutionFilter { action: Some("core.http".parse().unwrap()), ..any() }, vec![1]),
        (ExecutionFilter { status: Some(Status::Requested), ..any() }, vec![3, 2]),
        (ExecutionFilter { user: Some("bob".to_owned()), ..any() }, vec![2]),
        (ExecutionFilter { top_level: TopLevel::Only, ..any() }, vec![2, 1]),
        (ExecutionFilter { instance: Some(id(1)), ..any() }, vec![1]),
        (ExecutionFilter { rule: Some("default.rule".parse().unwrap()), ..any() }, vec![1]),
        (ExecutionFilter { rule: Some("default.other".parse().unwrap()), ..any() }, vec![]),
        (ExecutionFilter { after: Some(at(1)), before: Some(at(6)), ..any() }, vec![2]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<ExecutionId> = expected.into_iter().map(id).collect();
        assert_eq!(list(filter.clone()).await, expected, "{filter:?}");
    }
    let by_status = executions.execution_count_by_status().await.unwrap();
    assert_eq!(by_status, [(Status::Requested, 2), (Status::Running, 1)]);
    let steps = executions.execution_children(id(2)).await.unwrap();
    assert_eq!((steps[0].parent.clone(), steps[0].root), (Some((id(2), "1".to_owned())), id(2)));
    assert_eq!(executions.execution_list_unfinished(2).await.unwrap().len(), 2);
    let leased = NewExecution { start: Start::Leased(lease("w", at(60))), ..step(4, id(2), "2", at(7)) };
    executions.execution_request(&leased).await.unwrap();
    let held = executions.execution_get(id(4)).await.unwrap().claim();
    executions.execution_finish(&end(held, at(8))).await.unwrap();
    let open = executions.execution_children_unfinished(id(2)).await.unwrap();
    assert_eq!(open.iter().map(|row| row.id).collect::<Vec<_>>(), [id(3)]);
}
