//! Content that is published at one daemon and works at another one over the same store.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::servers::fresh_database;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// A rule that runs an action on a webhook.
fn rule(hook: &str, action: &str) -> String {
    format!(
        "name: on_{hook}\nenabled: true\ntrigger: {{type: core.st2.webhook, parameters: {{url: {hook}}}}}\n\
         action: {{ref: {action}}}\n"
    )
}

/// A place for a daemon over this database. Whoever shares a store shares the key of its secrets.
fn place(database: &str, shared: &Path) -> Site {
    Site::new()
        .setting("store.url", database)
        .setting("secrets.key_file", shared.join("shared.key").to_str().unwrap())
        .setting("workers.guards_dir", shared.join("guards").to_str().unwrap())
}

/// What is to be published: a rule, and a pack with a script.
fn content() -> Site {
    let site = Site::new()
        .file("rules/ring.yaml", &rule("ring", "lab.ring"))
        .file("packs/lab/pack.yaml", "name: lab\nref: lab\nversion: 1.0.0\ndescription: d\nauthor: a\nemail: a@b.c\n")
        .file("packs/lab/actions/ring.yaml", "name: ring\nrunner_type: local-shell-script\nentry_point: ring.sh\n")
        .file("packs/lab/actions/ring.sh", "#!/bin/sh\necho ding\n");
    let script = site.path().join("packs/lab/actions/ring.sh");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    site
}

/// The status with which a hook takes an event, and the event's id.
async fn knock(daemon: &Daemon<'_>, hook: &str) -> (StatusCode, String) {
    let delivered = daemon.deliver(hook, None, &json!({})).await.expect("an answer");
    (delivered.status, delivered.instance)
}

async fn until_taken(daemon: &Daemon<'_>, hook: &str) -> String {
    eventually("the hook takes an event", async || {
        let (status, instance) = knock(daemon, hook).await;
        (status == StatusCode::ACCEPTED).then_some(instance)
    })
    .await
}

async fn until_gone(daemon: &Daemon<'_>, hook: &str) {
    eventually("the hook is gone", async || (knock(daemon, hook).await.0 == StatusCode::NOT_FOUND).then_some(())).await;
}

/// The catalogue version that an event was matched with, once it was.
async fn recorded_version(database: &str, instance: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "SELECT catalogue_version FROM trigger_instances WHERE id = $1";
    eventually("the event is matched", async || client.query_one(sql, &[&instance]).await.unwrap().get(0)).await
}

/// Waits until all daemons say that they have loaded from there.
async fn until_all_have(daemon: &Daemon<'_>, source: &str) {
    eventually("all daemons have switched", async || {
        let cluster = daemon.get("/v1/cluster").await;
        let daemons = cluster["daemons"].as_array().unwrap();
        (daemons.len() == 2 && daemons.iter().all(|daemon| daemon["catalogue_version"] == source)).then_some(())
    })
    .await;
}

/// The end of what the rule ran for an event.
async fn end_of_run(daemon: &Daemon<'_>, instance: &str) -> Value {
    let id = eventually("the rule has run", async || {
        let list = daemon.get(&format!("/v1/executions?trigger_instance={instance}")).await;
        list[0]["id"].as_str().map(str::to_owned)
    })
    .await;
    daemon.end_of(&id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_at_one_daemon_works_at_all_until_it_is_unpublished() {
    let database = fresh_database().await;
    let shared = tempfile::tempdir().unwrap();
    let (content, here) =
        (content(), place(&database, shared.path()).file("rules/own.yaml", &rule("own", "core.noop")));
    let first = Daemon::start(&here).await;
    let there = place(&database, shared.path()).file("data/admin.key", first.key());
    let mut second = Daemon::start(&there).await;
    until_taken(&first, "own").await;
    assert_eq!(knock(&second, "ring").await.0, StatusCode::NOT_FOUND);

    let path = content.path().to_str().unwrap().to_owned();
    let publish = ["pack", "publish", &path, "--packs", &format!("{path}/packs")];
    let said = first.cli(&publish).await;
    assert!(said.starts_with("published v1 "), "{said}");
    let instance = until_taken(&second, "ring").await;
    let end = end_of_run(&second, &instance).await;
    assert_eq!((&end["status"], &end["result"]["stdout"]), (&json!("succeeded"), &json!("ding")), "{end}");
    assert_eq!(recorded_version(&database, &instance).await, 1);
    until_gone(&first, "own").await;
    until_all_have(&second, "v1").await;
    let script = second.data_dir().join("catalogues/1/packs/lab/actions/ring.sh");
    assert_eq!(std::fs::metadata(script).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(first.cli(&publish).await.contains("v1 holds already"));

    content.write("rules/ring.yaml", &rule("ring", "lab.rin"));
    let said = first.cli(&publish).await;
    assert!(said.contains("--> rules/ring.yaml:4:15") && said.contains("nothing was published"), "{said}");
    let kept = first.get("/v1/catalogues").await;
    assert_eq!(kept.as_array().unwrap().len(), 1, "{kept}");

    second.kill9().await;
    second.restart().await;
    assert_eq!(knock(&second, "ring").await.0, StatusCode::ACCEPTED, "also after a crash");

    let said = second.cli(&["pack", "unpublish"]).await;
    assert!(said.starts_with("all daemons go back to their own files"), "{said}");
    until_taken(&first, "own").await;
    until_gone(&first, "ring").await;
    until_gone(&second, "ring").await;
    let said = first.cli(&["pack", "publish", "--version", "1"]).await;
    assert!(said.starts_with("published v3 "), "{said}");
    until_taken(&second, "ring").await;
    assert_eq!(recorded_version(&database, &until_taken(&first, "ring").await).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_is_set_at_one_daemon_holds_at_all() {
    let database = fresh_database().await;
    let shared = tempfile::tempdir().unwrap();
    let here = place(&database, shared.path()).file("rules/own.yaml", &rule("own", "core.noop"));
    let first = Daemon::start(&here).await;
    let there = place(&database, shared.path())
        .file("data/admin.key", first.key())
        .file("rules/own.yaml", &rule("own", "core.noop"));
    let second = Daemon::start(&there).await;
    let (status, answer) = first.post("/v1/rules/default.on_own/disable", &json!({})).await;
    assert!(status.is_success(), "{answer}");
    eventually("the other daemon has it too", async || {
        (second.get("/v1/rules/default.on_own").await["enabled"] == false).then_some(())
    })
    .await;
}
