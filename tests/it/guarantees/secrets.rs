//! G9: what is secret shows nowhere: not in answers, streams, logs, process lists or the command line, in no form.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use petrel::clock::{SystemClock, timeout};
use reqwest::Method;
use serde_json::json;

use super::effects::site;
use crate::support::daemon::Daemon;
use crate::support::eventually;

/// Different in every form that it is looked for in.
const PARAMETER: &str = "pa/ss+wo\"rd é42";
const STORED: &str = "st/or+ed\"va lué43";

/// Clear, JSON, URL and base64.
fn forms(secret: &str) -> Vec<String> {
    let quoted = json!(secret).to_string();
    let url: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    vec![secret.to_owned(), quoted.trim_matches('"').to_owned(), url, STANDARD.encode(secret)]
}

fn assert_hidden(place: &str, text: &str) {
    for form in [PARAMETER, STORED].into_iter().flat_map(forms) {
        assert!(!text.contains(&form), "`{form}` shows in {place}: {text}");
    }
}

/// The command lines of all processes.
fn process_list() -> String {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines =
        processes.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok()));
    let lines = lines.map(|process| fs::read(process.join("cmdline")).unwrap_or_default());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

const TELLS: &str = r#"
name: tells
runner_type: local-shell-cmd
parameters:
  password: {type: string, secret: true}
  stored: {type: string}
  env:
    immutable: true
    default: {PW: "{{ password }}", URL: "{{ password | urlencode }}", KV: "{{ stored }}"}
  cmd:
    immutable: true
    default: 'echo begun; for x in "$PW" "$KV"; do echo "plain $x"; printf "%s" "$x" | base64 -w0; echo; done; echo "$URL" >&2; touch FOLDER/begun; sleep 1.5'
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g09_a_secret_shows_nowhere_in_no_form() {
    let site = site();
    let action = TELLS.replace("FOLDER", &site.path().display().to_string());
    let site = site.file("packs/t/actions/tells.yaml", &action).setting("log.level", "debug").workflow_with(
        "passes_on",
        r#"run("t.tells", #{ password: params.password, stored: params.stored }).stdout"#,
        "{password: {type: string, secret: true}, stored: {type: string}}",
    );
    let daemon = Daemon::start(&site).await;
    let key = daemon.put("/v1/keys/token", &json!({ "name": "token", "value": STORED, "secret": true })).await;
    assert_hidden("the answer of the datastore", &key.to_string());
    let stream = daemon.bare(Method::GET, "/v1/stream").header("St2-Api-Key", daemon.key()).send().await.unwrap();
    let parameters = json!({ "password": PARAMETER, "stored": "{{ st2kv.system.token | decrypt_kv }}" });
    let id = daemon.run("default.passes_on", parameters).await;
    eventually("the step is at work", async || fs::exists(site.path().join("begun")).unwrap().then_some(())).await;
    assert_hidden("the process list", &process_list());
    let end = daemon.end_of(&id).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    assert!(end.to_string().contains("begun"), "the result is there: {end}");
    assert_hidden("the execution", &end.to_string());

    let step = end["children"][0].as_str().unwrap();
    for path in [
        "/v1/executions".to_owned(),
        format!("/v1/executions/{step}"),
        format!("/v1/executions/{id}/children"),
        format!("/v1/executions/{step}/output"),
        format!("/v1/executions/{step}/attribute/result"),
        "/v1/keys".to_owned(),
        "/v1/audit".to_owned(),
    ] {
        let shown = daemon.get(&path).await;
        let shown = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
        assert_hidden(&path, &shown);
    }
    let mut frames = stream.bytes_stream();
    let mut streamed = String::new();
    let until_end = async {
        while !streamed.contains("succeeded") {
            streamed.push_str(&String::from_utf8_lossy(&frames.next().await.unwrap().unwrap()));
        }
    };
    timeout(&SystemClock::new(), Duration::from_secs(30), until_end).await.expect("the stream tells of the end");
    assert_hidden("the stream", &streamed);
    for id in [id.as_str(), step] {
        let told = daemon.cli(&["execution", "get", id]).await;
        assert!(told.contains("succeeded"), "{told}");
        assert_hidden("petrel execution get", &told);
    }
    assert_hidden("the log", &daemon.log());
}
