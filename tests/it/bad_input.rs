//! What people, sources and disks do wrong: it is refused with a way out, and the rest goes on.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

use petrel::model::execution::ExecutionStatus as Status;
use petrel::store::journal::NewSignal;
use reqwest::{Response, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::site::{Running, Site};

/// `petrel serve` in a child process, killed when the test is over.
struct Daemon<'s> {
    site: &'s Site,
    child: Child,
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the program is what is tested")]
fn petrel(site: &Site, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petrel"));
    command.current_dir(site.path()).env_clear().arg("--data-dir").arg(site.path().join("data")).args(arguments);
    command
}

/// Starts a daemon and waits until it is ready.
async fn serve<'s>(site: &'s Site, settings: &[(&str, &str)]) -> Daemon<'s> {
    let log = File::create(site.path().join("daemon.log")).unwrap();
    let mut command = petrel(site, &["serve", "--listen", "127.0.0.1:0"]);
    let child = command.envs(settings.iter().copied()).stderr(log).spawn().unwrap();
    let daemon = Daemon { site, child };
    eventually("the daemon is ready", async || site.path().join("data/endpoints.json").exists().then_some(())).await;
    daemon
}

/// Runs a command to its end.
fn output(site: &Site, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = petrel(site, arguments).output().unwrap();
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

impl Daemon<'_> {
    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.site.path().join("data").join(name)).unwrap()
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let endpoints: Value = serde_json::from_str(&self.file("endpoints.json")).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}{path}", endpoints["api"].as_str().unwrap());
        client.request(method, url).header("st2-api-key", self.file("admin.key").trim())
    }

    async fn post(&self, path: &str, content_type: &str, body: String) -> Response {
        self.request(reqwest::Method::POST, path).header("content-type", content_type).body(body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.request(reqwest::Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    /// Ends it the polite way.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn hook_rule(name: &str, url: &str, more: &str) -> String {
    format!(
        "name: {name}\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters:\n    url: {url}\n{more}\
         action:\n  ref: core.noop\n"
    )
}

fn site() -> Site {
    Site::new().file("rules/good.yaml", &hook_rule("good", "good", ""))
}

#[tokio::test]
async fn g07_every_kind_of_bad_content_names_its_place_and_the_rest_works() {
    let criterion = "criteria:\n  trigger.body.x:\n    type: equels\n    pattern: 1\n";
    let template = hook_rule("template", "t", "")
        .replace("core.noop\n", "core.local\n  parameters:\n    cmd: '{{ trigger.body.'\n");
    let site = site()
        .file("rules/yaml.yaml", "name: yaml\nenabled: [true\n")
        .file("rules/operator.yaml", &hook_rule("operator", "o", criterion))
        .file("rules/action.yaml", &hook_rule("action", "a", "").replace("core.noop", "core.nop"))
        .file("rules/template.yaml", &template)
        .workflow("script", "let a = 1;\nlet b = (a + ;\n")
        .workflow("step", "run(\"core.nop\");\n");
    let (good, text) = output(&site, &["validate"]);
    assert!(!good, "{text}");
    for part in [
        "rules/yaml.yaml:",
        "rules/operator.yaml:8",
        "`equels`",
        "rules/action.yaml:8",
        "core.noop",
        "rules/template.yaml:",
        "--> workflows/script.rhai:2:14",
        "--> workflows/step.rhai:1:1",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    let daemon = serve(&site, &[]).await;
    // What comes for a rule that is broken is kept, to be emitted again once the rule is mended.
    for hook in ["good", "o", "t", "a"] {
        let answer = daemon.post(&format!("/v1/webhooks/{hook}"), "application/json", "{}".to_owned()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{hook}");
        let kept = answer.headers()["x-trigger-instance-id"].to_str().unwrap().to_owned();
        let path = format!("/v1/triggerinstances/{kept}");
        assert_eq!(daemon.request(reqwest::Method::GET, &path).send().await.unwrap().status(), StatusCode::OK);
    }
    daemon.stop();
}

#[tokio::test]
async fn bad_requests_are_refused_and_good_ones_go_on() {
    let site = site();
    let daemon = serve(&site, &[("PETREL__LIMITS__BODY_BYTES", "20000")]).await;
    let json = "application/json";
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let cases = [
        ("/v1/webhooks/good", json, format!("\"{}\"", "x".repeat(20_001)), 413),
        ("/v1/webhooks/good", json, deep, 400),
        ("/v1/webhooks/good", json, "{\"a\": ".to_owned(), 400),
        ("/v1/webhooks/nobody", json, "{}".to_owned(), 404),
        ("/v1/executions", json, json!({ "action": "core.nop" }).to_string(), 400),
        ("/v1/executions", json, json!({ "action": "no reference" }).to_string(), 400),
        ("/v1/executions", json, "[1, 2".to_owned(), 400),
        ("/v1/webhooks/good", json, "{}".to_owned(), 202),
        ("/v1/webhooks/good", "application/x-www-form-urlencoded", "a=1&b=two+words&c=%C3%A4".to_owned(), 202),
    ];
    for (path, content_type, body, expected) in cases {
        let start = body.chars().take(30).collect::<String>();
        let answer = daemon.post(path, content_type, body).await;
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(status, expected, "{path} {start}: {text}");
        if expected >= 400 {
            let fault: Value = serde_json::from_str(&text).unwrap();
            assert!(!fault["faultstring"].as_str().unwrap().is_empty(), "{text}");
        }
    }
    let seen = daemon.get("/v1/triggerinstances?limit=1").await;
    let id = seen[0]["id"].as_str().unwrap();
    let full = daemon.get(&format!("/v1/triggerinstances/{id}")).await;
    assert_eq!(full["payload"]["body"], json!({ "a": ["1"], "b": ["two words"], "c": ["ä"] }), "{full}");
}

#[tokio::test]
async fn a_repeated_delivery_is_answered_with_the_first_ones_id() {
    let site = site();
    let daemon = serve(&site, &[]).await;
    let mut ids = Vec::new();
    for delivery in ["d1", "d1", "d2"] {
        let request = daemon.request(reqwest::Method::POST, "/v1/webhooks/good").header("idempotency-key", delivery);
        let answer = request.json(&json!({})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        ids.push(answer.headers()["x-trigger-instance-id"].to_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(daemon.get("/v1/triggerinstances").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_disk_refuses_with_503_and_everything_acknowledged_is_there_when_there_is_room_again() {
    let site = site();
    let daemon = serve(&site, &[("PETREL__RETENTION__MAX_DATABASE_BYTES", "3000000")]).await;
    let body = json!({ "text": "x".repeat(200_000) }).to_string();
    let mut accepted = Vec::new();
    let refused = loop {
        let answer = daemon.post("/v1/webhooks/good", "application/json", body.clone()).await;
        if answer.status() != StatusCode::ACCEPTED {
            break answer;
        }
        accepted.push(answer.headers()["x-trigger-instance-id"].to_str().unwrap().to_owned());
        assert!(accepted.len() < 100, "it never fills");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(accepted.len() > 3);
    let alive = daemon.request(reqwest::Method::GET, "/v1/rules").send().await.unwrap();
    assert_eq!(alive.status(), StatusCode::OK, "reading goes on");
    daemon.stop();

    let daemon = serve(&site, &[]).await;
    for id in accepted {
        let path = format!("/v1/triggerinstances/{id}");
        eventually("it is processed", async || (daemon.get(&path).await["status"] == "processed").then_some(())).await;
    }
    let answer = daemon.post("/v1/webhooks/good", "application/json", body).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

fn refuses_to_start(site: &Site, listen: &str, parts: &[&str]) {
    let (good, text) = output(site, &["serve", "--listen", listen]);
    assert!(!good, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_why_and_what_to_do() {
    let site = site();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses_to_start(&site, &address, &["is in use by another process", "--listen"]);

    let daemon = serve(&site, &[]).await;
    refuses_to_start(&site, "127.0.0.1:0", &["another daemon works on", "--data-dir"]);
    assert!(daemon.get("/v1/rules").await.is_array(), "the first one is not disturbed");
    daemon.stop();

    let database = Connection::open(site.path().join("data/petrel.db")).unwrap();
    database.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(database);
    refuses_to_start(&site, "127.0.0.1:0", &["petrel.db", "version 99", "restore a backup"]);
}

#[tokio::test]
async fn a_restored_backup_starts_frozen_and_says_so() {
    let site = site();
    let daemon = serve(&site, &[]).await;
    let backup = site.path().join("backup.db").display().to_string();
    let (good, text) = output(&site, &["backup", &backup]);
    assert!(good, "{text}");
    let later = daemon.post("/v1/webhooks/good", "application/json", "{}".to_owned()).await;
    assert_eq!(later.status(), StatusCode::ACCEPTED);
    let (good, text) = output(&site, &["restore", &backup]);
    assert!(!good && text.contains("another daemon works on"), "{text}");
    daemon.stop();

    let (good, text) = output(&site, &["restore", &backup]);
    assert!(good && text.contains("petrel thaw"), "{text}");
    let daemon = serve(&site, &[]).await;
    let state = daemon.get("/v1/freeze").await;
    assert!(state["reason"].as_str().is_some_and(|why| why.contains("a backup was restored")), "{state}");
    assert_eq!(daemon.get("/v1/triggerinstances").await, json!([]), "what came later is not in it");
    let (good, text) = output(&site, &["thaw"]);
    assert!(good, "{text}");
    assert_eq!(daemon.get("/v1/freeze").await["since"], Value::Null);
    daemon.stop();
    let daemon = serve(&site, &[]).await;
    assert_eq!(daemon.get("/v1/freeze").await["since"], Value::Null, "once");
}

const WAITS: &str = r#"run("core.noop"); let s = wait_signal("go", #{ timeout: "10m" }); s"#;

async fn send_go(running: &Running) {
    let now = running.engine.world.clock.now();
    let signal = NewSignal {
        name: "go".to_owned(),
        correlation: String::new(),
        sender: "test".to_owned(),
        payload: json!("gone"),
        expires_at: now.plus(Duration::from_mins(10)),
    };
    assert!(running.engine.store.journals().signal_send(&signal, now).await.unwrap());
}

/// Somebody edits what the journal says was asked.
fn tamper(data: &Path, from: &str, to: &str) {
    let database = Connection::open(data.join("petrel.db")).unwrap();
    let changed = database
        .execute("UPDATE journal SET request = replace(request, ?1, ?2) WHERE instr(request, ?1) > 0", [from, to])
        .unwrap();
    assert_eq!(changed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_diverged_from_its_journal_is_paused_and_can_be_resumed_or_canceled() {
    for is_repaired in [true, false] {
        let site = Site::new().setting("workers.park", "0").workflow("waits", WAITS);
        let data = site.path().join("data");
        let running = site.start().await;
        let id = running.request("default.waits", json!({})).await;
        let obligations = running.engine.store.obligations();
        let kind = async |wanted: &str| {
            let rows = obligations.obligation_list(id).await.unwrap();
            (rows.len() == 1).then(|| rows[0].clone()).filter(|row| row.kind == wanted)
        };
        eventually("it waits for the signal", async || kind("signal").await).await;
        running.stop().await;

        tamper(&data, "core.noop", "core.uuid");
        let running = site.start().await;
        send_go(&running).await;
        let row = running.until(id, |row| row.status == Status::Paused).await;
        let obligations = running.engine.store.obligations();
        let why = obligations.obligation_list(id).await.unwrap();
        let reason = why.iter().find_map(|row| row.detail.clone()).unwrap();
        for part in ["core.noop", "core.uuid", "petrel execution resume", "petrel execution cancel"] {
            assert!(reason.contains(part), "`{part}` is missing in: {reason}");
        }
        assert_eq!(row.result, None);
        let end = if is_repaired {
            tamper(&data, "core.uuid", "core.noop");
            running.engine.dispatcher.resume(id).await.unwrap();
            running.end_of(id).await
        } else {
            running.engine.dispatcher.cancel(id).await.unwrap();
            running.end_of(id).await
        };
        let expected = if is_repaired { Status::Succeeded } else { Status::Canceled };
        assert_eq!(end.status, expected, "{:?}", end.result);
        running.stop().await;
    }
}
