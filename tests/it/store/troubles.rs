//! A real PostgreSQL in passing troubles: none of them is taken for damage, and all is well when they are over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use petrel::clock::{Clock, SystemClock};
use petrel::store::events::Accepted;
use petrel::store::{PostgresSettings, Store, StoreError};
use tokio_postgres::Client;

use super::postgres::open_at;
use super::{accept, at, instance};
use crate::servers::fresh_database;
use crate::servers::postgres::{connect, create_database};

/// Lets the server answer every new instance with this SQLSTATE, `times` times.
pub(crate) async fn raise_on(client: &Client, table: &str, state: &str, times: u32) {
    let sql = format!(
        "DROP SEQUENCE IF EXISTS raised; CREATE SEQUENCE raised;
         CREATE OR REPLACE FUNCTION raise_trouble() RETURNS trigger AS $$ BEGIN
             IF nextval('raised') <= {times} THEN RAISE EXCEPTION 'trouble' USING ERRCODE = '{state}'; END IF;
             RETURN NEW; END $$ LANGUAGE plpgsql;
         CREATE OR REPLACE TRIGGER trouble BEFORE INSERT OR UPDATE ON {table}
             FOR EACH ROW EXECUTE FUNCTION raise_trouble();"
    );
    client.batch_execute(&sql).await.expect("a trigger");
}

const FOREVER: u32 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_server_calls_damaged_is_damage() {
    let url = fresh_database().await;
    let (events, client) = (open_at(url.clone()).await.events(), connect(&url).await);
    let waits = ["55P03", "57014", "57P01", "57P02", "57P03", "53100", "53200", "53300", "25006", "25P03", "58030"];
    let unknown = ["XX000", "ZZ999", "P0001", "42P01", "42501"];
    for state in waits.into_iter().chain(unknown) {
        raise_on(&client, "trigger_instances", state, FOREVER).await;
        let answer = accept(&events, &instance(1), at(1)).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{state}: {answer:?}");
    }
    for state in ["22021", "22P05", "23514", "54000"] {
        raise_on(&client, "trigger_instances", state, FOREVER).await;
        let answer = accept(&events, &instance(1), at(1)).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{state}: {answer:?}");
    }
    for state in ["XX001", "XX002"] {
        raise_on(&client, "trigger_instances", state, FOREVER).await;
        let answer = accept(&events, &instance(1), at(1)).await;
        assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{state}: {answer:?}");
    }
    for state in ["40001", "40P01"] {
        raise_on(&client, "trigger_instances", state, 3).await;
        let number = if state == "40001" { 1 } else { 2 };
        assert_eq!(accept(&events, &instance(number), at(1)).await, Ok(Accepted::New), "{state}: tried again at once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_is_waited_for() {
    let url = fresh_database().await;
    let (events, mut client) = (open_at(url.clone()).await.events(), connect(&url).await);
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE trigger_instances IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let answer = accept(&events, &instance(1), at(1)).await;
    let Err(StoreError::Unavailable(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains("lock timeout"), "{why}");
    lock.rollback().await.unwrap();
    assert_eq!(accept(&events, &instance(1), at(2)).await, Ok(Accepted::New));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_a_server_ends_or_makes_read_only_are_replaced() {
    let url = fresh_database().await;
    let database = url.rsplit('/').next().unwrap().to_owned();
    let (events, client) = (open_at(url.clone()).await.events(), connect(&url).await);
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let until_accepted = async |number| {
        // As many as the pool has connections may be found dead.
        let answers = futures_util::stream::iter(0..16).then(|_| accept_again(&events, number));
        answers.collect::<Vec<_>>().await.into_iter().any(|answer| answer.is_ok())
    };
    assert!(until_accepted(1).await);
    client
        .batch_execute(&format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = on"))
        .await
        .unwrap();
    client.batch_execute(end_all).await.unwrap();
    let mut refusals = Vec::new();
    for _ in 0..16 {
        refusals.push(accept(&events, &instance(2), at(1)).await);
    }
    assert!(refusals.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{refusals:?}");
    assert!(refusals.iter().any(|answer| format!("{answer:?}").contains("read-only")), "{refusals:?}");
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    client.batch_execute(&format!("ALTER DATABASE \"{database}\" RESET default_transaction_read_only")).await.unwrap();
    assert!(until_accepted(2).await, "connections to the standby were not kept");
}

async fn accept_again(events: &petrel::store::Events, number: u8) -> Result<Accepted, StoreError> {
    accept(events, &instance(number), at(1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_too_few_connections_is_worked_with() {
    let admin_url = fresh_database().await;
    let admin = connect(&admin_url).await;
    let role = format!("few_{}", admin_url.rsplit('/').next().unwrap());
    admin.batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN CONNECTION LIMIT 4")).await.unwrap();
    let url = create_database(&admin_url).await;
    let database = url.rsplit('/').next().unwrap().to_owned();
    admin.batch_execute(&format!("ALTER DATABASE \"{database}\" OWNER TO \"{role}\"")).await.unwrap();
    let url = with_user(&url, &role);
    let settings = PostgresSettings { url, connections: 20, ca_file: None };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let events = Store::open_postgres(&settings, Arc::clone(&clock)).await.unwrap().events();
    let began = clock.monotonic();
    let answers = join_all((0..60).map(|number| accept_again(&events, number))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(Accepted::New)), "{answers:?}");
    assert!(clock.monotonic().saturating_sub(began) < Duration::from_secs(5));
}

/// The same place for somebody else.
fn with_user(url: &str, user: &str) -> String {
    let (_, place) = url.split_once('@').expect("a user and a place");
    format!("postgres://{user}@{place}")
}
