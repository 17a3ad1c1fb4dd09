//! Who may come in, and what is said to those who may not.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::support::{House, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn g10_every_route_is_closed_to_strangers_but_those_that_are_listed() {
    let house = House::new().await;
    let stranger = |method: &str, uri: &str| Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    #[rustfmt::skip]
    let closed = [
        ("GET", "/v1/executions"), ("POST", "/v1/executions"), ("GET", "/executions/"), ("GET", "/api/v1/rules"),
        ("POST", "/v1/rules/default.deploy/disable"), ("GET", "/v1/keys"), ("GET", "/v1/stream"), ("GET", "/v1/user"),
        ("GET", "/stream/v1/stream"), ("POST", "/v1/webhooks/st2"), ("POST", "/v1/webhooks/team/deploy"),
        ("GET", "/v1/webhooks"), ("POST", "/v1/backup"), ("GET", "/metrics"), ("GET", "/v1/status"), ("GET", "/v1/asg"),
        ("POST", "/auth/v1/tokens"), ("POST", "/tokens"), ("GET", "/v1/audit"), ("DELETE", "/v1/freeze"),
    ];
    for (method, uri) in closed {
        let answer = house.send(stranger(method, uri)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {uri}");
        assert!(answer.fault().starts_with("Unauthorized"), "{method} {uri}: {}", answer.fault());
    }
    for uri in ["/healthz", "/readyz", "/v1/healthz"] {
        assert_eq!(house.send(stranger("GET", uri)).await.status, StatusCode::OK, "{uri}");
    }
    assert_eq!(house.send(stranger("GET", "/v1/nothing")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_decide_what_somebody_may_do() {
    let house = House::new().await;
    let (operator, observer) = (house.key_of("operator").await, house.key_of("observer").await);
    let run = json!({ "action": "core.noop" });
    let user = json!({ "name": "eve", "role": "admin" });
    #[rustfmt::skip]
    let cases: [(&str, &str, &str, Value, StatusCode); 8] = [
        (&observer, "GET", "/v1/executions", Value::Null, StatusCode::OK),
        (&observer, "POST", "/v1/executions", run.clone(), StatusCode::FORBIDDEN),
        (&observer, "POST", "/v1/rules/default.deploy/disable", Value::Null, StatusCode::FORBIDDEN),
        (&operator, "POST", "/v1/executions", run, StatusCode::CREATED),
        (&operator, "POST", "/v1/users", user.clone(), StatusCode::FORBIDDEN),
        (&operator, "POST", "/v1/asg", json!({"name": "web", "provider": "local"}), StatusCode::FORBIDDEN),
        (&operator, "GET", "/v1/audit", Value::Null, StatusCode::FORBIDDEN),
        (&house.admin, "POST", "/v1/users", user, StatusCode::CREATED),
    ];
    for (key, method, uri, body, expected) in cases {
        let answer = house.call(key, method, uri, Some(body)).await;
        assert_eq!(answer.status, expected, "{method} {uri}: {:?}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_buys_a_token_that_expires() {
    let house = House::new().await;
    house.post("/v1/users", json!({ "name": "ada", "password": "correct horse", "role": "operator" })).await;
    let login = |password: &str| {
        let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("ada:{password}"));
        Request::post("/auth/v1/tokens/").header("authorization", format!("Basic {basic}")).body("{}".into()).unwrap()
    };
    assert_eq!(house.send(login("wrong horse")).await.status, StatusCode::UNAUTHORIZED);
    let bought = house.send(login("correct horse")).await;
    assert_eq!(bought.status, StatusCode::CREATED);
    assert_eq!(bought.json()["expiry"], "2026-11-22T08:30:00.000000Z");
    let token = bought.json()["token"].as_str().unwrap().to_owned();
    let whoami = || Request::get("/v1/user").header("x-auth-token", &token).body(Body::empty()).unwrap();
    let known = house.send(whoami()).await.json();
    assert_eq!(known["username"], "ada");
    assert_eq!(known["rbac"], json!({ "enabled": true, "roles": ["operator"], "is_admin": false }));
    house.clock.advance(Duration::from_hours(25));
    assert_eq!(house.send(whoami()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_switched_off_opens_nothing_at_once() {
    let house = House::new().await;
    let observer = house.key_of("observer").await;
    assert_eq!(house.call(&observer, "GET", "/v1/user", None).await.status, StatusCode::OK);
    let keys = house.get("/v1/apikeys?user=the-observer").await.json();
    assert_eq!(keys[0]["key"], "********");
    let id = keys[0]["id"].as_str().unwrap();
    house.put(&format!("/v1/apikeys/{id}"), json!({ "enabled": false })).await;
    assert_eq!(house.call(&observer, "GET", "/v1/user", None).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_stays() {
    let house = House::new().await;
    let refused = house.delete("/v1/users/st2admin").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.fault().contains("last admin"), "{}", refused.fault());
    let demoted = house.post("/v1/users", json!({ "name": "st2admin", "role": "observer" })).await;
    assert_eq!(demoted.status, StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_in_the_audit_log() {
    let house = House::new().await;
    house.put("/v1/keys/colour", json!({ "value": "s3cret-blue", "secret": true })).await;
    house.post("/v1/rules/default.deploy/disable", Value::Null).await;
    let audit = house.get("/v1/audit").await;
    let lines: Vec<(Value, Value)> =
        audit.json().as_array().unwrap().iter().map(|line| (line["what"].clone(), line["subject"].clone())).collect();
    assert_eq!(lines, [(json!("rule.switch"), json!("default.deploy")), (json!("key.set"), json!("colour"))]);
    assert!(!String::from_utf8_lossy(&audit.body).contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_changes_nothing_unless_it_comes_from_our_own_page() {
    let house = House::new().await;
    let basic = json!({ "name": "ada", "password": "correct horse", "role": "admin" });
    house.post("/v1/users", basic).await;
    let credentials = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "ada:correct horse");
    let login = Request::post("/tokens").header("authorization", format!("Basic {credentials}"));
    let token = house.send(login.body(Body::empty()).unwrap()).await.json()["token"].as_str().unwrap().to_owned();
    let run = |origin: &str| {
        Request::post("/v1/executions")
            .header("cookie", format!("auth-token={token}"))
            .header("host", "petrel:9101")
            .header("origin", origin)
            .body(json!({ "action": "core.noop" }).to_string().into())
            .unwrap()
    };
    assert_eq!(house.send(run("http://evil.example")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(house.send(run("http://petrel:9101")).await.status, StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_is_stormed_says_when_to_come_back() {
    let mut plan = Plan::default();
    plan.limits.rate_per_second = 3;
    let house = House::build(plan).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(house.get("/v1/user").await);
    }
    let refused = answers.pop().unwrap();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "1");
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(house.get("/v1/user").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_a_request_id() {
    let house = House::new().await;
    let given = Request::get("/v1/nothing").header("x-request-id", "abc-1").body(Body::empty()).unwrap();
    assert_eq!(house.send(given).await.header("x-request-id"), "abc-1");
    assert_eq!(house.get("/v1/user").await.header("x-request-id").len(), 24);
    let wrong_method = house.delete("/v1/executions").await;
    assert_eq!(wrong_method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong_method.header("x-request-id").len(), 24);
}
