//! G9 for secrets that are decrypted on the way to an execution or while it runs, and whose rights a template has.

use std::fs;
use std::time::Duration;

use petrel::clock::{SystemClock, timeout};
use petrel::secrets::{MASK, hex, random_bytes};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::effects::{rule, site};
use crate::support::daemon::Daemon;
use crate::support::site::Site;

/// Each way on which a secret is opened, by the key that holds it.
const KEYS: [&str; 8] =
    ["by_rule", "by_failing_rule", "by_alias", "by_workflow", "by_child", "by_request", "by_structure", "by_default"];

const SPREADS: &str = r#"
    let secret = kv_get("by_workflow");
    log("info", "it is " + secret);
    publish("token", secret);
    emit("core.st2.generic.notifytrigger", #{ message: secret });
    notify("ops", secret);
    let told = run("core.local", #{ cmd: "echo told \"" + secret + "\"" });
    let inner = run("t.inner", #{});
    #{ told: told.stdout, secret: secret, inner: inner }
"#;

fn secret() -> String {
    let random = hex(&random_bytes::<12>());
    let (left, right) = random.split_at(11);
    format!("k{left}'<&/{right}z")
}

fn leaking(config_secret: &str) -> Site {
    let action = |name: &str, cmd: &str| {
        format!(
            "name: {name}\nrunner_type: local-shell-cmd\nparameters:\n  cmd:\n    immutable: true\n    default: >-\n      {cmd}\n"
        )
    };
    let quoted = |key: &str| format!("echo using {{{{ st2kv.system.{key} | decrypt_kv | to_json_string }}}}");
    site()
        .file("packs/t/config.schema.yaml", "token: {type: string, secret: true}\n")
        .file("configs/t.yaml", &format!("token: \"{config_secret}\"\n"))
        .file(
            "packs/t/actions/configured.yaml",
            &action(
                "configured",
                "echo 'cfg {{ config_context.token | replace(\"'\", \"_\") }}'; echo \"{{ config_context.token }}\"",
            ),
        )
        .file("packs/t/actions/inner.yaml", &action("inner", &quoted("by_child")))
        .file("packs/t/actions/defaulted.yaml", &action("defaulted", &quoted("by_default")))
        .file(
            "packs/t/actions/structured.yaml",
            &action(
                "structured",
                "echo \"{{ (st2kv.system.by_structure | decrypt_kv | from_json_string).password }}\"",
            ),
        )
        .file(
            "packs/t/aliases/say.yaml",
            "name: say\naction_ref: core.local\nformats: ['say it']\nimmutable_parameters:\n  cmd: \"echo \\\"{{ \
             st2kv.system.by_alias | decrypt_kv }}\\\"\"\n",
        )
        .file(
            "rules/leak.yaml",
            &rule("leak", "core.local", "{cmd: \"echo \\\"{{ st2kv.system.by_rule | decrypt_kv }}\\\"\"}"),
        )
        .file(
            "rules/fail.yaml",
            &rule("fail", "core.local", "{cmd: 'true', timeout: \"{{ st2kv.system.by_failing_rule | decrypt_kv }}\"}"),
        )
        .workflow("spreads", SPREADS)
        .setting("log.level", "debug")
}

async fn user(daemon: &Daemon<'_>, name: &str, role: &str) -> String {
    daemon.post("/v1/users", &json!({ "name": name, "role": role })).await;
    let (_, key) = daemon.post("/v1/apikeys", &json!({ "user": name })).await;
    key["key"].as_str().unwrap().to_owned()
}

async fn get_as(daemon: &Daemon<'_>, key: &str, path: &str) -> String {
    let request = daemon.bare(Method::GET, path).header("St2-Api-Key", key);
    let answer = timeout(&SystemClock::new(), Duration::from_secs(30), request.send()).await.unwrap().unwrap();
    timeout(&SystemClock::new(), Duration::from_secs(30), answer.text()).await.unwrap().unwrap()
}

async fn post_as(daemon: &Daemon<'_>, key: &str, path: &str, body: &Value) -> (StatusCode, String) {
    let answer = daemon.bare(Method::POST, path).header("St2-Api-Key", key).json(body).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn seal(daemon: &Daemon<'_>, key: &str, value: &str) {
    daemon.put(&format!("/v1/keys/{key}"), &json!({ "name": key, "value": value, "secret": true })).await;
}

/// Without what quoting adds, so that a form with it is found as well.
fn bare(text: &str) -> String {
    text.chars().filter(|c| !r#"\'""#.contains(*c)).collect()
}

fn assert_hidden(place: &str, text: &str, secrets: &[String]) {
    let text = bare(text);
    for secret in secrets {
        assert!(!text.contains(&bare(secret)), "{secret} shows in {place}: {text}");
    }
}

/// Opens secrets on every way; gives them back, and the key of somebody who only looks.
async fn open_on_every_way(daemon: &Daemon<'_>, config_secret: String) -> (Vec<String>, String) {
    let mut secrets = vec![config_secret];
    for key in KEYS {
        let value = secret();
        let stored = if key == "by_structure" { json!({ "password": value }).to_string() } else { value.clone() };
        seal(daemon, key, &stored).await;
        secrets.push(value);
    }
    let observer = user(daemon, "watcher", "observer").await;
    for hook in ["leak", "fail"] {
        daemon.post(&format!("/v1/webhooks/{hook}"), &json!({ "a": 1 })).await;
    }
    daemon.post("/v1/aliasexecution/match_and_execute", &json!({ "command": "say it" })).await;
    let cmd = "echo \"{{ st2kv.system.by_request | decrypt_kv }}\"";
    for (action, parameters) in [
        ("t.configured", json!({})),
        ("t.defaulted", json!({})),
        ("t.structured", json!({})),
        ("core.local", json!({ "cmd": cmd })),
        ("default.spreads", json!({})),
    ] {
        daemon.run(action, parameters).await;
    }
    daemon.until_idle().await;
    (secrets, observer)
}

/// Everything that an observer can look at; the stream ends with execution `last`.
fn paths_of(all: &[Value], last: &str) -> Vec<String> {
    let stream = format!("/v1/stream?events=*&last_event_id=0&end_execution_id={last}");
    let lists = ["/v1/executions?limit=100", "/v1/ruleenforcements", "/v1/triggerinstances", "/v1/keys", &stream];
    let mut paths: Vec<String> = lists.iter().map(|path| (*path).to_owned()).collect();
    for row in all {
        let id = row["id"].as_str().unwrap();
        let parts = ["", "/output", "/children?depth=-1", "/attribute/result"];
        paths.extend(parts.map(|part| format!("/v1/executions/{id}{part}")));
    }
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g09_what_is_decrypted_on_any_way_shows_nowhere_and_lies_nowhere_in_clear() {
    let config_secret = secret().replace('\'', "");
    let site = leaking(&config_secret);
    let mut daemon = Daemon::start(&site).await;
    let (secrets, observer) = open_on_every_way(&daemon, config_secret).await;
    let last = daemon.run("core.noop", json!({})).await;
    daemon.end_of(&last).await;

    let all: Vec<Value> = serde_json::from_str(&get_as(&daemon, &observer, "/v1/executions?limit=100").await).unwrap();
    let ended = |action: &str, status: &str| {
        all.iter().filter(|row| row["action"]["ref"] == action && row["status"] == status).count()
    };
    assert_eq!(ended("core.local", "succeeded"), 4, "rule, alias, request and step: {all:#?}");
    assert_eq!(ended("default.spreads", "succeeded") + ended("t.inner", "succeeded"), 2, "{all:#?}");
    assert!(all.iter().any(|row| row.to_string().contains(MASK)));
    for path in paths_of(&all, &last) {
        assert_hidden(&path, &get_as(&daemon, &observer, &path).await, &secrets);
    }
    assert_hidden("the audit log", &daemon.get("/v1/audit?limit=1000").await.to_string(), &secrets);
    assert_hidden("the log", &daemon.log(), &secrets);
    let database = daemon.data_dir();
    daemon.terminate().await;
    for file in ["petrel.db", "petrel.db-wal"] {
        let bytes = fs::read(database.join(file)).unwrap_or_default();
        assert_hidden(file, &String::from_utf8_lossy(&bytes), &secrets);
    }
    daemon.restart().await;
    let again = get_as(&daemon, &observer, "/v1/executions?limit=100").await;
    assert_hidden("the list after a restart", &again, &secrets);
    let shown = daemon.get("/v1/executions?limit=100&show_secrets=true").await.to_string();
    assert!(bare(&shown).contains(&bare(&secrets[1])), "an admin who asks sees them: {shown}");
}

const TOOLS: &str = r#"printf %s "$PW" | base64 -w76; printf %s "user:$PW" | base64 -w20; printf %s "$PW" | od; printf %s "$PW" | od -c; printf %s "$PW" | od -tx1; printf %s "$PW" | od -An -tx4; bash -c 'printf "%q\n" "$PW"; set -x; : "$PW"'; ! command -v xxd >/dev/null || printf %s "$PW" | xxd; ! command -v xxd >/dev/null || printf %s "$PW" | xxd -p; ! command -v hexdump >/dev/null || printf %s "$PW" | hexdump -C; ! command -v jq >/dev/null || jq -n 'env.PW, (env.PW | @html), (env.PW | @uri), (env.PW | @sh)'; ! command -v python3 >/dev/null || python3 -c 'import os; p = os.environ["PW"]; print(repr(p), ascii(p), p.encode(), list(p.encode()), p.encode().hex(" "))'; echo end"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g09_what_real_tools_print_of_a_secret_is_masked() {
    let action = format!(
        "name: tools\nrunner_type: local-shell-cmd\nparameters:\n  password: {{type: string, secret: true}}\n  env:\n    \
         immutable: true\n    default: {{PW: '{{{{ password }}}}'}}\n  cmd:\n    immutable: true\n    default: |\n      {}\n",
        TOOLS.replace("; ", "\n      ")
    );
    let site = site().file("packs/t/actions/tools.yaml", &action);
    let daemon = Daemon::start(&site).await;
    for password in ["it's-a<secret>&more-1234567890".to_owned(), format!("ghp_{}", "A1b2C3d4E5f6G7h8I9j0".repeat(4))] {
        let id = daemon.run("t.tools", json!({ "password": password })).await;
        let end = daemon.end_of(&id).await;
        let said =
            format!("{}{}", end["result"]["stdout"].as_str().unwrap(), end["result"]["stderr"].as_str().unwrap());
        assert!(said.contains("end"), "{end}");
        let live = daemon.get(&format!("/v1/executions/{id}/output")).await;
        for text in [said.as_str(), live.as_str().unwrap()] {
            let left = petrel::secrets::Redactor::new([&password]).redact(text).replace(MASK, "");
            assert_eq!(left, text.replace(MASK, ""), "a second look finds nothing more");
            for piece in
                ["aXQncy1h", "69 74 27", "6974 2773", "Z2hwX0Ex", "it's", "it\\'s", "ghp_A1b2", "   i   t", "072151"]
            {
                assert!(!text.contains(piece), "{piece} in {text}");
            }
        }
    }
}

fn choosing() -> Site {
    let action = "name: chooses\nrunner_type: noop\nparameters:\n  which: {type: string}\n  sealed: {type: string, default: ''}\n  \
                  opened:\n    immutable: true\n    default: \"{{ st2kv.system[which] | decrypt_kv }}\"\n";
    let opens = "name: opens\nrunner_type: noop\nparameters:\n  sealed: {type: string}\n  opened:\n    immutable: true\n    default: \
                 \"{{ sealed | decrypt_kv }}\"\n";
    let named = "name: named\nrunner_type: noop\nparameters:\n  which: {type: string}\n  seen: {type: string, default: x}\n  opened:\n    \
                 immutable: true\n    default: \"{{ st2kv.system['db/' ~ which] | decrypt_kv }} {{ st2kv.system.top | decrypt_kv \
                 }}\"\n";
    site()
        .file("packs/t/actions/chooses.yaml", action)
        .file("packs/t/actions/opens.yaml", opens)
        .file("packs/t/actions/named.yaml", named)
        .file(
            "rules/choose.yaml",
            &rule("choose", "core.noop", "{message: \"{{ st2kv.system[trigger.body.which] | decrypt_kv }}\"}"),
        )
        .workflow_with("reads", "kv_get(params.which)", "{which: {type: string}}")
        .workflow_with("names", "kv_get(\"db/\" + params.which)", "{which: {type: string}}")
        .file("packs/t/config.schema.yaml", "token: {type: string, secret: true}\n")
        .file("configs/t.yaml", "token: config-secret-77\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_have_the_rights_of_whoever_wrote_them() {
    let site = choosing();
    let daemon = Daemon::start(&site).await;
    for key in ["top", "db%2Fprod"] {
        seal(&daemon, key, &format!("value-of-{key}")).await;
    }
    let stored = daemon.get("/v1/keys/top").await["value"].as_str().unwrap().to_owned();
    let operator = user(&daemon, "op", "operator").await;
    let decrypts = "{{ st2kv.system.top | decrypt_kv }}";
    let moved = json!({ "name": "other", "value": stored, "encrypted": true });
    let moving = daemon.bare(Method::PUT, "/v1/keys/other").header("St2-Api-Key", &operator).json(&moved);
    assert_eq!(moving.send().await.unwrap().status(), StatusCode::FORBIDDEN, "an encrypted value keeps its name");
    let refused = [
        ("core.noop", json!({ "message": decrypts })),
        ("core.noop", json!({ "message": format!("{{{{ '{stored}' | decrypt_kv }}}}") })),
        ("t.chooses", json!({ "which": "top" })),
        ("t.opens", json!({ "sealed": stored })),
        ("t.named", json!({ "which": "prod", "seen": decrypts })),
    ];
    for (action, parameters) in refused {
        let body = json!({ "action": action, "parameters": parameters });
        let (status, answer) = post_as(&daemon, &operator, "/v1/executions", &body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}: {answer}");
        assert!(answer.contains("decrypt_kv") && !answer.contains("value-of"), "{answer}");
    }
    for (action, parameters) in [
        ("core.noop", json!({ "message": decrypts })),
        ("t.chooses", json!({ "which": "top" })),
        ("t.opens", json!({ "sealed": stored })),
    ] {
        let body = json!({ "action": action, "parameters": parameters });
        assert_eq!(daemon.post("/v1/executions", &body).await.0, StatusCode::CREATED, "an admin may: {body}");
    }
    let seen = json!({ "action": "t.named", "parameters": { "which": "prod", "seen": "{{ opened | reverse }}" } });
    let (status, answer) = post_as(&daemon, &operator, "/v1/executions", &seen).await;
    assert_eq!(status, StatusCode::CREATED, "content may decrypt what it names: {answer}");
    let id = serde_json::from_str::<Value>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
    let shown = daemon.get(&format!("/v1/executions/{id}?show_secrets=true")).await;
    assert_eq!(shown["parameters"]["opened"], "value-of-db%2Fprod value-of-top", "{shown}");
    assert!(!shown["parameters"]["seen"].to_string().contains("pot-fo-eulav"), "{shown}");

    let hidden = json!({ "action": "t.named", "parameters": { "which": "prod", "seen": "{{ config_context.token | reverse }}" } });
    let (_, answer) = post_as(&daemon, &operator, "/v1/executions", &hidden).await;
    assert!(!answer.contains("77-terces"), "{answer}");

    let literal =
        json!({ "action": "t.named", "parameters": { "which": "prod", "seen": "{% raw %}{{ 7*7 }}{% endraw %}" } });
    let (_, answer) = post_as(&daemon, &operator, "/v1/executions", &literal).await;
    assert!(answer.contains("{{ 7*7 }}"), "what a template gave is no template: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_and_rules_decrypt_no_key_that_a_caller_chose() {
    let site = choosing();
    let daemon = Daemon::start(&site).await;
    for key in ["top", "db%2Fprod"] {
        seal(&daemon, key, &format!("value-of-{key}")).await;
    }
    let operator = user(&daemon, "op", "operator").await;
    for (workflow, which, status) in [("default.reads", "top", "failed"), ("default.names", "prod", "succeeded")] {
        let body = json!({ "action": workflow, "parameters": { "which": which } });
        let (_, answer) = post_as(&daemon, &operator, "/v1/executions", &body).await;
        let id = serde_json::from_str::<Value>(&answer).unwrap()["id"].as_str().unwrap().to_owned();
        let end = daemon.end_of(&id).await;
        assert_eq!(end["status"], status, "{end}");
        let again = post_as(&daemon, &operator, &format!("/v1/executions/{id}/re_run"), &json!({})).await;
        let id = serde_json::from_str::<Value>(&again.1).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(daemon.end_of(&id).await["status"], status, "a repetition has the same rights");
    }
    daemon.post("/v1/webhooks/choose", &json!({ "which": "top" })).await;
    daemon.until_idle().await;
    let enforcements = daemon.get("/v1/ruleenforcements?rule_ref=default.on_choose").await;
    assert_eq!(enforcements[0]["status"], "failed", "a sender of events chooses no key: {enforcements}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_others_are_not_sent_elsewhere_by_a_changed_repetition() {
    let action = "name: sends\nrunner_type: local-shell-cmd\nparameters:\n  password: {type: string, secret: true}\n  env: \
                  {immutable: true, default: {PW: '{{ password }}'}}\n";
    let site = site().file("packs/t/actions/sends.yaml", action);
    let daemon = Daemon::start(&site).await;
    let operator = user(&daemon, "op", "operator").await;
    let id = daemon.run("t.sends", json!({ "password": "swordfish-77", "cmd": "echo sent" })).await;
    daemon.end_of(&id).await;
    let path = format!("/v1/executions/{id}/re_run");
    let changed = json!({ "parameters": { "cmd": "echo $PW | rev" } });
    let (status, answer) = post_as(&daemon, &operator, &path, &changed).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert!(answer.contains("`password`") && !answer.contains("swordfish"), "{answer}");
    assert_eq!(post_as(&daemon, &operator, &path, &json!({})).await.0, StatusCode::CREATED, "as it was");
    let anew = json!({ "parameters": { "cmd": "echo x", "password": "another-one" } });
    assert_eq!(post_as(&daemon, &operator, &path, &anew).await.0, StatusCode::CREATED);
}
