//! Workflows: turns that are written whole or not at all, signals that are taken once, fresh journals.

use petrel::model::execution::ExecutionStatus as Status;
use petrel::model::refs::ExecutionId;
use petrel::store::journal::{EntryRow, NewSignal, NewWorkflow, Steered, Then, Turn, Wait};
use petrel::store::key_values::{Expected, KeyWrite};
use petrel::store::rows::{Claim, Completion, ParentOutcome, Wake};
use petrel::store::{Store, StoreError};
use serde_json::{Value, json};

use super::{at, claim, claimed, end, id, instance, request, step, waits_for};

super::promises![
    a_workflow_keeps_the_bundle_it_began_with,
    a_turn_is_written_whole,
    a_turn_whose_guard_fails_writes_nothing,
    a_turn_of_a_lost_claim_or_an_ended_workflow_is_refused,
    the_end_of_a_step_reaches_its_parent_with_it,
    a_signal_may_come_before_or_after_its_waiter,
    a_signal_is_taken_once_and_by_one,
    a_sender_is_heard_once,
    nobody_takes_a_signal_that_has_expired,
    a_pause_names_its_reason_and_its_end,
    a_fresh_journal_forgets_the_old_one,
    a_fresh_journal_hears_new_signals_not_old_ones,
    the_state_changes_only_from_what_was_read,
];

/// A workflow, claimed and begun.
pub(super) async fn begun(store: &Store, number: u8) -> Claim {
    let claim = claimed(store, number).await;
    store.journals().workflow_begin(id(number), &new_workflow("digest", "script", json!({}))).await.unwrap();
    claim
}

pub(super) fn entry(position: &str, sequence: i64) -> EntryRow {
    EntryRow {
        position: position.to_owned(),
        sequence,
        request: "{}".to_owned(),
        outcome: None,
        child: None,
        recorded_at: at(2),
        sealed_secrets: None,
    }
}

/// The journal as `position outcome`.
pub(super) async fn outcomes(store: &Store, execution: ExecutionId) -> Vec<String> {
    let entries = store.journals().journal_read(execution).await.unwrap();
    entries.into_iter().map(|entry| format!("{} {}", entry.position, entry.outcome.as_deref().unwrap_or("-"))).collect()
}

fn signal(sender: &str, payload: Value) -> NewSignal {
    NewSignal {
        name: "go".to_owned(),
        correlation: "k".to_owned(),
        sender: sender.to_owned(),
        payload,
        expires_at: at(100),
    }
}

fn waits_for_go(claim: Claim, position: &str) -> Turn {
    let wait = Wait::Signal {
        position: position.to_owned(),
        name: "go".to_owned(),
        correlation: "k".to_owned(),
        due_at: at(1000),
    };
    Turn { entries: vec![entry(position, 1)], waits: vec![wait], ..Turn::new(claim, at(2), Then::Suspend) }
}

async fn a_workflow_keeps_the_bundle_it_began_with(store: Store) {
    begun(&store, 1).await;
    let journals = store.journals();
    journals.workflow_begin(id(1), &new_workflow("other", "changed script", json!({ "n": 1 }))).await.unwrap();
    let row = journals.workflow_get(id(1)).await.unwrap().unwrap();
    assert_eq!((row.bundle.as_str(), &row.state), ("script", &json!({})));
    assert_eq!(journals.workflow_get(id(9)).await.unwrap(), None);
    assert_eq!(journals.workflows_open().await.unwrap(), [id(1)]);
}

