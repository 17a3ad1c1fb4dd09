//! Policies and limits end to end: how many at once, what is tried again, what ends in time, what a person stops.

use std::time::Duration;

use petrel::model::execution::ExecutionStatus as Status;
use petrel::model::refs::ExecutionId;
use petrel::requests::{Requester, Requests, Wanted};
use petrel::store::executions::ExecutionFilter;
use petrel::store::key_values::{Expected, KeyWrite};
use petrel::store::rows::Page;
use serde_json::json;

use crate::support::site::{Running, Site};
use crate::support::{eventually, is_dead};

/// A pack `shop` whose action `turn` writes its name into `log`, waits for the file `go`, and writes `end`.
fn shop(over: &str) -> Site {
    let site = with_pack(Site::new());
    let folder = site.path().display().to_string();
    let command = format!(
        "echo {{{{ name }}}} >> {folder}/log; until [ -e {folder}/go ]; do sleep 0.02; done; echo end >> {folder}/log"
    );
    let turn = format!(
        "name: turn\nrunner_type: local-shell-cmd\nenabled: true\nparameters:\n  name: {{type: string}}\n  \
         cmd: {{immutable: true, default: '{command}'}}\n"
    );
    let policy = |resource: &str| {
        format!(
            "name: {resource}.concurrency\nresource_ref: shop.{resource}\npolicy_type: action.concurrency\nenabled: true\n\
             parameters: {{threshold: 1, action: {over}}}\n"
        )
    };
    site.file("packs/shop/actions/turn.yaml", &turn)
        .file("packs/shop/actions/flow.yaml", "name: flow\nrunner_type: workflow\nentry_point: flow.rhai\n")
        .file("packs/shop/actions/flow.rhai", "run(\"shop.turn\", #{ name: \"flow\" });")
        .file("packs/shop/policies/turn.yaml", &policy("turn"))
        .file("packs/shop/policies/flow.yaml", &policy("flow"))
}

fn with_pack(site: Site) -> Site {
    let packs = site.path().join("packs").display().to_string();
    site.file("packs/shop/pack.yaml", "name: shop\nref: shop\nversion: 1.0.0\n").setting("packs", &packs)
}

