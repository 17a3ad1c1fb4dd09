//! What each role may do, whichever way it comes: every route, actions with a permission, aliases, acting as others,
//! and what ends with a token.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::prelude::{BASE64_STANDARD, Engine};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::support::{House, Plan, request};
use crate::auth::Permission::{self, *};
use crate::auth::Role;

/// Every route that asks for a credential, with a body that it understands.
#[rustfmt::skip]
const ROUTES: &[(&str, &str, Permission, &str)] = &[
    ("GET", "/actions", View, ""),
    ("GET", "/actions/{action}", View, ""),
    ("GET", "/runnertypes", View, ""),
    ("POST", "/actionalias/match", View, r#"{"command": "wipe"}"#),
    ("GET", "/actionalias/help", View, ""),
    ("POST", "/aliasexecution", ExecutionRun, r#"{"name": "gone", "command": "x"}"#),
    ("POST", "/aliasexecution/match_and_execute", ExecutionRun, r#"{"command": "x"}"#),
    ("GET", "/asg", View, ""),
    ("POST", "/asg", GroupWrite, r#"{"name": "web", "provider": "local"}"#),
    ("GET", "/asg/{group}", View, ""),
    ("PUT", "/asg/{group}", GroupWrite, "{}"),
    ("DELETE", "/asg/{group}", GroupWrite, ""),
    ("POST", "/asg/{group}/expand", GroupOperate, "{}"),
    ("POST", "/asg/{group}/deflate", GroupOperate, "{}"),
    ("POST", "/asg/{group}/nodes", GroupOperate, "{}"),
    ("DELETE", "/asg/{group}/nodes/{node}", GroupOperate, ""),
    ("PUT", "/asg/{group}/nodes/{node}", GroupOperate, r#"{"protected": true}"#),
    ("POST", "/asg/{group}/approve", GroupOperate, ""),
    ("POST", "/asg/{group}/deny", GroupOperate, ""),
    ("GET", "/asg/{group}/explain", View, ""),
    ("GET", "/asg/{group}/activities", View, ""),
    ("POST", "/asg/{group}/suspend", GroupOperate, r#"{"what": "all", "reason": "x"}"#),
    ("POST", "/asg/{group}/resume", GroupOperate, r#"{"what": "all"}"#),
    ("GET", "/freeze", View, ""),
    ("POST", "/freeze", Freeze, r#"{"reason": "x"}"#),
    ("DELETE", "/freeze", Freeze, ""),
    ("GET", "/catalogues", View, ""),
    ("POST", "/catalogues", PackManage, "{}"),
    ("POST", "/catalogues/{version}/publish", PackManage, ""),
    ("POST", "/catalogues/unpublish", PackManage, ""),
    ("GET", "/cluster", View, ""),
    ("GET", "/dead-letters", View, ""),
    ("GET", "/dead-letters/{id}", View, ""),
    ("DELETE", "/dead-letters/{id}", SystemManage, ""),
    ("POST", "/dead-letters/{id}/requeue", TriggerEmit, ""),
    ("GET", "/executions", View, ""),
    ("POST", "/executions", ExecutionRun, r#"{"action": "core.noop"}"#),
    ("GET", "/executions/{id}", View, ""),
    ("PUT", "/executions/{id}", ExecutionControl, r#"{"status": "canceling"}"#),
    ("DELETE", "/executions/{id}", ExecutionControl, ""),
    ("POST", "/executions/{id}/re_run", ExecutionRun, "{}"),
    ("GET", "/executions/{id}/children", View, ""),
    ("GET", "/executions/{id}/output", View, ""),
    ("GET", "/executions/{id}/attribute/{attribute}", View, ""),
    ("GET", "/tokens", View, ""),
    ("DELETE", "/tokens/{token}", View, ""),
    ("GET", "/user", View, ""),
    ("GET", "/users", UserManage, ""),
    ("POST", "/users", UserManage, r#"{"name": "eve", "role": "observer"}"#),
    ("DELETE", "/users/{name}", UserManage, ""),
    ("GET", "/apikeys", View, ""),
    ("POST", "/apikeys", ApiKeyManage, "{}"),
    ("GET", "/apikeys/{key}", View, ""),
    ("PUT", "/apikeys/{key}", ApiKeyManage, r#"{"enabled": true}"#),
    ("DELETE", "/apikeys/{key}", View, ""),
    ("GET", "/audit", AuditView, ""),
    ("GET", "/inquiries", View, ""),
    ("GET", "/inquiries/{execution}", View, ""),
    ("PUT", "/inquiries/{execution}", InquiryRespond, r#"{"response": {}}"#),
    ("GET", "/keys", View, ""),
    ("GET", "/keys/{name}", View, ""),
    ("PUT", "/keys/{name}", KeyWrite, r#"{"value": "x"}"#),
    ("DELETE", "/keys/{name}", KeyWrite, ""),
    ("GET", "/packs", View, ""),
    ("GET", "/packs/{pack}", View, ""),
    ("GET", "/policies", View, ""),
    ("GET", "/policies/{policy}", View, ""),
    ("GET", "/sensortypes", View, ""),
    ("GET", "/sensortypes/{sensor}", View, ""),
    ("GET", "/actionalias", View, ""),
    ("GET", "/actionalias/{alias}", View, ""),
    ("GET", "/rules", View, ""),
    ("POST", "/rules", ContentWrite, r#"{"name": "new", "enabled": false, "trigger": {"type": "core.st2.webhook", "parameters": {"url": "x"}}, "action": {"ref": "core.noop"}}"#),
    ("GET", "/rules/{rule}", View, ""),
    ("PUT", "/rules/{rule}", ContentWrite, r#"{"name": "deploy", "enabled": true, "trigger": {"type": "core.st2.webhook", "parameters": {"url": "x"}}, "action": {"ref": "core.noop"}}"#),
    ("DELETE", "/rules/{rule}", ContentWrite, ""),
    ("POST", "/rules/{rule}/enable", ContentSwitch, ""),
    ("POST", "/rules/{rule}/disable", ContentSwitch, ""),
    ("POST", "/rules/{rule}/test", View, r#"{"payload": {}}"#),
    ("GET", "/ruleenforcements", View, ""),
    ("GET", "/ruleenforcements/{enforcement}", View, ""),
    ("POST", "/signals", ExecutionControl, r#"{"name": "go"}"#),
    ("GET", "/status", View, ""),
    ("GET", "/metrics", View, ""),
    ("GET", "/triggertypes", View, ""),
    ("GET", "/triggertypes/{trigger_type}", View, ""),
    ("GET", "/triggerinstances", View, ""),
    ("GET", "/triggerinstances/{instance}", View, ""),
    ("POST", "/triggerinstances/{instance}/re_emit", TriggerEmit, ""),
    ("GET", "/timers", View, ""),
    ("POST", "/workflows/check", ExecutionControl, ""),
    ("POST", "/backup", SystemManage, r#"{"path": "/nowhere/x"}"#),
    ("POST", "/webhooks/st2", TriggerEmit, r#"{"trigger": "core.st2.webhook"}"#),
    ("GET", "/webhooks", View, ""),
    ("GET", "/stream", View, ""),
];

/// Those that anybody may ask, and those that check their callers by other means.
const OPEN: [(&str, &str); 4] =
    [("POST", "/tokens"), ("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/webhooks/{*url}")];

/// The routes that the sources of the API have, by method and path.
fn routes_in_sources() -> BTreeSet<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let files = [folder.clone(), folder.join("stream")].into_iter().flat_map(|folder| {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("server.rs"))
    });
    let pattern = regex::Regex::new(r"\b(get|post|put|delete|patch)\(").unwrap();
    let mut found = BTreeSet::new();
    for text in files.map(|path| std::fs::read_to_string(path).unwrap()) {
        for route in text.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once('"').unwrap();
            let declaration = rest.split(['\n', ';']).next().unwrap();
            let methods = pattern.captures_iter(declaration).map(|found| found[1].to_uppercase());
            found.extend(methods.map(|method| (method, path.to_owned())));
        }
    }
    found
}

#[test]
fn every_route_stands_in_the_table_of_permissions() {
    let closed = ROUTES.iter().map(|(method, path, ..)| (*method, *path));
    let table: BTreeSet<_> = closed.chain(OPEN).map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(routes_in_sources(), table);
}

/// A path with something in the place of its parameters; rules are looked up before they are changed.
fn concrete(path: &str) -> String {
    let filled = path.replace("{rule}", "default.deploy").replace("{version}", "7").replace("{attribute}", "status");
    let mut concrete = String::new();
    let mut rest = filled.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        concrete = format!("{concrete}{before}0000000000000000000000ff");
        rest = after.split_once('}').unwrap().1;
    }
    format!("/v1{concrete}{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_gets_through_the_routes_that_it_has_the_permission_for() {
    let house = House::new().await;
    let keys = [
        (Role::Observer, house.key_of("observer").await),
        (Role::Operator, house.key_of("operator").await),
        (Role::Admin, house.admin.clone()),
    ];
    let mut wrong = Vec::new();
    for (method, path, permission, body) in ROUTES {
        for (role, key) in &keys {
            let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap());
            let answer = house.open(request(key, method, &concrete(path), body)).await;
            let status = answer.status();
            let is_refused = status == StatusCode::FORBIDDEN;
            if is_refused == role.may(*permission) || status == StatusCode::UNAUTHORIZED {
                wrong.push(format!("{role} {method} {path}: {status}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_action_asks_for_is_asked_for_whichever_way_it_is_requested() {
    let house = House::new().await;
    let operator = house.key_of("operator").await;
    let done = house.post("/v1/executions", json!({ "action": "vault.wipe" })).await;
    assert_eq!(done.status, StatusCode::CREATED);
    let again = format!("/v1/executions/{}/re_run", done.json()["id"].as_str().unwrap());
    let alias = json!({ "name": "wipe", "command": "wipe" });
    for (uri, body) in [
        ("/v1/executions", json!({ "action": "vault.wipe" })),
        (again.as_str(), json!({})),
        ("/v1/aliasexecution", alias),
        ("/v1/aliasexecution/match_and_execute", json!({ "command": "wipe" })),
    ] {
        let refused = house.call(&operator, "POST", uri, Some(body.clone())).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{uri}");
        assert!(refused.fault().contains("group_write"), "{}", refused.fault());
        assert_eq!(house.post(uri, body).await.status, StatusCode::CREATED, "{uri}");
    }
    assert_eq!(house.doors.chat.role_of("the-operator").await.unwrap(), Role::Operator);
    let stranger = house.doors.chat.role_of("nobody").await.unwrap_err().to_string();
    assert!(stranger.contains("not a user of Petrel"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_adapters_say_in_whose_name_they_act_and_gain_nothing_by_it() {
    let house = House::build(Plan { act_as: vec!["the-operator".to_owned()], ..Plan::default() }).await;
    let adapter = house.key_of("operator").await;
    house.post("/v1/users", json!({ "name": "bob", "role": "operator" })).await;
    house.post("/v1/users", json!({ "name": "eve", "role": "observer" })).await;
    let bob = house.post("/v1/apikeys", json!({ "user": "bob" })).await.json()["key"].as_str().unwrap().to_owned();
    let (anns, noop) = ("/v1/aliasexecution/match_and_execute", "/v1/executions");
    let line = |user: &str| json!({ "command": "anns", "user": user });
    let run = |action: &str, user: &str| json!({ "action": action, "user": user });
    #[rustfmt::skip]
    let cases = [
        (&bob, anns, json!({ "command": "anns" }), StatusCode::FORBIDDEN, "only ann may do this"),
        (&bob, anns, line("ann"), StatusCode::FORBIDDEN, "may not act as `ann`"),
        (&bob, noop, run("core.noop", "ann"), StatusCode::FORBIDDEN, "may not act as `ann`"),
        (&bob, noop, run("core.noop", "bob"), StatusCode::CREATED, ""),
        (&adapter, anns, line("ann"), StatusCode::CREATED, ""),
        (&adapter, noop, run("core.noop", "ann"), StatusCode::CREATED, ""),
        (&adapter, noop, run("vault.wipe", "st2admin"), StatusCode::FORBIDDEN, "the role operator lacks"),
        (&adapter, noop, run("core.noop", "eve"), StatusCode::FORBIDDEN, "the role observer lacks"),
        (&house.admin, anns, line("ann"), StatusCode::CREATED, ""),
    ];
    for (key, uri, body, expected, said) in cases {
        let answer = house.call(key, "POST", uri, Some(body.clone())).await;
        assert_eq!(answer.status, expected, "{uri} {body}: {:?}", answer.body);
        assert!(answer.status == StatusCode::CREATED || answer.fault().contains(said), "{}", answer.fault());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_for_a_user_is_emitted_by_its_own_source_only() {
    let house = House::new().await;
    let operator = house.key_of("operator").await;
    let forged = json!({ "trigger": "slack.command", "payload": { "user": "U1", "channel": "C1", "line": "x" } });
    let refused = house.call(&operator, "POST", "/v1/webhooks/st2", Some(forged.clone())).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let emitted = house.post("/v1/webhooks/st2", forged).await;
    assert_eq!(emitted.status, StatusCode::ACCEPTED, "{:?}", emitted.body);
    let again = format!("/v1/triggerinstances/{}/re_emit", emitted.header("x-trigger-instance-id"));
    assert_eq!(house.call(&operator, "POST", &again, None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(house.post(&again, Value::Null).await.status, StatusCode::OK);
}

async fn log_in(house: &House, user: &str, password: &str) -> (String, String) {
    let basic = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let login = Request::post("/auth/v1/tokens").header("authorization", format!("Basic {basic}"));
    let bought = house.send(login.body(Body::empty()).unwrap()).await;
    assert_eq!(bought.status, StatusCode::CREATED, "{:?}", bought.body);
    let text = |name: &str| bought.json()[name].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

fn with_token(token: &str, method: &str, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).header("x-auth-token", token).body(Body::empty()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_and_revoked_by_their_owner_and_by_admins() {
    let house = House::new().await;
    for user in ["ada", "bob"] {
        house.post("/v1/users", json!({ "name": user, "password": "correct horse", "role": "operator" })).await;
    }
    let (adas, adas_id) = log_in(&house, "ada", "correct horse").await;
    let (bobs, bobs_id) = log_in(&house, "bob", "correct horse").await;
    let listed = house.send(with_token(&adas, "GET", "/v1/tokens")).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["user"]), (&json!(adas_id), &json!("ada")));
    assert_eq!(listed[0]["token"], Value::Null, "a token is shown once");
    assert_eq!(house.get("/v1/tokens").await.json().as_array().unwrap().len(), 2);
    let others = house.send(with_token(&adas, "GET", "/v1/tokens?user=bob")).await;
    assert_eq!(others.status, StatusCode::FORBIDDEN);
    let of_bob = format!("/v1/tokens/{bobs_id}");
    assert_eq!(house.send(with_token(&adas, "DELETE", &of_bob)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.delete(&of_bob).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.send(with_token(&bobs, "GET", "/v1/user")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.send(with_token(&adas, "GET", "/v1/user")).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_and_end_their_own_api_keys_and_no_others() {
    let house = House::new().await;
    let (operator, observer) = (house.key_of("operator").await, house.key_of("observer").await);
    let all = house.get("/v1/apikeys").await.json();
    let id_of = |user: &str| {
        let key = all.as_array().unwrap().iter().find(|key| key["user"] == user).unwrap();
        format!("/v1/apikeys/{}", key["id"].as_str().unwrap())
    };
    let (own, others) = (id_of("the-operator"), id_of("the-observer"));
    let listed = house.call(&operator, "GET", "/v1/apikeys", None).await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["user"]), (1, &json!("the-operator")));
    let (off, on) = (json!({ "enabled": false }), json!({ "enabled": true }));
    #[rustfmt::skip]
    let cases = [
        ("GET", "/v1/apikeys?user=the-observer", None, StatusCode::FORBIDDEN),
        ("GET", others.as_str(), None, StatusCode::NOT_FOUND),
        ("PUT", others.as_str(), Some(off.clone()), StatusCode::NOT_FOUND),
        ("DELETE", others.as_str(), None, StatusCode::NOT_FOUND),
        ("PUT", own.as_str(), Some(on), StatusCode::FORBIDDEN),
        ("PUT", own.as_str(), Some(off), StatusCode::OK),
        ("GET", "/v1/user", None, StatusCode::UNAUTHORIZED),
    ];
    for (method, uri, body, expected) in cases {
        assert_eq!(house.call(&operator, method, uri, body).await.status, expected, "{method} {uri}");
    }
    assert_eq!(house.call(&observer, "DELETE", &others, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.call(&observer, "GET", "/v1/user", None).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_its_streams_end_with_what_they_were_bought_with() {
    let house = House::new().await;
    let user = |password: &str, role: &str| json!({ "name": "ada", "password": password, "role": role });
    let role = |role: &str| json!({ "name": "ada", "role": role });
    house.post("/v1/users", user("correct horse", "operator")).await;
    let changes = [
        ("correct horse", "operator", "POST", "/v1/users", role("observer")),
        ("correct horse", "observer", "POST", "/v1/users", user("correct mule", "observer")),
        ("correct mule", "observer", "DELETE", "/v1/users/ada", Value::Null),
    ];
    for (password, now, method, uri, body) in changes {
        let (token, _) = log_in(&house, "ada", password).await;
        let response = house.open(with_token(&token, "GET", "/v1/stream")).await;
        let mut stream = response.into_body().into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "\n");
        house.post("/v1/users", role(now)).await;
        assert_eq!(house.send(with_token(&token, "GET", "/v1/user")).await.status, StatusCode::OK, "as before");
        house.call(&house.admin, method, uri, Some(body)).await;
        assert_eq!(house.send(with_token(&token, "GET", "/v1/user")).await.status, StatusCode::UNAUTHORIZED);
        while let Some(rest) = stream.next().await {
            assert!(rest.is_ok(), "the stream ends in order");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_opening_of_secrets_is_in_the_audit_log() {
    let house = House::new().await;
    house.put("/v1/keys/colour", json!({ "value": "s3cret-blue", "secret": true })).await;
    house.put("/v1/keys/open", json!({ "value": "x" })).await;
    let run = json!({ "action": "lab.login", "parameters": { "password": "s3cret-words" } });
    let id = house.post("/v1/executions", run).await.json()["id"].as_str().unwrap().to_owned();
    let opened = [
        ("/v1/executions?show_secrets=true".to_owned(), "execution.show_secrets", 1),
        (format!("/v1/executions/{id}?show_secrets=true"), "execution.show_secrets", 1),
        ("/v1/keys?decrypt=true".to_owned(), "key.decrypt", 1),
        ("/v1/keys/colour?decrypt=true".to_owned(), "key.decrypt", 1),
        ("/v1/audit?limit=3".to_owned(), "audit.view", 3),
    ];
    for (uri, what, count) in opened {
        assert_eq!(house.get(&uri).await.status, StatusCode::OK);
        let line = house.get("/v1/audit?limit=1").await.json()[0].clone();
        let seen = (&line["what"], &line["user"], &line["detail"]["count"]);
        assert_eq!(seen, (&json!(what), &json!("st2admin"), &json!(count)), "{uri}");
    }
}
