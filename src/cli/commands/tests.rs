//! Commands against a daemon that says what the story needs: which requests they send, how they end.

use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::*;
use crate::cli::args::{Arguments, Command, Format};
use crate::cli::failure::{FAILED, OUT_OF_REACH, USAGE};
use crate::clock::SystemClock;
use crate::config::ClientTarget;
use crate::model::action::ParameterSpec;
use crate::secrets::SecretText;

/// Method and path with query, status, body; each answer is given once, the last one of a kind for ever.
type Script = Vec<(&'static str, u16, String)>;

struct Stub {
    script: Mutex<Script>,
    heard: Mutex<Vec<(String, Value)>>,
}

async fn answer(State(stub): State<Arc<Stub>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let request = format!("{method} {uri}");
    let body = serde_json::from_slice(&body).unwrap_or_default();
    stub.heard.lock().unwrap().push((request.clone(), body));
    if headers.get("st2-api-key").is_none_or(|key| key != "k") {
        return (StatusCode::UNAUTHORIZED, r#"{"faultstring": "Unauthorized - no such key"}"#).into_response();
    }
    let mut script = stub.script.lock().unwrap();
    let fits = |line: &str| request == line || request.split('?').next() == Some(line);
    let Some(place) = script.iter().position(|(line, ..)| fits(line)) else {
        return (StatusCode::NOT_FOUND, format!(r#"{{"faultstring": "nothing at {request}"}}"#)).into_response();
    };
    let is_last = script.iter().filter(|(line, ..)| fits(line)).count() == 1;
    let (_, status, text) = if is_last { script[place].clone() } else { script.remove(place) };
    (StatusCode::from_u16(status).unwrap(), text).into_response()
}

/// What became of one command.
struct Told {
    code: u8,
    answer: String,
    remarks: String,
    heard: Vec<(String, Value)>,
}

impl Told {
    fn requests(&self) -> Vec<&str> {
        self.heard.iter().map(|(request, _)| request.as_str()).collect()
    }

    fn body_of(&self, request: &str) -> &Value {
        &self.heard.iter().find(|(heard, _)| heard == request).unwrap().1
    }
}

fn tell(line: &[&str], script: &[(&'static str, u16, Value)]) -> Told {
    let script = script.iter().map(|(line, status, body)| (*line, *status, as_body(body))).collect();
    tell_as("k", line, script)
}

fn as_body(body: &Value) -> String {
    body.as_str().map_or_else(|| body.to_string(), str::to_owned)
}

fn tell_as(key: &str, line: &[&str], script: Script) -> Told {
    let stub = Arc::new(Stub { script: Mutex::new(script), heard: Mutex::default() });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&stub));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::serve(listener, router);
        let mut told = tokio::select! {
            told = ask(&url, key, line) => told,
            ended = server => panic!("the stub ended: {ended:?}"),
        };
        told.heard = std::mem::take(&mut *stub.heard.lock().unwrap());
        told
    })
}

async fn ask(url: &str, key: &str, line: &[&str]) -> Told {
    let words = std::iter::once("petrel").chain(line.iter().copied());
    let arguments = <Arguments as clap::Parser>::try_parse_from(words).unwrap();
    let Command::Client(command, globals) = Command::from(arguments) else { panic!("not a client's: {line:?}") };
    let (answers, remarks) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let output =
        Output::to(globals.format, Arc::<Mutex<Vec<u8>>>::clone(&answers), Arc::<Mutex<Vec<u8>>>::clone(&remarks));
    let target = ClientTarget { url: url.to_owned(), api_key: SecretText::new(key) };
    let (api, clock) = (Api::new(target).unwrap(), Arc::new(SystemClock::new()));
    let session = Session { api, output, clock, runners };
    let code = match execute(&session, &command).await {
        Ok(Ending::Done) => 0,
        Ok(Ending::ThingFailed) => FAILED,
        Err(failure) => {
            session.output.complain(&failure).unwrap();
            failure.exit_code()
        }
    };
    let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
    Told { code, answer: text(&answers), remarks: text(&remarks), heard: Vec::new() }
}

fn runners() -> Runners {
    ["noop", "local-shell-cmd", "remote-shell-cmd", "http-request", "native", "inquirer", "workflow"]
        .map(|name| (name.to_owned(), any()))
        .into()
}

fn any() -> std::collections::BTreeMap<String, ParameterSpec> {
    [("cmd".to_owned(), ParameterSpec::default())].into()
}

fn execution(status: &str) -> Value {
    json!({"id": "e1", "status": status, "action": {"ref": "core.local", "runner_type": "local-shell-cmd"},
        "result": {"stdout": "hi"}})
}

fn local_action() -> [(&'static str, u16, Value); 2] {
    let action = json!({"ref": "core.local", "runner_type": "local-shell-cmd", "parameters": {}});
    let runner = json!([{"runner_parameters": {"cmd": {"type": "string"}, "timeout": {"type": "integer"}}}]);
    [("GET /v1/actions/core.local", 200, action), ("GET /v1/runnertypes?name=local-shell-cmd", 200, runner)]
}

#[test]
fn a_run_types_its_parameters_waits_and_shows_the_result() {
    let mut script = local_action().to_vec();
    script.extend([
        ("POST /v1/executions", 201, execution("requested")),
        ("GET /v1/executions/e1", 200, execution("running")),
        ("GET /v1/executions/e1", 200, execution("succeeded")),
    ]);
    let told = tell(&["run", "core.local", "timeout=5", "echo", "hi"], &script);
    assert_eq!(told.code, 0, "{}", told.remarks);
    let expected = json!({"action": "core.local", "parameters": {"timeout": 5, "cmd": "echo hi"}});
    assert_eq!(told.body_of("POST /v1/executions"), &expected);
    assert!(told.answer.contains("succeeded") && told.answer.contains("stdout: hi"), "{}", told.answer);
}

#[test]
fn a_run_that_fails_ends_with_1_and_still_shows_its_result() {
    let script =
        [("POST /v1/executions", 201, execution("requested")), ("GET /v1/executions/e1", 200, execution("failed"))];
    let told = tell(&["run", "core.local", "-o", "json"], &script);
    assert_eq!(told.code, FAILED);
    assert_eq!(serde_json::from_str::<Value>(&told.answer).unwrap(), execution("failed"));
    assert_eq!(told.requests(), ["POST /v1/executions", "GET /v1/executions/e1"]);
}

#[test]
fn a_workflows_steps_appear_as_they_happen() {
    let flow =
        |status: &str| json!({"id": "e1", "status": status, "action": {"ref": "a.b", "runner_type": "workflow"}});
    let step = |status: &str| json!([{"id": "s1", "status": status, "action": {"ref": "core.noop"}}]);
    let script = [
        ("POST /v1/executions", 201, flow("requested")),
        ("GET /v1/executions/e1", 200, flow("running")),
        ("GET /v1/executions/e1", 200, flow("succeeded")),
        ("GET /v1/executions/e1/children?depth=-1", 200, step("running")),
        ("GET /v1/executions/e1/children?depth=-1", 200, step("succeeded")),
    ];
    let told = tell(&["run", "a.b"], &script);
    assert_eq!(told.code, 0, "{}", told.remarks);
    assert_eq!(told.remarks, "execution e1\n· running    core.noop\n✓ succeeded  core.noop\n");
}

#[test]
fn a_detached_run_does_not_wait() {
    let told =
        tell(&["run", "core.noop", "-a", "--delay", "2s"], &[("POST /v1/executions", 201, execution("delayed"))]);
    assert_eq!(told.code, 0);
    assert_eq!(told.requests(), ["POST /v1/executions"]);
    assert_eq!(told.body_of("POST /v1/executions")["delay"], 2000);
    assert!(told.answer.starts_with("started e1\n"));
}

#[test]
fn a_parameter_of_the_wrong_type_is_a_usage_error_and_nothing_runs() {
    let told = tell(&["run", "core.local", "timeout=soon"], &local_action());
    assert_eq!(told.code, USAGE);
    assert_eq!(told.remarks, "error: parameter `timeout`: `soon` is not a whole number\n");
    assert!(!told.requests().contains(&"POST /v1/executions"));
}

#[test]
fn a_group_whose_nodes_were_refused_is_a_failure_although_it_is_kept() {
    let made = |verdict: &str| json!({"verdict": {"is": verdict}, "reason": "no such action", "group": "web"});
    let code =
        |verdict| tell(&["asg", "create", "web", "--provider", "p"], &[("POST /v1/asg", 201, made(verdict))]).code;
    assert_eq!((code("create_group"), code("refuse")), (0, FAILED));
}

#[test]
fn the_daemons_no_is_repeated_in_its_words() {
    let refusal = json!({"faultstring": "the group is at its maximum of 4 nodes."});
    let told = tell(&["asg", "expand", "web", "--by", "2"], &[("POST /v1/asg/web/expand", 409, refusal)]);
    assert_eq!((told.code, told.remarks.as_str()), (FAILED, "error: the group is at its maximum of 4 nodes\n"));
    assert_eq!(told.body_of("POST /v1/asg/web/expand"), &json!({"force": false, "by": 2}));
}

#[test]
fn a_key_that_opens_nothing_is_not_allowed() {
    let told = tell_as("wrong", &["rule", "list"], Vec::new());
    assert_eq!(told.code, OUT_OF_REACH);
    assert!(told.remarks.contains("no such key; set PETREL_API_KEY"), "{}", told.remarks);
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_the_way_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        ask(&url, "k", &["status"]).await
    });
    assert_eq!(told.code, OUT_OF_REACH);
    assert!(told.remarks.starts_with("error: cannot reach http://127.0.0.1:"), "{}", told.remarks);
    assert!(told.remarks.contains("is `petrel serve` running?") && told.remarks.contains("because: "));
}

#[test]
fn every_command_asks_what_the_contract_says() {
    let id = "64a1f0c2d3e4f5a6b7c8d9e0";
    let cases: [(&[&str], &str, Value); 30] = [
        (&["execution", "list"], "GET /v1/executions?limit=50&sort_desc=true&parent=null", json!(null)),
        (&["execution", "get", "e1"], "GET /v1/executions/e1", json!(null)),
        (&["execution", "cancel", "e1"], "DELETE /v1/executions/e1", json!(null)),
        (&["execution", "pause", "e1"], "PUT /v1/executions/e1", json!({"status": "pausing"})),
        (&["execution", "resume", "e1"], "PUT /v1/executions/e1", json!({"status": "resuming"})),
        (&["rule", "list", "-p", "x"], "GET /v1/rules?pack=x", json!(null)),
        (&["rule", "enable", "a.b"], "POST /v1/rules/a.b/enable", json!({})),
        (&["rule", "disable", "a.b"], "POST /v1/rules/a.b/disable", json!({})),
        (&["rule", "test", "a.b", id], "POST /v1/rules/a.b/test", json!({"trigger_instance": id})),
        (
            &["trigger", "emit", "a.b", "{\"x\":1}"],
            "POST /v1/webhooks/st2",
            json!({"trigger": "a.b", "payload": {"x": 1}}),
        ),
        (&["trigger-instance", "re-emit", "i"], "POST /v1/triggerinstances/i/re_emit", json!(null)),
        (&["dead-letter", "list", "-n", "5"], "GET /v1/dead-letters?limit=5", json!(null)),
        (&["dead-letter", "show", "i"], "GET /v1/dead-letters/i", json!(null)),
        (&["dead-letter", "requeue", "i"], "POST /v1/dead-letters/i/requeue", json!(null)),
        (&["dead-letter", "delete", "i"], "DELETE /v1/dead-letters/i", json!(null)),
        (&["key", "get", "a/b"], "GET /v1/keys/a%2Fb?decrypt=false&scope=system", json!(null)),
        (
            &["key", "set", "k", "v", "--ttl", "1h"],
            "PUT /v1/keys/k",
            json!({"name": "k", "value": "v", "scope": "system", "user": null, "secret": false, "ttl": 3600}),
        ),
        (&["key", "delete", "k"], "DELETE /v1/keys/k?scope=system", json!(null)),
        (&["asg", "add-node", "web"], "POST /v1/asg/web/nodes", json!({"force": false})),
        (&["asg", "delete-node", "web", "n"], "DELETE /v1/asg/web/nodes/n?force=false", json!(null)),
        (&["asg", "delete", "web"], "DELETE /v1/asg/web", json!(null)),
        (&["asg", "explain", "web"], "GET /v1/asg/web/explain?limit=20", json!(null)),
        (
            &["asg", "suspend", "web", "deflate", "--for", "2h"],
            "POST /v1/asg/web/suspend",
            json!({"what": "deflate", "for": "2h", "reason": ""}),
        ),
        (&["asg", "resume", "web"], "POST /v1/asg/web/resume", json!({"what": "all"})),
        (
            &["signal", "go", "-c", "x", "--sender", "s"],
            "POST /v1/signals",
            json!({"name": "go", "correlation": "x", "sender": "s"}),
        ),
        (&["workflow", "check"], "POST /v1/workflows/check", json!({})),
        (&["freeze", "moving", "--for", "2h"], "POST /v1/freeze", json!({"reason": "moving", "for": "2h"})),
        (&["thaw"], "DELETE /v1/freeze", json!(null)),
        (&["user", "create", "ann", "--no-password"], "POST /v1/users", json!({"name": "ann", "role": "observer"})),
        (&["backup", "/tmp/b"], "POST /v1/backup", json!({"path": "/tmp/b"})),
    ];
    for (line, request, body) in cases {
        let told = tell(line, &[]);
        assert_eq!(told.heard, [(request.to_owned(), body)], "{line:?}");
        assert_eq!(told.code, FAILED, "{line:?}: not found is a failure");
    }
}

#[test]
fn an_answer_to_an_inquiry_is_typed_by_its_schema() {
    let inquiry = json!({"id": "q", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}}});
    let script = [("GET /v1/inquiries/q", 200, inquiry), ("PUT /v1/inquiries/q", 200, json!({"id": "q"}))];
    let told = tell(&["inquiry", "respond", "q", "ok=yes"], &script);
    assert_eq!((told.code, told.answer.as_str()), (0, "answered q\n"));
    assert_eq!(told.body_of("PUT /v1/inquiries/q"), &json!({"id": "q", "response": {"ok": true}}));
}