fn read(site: &Site, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn lines_up(running: &Running, name: &str) -> ExecutionId {
    let id = running.request("shop.turn", json!({ "name": name })).await;
    running.until(id, |row| row.status == Status::Delayed).await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_policy_lets_one_after_the_other_run_in_the_order_they_came() {
    let site = shop("delay");
    let running = site.start().await;
    let mut ids = vec![running.request("shop.turn", json!({ "name": "a" })).await];
    eventually("the first one runs", async || (read(&site, "log") == ["a"]).then_some(())).await;
    for name in ["b", "c", "d"] {
        ids.push(lines_up(&running, name).await);
    }
    let canceled = ids.remove(2);
    running.engine.dispatcher.cancel(canceled).await.unwrap();
    site.write("go", "");
    for id in ids {
        assert_eq!(running.end_of(id).await.status, Status::Succeeded);
    }
    assert_eq!(running.end_of(canceled).await.status, Status::Canceled);
    assert_eq!(read(&site, "log"), ["a", "end", "b", "end", "d", "end"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_policy_may_cancel_who_comes_too_many() {
    let site = shop("cancel");
    let running = site.start().await;
    let first = running.request("shop.turn", json!({ "name": "a" })).await;
    eventually("the first one runs", async || (read(&site, "log") == ["a"]).then_some(())).await;
    let second = running.run("shop.turn", json!({ "name": "b" })).await;
    assert_eq!(second.status, Status::Canceled);
    assert!(second.result.unwrap()["error"].as_str().unwrap().contains("as many as its policy allows"));
    site.write("go", "");
    assert_eq!(running.end_of(first).await.status, Status::Succeeded);
    running.succeed("shop.turn", json!({ "name": "c" })).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_stands_in_line_can_be_canceled() {
    let site = shop("delay");
    let running = site.start().await;
    let first = running.request("shop.flow", json!({})).await;
    eventually("the first one runs", async || (read(&site, "log") == ["flow"]).then_some(())).await;
    let second = running.request("shop.flow", json!({})).await;
    running.until(second, |row| row.status == Status::Delayed).await;
    running.engine.dispatcher.cancel(second).await.unwrap();
    assert_eq!(running.end_of(second).await.status, Status::Canceled);
    site.write("go", "");
    assert_eq!(running.end_of(first).await.status, Status::Succeeded);
    assert_eq!(read(&site, "log"), ["flow", "end"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_policy_tries_again_and_leaves_the_steps_of_workflows_to_their_scripts() {
    let site = with_pack(Site::new());
    let tries = site.path().join("tries").display().to_string();
    let action = format!(
        "name: flaky\nrunner_type: local-shell-cmd\nenabled: true\nparameters:\n  \
         cmd: {{immutable: true, default: 'echo x >> {tries}; test $(wc -l < {tries}) -ge 3'}}\n"
    );
    let policy = "name: flaky.retry\nresource_ref: shop.flaky\npolicy_type: action.retry\nenabled: true\n\
                  parameters: {retry_on: failure, max_retry_count: 3, delay: 0}\n";
    let site = site
        .file("packs/shop/actions/flaky.yaml", &action)
        .file("packs/shop/policies/flaky.yaml", policy)
        .workflow("calls", r#"retry(#{ attempts: 3, delay: "10ms" }, || run("shop.flaky")).succeeded"#);
    let running = site.start().await;
    let statuses = async || {
        let filter = ExecutionFilter { action: Some("shop.flaky".parse().unwrap()), ..Default::default() };
        let page = Page { limit: 9, offset: 0 };
        let (attempts, _) = running.engine.store.executions().execution_list(&filter, page).await.unwrap();
        attempts.iter().map(|row| row.status).collect::<Vec<_>>()
    };
    let first = running.run("shop.flaky", json!({})).await;
    assert_eq!(first.status, Status::Failed);
    eventually("a later attempt succeeds", async || (statuses().await[0] == Status::Succeeded).then_some(())).await;
    assert_eq!(statuses().await, [Status::Succeeded, Status::Failed, Status::Failed], "newest first");

    std::fs::remove_file(&tries).unwrap();
    let result = running.succeed("default.calls", json!({})).await;
    assert_eq!((&result["output"], statuses().await.len()), (&json!(true), 6));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_execution_starts_when_its_time_has_come() {
    let site = Site::new();
    let running = site.start().await;
    let not_before = running.engine.world.clock.now().plus(Duration::from_millis(400));
    let wanted = Wanted {
        not_before: Some(not_before),
        ..Wanted::new("core.noop".parse().unwrap(), serde_json::Map::new(), Requester::Content)
    };
    let plan = running.engine.dispatcher.plan(wanted).unwrap();
    running.engine.store.executions().execution_request(plan.execution()).await.unwrap();
    let id = plan.execution().id;
    plan.committed();
    assert_eq!(running.engine.store.executions().execution_get(id).await.unwrap().status, Status::Delayed);
    let row = running.end_of(id).await;
    assert_eq!(row.status, Status::Succeeded);
    assert!(row.started_at.unwrap() >= not_before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_past_its_time_ends_as_timeout_with_all_its_processes() {
    let site = Site::new();
    let pids = site.path().join("pids");
    let running = site.start().await;
    let cmd = format!("echo $$ > {0}; sleep 600 & echo $! >> {0}; wait", pids.display());
    let row = running.run("core.local", json!({ "cmd": cmd, "timeout": 1 })).await;
    assert_eq!(row.status, Status::Timeout, "{:?}", row.result);
    let pids = read(&site, "pids");
    assert_eq!(pids.len(), 2);
    for pid in pids {
        assert!(is_dead(pid.parse().unwrap()), "{pid} lives on");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_grandchildren() {
    for park in ["5s", "0"] {
        let site = Site::new();
        let pid = site.path().join("pid").display().to_string();
        let site = site.setting("workers.park", park).workflow("outer", r#"run("default.inner");"#).workflow(
            "inner",
            &format!(r#"run("core.local", #{{ cmd: "echo $$ > {pid}; exec sleep 600", timeout: 900 }});"#),
        );
        let running = site.start().await;
        let outer = running.request("default.outer", json!({})).await;
        let sleeper = eventually("the grandchild runs", async || read(&site, "pid").first()?.parse::<i32>().ok()).await;
        running.engine.dispatcher.cancel(outer).await.unwrap();
        assert_eq!(running.end_of(outer).await.status, Status::Canceled);
        assert!(is_dead(sleeper));
        let executions = running.engine.store.executions();
        let inner = &executions.execution_children(outer).await.unwrap()[0];
        let step = &executions.execution_children(inner.id).await.unwrap()[0];
        assert_eq!((inner.status, step.status), (Status::Canceled, Status::Canceled), "park {park}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g09_a_secret_parameter_is_masked_in_what_the_action_says() {
    let action = "name: login\nrunner_type: local-shell-cmd\nenabled: true\nparameters:\n  \
                  password: {type: string, secret: true, required: true}\n  \
                  cmd: {immutable: true, default: 'echo as {{ password }}, or aHVudGVyMg== in base64'}\n";
    let site = with_pack(Site::new()).file("packs/shop/actions/login.yaml", action);
    let running = site.start().await;
    let row = running.run("shop.login", json!({ "password": "hunter2" })).await;
    assert_eq!(row.status, Status::Succeeded, "{:?}", row.result);
    let said = running.engine.store.outputs().output_read(row.id, 0, 9).await.unwrap();
    let said: String = said.into_iter().map(|piece| piece.text).collect();
    assert!(said.starts_with("as ") && !said.contains("hunter2") && !said.contains("aHVudGVyMg"), "{said}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_may_refer_to_their_siblings_and_to_the_datastore() {
    let action = "name: greet\nrunner_type: local-shell-cmd\nenabled: true\nparameters:\n  \
                  cmd: {immutable: true, default: 'echo {{ greeting }} {{ count + 1 }}'}\n  \
                  greeting: {type: string, default: '{{ word }}, {{ name }}'}\n  \
                  word: {type: string, default: '{{ st2kv.system.word }}'}\n  \
                  count: {type: integer, default: 2}\n  \
                  name: {type: string, required: true}\n";
    let site = with_pack(Site::new()).file("packs/shop/actions/greet.yaml", action);
    let running = site.start().await;
    let write = KeyWrite {
        scope: "system".to_owned(),
        name: "word".to_owned(),
        value: Some("hello".to_owned()),
        secret: false,
        expires_at: None,
        expected: Expected::Absent,
    };
    let now = running.engine.world.clock.now();
    assert!(running.engine.store.key_values().key_write(&write, now).await.unwrap());
    let result = running.succeed("shop.greet", json!({ "name": "ann" })).await;
    assert_eq!(result["stdout"], "hello, ann 3");
    let result = running.succeed("shop.greet", json!({ "name": "{{ word }}", "word": "hi" })).await;
    assert_eq!(result["stdout"], "hi, {{ word }} 3", "what is given is data, not a template");
    running.stop().await;
}
