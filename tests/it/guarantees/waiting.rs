//! G6: whatever has not ended says what it waits for; and what makes executions wait (policies, delays) survives.

use std::fs;
use std::time::Duration;

use petrel::clock::{Clock, SystemClock};
use petrel::model::execution::ExecutionStatus;
use petrel::model::time::Timestamp;
use petrel::requests::{Requester, Requests, Wanted};
use serde_json::{Value, json};

use super::effects::{ids_by_tag, lines, site, times_by_tag};
use crate::support::daemon::{Daemon, is_over};
use crate::support::eventually;
use crate::support::site::Site;

/// A policy `one_at_a_time` on `t.slow_keyed`, whose turns are written down.
fn one_at_a_time() -> Site {
    site().file(
        "packs/t/policies/one.yaml",
        "name: one_at_a_time\nresource_ref: t.slow_keyed\npolicy_type: action.concurrency\nparameters: \
         {threshold: 1, action: delay}\n",
    )
}

fn kinds(execution: &Value) -> Vec<String> {
    let waits = execution["waiting_for"].as_array().unwrap().iter();
    waits.map(|wait| wait["kind"].as_str().unwrap().to_owned()).collect()
}

/// Everything unfinished says what it waits for. Gives back how many that are.
async fn everybody_waits_for_something(daemon: &Daemon<'_>) -> usize {
    let all = daemon.get("/v1/executions?limit=-1").await;
    let unfinished: Vec<&Value> = all.as_array().unwrap().iter().filter(|row| !is_over(&row["status"])).collect();
    for row in &unfinished {
        let whole = daemon.execution(row["id"].as_str().unwrap()).await;
        assert!(!kinds(&whole).is_empty() || is_over(&whole["status"]), "it waits for nothing: {whole}");
    }
    unfinished.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g06_every_unfinished_execution_says_what_it_waits_for_also_after_a_crash() {
    let site = one_at_a_time()
        .setting("workers.park", "0")
        .workflow("sleeps", r#"sleep("1h")"#)
        .workflow("listens", r#"wait_signal("go", #{ key: "k" }).word"#)
        .workflow("asks", r#"ask("continue?").response["continue"]"#)
        .workflow("steps", r#"run("t.slow_once", #{ tag: "step", seconds: 60 })"#);
    let mut daemon = Daemon::start(&site).await;
    let sleeps = daemon.run("default.sleeps", json!({})).await;
    let listens = daemon.run("default.listens", json!({})).await;
    let asks = daemon.run("default.asks", json!({})).await;
    let steps = daemon.run("default.steps", json!({})).await;
    daemon.until(&steps, |row| kinds(row) == ["step"]).await;
    let later = daemon.run_later("core.noop", json!({}), 3_600_000).await;
    let holder = daemon.run("t.slow_keyed", json!({ "tag": "holder", "seconds": 60 })).await;
    daemon.until(&holder, |row| row["status"] == "running").await;
    let in_line = daemon.run("t.slow_keyed", json!({ "tag": "in_line", "seconds": 60 })).await;
    let expected =
        [(&sleeps, "timer"), (&listens, "signal"), (&later, "queue"), (&holder, "lease"), (&in_line, "slot")];
    for at_least in [9, 7] {
        for (id, kind) in expected {
            daemon.until(id, |row| kinds(row).iter().any(|waits| waits == kind)).await;
        }
        let open = daemon.until(&asks, |row| row["children"].as_array().is_some_and(|all| all.len() == 1)).await;
        let question = open["children"][0].as_str().unwrap().to_owned();
        daemon.until(&question, |row| kinds(row) == ["inquiry"]).await;
        assert!(everybody_waits_for_something(&daemon).await >= at_least);
        daemon.kill9().await;
        assert_eq!(daemon.store().obligations().orphans().await.unwrap(), []);
        daemon.restart().await;
    }

    let signal = json!({ "name": "go", "correlation": "k", "payload": { "word": "yes" } });
    daemon.post("/v1/signals", &signal).await;
    assert_eq!(daemon.end_of(&listens).await["result"]["output"], "yes");
    let question = daemon.get("/v1/inquiries").await[0]["id"].as_str().unwrap().to_owned();
    daemon.put(&format!("/v1/inquiries/{question}"), &json!({ "response": { "continue": true } })).await;
    assert_eq!(daemon.end_of(&asks).await["result"]["output"], true);
}

fn time(shown: Value) -> Timestamp {
    serde_json::from_value(shown).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_policy_lets_one_in_at_a_time_first_come_first_served_across_a_crash() {
    let site = one_at_a_time();
    let mut daemon = Daemon::start(&site).await;
    let tags = ["1", "2", "3", "4"];
    let mut ids = Vec::new();
    for tag in tags {
        ids.push(daemon.run("t.slow_keyed", json!({ "tag": tag, "seconds": 0.4 })).await);
    }
    eventually("the second has its turn", async || times_by_tag(&site, "begun").get("2").copied()).await;
    daemon.kill9().await;
    daemon.restart().await;
    let mut turns = Vec::new();
    for id in &ids {
        let end = daemon.end_of(id).await;
        assert_eq!(end["status"], "succeeded", "{end}");
        let log = end["log"].as_array().unwrap();
        let start = log.iter().rfind(|entry| entry["status"] == "running").unwrap()["timestamp"].clone();
        turns.push((time(start), time(end["end_timestamp"].clone())));
    }
    let mut begun: Vec<String> = lines(&site, "begun").into_iter().map(|(tag, _)| tag).collect();
    begun.dedup();
    assert_eq!(begun, tags, "in the order they came");
    for pair in turns.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "one after the other: {turns:?}");
    }
    assert_eq!(ids_by_tag(&site, "keyed").len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_policy_goes_on_after_a_crash_and_stops_at_its_limit() {
    let site = site();
    let log = site.path().join("failing").display().to_string();
    let action = format!(
        "name: failing\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {{immutable: true, default: 'echo once \
         $PETREL_EXECUTION_ID >> {log}; exit 1'}}\n"
    );
    let policy = "name: again\nresource_ref: t.failing\npolicy_type: action.retry\nparameters: {retry_on: failure, \
                  max_retry_count: 2, delay: 2}\n";
    let site = site.file("packs/t/actions/failing.yaml", &action).file("packs/t/policies/again.yaml", policy);
    let mut daemon = Daemon::start(&site).await;
    let first = daemon.run("t.failing", json!({})).await;
    assert_eq!(daemon.end_of(&first).await["status"], "failed");
    daemon.kill9().await;
    daemon.restart().await;
    daemon.until_idle().await;
    let ran = lines(&site, "failing");
    assert_eq!(
        (ran.len(), ids_by_tag(&site, "failing")["once"].len()),
        (3, 3),
        "three runs, three executions: {ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_run_starts_at_its_time_also_after_a_crash_and_not_before() {
    let site = site();
    let mut daemon = Daemon::start(&site).await;
    let clock = SystemClock::new();
    let id = daemon.run_later("t.once", json!({ "tag": "later" }), 2_000).await;
    let asked = clock.monotonic();
    daemon.kill9().await;
    daemon.restart().await;
    assert_eq!(daemon.end_of(&id).await["status"], "succeeded");
    let took = clock.monotonic();
    assert!(took.saturating_sub(asked) > Duration::from_millis(1_500), "{took:?}");
    assert_eq!(times_by_tag(&site, "once")["later"], 1);
    assert!(!fs::exists(site.path().join("begun")).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g06_what_was_claimed_without_an_answer_of_the_store_begins_all_the_same() {
    let site = Site::new();
    let running = site.start().await;
    let wanted = Wanted::new("core.noop".parse().unwrap(), serde_json::Map::new(), Requester::Content);
    let plan = running.engine.dispatcher.plan(wanted).unwrap();
    running.engine.store.executions().execution_request(plan.execution()).await.unwrap();
    let id = plan.execution().id;
    // It is written and leased to this daemon, whom the answer never reached.
    drop(plan);
    assert_eq!(running.end_of(id).await.status, ExecutionStatus::Succeeded);
    running.stop().await;
}