async fn a_turn_is_written_whole(store: Store) {
    let held = begun(&store, 1).await;
    let before = store.announcements().announcements_last().await.unwrap();
    let turn = Turn {
        entries: vec![EntryRow { child: Some(id(2)), ..entry("1", 1) }, entry("2", 2)],
        outcomes: vec![("2".to_owned(), "{\"ok\":7}".to_owned())],
        children: vec![step(2, id(1), "1", at(2))],
        key_writes: vec![key("a", Expected::Absent)],
        instances: vec![instance(1)],
        lines: vec![(1, "hello".to_owned())],
        announcements: vec![("st2.announcement__ops".to_owned(), json!({ "n": 1 }))],
        state: Some(json!({ "steps": 1 })),
        ..Turn::new(held, at(2), Then::Suspend)
    };
    store.journals().turn_record(turn).await.unwrap();
    assert_eq!(outcomes(&store, id(1)).await, ["1 -", "2 {\"ok\":7}"]);
    let open = store.journals().journal_open(id(1)).await.unwrap();
    assert_eq!(open.iter().map(|entry| entry.child).collect::<Vec<_>>(), [Some(id(2))]);
    assert_eq!(store.executions().execution_children(id(1)).await.unwrap().len(), 1);
    assert!(store.key_values().key_get("system", "a", at(2)).await.unwrap().is_some());
    assert_eq!(store.events().instances_pending_count().await.unwrap(), 1);
    assert_eq!(store.outputs().output_read(id(1), 0, 9).await.unwrap()[0].text, "hello");
    assert_eq!(store.journals().workflow_get(id(1)).await.unwrap().unwrap().state, json!({ "steps": 1 }));
    assert_eq!(waits_for(&store, id(1)).await, [""; 0], "it waits for its step only");
    let told = store.announcements().announcements_read(before, 9).await.unwrap();
    let names: Vec<&str> = told.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["st2.execution__create", "st2.announcement__ops"]);
}

fn key(name: &str, expected: Expected) -> KeyWrite {
    KeyWrite {
        scope: "system".to_owned(),
        name: name.to_owned(),
        value: Some("1".to_owned()),
        secret: false,
        expires_at: None,
        expected,
    }
}

async fn a_turn_whose_guard_fails_writes_nothing(store: Store) {
    let held = begun(&store, 1).await;
    store.key_values().key_write(&key("taken", Expected::Anything), at(1)).await.unwrap();
    let turn = Turn {
        entries: vec![entry("1", 1)],
        children: vec![step(2, id(1), "1", at(2))],
        key_writes: vec![key("free", Expected::Absent), key("taken", Expected::Absent)],
        instances: vec![instance(1)],
        state: Some(json!({ "steps": 1 })),
        ..Turn::new(held, at(2), Then::Suspend)
    };
    assert_eq!(store.journals().turn_record(turn).await, Err(StoreError::Conflict));
    assert_eq!(outcomes(&store, id(1)).await, [""; 0]);
    assert_eq!(store.executions().execution_children(id(1)).await.unwrap(), []);
    assert_eq!(store.key_values().key_get("system", "free", at(2)).await.unwrap(), None);
    assert_eq!(store.events().instances_pending_count().await.unwrap(), 0);
    assert_eq!(store.journals().workflow_get(id(1)).await.unwrap().unwrap().state, json!({}));
    assert_eq!(waits_for(&store, id(1)).await, ["lease"]);
}

async fn a_turn_of_a_lost_claim_or_an_ended_workflow_is_refused(store: Store) {
    let old = begun(&store, 1).await;
    assert!(store.obligations().lease_requeue(old, at(2)).await.unwrap());
    let new = claim(&store, "b", 9, at(2)).await[0].claim();
    let turn = |claim| Turn { children: vec![step(2, id(1), "1", at(3))], ..Turn::new(claim, at(3), Then::Suspend) };
    assert_eq!(store.journals().turn_record(turn(old)).await, Err(StoreError::Conflict));
    store.executions().execution_finish(&end(new, at(3))).await.unwrap();
    assert_eq!(store.journals().turn_record(turn(new)).await, Err(StoreError::Conflict));
    assert_eq!(store.executions().execution_children(id(1)).await.unwrap(), []);
}

async fn the_end_of_a_step_reaches_its_parent_with_it(store: Store) {
    let held = begun(&store, 1).await;
    let turn = Turn {
        entries: vec![EntryRow { child: Some(id(2)), ..entry("1", 1) }],
        children: vec![step(2, id(1), "1", at(2))],
        ..Turn::new(held, at(2), Then::Suspend)
    };
    store.journals().turn_record(turn).await.unwrap();
    let child = claim(&store, "b", 9, at(2)).await[0].claim();
    let outcome = |text: &str| {
        let (position, outcome) = ("1".to_owned(), text.to_owned());
        Some(ParentOutcome { execution: id(1), position, outcome, sealed_secrets: None, wake: Wake::Queue })
    };
    let ends = Completion { parent: outcome("{\"ok\":1}"), ..end(child, at(3)) };
    store.executions().execution_finish(&ends).await.unwrap();
    let again = Completion { parent: outcome("{\"ok\":2}"), ..ends };
    assert_eq!(store.executions().execution_finish(&again).await, Err(StoreError::Conflict));
    assert_eq!(outcomes(&store, id(1)).await, ["1 {\"ok\":1}"]);
    let woken = claim(&store, "c", 9, at(3)).await;
    assert_eq!((woken[0].id, woken[0].fence, woken[0].status), (id(1), 2, Status::Running));
}

