//! PostgreSQL under violence.

use std::time::Duration;

use petrel::clock::{SystemClock, timeout};

use crate::servers::postgres::connect;
use crate::servers::{Postgres, Proxy, fresh_database};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_story_has_a_database_of_its_own() {
    let (one, other) = (fresh_database().await, fresh_database().await);
    let (one, other) = (connect(&one).await, connect(&other).await);
    one.batch_execute("CREATE TABLE t (n INT); INSERT INTO t VALUES (1)").await.unwrap();
    other.batch_execute("CREATE TABLE t (n INT)").await.unwrap();
    assert!(other.query("SELECT n FROM t", &[]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgresql_has_committed_survives_kill_9() {
    let mut postgres = Postgres::start().await;
    let url = postgres.fresh_database().await;
    connect(&url).await.batch_execute("CREATE TABLE t (n INT)").await.unwrap();
    for n in 0..3 {
        let client = connect(&url).await;
        client.execute("INSERT INTO t VALUES ($1)", &[&n]).await.unwrap();
        // Somebody works at the moment of the kill who does not look whether the postmaster lives.
        let busy = connect(&url).await;
        let busy = tokio::spawn(async move {
            busy.simple_query("SELECT count(*) FROM generate_series(1, 2000000000) n WHERE n % 7 = 8").await
        });
        postgres.kill_9().await;
        assert!(busy.await.unwrap().is_err());
        assert!(client.simple_query("SELECT 1").await.is_err());
        postgres.start_again().await;
        let rows = connect(&url).await.query("SELECT n FROM t ORDER BY n", &[]).await.unwrap();
        let found: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, (0..=n).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_stands_still_answers_late() {
    let postgres = Postgres::start().await;
    let client = connect(&postgres.url("postgres")).await;
    postgres.pause().await;
    let answer = client.simple_query("SELECT 1");
    tokio::pin!(answer);
    assert!(timeout(&SystemClock::new(), Duration::from_millis(200), &mut answer).await.is_err());
    postgres.resume().await;
    answer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_to_postgresql_can_break() {
    let url = fresh_database().await;
    let mut network = Proxy::in_front_of(&url).await;
    let client = connect(&network.through(&url)).await;
    client.batch_execute("CREATE TABLE t (n INT)").await.unwrap();
    network.cut().await;
    assert!(client.simple_query("SELECT 1").await.is_err());
    network.pass().await;
    assert!(connect(&network.through(&url)).await.query("SELECT n FROM t", &[]).await.unwrap().is_empty());
}
