//! Runs that people ask for, look at and steer.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::support::House;

async fn run(house: &House, body: Value) -> Value {
    let answer = house.post("/v1/executions", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_accepted_executed_and_shown() {
    let house = House::new().await;
    let asked = run(&house, json!({ "action": "core.noop", "user": null })).await;
    let id = asked["id"].as_str().unwrap();
    let ended = house.ended(id).await;
    assert_eq!(ended["status"], "succeeded");
    assert_eq!(ended["action"]["ref"], "core.noop");
    assert_eq!(ended["context"]["user"], "st2admin");
    assert_eq!(ended["start_timestamp"], "2026-11-21T08:30:00.000000Z");
    assert_eq!(ended["result"]["succeeded"], true);
    assert_eq!(ended["waiting_for"], json!([]));
    assert_eq!(ended["liveaction"]["id"], ended["id"]);
    let part = house.get(&format!("/v1/executions/{id}?include_attributes=status,action.ref")).await.json();
    assert_eq!(part, json!({ "id": id, "status": "succeeded", "action": { "ref": "core.noop" } }));
    let attribute = house.get(&format!("/v1/executions/{id}/attribute/status")).await.json();
    assert_eq!(attribute, "succeeded");
    assert_eq!(house.get(&format!("/v1/executions/{id}/output")).await.body, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn g09_secrets_are_masked_unless_an_admin_asks() {
    let house = House::new().await;
    let operator = house.key_of("operator").await;
    let parameters = json!({ "user": "ada", "password": "s3cret-words" });
    let asked = run(&house, json!({ "action": "lab.login", "parameters": parameters })).await;
    let id = asked["id"].as_str().unwrap();
    house.ended(id).await;
    let uri = format!("/v1/executions/{id}");
    for key in [&house.admin, &operator] {
        let shown = house.call(key, "GET", &uri, None).await;
        assert_eq!(shown.json()["parameters"], json!({ "user": "ada", "password": "********" }));
        let text = String::from_utf8_lossy(&shown.body).into_owned();
        assert!(!text.contains("s3cret") && !text.contains("sealed"), "{text}");
    }
    let asked_for = format!("{uri}?show_secrets=true");
    assert_eq!(house.get(&asked_for).await.json()["parameters"]["password"], "s3cret-words");
    assert_eq!(house.call(&operator, "GET", &asked_for, None).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_refused_in_words() {
    let house = House::new().await;
    let cases = [
        (json!({ "action": "core.gone" }), "action `core.gone` does not exist"),
        (json!({ "action": "nonsense" }), "not a reference"),
        (json!({ "action": "lab.login", "parameters": { "colour": "red" } }), "colour"),
        (json!({ "action": "core.noop", "parameters": 3 }), "the body does not fit"),
        (json!({}), "missing field `action`"),
    ];
    for (body, words) in cases {
        let answer = house.post("/v1/executions", body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.fault().contains(words), "{body}: {}", answer.fault());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_how_many_there_are() {
    let house = House::new().await;
    for _ in 0..3 {
        let asked = run(&house, json!({ "action": "core.noop" })).await;
        house.ended(asked["id"].as_str().unwrap()).await;
    }
    let page = house.get("/v1/executions/?limit=2&parent=null&sort_desc=True&include_attributes=id,status").await;
    assert_eq!((page.header("x-total-count"), page.header("x-limit")), ("3", "2"));
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    assert!(page.json()[0]["result"].is_null());
    let rest = house.get("/v1/executions?limit=2&offset=2&action=core.noop&status=succeeded").await;
    assert_eq!(rest.json().as_array().unwrap().len(), 1);
    assert_eq!(house.get("/v1/executions?status=failed").await.header("x-total-count"), "0");
    assert_eq!(house.get("/v1/executions?limit=0").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_run_waits_says_for_what_and_can_be_canceled() {
    let house = House::new().await;
    let asked = run(&house, json!({ "action": "core.noop", "delay": 60_000 })).await;
    let uri = format!("/v1/executions/{}", asked["id"].as_str().unwrap());
    let waiting = house.get(&uri).await.json();
    assert_eq!(waiting["status"], "delayed");
    assert_eq!(waiting["waiting_for"][0]["kind"], "queue");
    assert_eq!(waiting["waiting_for"][0]["due_at"], "2026-11-21T08:31:00.000000Z");
    assert_eq!(house.put(&uri, json!({ "status": "pausing" })).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(house.delete(&uri).await.json()["status"], "canceled");
    let again = house.delete(&uri).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.fault(), "Action cannot be canceled. State = canceled.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_repeated_with_other_parameters() {
    let house = House::new().await;
    let parameters = json!({ "user": "ada", "password": "s3cret-words" });
    let first = run(&house, json!({ "action": "lab.login", "parameters": parameters })).await;
    let uri = format!("/v1/executions/{}/re_run", first["id"].as_str().unwrap());
    let body = json!({ "parameters": { "user": "bob" }, "tasks": [], "reset": [], "delay": 0 });
    let copy = house.post(&uri, body).await;
    assert_eq!(copy.status, StatusCode::CREATED);
    assert_eq!(copy.json()["parameters"], json!({ "user": "bob", "password": "********" }));
    assert_eq!(copy.json()["context"]["re-run"]["ref"], first["id"]);
    let tasks = house.post(&uri, json!({ "tasks": ["one"] })).await;
    assert_eq!(tasks.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_taken_in_once_per_sender() {
    let house = House::new().await;
    let signal = json!({ "name": "approved", "correlation": "web", "sender": "chat-1", "payload": { "by": "ada" } });
    let first = house.post("/v1/signals", signal.clone()).await;
    assert_eq!((first.status, &first.json()["accepted"]), (StatusCode::ACCEPTED, &json!(true)));
    assert_eq!(house.post("/v1/signals", signal).await.json()["accepted"], false);
    let nonsense = house.post("/v1/signals", json!({ "name": "x", "ttl": "soon" })).await;
    assert_eq!(nonsense.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_governors_no_is_a_conflict_with_its_reason() {
    let house = House::new().await;
    let refused = house.post("/v1/asg/web/expand", json!({ "by": 2 })).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.fault(), "the group is at its maximum (by: Some(2))");
    assert_eq!(house.get("/v1/asg/web").await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.get("/v1/asg/web/explain?limit=5").await.json(), json!([{ "limit": 5 }]));
    let frozen = house.post("/v1/freeze", json!({ "reason": "storm", "for": "2h" })).await;
    assert_eq!(frozen.json(), json!({ "reason": "storm", "by": "st2admin" }));
    let misspelt = house.post("/v1/asg/web/expand", json!({ "forse": true })).await;
    assert_eq!(misspelt.status, StatusCode::BAD_REQUEST);
}