async fn a_signal_may_come_before_or_after_its_waiter(store: Store) {
    let journals = store.journals();
    for (number, comes_early) in [(1, true), (2, false)] {
        let held = begun(&store, number).await;
        let sends = async || journals.signal_send(&signal(&format!("s{number}"), json!(number)), at(2)).await.unwrap();
        if comes_early {
            assert!(sends().await);
        }
        journals.turn_record(waits_for_go(held, "1")).await.unwrap();
        if !comes_early {
            assert_eq!(waits_for(&store, id(number)).await, ["signal 1"]);
            assert!(sends().await);
        }
        let woken = claim(&store, &format!("woken-{number}"), 9, at(3)).await;
        assert_eq!(woken.iter().map(|row| row.id).collect::<Vec<_>>(), [id(number)]);
        assert_eq!(journals.signals_awaited(id(number)).await.unwrap(), [("1".into(), "go".into(), "k".into())]);
        assert!(journals.signal_take(woken[0].claim(), "1", "go", "k", at(3)).await.unwrap());
        assert_eq!(outcomes(&store, id(number)).await, [format!("1 {{\"ok\":{number}}}")]);
        assert_eq!(waits_for(&store, id(number)).await, ["lease"]);
    }
}

async fn a_signal_is_taken_once_and_by_one(store: Store) {
    let journals = store.journals();
    let mut waiting = Vec::new();
    for number in [1, 2] {
        let held = begun(&store, number).await;
        journals.turn_record(waits_for_go(held, "1")).await.unwrap();
        waiting.push(held);
    }
    assert!(journals.signal_send(&signal("s", json!("first")), at(3)).await.unwrap());
    assert!(journals.signal_take(waiting[0], "1", "go", "k", at(3)).await.unwrap());
    assert!(!journals.signal_take(waiting[0], "1", "go", "k", at(3)).await.unwrap());
    assert!(!journals.signal_take(waiting[1], "1", "go", "k", at(3)).await.unwrap());
    for (sender, second) in [("b", 5), ("a", 4)] {
        assert!(journals.signal_send(&signal(sender, json!(sender)), at(second)).await.unwrap());
    }
    assert!(journals.signal_take(waiting[1], "1", "go", "k", at(6)).await.unwrap());
    assert_eq!(outcomes(&store, id(2)).await, ["1 {\"ok\":\"a\"}"], "the oldest first");
}

async fn a_sender_is_heard_once(store: Store) {
    let journals = store.journals();
    assert!(journals.signal_send(&signal("s", json!(1)), at(2)).await.unwrap());
    assert!(!journals.signal_send(&signal("s", json!(2)), at(99)).await.unwrap());
    let other = NewSignal { correlation: "other".to_owned(), ..signal("s", json!(3)) };
    assert!(journals.signal_send(&other, at(2)).await.unwrap());
    let later = NewSignal { expires_at: at(300), ..signal("s", json!(4)) };
    assert!(journals.signal_send(&later, at(101)).await.unwrap(), "what it sent before is past");
    let held = begun(&store, 1).await;
    journals.turn_record(waits_for_go(held, "1")).await.unwrap();
    assert!(journals.signal_take(held, "1", "go", "k", at(102)).await.unwrap());
    assert_eq!(outcomes(&store, id(1)).await, ["1 {\"ok\":4}"]);
}

async fn nobody_takes_a_signal_that_has_expired(store: Store) {
    let journals = store.journals();
    let held = begun(&store, 1).await;
    assert!(journals.signal_send(&signal("s", json!(1)), at(2)).await.unwrap());
    let waits = Turn { now: at(101), ..waits_for_go(held, "1") };
    journals.turn_record(waits).await.unwrap();
    assert_eq!(waits_for(&store, id(1)).await, ["signal 1"], "nor does it wake anybody");
    assert!(!journals.signal_take(held, "1", "go", "k", at(101)).await.unwrap());
}

