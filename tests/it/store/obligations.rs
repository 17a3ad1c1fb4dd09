//! What unfinished executions wait for, and what time alone decides.

use petrel::model::execution::ExecutionStatus as Status;
use petrel::store::Store;
use petrel::store::journal::{Then, Turn, Wait};
use petrel::store::obligations::Lost;
use petrel::store::rows::{Claim, NewExecution, Start};
use serde_json::json;

use super::journals::{begun, entry, outcomes};
use super::{at, claim, claimed, end, execution, id, lease, request, waits_for};

super::promises![
    a_lease_is_lost_when_nobody_extends_it,
    a_lease_beyond_every_lease_is_lost_too,
    a_lease_that_was_extended_meanwhile_is_not_seized,
    a_daemon_that_comes_back_alone_takes_what_others_held,
    a_lost_execution_is_put_back_once,
    a_sleep_rings_once_and_wakes_its_workflow,
    a_signal_that_does_not_come_ends_its_wait_as_timeout,
    a_deadline_is_due_until_it_was_acted_on,
    nothing_unfinished_waits_for_nothing,
];

async fn a_lease_is_lost_when_nobody_extends_it(store: Store) {
    let held = claimed(&store, 1).await;
    let obligations = store.obligations();
    assert!(obligations.leases_lost(run_out(60)).await.unwrap().is_empty());
    assert_eq!(obligations.leases_extend("w", &[id(1), id(2)], at(120)).await.unwrap(), 1);
    assert_eq!(obligations.leases_extend("nobody", &[id(1)], at(500)).await.unwrap(), 0);
    assert_eq!(obligations.leases_extend("w", &[id(2)], at(500)).await.unwrap(), 0, "only what is named");
    assert_eq!(obligations.leases_held("w").await.unwrap(), [id(1)]);
    assert!(obligations.leases_lost(run_out(119)).await.unwrap().is_empty());
    let lost = obligations.leases_lost(run_out(120)).await.unwrap();
    assert_eq!(lost.iter().map(|row| row.claim()).collect::<Vec<_>>(), [held]);
    store.executions().execution_finish(&end(held, at(121))).await.unwrap();
    assert!(obligations.leases_lost(run_out(999)).await.unwrap().is_empty());
}

/// Leases that nobody has extended by then, or that a clock that was ahead has extended beyond any lease.
fn run_out(seconds: i64) -> Lost<'static> {
    Lost::RunOut { now: at(seconds), longest: at(seconds + 400) }
}

async fn a_lease_beyond_every_lease_is_lost_too(store: Store) {
    let held = claimed(&store, 1).await;
    let obligations = store.obligations();
    obligations.leases_extend("w", &[id(1)], at(5_000)).await.unwrap();
    let lost = obligations.leases_lost(run_out(60)).await.unwrap();
    assert_eq!(lost.iter().map(|row| row.claim()).collect::<Vec<_>>(), [held]);
}

async fn a_lease_that_was_extended_meanwhile_is_not_seized(store: Store) {
    let held = claimed(&store, 1).await;
    let obligations = store.obligations();
    let seize = async |now| {
        let (obligations, mine) = (store.obligations(), lease("recovery", at(now + 15)));
        obligations.lease_seize(held, &mine, at(now), at(now + 400)).await.unwrap()
    };
    assert_eq!(obligations.leases_lost(run_out(70)).await.unwrap().len(), 1);
    obligations.leases_touch(&[id(1)]).await.unwrap();
    obligations.leases_extend("w", &[id(1)], at(80)).await.unwrap();
    assert!(!seize(70).await, "its holder lives");
    assert!(seize(80).await);
    assert!(!seize(81).await, "another one recovers it");
    assert_eq!(obligations.leases_held("w").await.unwrap(), []);
}

async fn a_daemon_that_comes_back_alone_takes_what_others_held(store: Store) {
    claimed(&store, 1).await;
    let mine = NewExecution { start: Start::Leased(lease("me", at(60))), ..execution(2, at(1)) };
    store.executions().execution_request(&mine).await.unwrap();
    let lost = store.obligations().leases_lost(Lost::AllBut("me")).await.unwrap();
    assert_eq!(lost.iter().map(|row| row.id).collect::<Vec<_>>(), [id(1)]);
    let lost = store.obligations().leases_lost(Lost::Of("me")).await.unwrap();
    assert_eq!(lost.iter().map(|row| row.id).collect::<Vec<_>>(), [id(2)]);
}

async fn a_lost_execution_is_put_back_once(store: Store) {
    let old = claimed(&store, 1).await;
    let obligations = store.obligations();
    assert!(obligations.lease_requeue(old, at(61)).await.unwrap());
    assert!(!obligations.lease_requeue(old, at(61)).await.unwrap(), "it holds no lease any more");
    let again = claim(&store, "b", 9, at(61)).await;
    assert_eq!(again[0].claim(), Claim { fence: 2, ..old });
    assert!(!obligations.lease_requeue(old, at(62)).await.unwrap(), "another one holds it");
}

