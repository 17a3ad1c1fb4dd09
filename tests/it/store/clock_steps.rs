//! What is stored with a time, when the clock by which it was written is set.

use std::time::Duration;

use petrel::model::refs::InstanceId;
use petrel::store::Store;
use petrel::store::events::{Arrival, HeldInstance};
use petrel::store::identities::{TokenRow, UserRow};
use petrel::store::journal::{EntryRow, Then, Turn, Wait};
use petrel::store::rows::{NewExecution, NewInstance, Start};

use super::journals::{begun, entry};
use super::{accept, at, execution, id, instance, waits_for};

super::promises![
    a_step_moves_along_what_is_relative_once,
    a_time_of_day_stays_where_it_is_when_the_clock_steps,
    what_a_clock_ahead_has_written_waits_for_its_own_period,
    a_repair_finds_nothing_where_no_clock_was_wrong,
    a_timer_in_the_future_is_taken_back_to_the_present,
    a_throttle_beyond_its_own_period_holds_nothing_back,
    a_turn_beyond_every_lease_is_free,
];

const DAY: i64 = 86_400;

fn sleeps(position: &str, sequence: i64, request: &str) -> EntryRow {
    EntryRow { request: request.to_owned(), ..entry(position, sequence) }
}

fn timer(position: &str, due: i64) -> Wait {
    Wait::Timer { position: position.to_owned(), due_at: at(due) }
}

async fn due_of(store: &Store, kind: &str) -> Vec<i64> {
    let rows = store.obligations().obligation_list_kind(kind, 100).await.unwrap();
    rows.into_iter().map(|row| row.due_at.unwrap().as_seconds()).collect()
}

/// A workflow that sleeps for a minute from second 2 on, and one until a time of day.
async fn sleepers(store: &Store) {
    let minute = r#"{"kind":"sleep","params":{"millis":60000}}"#;
    let fixed = r#"{"kind":"sleep_until","params":{"until":"1970-01-01T00:01:40Z"}}"#;
    let turn = Turn {
        entries: vec![sleeps("1", 1, minute), sleeps("2", 2, fixed)],
        waits: vec![timer("1", 62), timer("2", 100)],
        ..Turn::new(begun(store, 1).await, at(2), Then::Suspend)
    };
    store.journals().turn_record(turn).await.unwrap();
}

async fn a_step_moves_along_what_is_relative_once(store: Store) {
    sleepers(&store).await;
    let delayed = Start::Queued { due_at: at(30), line: None };
    let new = NewExecution { start: delayed, deadline: Some(at(90)), ..execution(2, at(1)) };
    store.executions().execution_request(&new).await.unwrap();
    let name = "ann".to_owned();
    let ann = UserRow { name: name.clone(), password_hash: None, role: "operator".to_owned(), created_at: at(1) };
    store.identities().user_put(&ann).await.unwrap();
    let token = TokenRow { id: id(1), user: name, expires_at: at(50) };
    store.identities().token_put(&token, "hash", None).await.unwrap();
    let keyed = NewInstance { dedupe: Some(("k".to_owned(), at(200))), ..instance(1) };
    accept(&store.events(), &keyed, at(1)).await.unwrap();

    let steps = store.clock_steps();
    let day = DAY * 1_000_000;
    assert!(steps.clock_stepped(day, at(DAY + 3), None, "once").await.unwrap());
    assert!(!steps.clock_stepped(day, at(DAY + 3), None, "twice").await.unwrap(), "another daemon was quicker");
    assert_eq!(steps.clock_remembered().await.unwrap().as_deref(), Some("once"));

    assert_eq!(due_of(&store, "queue").await, [DAY + 30]);
    assert_eq!(due_of(&store, "timeout").await, [DAY + 90]);
    assert!(store.identities().token_user("hash", at(DAY + 49)).await.unwrap().is_some());
    assert!(store.identities().token_user("hash", at(DAY + 51)).await.unwrap().is_none());
    let again = NewInstance { dedupe: Some(("k".to_owned(), at(DAY + 999))), ..instance(2) };
    let repeated = accept(&store.events(), &again, at(DAY + 199)).await.unwrap();
    assert_eq!(repeated, petrel::store::events::Accepted::Duplicate(id(1)));
}

