//! What is too old goes, in chunks; what is unfinished never does.

use petrel::store::identities::{TokenRow, UserRow};
use petrel::store::journal::{NewSignal, Then, Turn};
use petrel::store::key_values::{Expected, KeyWrite};
use petrel::store::output::OutputRow;
use petrel::store::retention::Horizon;
use petrel::store::rows::NewInstance;
use petrel::store::{Store, StoreError};
use serde_json::json;

use super::journals::{begun, entry};
use super::{accept, at, claim, claimed, end, end_with, id, instance, step, waits_for};

super::promises![
    a_tree_goes_as_one_with_all_that_belongs_to_it,
    nothing_unfinished_goes,
    what_carries_its_own_end_goes_then,
    a_number_that_was_announced_is_never_given_again,
];

fn horizon(second: i64) -> Horizon {
    let at = at(second);
    Horizon { executions: at, instances: at, output: at, decisions: at, announcements: at, audit: at, now: at }
}

async fn sweep(store: &Store, second: i64) {
    while store.retention().sweep(&horizon(second)).await.unwrap() > 0 {}
}

async fn a_tree_goes_as_one_with_all_that_belongs_to_it(store: Store) {
    let parent = begun(&store, 1).await;
    let turn = Turn {
        entries: vec![entry("1", 1)],
        children: vec![step(2, id(1), "1", at(2))],
        ..Turn::new(parent, at(2), Then::Continue)
    };
    store.journals().turn_record(turn).await.unwrap();
    let child = claim(&store, "b", 9, at(2)).await[0].claim();
    let large = json!("x".repeat(100_000));
    store.executions().execution_finish(&end_with(child, large, at(10))).await.unwrap();
    store.executions().execution_finish(&end(parent, at(20))).await.unwrap();
    let said = OutputRow { sequence: 1, stream: "stdout".to_owned(), text: "hi".to_owned(), written_at: at(5) };
    store.outputs().output_append(id(2), &[said]).await.unwrap();

    sweep(&store, 15).await;
    assert!(store.executions().execution_get(id(2)).await.is_ok(), "its workflow is too young");
    sweep(&store, 21).await;
    for gone in [1, 2] {
        let get = store.executions().execution_get(id(gone)).await;
        assert!(matches!(get, Err(StoreError::NotFound(_))), "{get:?}");
    }
    assert_eq!(store.journals().workflow_get(id(1)).await.unwrap(), None);
    assert_eq!(store.journals().journal_read(id(1)).await.unwrap(), []);
    assert_eq!(store.outputs().output_read(id(2), 0, 9).await.unwrap(), []);
}

async fn nothing_unfinished_goes(store: Store) {
    let parent = begun(&store, 1).await;
    let turn = Turn { children: vec![step(2, id(1), "1", at(2))], ..Turn::new(parent, at(2), Then::Continue) };
    store.journals().turn_record(turn).await.unwrap();
    // A step that its workflow did not wait for.
    store.executions().execution_finish(&end(parent, at(3))).await.unwrap();
    claimed(&store, 3).await;
    accept(&store.events(), &instance(1), at(1)).await.unwrap();
    sweep(&store, 1000).await;
    for number in [2, 3] {
        assert!(store.executions().execution_get(id(number)).await.is_ok(), "{number}");
    }
    assert_eq!(waits_for(&store, id(2)).await, ["queue"]);
    assert_eq!(store.events().instances_pending_count().await.unwrap(), 1);
    let step = claim(&store, "z", 9, at(1000)).await[0].claim();
    store.executions().execution_finish(&end(step, at(1001))).await.unwrap();
    sweep(&store, 2000).await;
    assert!(store.executions().execution_get(id(2)).await.is_err(), "now the tree is over");
}

async fn what_carries_its_own_end_goes_then(store: Store) {
    let key = KeyWrite {
        scope: "system".to_owned(),
        name: "a".to_owned(),
        value: Some(String::new()),
        secret: false,
        expires_at: Some(at(50)),
        expected: Expected::Absent,
    };
    store.key_values().key_write(&key, at(1)).await.unwrap();
    store.key_values().key_write(&KeyWrite { name: "b".to_owned(), expires_at: None, ..key }, at(1)).await.unwrap();
    let ann = UserRow { name: "ann".to_owned(), password_hash: None, role: "observer".to_owned(), created_at: at(1) };
    store.identities().user_put(&ann).await.unwrap();
    let token = TokenRow { id: id(1), user: ann.name, expires_at: at(50) };
    store.identities().token_put(&token, "t", None).await.unwrap();
    let signal = NewSignal {
        name: "go".to_owned(),
        correlation: String::new(),
        sender: "s".to_owned(),
        payload: json!(1),
        expires_at: at(50),
    };
    store.journals().signal_send(&signal, at(1)).await.unwrap();
    let keyed = NewInstance { dedupe: Some(("k".to_owned(), at(50))), ..instance(1) };
    accept(&store.events(), &keyed, at(1)).await.unwrap();
    let rule = "default.rule".parse().unwrap();
    assert!(store.events().throttle_pass(&rule, "web", id(1), at(1), at(50)).await.unwrap());

    assert_eq!(store.retention().sweep(&horizon(1)).await.unwrap(), 0);
    let went = store.retention().sweep(&horizon(51)).await.unwrap();
    assert_eq!(went, 5, "key, token, signal, remembered key, throttle");
    assert_eq!(store.key_values().key_count(None, "", at(1)).await.unwrap(), 1);
}

async fn a_number_that_was_announced_is_never_given_again(store: Store) {
    store.announcements().announce("a", "x", &json!(1), at(1)).await.unwrap();
    let last = store.announcements().announcements_last().await.unwrap();
    sweep(&store, 10).await;
    assert_eq!(store.announcements().announcements_read(0, 9).await.unwrap(), []);
    store.announcements().announce("b", "x", &json!(2), at(11)).await.unwrap();
    let rows = store.announcements().announcements_read(last, 9).await.unwrap();
    assert_eq!(rows.len(), 1, "who was away since {last} hears it");
}
