//! The places that concurrency policies give: first come, first served, and never lost.

use petrel::store::rows::{Claim, NewExecution, Start};
use petrel::store::slots::SlotTaken::{self, Held, Waiting};
use petrel::store::{Store, StoreError};

use super::{at, claim, claimed, end, execution, id, request, waits_for};

super::promises![
    who_finds_no_place_stands_in_line_and_the_end_of_another_wakes_it,
    nobody_overtakes_who_was_called_from_the_line,
    nobody_overtakes_who_was_requested_earlier_and_claimed_at_the_same_time,
    who_is_only_to_come_later_keeps_nobody_waiting,
    asking_again_for_a_place_changes_nothing,
    a_wake_in_the_line_does_not_disturb_who_holds_the_place,
    a_lost_claim_takes_no_place,
    a_line_that_stands_still_is_moved_on,
];

async fn take(store: &Store, claim: Claim) -> SlotTaken {
    store.executions().slot_take(claim, "p", 1, at(2)).await.unwrap()
}

async fn finish(store: &Store, claim: Claim) {
    let end = end(claim, at(3));
    store.executions().execution_finish(&end).await.unwrap();
}

async fn who_finds_no_place_stands_in_line_and_the_end_of_another_wakes_it(store: Store) {
    request(&store, [1, 2, 3]).await;
    let claims: Vec<Claim> = claim(&store, "a", 3, at(1)).await.iter().map(|row| row.claim()).collect();
    assert_eq!(take(&store, claims[0]).await, Held);
    assert_eq!((take(&store, claims[2]).await, take(&store, claims[1]).await), (Waiting, Waiting));
    assert_eq!(waits_for(&store, id(2)).await, ["slot p"]);
    assert_eq!(store.obligations().slots_waiting().await.unwrap(), [("p".to_owned(), id(2))]);
    assert_eq!(claim(&store, "b", 9, at(9)).await, []);
    for (ends, comes) in [(claims[0], 2), (Claim { execution: id(2), fence: 2 }, 3)] {
        finish(&store, ends).await;
        let woken = claim(&store, &format!("after-{comes}"), 9, at(9)).await;
        assert_eq!(woken.iter().map(|row| row.id).collect::<Vec<_>>(), [id(comes)]);
        assert_eq!(take(&store, woken[0].claim()).await, Held);
    }
}

async fn nobody_overtakes_who_was_called_from_the_line(store: Store) {
    let first = claimed(&store, 1).await;
    assert_eq!(take(&store, first).await, Held);
    let second = claimed(&store, 2).await;
    assert_eq!(take(&store, second).await, Waiting);
    finish(&store, first).await;
    let called = claim(&store, "b", 9, at(9)).await[0].claim();
    let third = claimed(&store, 3).await;
    assert_eq!(take(&store, third).await, Waiting, "the second one was called, and is on its way");
    assert_eq!(take(&store, called).await, Held);
    finish(&store, called).await;
    let called = claim(&store, "c", 9, at(9)).await[0].claim();
    assert_eq!((called.execution, take(&store, called).await), (id(3), Held));
}

async fn request_into_line(store: &Store, number: u8, due: i64) {
    let start = Start::Queued { due_at: at(due), line: Some("p".to_owned()) };
    let new = NewExecution { start, ..execution(number, at(1)) };
    store.executions().execution_request(&new).await.unwrap();
}

async fn nobody_overtakes_who_was_requested_earlier_and_claimed_at_the_same_time(store: Store) {
    for number in [1, 2, 3] {
        request_into_line(&store, number, 1).await;
    }
    let claims: Vec<Claim> = claim(&store, "a", 3, at(1)).await.iter().map(|row| row.claim()).collect();
    let take = async |number: usize| store.executions().slot_take(claims[number], "p", 2, at(2)).await.unwrap();
    assert_eq!(take(2).await, Waiting, "two came earlier, for two places");
    assert_eq!((take(1).await, take(0).await), (Held, Held));
    assert_eq!(claim(&store, "b", 9, at(9)).await, []);
    finish(&store, claims[1]).await;
    assert_eq!(claim(&store, "c", 9, at(9)).await[0].id, id(3));
}

async fn who_is_only_to_come_later_keeps_nobody_waiting(store: Store) {
    request_into_line(&store, 1, 100).await;
    request_into_line(&store, 2, 1).await;
    let second = claim(&store, "a", 3, at(1)).await[0].claim();
    assert_eq!((second.execution, take(&store, second).await), (id(2), Held));
    let third = claimed(&store, 3).await;
    assert_eq!(take(&store, third).await, Waiting);
    finish(&store, second).await;
    assert_eq!(claim(&store, "c", 9, at(9)).await[0].id, id(3), "called before the first one is due");
}

async fn asking_again_for_a_place_changes_nothing(store: Store) {
    let first = claimed(&store, 1).await;
    assert_eq!((take(&store, first).await, take(&store, first).await), (Held, Held));
    finish(&store, first).await;
    let second = claimed(&store, 2).await;
    assert_eq!(take(&store, second).await, Held, "one end frees it, however often it was taken");
}

async fn a_wake_in_the_line_does_not_disturb_who_holds_the_place(store: Store) {
    let first = claimed(&store, 1).await;
    assert_eq!(take(&store, first).await, Held);
    let second = claimed(&store, 2).await;
    assert_eq!(take(&store, second).await, Waiting);
    store.executions().execution_wake(id(2), at(3)).await.unwrap();
    finish(&store, first).await;
    let called = claim(&store, "b", 9, at(9)).await;
    assert_eq!(called.iter().map(|row| row.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(take(&store, called[0].claim()).await, Held);
    assert_eq!(waits_for(&store, id(2)).await, ["lease"]);
}

async fn a_lost_claim_takes_no_place(store: Store) {
    let old = claimed(&store, 1).await;
    assert!(store.obligations().lease_requeue(old, at(2)).await.unwrap());
    let new = claim(&store, "b", 9, at(2)).await[0].claim();
    assert_eq!(store.executions().slot_take(old, "p", 1, at(3)).await, Err(StoreError::Conflict));
    let other = claimed(&store, 2).await;
    assert_eq!(take(&store, other).await, Held);
    assert_eq!(store.executions().slot_take(old, "p", 1, at(3)).await, Err(StoreError::Conflict));
    assert_eq!(waits_for(&store, id(1)).await, ["lease"], "nor does it send the new one's lease into the line");
    assert_eq!(take(&store, new).await, Waiting);
}

async fn a_line_that_stands_still_is_moved_on(store: Store) {
    let first = claimed(&store, 1).await;
    assert_eq!(take(&store, first).await, Held);
    let second = claimed(&store, 2).await;
    assert_eq!(take(&store, second).await, Waiting);
    assert!(!store.executions().slots_sweep("p", 1, at(3)).await.unwrap());
    // The policy was changed meanwhile: there are two places now.
    assert!(store.executions().slots_sweep("p", 2, at(3)).await.unwrap());
    let called = claim(&store, "b", 9, at(9)).await[0].claim();
    assert_eq!(store.executions().slot_take(called, "p", 2, at(9)).await.unwrap(), Held);
}
