//! What only the embedded database can be put through: a disk that is full, files from elsewhere.

use std::path::Path;

use futures_util::future::join_all;
use petrel::store::events::Accepted;
use petrel::store::retention::Horizon;
use petrel::store::rows::NewInstance;
use petrel::store::{Store, StoreError};
use rusqlite::Connection;
use serde_json::json;

use super::{accept, at, claimed, end_with, id, instance};

fn open(folder: &Path, max_bytes: Option<u64>) -> Store {
    Store::open_sqlite(&folder.join("petrel.db"), max_bytes).unwrap()
}

#[tokio::test]
async fn a_full_database_refuses_loses_nothing_and_works_again_after_retention() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Some(2_000_000));
    let mut acknowledged = Vec::new();
    let refused = loop {
        let number = u8::try_from(acknowledged.len()).unwrap();
        let held = claimed(&store, number).await;
        let large = json!("x".repeat(200_000));
        match store.executions().execution_finish(&end_with(held, large, at(2))).await {
            Ok(()) => acknowledged.push(number),
            Err(problem) => break problem,
        }
    };
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Unavailable(_)) && text.contains("retention.max_database_bytes"), "{text}");
    assert!(acknowledged.len() > 3);
    let used = store.retention().used_bytes().await.unwrap();
    drop(store);

    let store = open(folder.path(), Some(2_000_000));
    for number in acknowledged {
        let row = store.executions().execution_get(id(number)).await.unwrap();
        assert_eq!(row.result.unwrap().as_str().unwrap().len(), 200_000);
    }
    let late = at(10);
    let horizon = Horizon {
        executions: late,
        instances: late,
        output: late,
        decisions: late,
        announcements: late,
        audit: late,
        now: late,
    };
    while store.retention().sweep(&horizon).await.unwrap() > 0 {}
    assert!(store.retention().used_bytes().await.unwrap() < used / 2);
    let held = claimed(&store, 100).await;
    store.executions().execution_finish(&end_with(held, json!("x".repeat(200_000)), at(20))).await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_petrel_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), None));
    let file = folder.path().join("petrel.db");
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = Store::open_sqlite(&file, None).unwrap_err().to_string();
    assert!(refused.contains("version 99") && refused.contains("restore a backup"), "{refused}");
    let version: i64 = Connection::open(&file).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("petrel.db");
    std::fs::write(&file, "name: not a database\n".repeat(100)).unwrap();
    let refused = Store::open_sqlite(&file, None).unwrap_err().to_string();
    assert!(refused.contains("not a database"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_work_goes_on_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let events = store.events();
    let keyed = |number: u8| NewInstance { dedupe: Some((number.to_string(), at(100))), ..instance(number) };
    for number in 0..50 {
        accept(&events, &keyed(number), at(1)).await.unwrap();
    }
    let copy = folder.path().join("backup.db");
    let events = &events;
    let writes = join_all((50..250).map(|number| async move { accept(events, &keyed(number), at(1)).await }));
    let (backup, writes) = tokio::join!(store.backup(&copy), writes);
    backup.unwrap();
    assert!(writes.iter().all(|written| *written == Ok(Accepted::New)));

    let check: String =
        Connection::open(&copy).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let restored = Store::open_sqlite(&copy, None).unwrap();
    let kept = restored.events().instances_pending(None, 1000).await.unwrap();
    assert!(kept.len() >= 50, "what was acknowledged before is in it");
    for number in 0..250 {
        let there = kept.iter().any(|seen| seen.id == id(number));
        let again = NewInstance { id: id(255), ..keyed(number) };
        let answer = accept(&restored.events(), &again, at(1)).await;
        if there {
            assert_eq!(answer, Ok(Accepted::Duplicate(id(number))), "row and key come together");
        } else {
            break;
        }
    }
}

#[tokio::test]
async fn a_damaged_row_costs_itself_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    for number in [1, 2, 3] {
        accept(&store.events(), &instance(number), at(1)).await.unwrap();
        claimed(&store, number).await;
    }
    let damage = format!(
        "UPDATE trigger_instances SET payload = '{{' WHERE id = '{}'; UPDATE executions SET context = '{{' WHERE id = '{}'",
        id::<()>(2),
        id::<()>(2)
    );
    Connection::open(folder.path().join("petrel.db")).unwrap().execute_batch(&damage).unwrap();

    let page = petrel::store::rows::Page { limit: 10, offset: 0 };
    let executions = store.executions();
    let all = petrel::store::executions::ExecutionFilter::default();
    let listed = executions.execution_list(&all, page);
    let (listed, left_out) = petrel::store::damage::noting_what_is_left_out(listed).await;
    let (rows, count) = listed.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [id(3), id(1)]);
    assert_eq!((count, left_out), (3, vec![format!("executions/{}", id::<()>(2))]));

    let pending = store.events().instances_pending(None, 10).await.unwrap();
    assert_eq!(pending.iter().map(|seen| seen.id).collect::<Vec<_>>(), [id(1), id(3)]);
    assert_eq!(store.events().instances_pending_count().await.unwrap(), 2, "it stands in front of nobody");
    let lost = petrel::store::obligations::Lost::AllBut("me");
    assert_eq!(store.obligations().leases_lost(lost).await.unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_is_accepted_into_a_file_that_was_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let (database, away) = (folder.path().join("petrel.db"), folder.path().join("away.db"));
    accept(&store.events(), &instance(1), at(1)).await.unwrap();
    std::fs::rename(&database, &away).unwrap();
    let refused = accept(&store.events(), &instance(2), at(1)).await.unwrap_err().to_string();
    assert!(refused.contains("was moved or deleted") && refused.contains("petrel restore"), "{refused}");
    std::fs::copy(&away, &database).unwrap();
    let refused = store.events().check_store().unwrap_err().to_string();
    assert!(refused.contains("was replaced"), "{refused}");
    std::fs::rename(&away, &database).unwrap();
    accept(&store.events(), &instance(3), at(1)).await.unwrap();
    std::fs::remove_file(folder.path().join("petrel.db-wal")).unwrap();
    assert!(store.events().check_store().unwrap_err().to_string().contains("petrel.db-wal"));
}

#[tokio::test]
async fn a_damaged_database_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    for number in 0..100 {
        let large = NewInstance { payload: json!("x".repeat(2_000)), ..instance(number) };
        accept(&store.events(), &large, at(1)).await.unwrap();
    }
    drop(store);
    let file = folder.path().join("petrel.db");
    // The last connection to close moves the log into the database.
    Connection::open(&file).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let refused = Store::open_sqlite(&file, None).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Corrupt(_)) && text.contains("petrel restore"), "{text}");
}
