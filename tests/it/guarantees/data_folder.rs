//! The data folder is moved, emptied, damaged or mistaken: it is noticed, said with the way out, and nothing is accepted
//! that would be lost.

use std::fs;
use std::path::Path;

use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::json;

use super::effects::rule;
use crate::servers::fresh_database;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

fn site() -> Site {
    Site::new().file("rules/e.yaml", &rule("e", "core.noop", "{}"))
}

async fn readiness(daemon: &Daemon<'_>) -> (StatusCode, String) {
    let answer = daemon.bare(Method::GET, "/readyz").send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_while_the_data_folder_is_away() {
    let site = site();
    let daemon = Daemon::start(&site).await;
    let status = async |number: u32| daemon.deliver("e", None, &json!({ "number": number })).await.unwrap().status;
    assert_eq!(status(1).await, StatusCode::ACCEPTED);
    let (here, away) = (daemon.data_dir(), site.path().join("away"));
    fs::rename(&here, &away).unwrap();
    assert_eq!(status(2).await, StatusCode::SERVICE_UNAVAILABLE);
    let (ready, why) = readiness(&daemon).await;
    assert!(ready == StatusCode::SERVICE_UNAVAILABLE && why.contains("was moved or deleted"), "{ready} {why}");
    eventually("the log says so", async || daemon.log().contains("was moved or deleted").then_some(())).await;
    fs::rename(&away, &here).unwrap();
    assert_eq!(status(3).await, StatusCode::ACCEPTED);
    daemon.until_ready().await;
}

/// Every file of the database of a daemon that does not run.
fn move_database(from: &Path, to: &Path) {
    for name in ["petrel.db", "petrel.db-wal", "petrel.db-shm"] {
        if from.join(name).exists() {
            fs::rename(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_database_beside_old_keys_is_no_new_installation() {
    let site = site();
    let mut daemon = Daemon::start(&site).await;
    daemon.terminate().await;
    let key = fs::read_to_string(daemon.data_dir().join("admin.key")).unwrap();
    let kept = site.path().join("kept");
    fs::create_dir(&kept).unwrap();
    move_database(&daemon.data_dir(), &kept);
    let why = daemon.refusal(&[]).await;
    assert!(why.contains("is missing") && why.contains("admin.key") && why.contains("petrel restore"), "{why}");

    fs::write(daemon.data_dir().join("petrel.db"), "").unwrap();
    let why = daemon.refusal(&[]).await;
    assert!(why.contains("is empty") && why.contains("datastore.key"), "{why}");

    let empty = fresh_database().await;
    let why = daemon.refusal(&[("store.url", &empty)]).await;
    assert!(why.contains("the store is empty") && why.contains("migrate-store"), "{why}");
    assert_eq!(fs::read_to_string(daemon.data_dir().join("admin.key")).unwrap(), key);

    move_database(&kept, &daemon.data_dir());
    let datastore_key = daemon.data_dir().join("datastore.key");
    fs::rename(&datastore_key, site.path().join("datastore.key")).unwrap();
    let why = daemon.refusal(&[]).await;
    assert!(why.contains("is missing: put it back") && !datastore_key.exists(), "{why}");
    fs::rename(site.path().join("datastore.key"), &datastore_key).unwrap();
    daemon.restart().await;
    assert_eq!(daemon.key(), key.trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_whose_store_was_moved_does_not_begin_anew() {
    let site = site();
    let mut daemon = Daemon::start(&site).await;
    daemon.terminate().await;
    let url = fresh_database().await;
    let said = daemon.cli(&["migrate-store", "--to", &url]).await;
    assert!(said.contains("arrived"), "{said}");
    let key = fs::read_to_string(daemon.data_dir().join("admin.key")).unwrap();
    let why = daemon.refusal(&[]).await;
    let place = url.rsplit_once('@').unwrap().1;
    assert!(why.contains("was moved to PostgreSQL") && why.contains(place) && why.contains("store.url"), "{why}");
    fs::remove_file(daemon.data_dir().join("store-moved")).unwrap();
    let why = daemon.refusal(&[]).await;
    assert!(why.contains("was moved to PostgreSQL"), "also a folder that an earlier version moved: {why}");
    daemon.restart_with(&[("store.url", &url)]).await;
    assert_eq!(daemon.key(), key.trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_its_damaged_row_says_so() {
    let site = site();
    let daemon = Daemon::start(&site).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = daemon.run("core.noop", json!({})).await;
        daemon.end_of(&id).await;
        ids.push(id);
    }
    let damage = format!("UPDATE executions SET context = '{{' WHERE id = '{}'", ids[1]);
    Connection::open(daemon.data_dir().join("petrel.db")).unwrap().execute_batch(&damage).unwrap();
    let request = daemon.bare(Method::GET, "/v1/executions").header("St2-Api-Key", daemon.key());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-petrel-damaged-rows"].to_str().unwrap(), format!("executions/{}", ids[1]));
    let listed: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(daemon.log().contains(&ids[1]), "{}", daemon.log());
    let (status, one) = daemon.try_get(&format!("/v1/executions/{}", ids[1])).await;
    assert!(status == StatusCode::INTERNAL_SERVER_ERROR && one.to_string().contains("damaged"), "{status} {one}");
    let said = daemon.cli(&["execution", "list"]).await;
    assert!(said.contains("damaged rows") && said.contains(&ids[1]), "{said}");
}
