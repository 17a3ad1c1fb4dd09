//! A store on a real PostgreSQL server, and what only such a store can be put through.

use std::sync::Arc;

use petrel::clock::SystemClock;
use petrel::store::{PostgresSettings, Store};

use crate::servers::fresh_database;
use crate::servers::postgres::connect;

/// A store in a database of its own.
pub(super) async fn open() -> Store {
    open_at(fresh_database().await).await
}

pub(super) async fn open_at(url: String) -> Store {
    let settings = PostgresSettings { url, connections: 8, ca_file: None };
    Store::open_postgres(&settings, Arc::new(SystemClock::new())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_daemons_may_start_at_once_on_an_empty_database() {
    let url = fresh_database().await;
    let opened = futures_util::future::join_all((0..10).map(|_| open_at(url.clone()))).await;
    let installations = opened.iter().map(|store| async { store.contents().setting_agree("x", "y").await.unwrap() });
    assert_eq!(futures_util::future::join_all(installations).await, ["y"; 10]);
}

/// The whole content of these tables, each row as PostgreSQL writes it, in a fixed order. What is numbered is shown in
/// its order without its numbers: PostgreSQL leaves out those of batches that were undone.
pub(super) async fn database_of(url: &str, tables: &[&str]) -> Vec<(String, Vec<String>)> {
    let client = connect(url).await;
    let mut content = Vec::new();
    for table in tables {
        let sql = match *table {
            "announcements" => {
                "SELECT concat_ws(' ', name, subject, payload, announced_at) FROM announcements ORDER BY sequence"
                    .to_owned()
            }
            table => format!("SELECT t::text FROM {table} t ORDER BY t::text COLLATE \"C\""),
        };
        let rows = client.query(&sql, &[]).await.unwrap();
        content.push(((*table).to_owned(), rows.iter().map(|row| row.get(0)).collect()));
    }
    content
}