#[test]
fn a_rule_test_that_does_not_match_ends_with_1() {
    let verdict = |matched: bool| json!({"matched": matched, "explanation": []});
    let test = |matched| tell(&["rule", "test", "a.b", "{}"], &[("POST /v1/rules/a.b/test", 200, verdict(matched))]);
    assert_eq!((test(true).code, test(false).code), (0, FAILED));
}

#[test]
fn a_cancel_that_comes_too_late_says_so() {
    let refusal = json!({"faultstring": "Action cannot be canceled. State = succeeded."});
    let told = tell(&["execution", "cancel", "e1"], &[("DELETE /v1/executions/e1", 200, refusal)]);
    assert_eq!((told.code, told.answer.as_str()), (FAILED, "Action cannot be canceled. State = succeeded.\n"));
}

#[test]
fn a_tail_takes_up_a_lost_stream_where_it_broke() {
    let output = |id: u32, data: &str| {
        let data = json!({"execution_id": "e1", "data": data});
        format!("id: {id}\nevent: st2.execution.output__create\ndata: {data}\n\n")
    };
    let end = format!("id: 9\nevent: st2.execution__update\ndata: {}\n\n", execution("failed"));
    let stream = "GET /v1/stream";
    let script = [
        ("GET /v1/executions/e1", 200, execution("running")),
        ("GET /v1/executions/e1", 200, execution("failed")),
        (stream, 200, json!(output(7, "one\n"))),
        (stream, 200, json!(format!("{}{end}", output(8, "two\n")))),
    ];
    let told = tell(&["execution", "tail", "e1"], &script);
    assert_eq!(told.answer, "one\ntwo\n");
    assert_eq!((told.code, told.remarks.as_str()), (FAILED, "execution e1 failed\n"));
    assert_eq!(told.requests().iter().filter(|request| request.starts_with(stream)).count(), 2);
}

