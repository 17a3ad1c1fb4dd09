//! A store on a real PostgreSQL server, and what only such a store can be put through.

use std::sync::Arc;

use petrel::clock::SystemClock;
use petrel::store::{PostgresSettings, Store};

/// A store in a database of its own.
pub(super) async fn open() -> Store {
    let settings = PostgresSettings { url: fresh_database().await, connections: 8, ca_file: None };
    Store::open_postgres(&settings, Arc::new(SystemClock::new())).await.unwrap()
}

async fn fresh_database() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static N: AtomicU32 = AtomicU32::new(0);
    let url = "postgres://petrel@127.0.0.1:15432";
    let name = format!("t{}_{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed));
    let (client, connection) =
        tokio_postgres::connect(&format!("{url}/postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    format!("{url}/{name}")
}
