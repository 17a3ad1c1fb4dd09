//! Events from outside.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::support::{Answer, House, Plan, open_webhooks};

async fn hook(house: &House, url: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    house.send(request.body(body.into()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_durable_before_it_is_accepted() {
    let house = House::new().await;
    let key = house.admin.clone();
    let headers = [("st2-api-key", key.as_str()), ("st2-trace-tag", "release-7"), ("x-custom-thing", "1")];
    let accepted = hook(&house, "/v1/webhooks/team/deploy/", &headers, r#"{"app": "web"}"#).await;
    assert_eq!((accepted.status, accepted.json()), (StatusCode::ACCEPTED, json!({ "app": "web" })));
    let id = accepted.header("x-trigger-instance-id");
    let instance = house.get(&format!("/v1/triggerinstances/{id}")).await.json();
    assert_eq!(instance["trigger"], "core.st2.webhook");
    assert_eq!(instance["trace_tag"], "release-7");
    assert_eq!(instance["payload"]["body"], json!({ "app": "web" }));
    assert_eq!(instance["payload"]["headers"]["X-Custom-Thing"], "1");
    assert_eq!(instance["payload"]["headers_lower"]["x-custom-thing"], "1");
    assert!(!instance.to_string().contains(&key), "credentials end at the door");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_waits_for_is_not_found() {
    let house = House::new().await;
    let key = house.admin.clone();
    let unknown = hook(&house, "/v1/webhooks/nobody/home", &[("st2-api-key", &key)], "{}").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.fault(), "Webhook nobody/home not registered with st2");
    house.post("/v1/rules/default.deploy/disable", Value::Null).await;
    let disabled = hook(&house, "/v1/webhooks/team/deploy", &[("st2-api-key", &key)], "{}").await;
    assert_eq!(disabled.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_too_deep_or_broken_are_refused_with_a_reason() {
    let house = House::build(Plan { webhooks: open_webhooks(), ..Plan::default() }).await;
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    #[rustfmt::skip]
    let cases = [
        ("x".repeat(5000), "application/json", StatusCode::PAYLOAD_TOO_LARGE, "limits.body_bytes"),
        (deep, "application/json", StatusCode::BAD_REQUEST, "nested deeper than 16 levels"),
        ("{\"a\": }".to_owned(), "application/json", StatusCode::BAD_REQUEST, "line 1 column 7"),
        ("x".to_owned(), "image/png", StatusCode::UNSUPPORTED_MEDIA_TYPE, "image/png"),
    ];
    for (body, kind, status, words) in cases {
        let refused = hook(&house, "/v1/webhooks/team/deploy", &[("content-type", kind)], body).await;
        assert_eq!(refused.status, status, "{words}");
        assert!(refused.fault().contains(words), "{words}: {}", refused.fault());
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let accepted = hook(&house, "/webhooks/team/deploy", &form, "app=web&n=1").await;
    assert_eq!((accepted.status, accepted.json()), (StatusCode::ACCEPTED, json!({ "app": ["web"], "n": ["1"] })));
    let counted = String::from_utf8_lossy(&house.get("/metrics").await.body).into_owned();
    assert!(counted.contains(r#"petrel_events_refused_total{door="webhook",status="413"} 1"#), "{counted}");
    assert!(counted.contains(r#"petrel_events_accepted_total{door="webhook"} 1"#), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g02_a_repeated_delivery_is_accepted_as_the_first() {
    let house = House::build(Plan { webhooks: open_webhooks(), ..Plan::default() }).await;
    let mut ids = Vec::new();
    for key in ["d-1", "d-1", "d-2"] {
        let headers = [("x-github-delivery", key)];
        let accepted = hook(&house, "/v1/webhooks/team/deploy", &headers, "{}").await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED);
        ids.push(accepted.header("x-trigger-instance-id").to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(house.get("/v1/triggerinstances").await.header("x-total-count"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_trigger_is_injected_by_whoever_may_even_where_webhooks_are_open() {
    let house = House::build(Plan { webhooks: open_webhooks(), ..Plan::default() }).await;
    let body = json!({ "trigger": "core.st2.generic.inquiry", "payload": { "id": "1", "route": "ops" } });
    let stranger = hook(&house, "/v1/webhooks/st2", &[], body.to_string()).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    let observer = house.key_of("observer").await;
    let refused = house.call(&observer, "POST", "/v1/webhooks/st2", Some(body.clone())).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let accepted = house.post("/v1/webhooks/st2", body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{:?}", accepted.body);
    assert_eq!(house.post("/v1/webhooks/st2", json!({ "payload": {} })).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(house.post("/v1/webhooks/st2", json!({ "trigger": "no.such" })).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_emitted_again_and_names_the_first() {
    let house = House::build(Plan { webhooks: open_webhooks(), ..Plan::default() }).await;
    let first = hook(&house, "/v1/webhooks/team/deploy", &[("idempotency-key", "1")], "{}").await;
    let id = first.header("x-trigger-instance-id");
    let again = house.post(&format!("/v1/triggerinstances/{id}/re_emit"), Value::Null).await;
    assert_eq!(again.status, StatusCode::OK);
    let copy = again.json()["id"].as_str().unwrap().to_owned();
    assert_ne!(copy, id);
    let shown = house.get(&format!("/v1/triggerinstances/{copy}")).await.json();
    assert_eq!(shown["payload"]["__context"]["original_id"], id);
    assert_eq!(shown["trace_tag"], house.get(&format!("/v1/triggerinstances/{id}")).await.json()["trace_tag"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g01_a_full_disk_is_said_and_nothing_is_accepted() {
    let plan = Plan { webhooks: open_webhooks(), max_database_bytes: Some(600_000), ..Plan::default() };
    let house = House::build(plan).await;
    let body = json!({ "filler": "x".repeat(3900) }).to_string();
    let (mut accepted, mut refused) = (0, None);
    for _ in 0..1000 {
        let answer = hook(&house, "/v1/webhooks/team/deploy", &[], body.clone()).await;
        if answer.status != StatusCode::ACCEPTED {
            refused = Some(answer);
            break;
        }
        accepted += 1;
    }
    let refused = refused.expect("the disk is small");
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.fault());
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(house.get("/v1/triggerinstances").await.header("x-total-count"), accepted.to_string());
}