#[test]
fn the_tail_of_something_that_has_ended_is_what_it_said() {
    let script =
        [("GET /v1/executions/e1", 200, execution("succeeded")), ("GET /v1/executions/e1/output", 200, json!("one\n"))];
    let told = tell(&["execution", "tail", "e1"], &script);
    assert_eq!((told.code, told.answer.as_str()), (0, "one\n"));
}

#[test]
fn a_list_that_goes_on_says_how_long_it_is() {
    let told = tell(&["pack", "list", "-o", "yaml"], &[("GET /v1/packs", 200, json!([{"ref": "core"}]))]);
    assert_eq!((told.code, told.answer.as_str()), (0, "- ref: core\n"));
    assert_eq!(Format::default(), Format::Table);
}

const RULE: &str = "name: knock\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: knock}}\naction: {ref: lab.check}\n";

/// A site whose rule needs the pack beside it.
fn site_with_pack() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("site/rules/knock.yaml", RULE),
        ("packs/lab/pack.yaml", "ref: lab\nname: lab\ndescription: d\nversion: 1.0.0\nauthor: a\nemail: a@b.c\n"),
        ("packs/lab/actions/check.yaml", "name: check\nrunner_type: noop\n"),
    ];
    for (path, text) in files {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    folder
}

#[test]
fn a_sound_site_is_published_with_its_packs_and_without_the_shipped_ones() {
    let folder = site_with_pack();
    let (site, packs) = (folder.path().join("site"), folder.path().join("packs"));
    let row = json!({"version": 3, "digest": "0123456789abcdef", "changed": true,
        "counts": {"files": 3, "packs": 1, "rules": 1, "actions": 1}});
    let line = ["pack", "publish", site.to_str().unwrap(), "--packs", packs.to_str().unwrap()];
    let told = tell(&line, &[("POST /v1/catalogues", 201, row)]);
    assert_eq!(told.code, 0, "{}{}", told.answer, told.remarks);
    assert!(
        told.answer.starts_with("published v3 (0123456789ab, 3 files, 1 pack, 1 rule, 1 action)"),
        "{}",
        told.answer
    );
    let sent = told.body_of("POST /v1/catalogues")["files"].as_array().unwrap();
    let paths: Vec<_> = sent.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["packs/lab/actions/check.yaml", "packs/lab/pack.yaml", "rules/knock.yaml"]);
}

