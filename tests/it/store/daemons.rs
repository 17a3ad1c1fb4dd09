//! Several daemons over one store: who lives, and who does what alone.

use petrel::store::Store;
use petrel::store::daemons::DaemonRow;

use super::{at, claimed};

super::promises![
    what_one_daemon_holds_nobody_else_takes_until_it_runs_out,
    a_daemon_that_goes_in_order_leaves_nothing_behind,
    a_daemon_that_says_nothing_is_listed_no_more,
];

fn daemon(owner: &str, seen: i64) -> DaemonRow {
    DaemonRow {
        owner: owner.to_owned(),
        host: "h".to_owned(),
        pid: 7,
        version: "1".to_owned(),
        roles: "api,workers".to_owned(),
        api: "http://127.0.0.1:1".to_owned(),
        catalogue: "3".to_owned(),
        started_at: at(1),
        seen_at: at(seen),
    }
}

async fn what_one_daemon_holds_nobody_else_takes_until_it_runs_out(store: Store) {
    let daemons = store.daemons();
    assert!(daemons.lease_take("sensor:a", "one", at(15), at(1)).await.unwrap());
    assert!(!daemons.lease_take("sensor:a", "two", at(20), at(5)).await.unwrap());
    assert!(daemons.lease_take("sensor:a", "one", at(20), at(6)).await.unwrap(), "its holder extends it");
    assert!(!daemons.lease_take("sensor:a", "two", at(30), at(19)).await.unwrap());
    assert!(daemons.lease_take("sensor:a", "two", at(35), at(20)).await.unwrap());
    let held = daemons.lease_list(at(34)).await.unwrap();
    assert_eq!(held.iter().map(|lease| lease.owner.as_str()).collect::<Vec<_>>(), ["two"]);
    assert!(daemons.lease_list(at(35)).await.unwrap().is_empty());
}

async fn a_daemon_that_goes_in_order_leaves_nothing_behind(store: Store) {
    let daemons = store.daemons();
    daemons.daemon_seen(&daemon("one", 1)).await.unwrap();
    daemons.lease_take("sensor:a", "one", at(15), at(1)).await.unwrap();
    claimed(&store, 1).await;
    assert_eq!(daemons.running_by_owner().await.unwrap(), [("w".to_owned(), 1)]);
    daemons.daemon_gone("one").await.unwrap();
    assert!(daemons.daemon_list(at(0)).await.unwrap().is_empty());
    assert!(daemons.lease_take("sensor:a", "two", at(15), at(2)).await.unwrap());
}

async fn a_daemon_that_says_nothing_is_listed_no_more(store: Store) {
    let daemons = store.daemons();
    for seen in [daemon("one", 1), daemon("two", 1), daemon("two", 9)] {
        daemons.daemon_seen(&seen).await.unwrap();
    }
    assert_eq!(daemons.daemon_list(at(5)).await.unwrap(), [daemon("two", 9)]);
    daemons.daemons_forget(at(5)).await.unwrap();
    assert_eq!(daemons.daemon_list(at(0)).await.unwrap(), [daemon("two", 9)]);
}