async fn a_time_of_day_stays_where_it_is_when_the_clock_steps(store: Store) {
    sleepers(&store).await;
    assert!(store.clock_steps().clock_stepped(10_000_000, at(13), None, "x").await.unwrap());
    assert_eq!(due_of(&store, "timer").await, [72, 100]);
    assert!(store.clock_steps().clock_stepped(-10_000_000, at(4), Some("x"), "y").await.unwrap());
    assert_eq!(due_of(&store, "timer").await, [62, 100]);
}

/// An id that was made in this second.
fn made_at(second: i64) -> InstanceId {
    InstanceId::earliest_at(at(second))
}

async fn what_a_clock_ahead_has_written_waits_for_its_own_period(store: Store) {
    let minute = r#"{"kind":"sleep","params":{"millis":60000}}"#;
    let turn = Turn {
        entries: vec![sleeps("1", 1, minute)],
        waits: vec![timer("1", DAY + 62)],
        ..Turn::new(begun(&store, 1).await, at(DAY + 2), Then::Suspend)
    };
    store.journals().turn_record(turn).await.unwrap();
    let delayed = Start::Queued { due_at: at(DAY + 40), line: None };
    let new = NewExecution { start: delayed, ..execution(2, at(DAY + 10)) };
    store.executions().execution_request(&new).await.unwrap();
    let held = NewInstance { id: made_at(DAY + 10), ..instance(3) };
    let held = HeldInstance { key: "recovery".to_owned(), instance: held, due_at: at(DAY + 310) };
    store.events().arrivals_accept(&[Arrival::Held(held)], at(DAY + 10)).await.unwrap();

    assert_eq!(store.clock_steps().clock_repair(at(100)).await.unwrap(), 3);
    assert_eq!(due_of(&store, "timer").await, [160]);
    assert_eq!(due_of(&store, "queue").await, [130]);
    assert_eq!(store.events().holds_next().await.unwrap(), Some(at(400)));
}

async fn a_repair_finds_nothing_where_no_clock_was_wrong(store: Store) {
    sleepers(&store).await;
    let delayed = Start::Queued { due_at: at(3_000), line: None };
    store.executions().execution_request(&NewExecution { start: delayed, ..execution(2, at(1)) }).await.unwrap();
    assert_eq!(store.clock_steps().clock_repair(at(3)).await.unwrap(), 0);
    assert_eq!(waits_for(&store, id(2)).await, ["queue"]);
}

async fn a_timer_in_the_future_is_taken_back_to_the_present(store: Store) {
    let events = store.events();
    events.timer_state("t", at(1)).await.unwrap();
    assert!(events.timer_fire("t", at(DAY), &[], 0, at(DAY)).await.unwrap());
    assert!(events.timer_fire("t", at(10), &[], 0, at(10)).await.unwrap());
    assert!(!events.timer_fire("t", at(10), &[], 0, at(10)).await.unwrap(), "once");
    assert_eq!(events.timer_state("t", at(11)).await.unwrap().last, Some(at(10)));
    events.timer_state("later", at(DAY)).await.unwrap();
    events.timer_begin_again("later", at(11)).await.unwrap();
    assert_eq!(events.timer_state("later", at(12)).await.unwrap().anchor, at(11));
}

async fn a_throttle_beyond_its_own_period_holds_nothing_back(store: Store) {
    let (events, rule) = (store.events(), "default.rule".parse().unwrap());
    assert!(events.throttle_pass(&rule, "k", id(1), at(DAY), at(DAY + 60)).await.unwrap());
    assert!(events.throttle_pass(&rule, "k", id(2), at(10), at(70)).await.unwrap());
    assert!(!events.throttle_pass(&rule, "k", id(3), at(69), at(129)).await.unwrap());
}

async fn a_turn_beyond_every_lease_is_free(store: Store) {
    let daemons = store.daemons();
    assert!(daemons.lease_take("poll", "ahead", at(DAY + 10), at(DAY)).await.unwrap());
    assert!(daemons.lease_take("poll", "right", at(20), at(10)).await.unwrap());
    assert!(!daemons.lease_take("poll", "other", at(21), at(11)).await.unwrap());
    let unheard = Duration::from_secs(10);
    assert!(daemons.lease_take("poll", "other", at(20).plus(unheard), at(20)).await.unwrap());
}