async fn a_pause_names_its_reason_and_its_end(store: Store) {
    let held = begun(&store, 1).await;
    let pause = Then::Pause { due_at: at(50), reason: "diverged".to_owned() };
    store.journals().turn_record(Turn::new(held, at(2), pause)).await.unwrap();
    assert_eq!(store.executions().execution_get(id(1)).await.unwrap().status, Status::Paused);
    let row = &store.obligations().obligation_list(id(1)).await.unwrap()[0];
    assert_eq!((row.kind.as_str(), row.due_at, row.detail.as_deref()), ("pause", Some(at(50)), Some("diverged")));
    assert_eq!((claim(&store, "b", 9, at(9)).await, store.obligations().orphans().await.unwrap()), (vec![], vec![]));
    let resumed = store.executions().status_change(id(1), &[Status::Paused], Status::Resuming, at(9)).await.unwrap();
    assert!(resumed);
    assert_eq!(claim(&store, "c", 9, at(9)).await[0].status, Status::Running);
}

async fn a_fresh_journal_forgets_the_old_one(store: Store) {
    let held = begun(&store, 1).await;
    let sleeps = Turn {
        entries: vec![entry("1", 1)],
        waits: vec![Wait::Timer { position: "1".to_owned(), due_at: at(10) }],
        ..Turn::new(held, at(2), Then::Continue)
    };
    store.journals().turn_record(sleeps).await.unwrap();
    let restart = Then::Restart { parameters: json!({ "round": 2 }) };
    store.journals().turn_record(Turn::new(held, at(3), restart)).await.unwrap();
    assert_eq!(outcomes(&store, id(1)).await, [""; 0]);
    assert_eq!(waits_for(&store, id(1)).await, ["queue"]);
    let again = &claim(&store, "b", 9, at(3)).await[0];
    assert_eq!((&again.parameters, again.fence), (&json!({ "round": 2 }), 2));
}

async fn a_fresh_journal_hears_new_signals_not_old_ones(store: Store) {
    let journals = store.journals();
    let mut held = begun(&store, 1).await;
    for word in ["b", "a"] {
        assert!(journals.signal_send(&signal(word, json!(word)), at(2)).await.unwrap());
        journals.turn_record(Turn { then: Then::Continue, ..waits_for_go(held, "1") }).await.unwrap();
        assert!(journals.signal_take(held, "1", "go", "k", at(3)).await.unwrap());
        assert_eq!(outcomes(&store, id(1)).await, [format!("1 {{\"ok\":\"{word}\"}}")]);
        let restart = Then::Restart { parameters: json!({}) };
        journals.turn_record(Turn::new(held, at(3), restart)).await.unwrap();
        held = claim(&store, &format!("after-{word}"), 9, at(3)).await[0].claim();
    }
}

async fn the_state_changes_only_from_what_was_read(store: Store) {
    let held = begun(&store, 1).await;
    store.journals().turn_record(Turn::new(held, at(2), Then::Suspend)).await.unwrap();
    let (read, write) = (json!({}), json!({ "interrupt": "cancel" }));
    assert!(store.journals().workflow_steer(id(1), &steered(&read, &write), at(3)).await.unwrap());
    assert!(!store.journals().workflow_steer(id(1), &steered(&read, &json!({ "paused": true })), at(3)).await.unwrap());
    assert_eq!(store.journals().workflow_get(id(1)).await.unwrap().unwrap().steering, write);
    assert_eq!(waits_for(&store, id(1)).await, ["queue"]);
    request(&store, [2]).await;
    let nobody = store.journals().workflow_steer(id(2), &steered(&json!({}), &write), at(3)).await.unwrap();
    assert!(!nobody, "it has not begun");
}

fn new_workflow(digest: &str, bundle: &str, state: Value) -> NewWorkflow {
    NewWorkflow { digest: digest.to_owned(), bundle: bundle.to_owned(), state, steering: json!({}) }
}

fn steered(read: &Value, write: &Value) -> Steered {
    Steered { read: read.clone(), write: write.clone(), status: None }
}