#[test]
fn what_has_errors_is_shown_with_its_place_and_not_sent() {
    let folder = site_with_pack();
    let told = tell(&["pack", "publish", folder.path().join("site").to_str().unwrap()], &[]);
    assert_eq!((told.code, told.requests().len()), (FAILED, 0), "{}", told.remarks);
    assert!(told.answer.contains("--> rules/knock.yaml:4:15"), "{}", told.answer);
    assert!(told.remarks.contains("nothing was published"), "{}", told.remarks);
}

#[test]
fn an_earlier_version_and_the_end_of_publishing_take_no_files() {
    let row = json!({"version": 4, "digest": "abc", "changed": true});
    let told = tell(&["pack", "publish", "--version", "2"], &[("POST /v1/catalogues/2/publish", 201, row)]);
    assert_eq!(
        (told.code, told.answer.starts_with("published v4 (abc)")),
        (0, true),
        "{}{}",
        told.answer,
        told.remarks
    );
    let row = json!({"version": 5, "digest": null, "changed": true});
    let told = tell(&["pack", "unpublish"], &[("POST /v1/catalogues/unpublish", 201, row)]);
    assert!(told.answer.starts_with("all daemons go back to their own files"), "{}{}", told.answer, told.remarks);
    let rows = json!([{"version": 5, "digest": null, "current": true, "published_by": "ann", "published_at": "2026-11-21T08:30:00Z"},
        {"version": 4, "digest": "abc", "current": false, "published_by": "bob", "published_at": "2026-11-21T08:00:00Z"}]);
    let told = tell(&["pack", "published"], &[("GET /v1/catalogues", 200, rows)]);
    assert!(told.answer.contains("v5") && told.answer.contains("current  (own files)"), "{}", told.answer);
}
