//! Work on a real PostgreSQL that is given up in its middle, as when the sender of a webhook hangs up.

use std::sync::Arc;

use futures_util::FutureExt;
use petrel::clock::SystemClock;
use petrel::store::events::Accepted;
use petrel::store::{PostgresSettings, Store};

use super::postgres::open_at;
use super::{accept, at, instance};
use crate::servers::{Proxy, fresh_database};
use crate::support::eventually;

/// Found by the chaos run: the connection went back to the pool in the middle of a transaction. What came next on it
/// was told "accepted" without ever being committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_batch_that_was_given_up_is_committed() {
    let url = fresh_database().await;
    let mut network = Proxy::in_front_of(&url).await;
    let settings = PostgresSettings { url: network.through(&url), connections: 1, ca_file: None };
    let events = Store::open_postgres(&settings, Arc::new(SystemClock::new())).await.unwrap().events();
    let with_key = |number| {
        let mut new = instance(number);
        new.dedupe = Some((format!("delivery-{number}"), at(100)));
        new
    };
    // Both kinds of batch are known to the connection, so that the next one is sent without asking first.
    assert_eq!(accept(&events, &with_key(1), at(1)).await.unwrap(), Accepted::New);
    assert_eq!(accept(&events, &instance(2), at(1)).await.unwrap(), Accepted::New);

    network.black_hole().await;
    let (given_up, mut sent) = (with_key(3), false);
    let mut batch = Box::pin(accept(&events, &given_up, at(2)));
    eventually("the batch is on its way", async || {
        assert!(batch.as_mut().now_or_never().is_none(), "nobody answers");
        std::mem::replace(&mut sent, true).then_some(())
    })
    .await;
    drop(batch);
    network.pass().await;
    assert_eq!(accept(&events, &instance(4), at(3)).await.unwrap(), Accepted::New);

    let truth = open_at(url).await.events();
    assert!(truth.instance_get(instance(4).id).await.is_ok(), "it was accepted");
    assert!(truth.instance_get(given_up.id).await.is_err(), "nobody committed it");
}