async fn a_sleep_rings_once_and_wakes_its_workflow(store: Store) {
    let held = begun(&store, 1).await;
    let sleeps = Turn {
        entries: vec![entry("1", 1)],
        waits: vec![Wait::Timer { position: "1".to_owned(), due_at: at(10) }],
        ..Turn::new(held, at(2), Then::Suspend)
    };
    store.journals().turn_record(sleeps).await.unwrap();
    assert_eq!(store.obligations().due_next(at(9)).await.unwrap(), Some(at(10)));
    assert_eq!(store.obligations().timers_ring(at(9)).await.unwrap(), 0);
    assert_eq!(waits_for(&store, id(1)).await, ["timer 1"]);
    assert_eq!(store.obligations().timers_ring(at(10)).await.unwrap(), 1);
    assert_eq!(store.obligations().timers_ring(at(11)).await.unwrap(), 0);
    assert_eq!(outcomes(&store, id(1)).await, ["1 {\"ok\":null}"]);
    assert_eq!(claim(&store, "b", 9, at(10)).await[0].id, id(1));
}

async fn a_signal_that_does_not_come_ends_its_wait_as_timeout(store: Store) {
    let held = begun(&store, 1).await;
    let wait = |position: &str, due| Wait::Signal {
        position: position.to_owned(),
        name: "go".to_owned(),
        correlation: String::new(),
        due_at: at(due),
    };
    let waits = Turn {
        entries: vec![entry("1", 1), entry("2", 2)],
        waits: vec![wait("1", 10), wait("2", 99)],
        ..Turn::new(held, at(2), Then::Suspend)
    };
    store.journals().turn_record(waits).await.unwrap();
    assert_eq!(store.obligations().timers_ring(at(10)).await.unwrap(), 1);
    let expected = r#"1 {"error":{"message":"no signal came in time","status":"timeout"}}"#;
    assert_eq!(outcomes(&store, id(1)).await, [expected, "2 -"]);
    assert_eq!(waits_for(&store, id(1)).await, ["queue", "signal 2"]);
}

async fn a_deadline_is_due_until_it_was_acted_on(store: Store) {
    let new = NewExecution { deadline: Some(at(30)), ..execution(1, at(1)) };
    store.executions().execution_request(&new).await.unwrap();
    let obligations = store.obligations();
    assert_eq!(waits_for(&store, id(1)).await, ["queue", "timeout"]);
    assert_eq!(
        (obligations.due_next(at(29)).await.unwrap(), obligations.timeouts_due("a", at(29)).await.unwrap()),
        (Some(at(30)), vec![])
    );
    for _ in 0..2 {
        let due = obligations.timeouts_due("a", at(30)).await.unwrap();
        assert_eq!((due.len(), due[0].kind.as_str(), due[0].execution), (1, "timeout", id(1)));
    }
    assert_eq!(obligations.due_next(at(30)).await.unwrap(), None, "it was due, and is not due anew");
    let held = claim(&store, "b", 9, at(30)).await[0].claim();
    assert_eq!(obligations.timeouts_due("v", at(31)).await.unwrap(), [], "only where it runs it can be stopped");
    assert_eq!(obligations.timeouts_due("w", at(31)).await.unwrap().len(), 1);
    assert_eq!(obligations.timeouts_due("a", at(90)).await.unwrap().len(), 1, "nobody holds it any more");
    store.executions().execution_release(held, at(99)).await.unwrap();
    obligations.timeout_done(id(1)).await.unwrap();
    assert_eq!(obligations.timeouts_due("a", at(99)).await.unwrap(), []);
    assert_eq!(waits_for(&store, id(1)).await, ["queue"]);
}

async fn nothing_unfinished_waits_for_nothing(store: Store) {
    let held = begun(&store, 5).await;
    request(&store, [1, 2, 3, 4]).await;
    let rows = claim(&store, "a", 3, at(1)).await;
    store.executions().execution_await_answer(rows[1].claim(), &json!({}), at(9), at(2)).await.unwrap();
    store.executions().slot_take(rows[2].claim(), "p", 1, at(2)).await.unwrap();
    assert_eq!(store.obligations().orphans().await.unwrap(), []);

    store.journals().turn_record(Turn::new(held, at(3), Then::Suspend)).await.unwrap();
    let orphans = store.obligations().orphans().await.unwrap();
    assert_eq!(orphans, [(id(5), Status::Running)], "who is suspended without a reason is found");
    let leases = store.obligations().obligation_list_kind("lease", 9).await.unwrap();
    assert_eq!(leases.iter().map(|row| row.execution).collect::<Vec<_>>(), [id(1), id(3)]);
}
