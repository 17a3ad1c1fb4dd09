//! What every back end of the store promises. A promise is an async fn over a fresh [`Store`]; a back end joins by
//! handing an opener to [`suite`].

mod catalogues;
mod clock_steps;
mod contents;
mod daemons;
mod dead_letters;
mod events;
mod executions;
mod given_up;
mod groups;
mod histories;
mod identities;
mod journals;
mod key_values;
mod obligations;
mod postgres;
mod retention;
mod slots;
mod sqlite;
mod suspects;
pub(crate) mod troubles;
mod writers;

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use petrel::model::action::OnLost;
use petrel::model::execution::ExecutionStatus;
use petrel::model::refs::{ExecutionId, Id};
use petrel::model::time::Timestamp;
use petrel::store::events::{Accepted, Arrival};
use petrel::store::rows::{
    Claim, Completion, ExecutionRow, Lease, NewExecution, NewInstance, Page, Secrecy, Share, Start,
};
use petrel::store::{Events, Store, StoreResult};
use serde_json::{Value, json};

/// One promise: its name and how it is put to the test.
struct Promise {
    name: &'static str,
    keep: fn(Store) -> BoxFuture<'static, ()>,
}

/// Accepts one instance that has happened.
async fn accept(events: &Events, new: &NewInstance, now: Timestamp) -> StoreResult<Accepted> {
    let accepted = events.arrivals_accept(&[Arrival::Happened(new.clone())], now).await?;
    Ok(*accepted.first().expect("one answer for one instance"))
}

/// The promises of one aggregate, by the names of their functions.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        pub(super) const PROMISES: &[super::Promise] =
            &[$(super::Promise { name: stringify!($name), keep: |store| Box::pin($name(store)) }),*];
    };
}
use promises;

const ALL: [&[Promise]; 16] = [
    events::PROMISES,
    executions::PROMISES,
    slots::PROMISES,
    obligations::PROMISES,
    suspects::PROMISES,
    journals::PROMISES,
    key_values::PROMISES,
    groups::PROMISES,
    identities::PROMISES,
    catalogues::PROMISES,
    contents::PROMISES,
    dead_letters::PROMISES,
    daemons::PROMISES,
    clock_steps::PROMISES,
    retention::PROMISES,
    writers::PROMISES,
];

/// Puts every promise to the test, each on a store of its own.
async fn suite(open: impl AsyncFn() -> Store) {
    let mut broken = Vec::new();
    for promise in ALL.into_iter().flatten() {
        let kept = AssertUnwindSafe((promise.keep)(open().await)).catch_unwind().await;
        broken.extend(kept.is_err().then_some(promise.name));
    }
    assert_eq!(broken, [""; 0], "promises that were broken; the panics above say how");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_every_promise_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Cell::new(0);
    suite(async || {
        opened.set(opened.get() + 1);
        Store::open_sqlite(&folder.path().join(format!("{}.db", opened.get())), None).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_every_promise_of_the_store() {
    suite(postgres::open).await;
}

/// For other suites that run on both back ends.
pub(crate) async fn open_postgres() -> Store {
    postgres::open().await
}

const PAGE: Page = Page { limit: 100, offset: 0 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// An id made in the first second.
fn id<K>(number: u8) -> Id<K> {
    let n = number;
    Id::from_bytes([0, 0, 0, 1, n, n, n, n, n, n, n, n])
}

fn instance(number: u8) -> NewInstance {
    NewInstance {
        id: id(number),
        trigger: "core.st2.webhook {}".to_owned(),
        trigger_type: "core.st2.webhook".parse().unwrap(),
        payload: json!({ "number": number }),
        occurred_at: at(1),
        trace_tag: format!("trace-{number}"),
        dedupe: None,
    }
}

/// An execution without a parent, due at once.
fn execution(number: u8, now: Timestamp) -> NewExecution {
    NewExecution {
        id: id(number),
        action: "core.local".parse().unwrap(),
        runner: "local-shell-cmd".to_owned(),
        parent: None,
        root: id(number),
        parameters: json!({ "cmd": "true" }),
        context: json!({ "user": "ann" }),
        on_lost: OnLost::Fail,
        requested_at: now,
        start: Start::Queued { due_at: now, line: None },
        deadline: None,
    }
}

/// A step of `parent` at `position`.
fn step(number: u8, parent: ExecutionId, position: &str, now: Timestamp) -> NewExecution {
    NewExecution { parent: Some((parent, position.to_owned())), root: parent, ..execution(number, now) }
}

fn lease(owner: &str, until: Timestamp) -> Lease {
    Lease { owner: owner.to_owned(), until }
}

async fn request(store: &Store, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        store.executions().execution_request(&execution(number, at(1))).await.unwrap();
    }
}

/// Claims what is due, as worker `w`, for a minute.
async fn claim(store: &Store, token: &str, limit: usize, now: Timestamp) -> Vec<ExecutionRow> {
    let lease = lease("w", now.plus(Duration::from_mins(1)));
    let mut rows = store.executions().execution_claim(&lease, token, limit, Share::Everything, now).await.unwrap();
    rows.sort_by_key(|row| row.id);
    rows
}

/// One new execution, claimed.
async fn claimed(store: &Store, number: u8) -> Claim {
    request(store, [number]).await;
    let rows = claim(store, &format!("claims-{number}"), 1, at(1)).await;
    assert_eq!(rows[0].id, id(number));
    rows[0].claim()
}

fn end_with(claim: Claim, result: Value, ended_at: Timestamp) -> Completion {
    Completion {
        claim,
        status: ExecutionStatus::Succeeded,
        result,
        secrecy: Secrecy::Clear,
        ended_at,
        parent: None,
        instances: Vec::new(),
        retry: None,
        activity: None,
    }
}

fn end(claim: Claim, ended_at: Timestamp) -> Completion {
    end_with(claim, json!({ "ok": true }), ended_at)
}

/// What an execution waits for, as `kind key`.
async fn waits_for(store: &Store, execution: ExecutionId) -> Vec<String> {
    let rows = store.obligations().obligation_list(execution).await.unwrap();
    rows.into_iter().map(|row| format!("{} {}", row.kind, row.key).trim_end().to_owned()).collect()
}
