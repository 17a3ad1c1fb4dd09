//! What strangers can make the API do before anybody knows them, and what is left of the credentials of those who are known.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use base64::prelude::{BASE64_STANDARD, Engine};
use futures_util::{StreamExt, poll, stream};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::support::{Answer, House, Plan};
use crate::auth::WebhookAuth;
use crate::config::Webhooks;
use crate::secrets::hex;

const SECRET: &str = "a-Secret/with+odd=bytes 9%";

fn webhook(auth: &Value) -> Plan {
    let auth: WebhookAuth = serde_json::from_value(auth.clone()).unwrap();
    let paths = [("team/deploy".to_owned(), auth)].into();
    Plan { webhooks: Webhooks { paths, ..Webhooks::default() }, ..Plan::default() }
}

fn delivery(headers: &[(&str, &str)], query: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(format!("/v1/webhooks/team/deploy?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

fn encoded(text: &str) -> String {
    text.bytes().flat_map(|byte| ["%".to_owned(), hex(&[byte])]).collect()
}

fn signature(body: &str) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    hex(&mac.finalize().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_is_known_before_the_body_is_read() {
    for auth in [
        json!("api_key"),
        json!({ "kind": "shared_token", "header": "X-Token", "token": SECRET }),
        json!({ "kind": "shared_token", "query": "token", "token": SECRET }),
        json!({ "kind": "basic", "user": "ada", "password": SECRET }),
        json!({ "kind": "hmac", "scheme": "github", "secret": SECRET }),
    ] {
        let house = House::build(webhook(&auth)).await;
        let long = "x".repeat(10_000);
        let refused = house.send(delivery(&[], "", long)).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{auth}: {}", refused.fault());
    }
    let house = House::new().await;
    let long = || Body::from("x".repeat(10_000));
    for path in ["/v1/webhooks/st2", "/v1/rules", "/v1/tokens"] {
        let refused = house.send(Request::post(path).body(long()).unwrap()).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bodies_share_a_budget_of_memory() {
    let house = House::build(webhook(&json!({ "kind": "hmac", "scheme": "github", "secret": SECRET }))).await;
    let mac = format!("sha256={}", signature("{}"));
    let slow = || {
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b'x'; 4000]))]);
        delivery(&[("x-hub-signature-256", &mac)], "", Body::from_stream(first.chain(stream::pending())))
    };
    let mut held = Box::pin(house.send(slow()));
    assert!(poll!(&mut held).is_pending());
    let refused = house.send(slow()).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.fault());
    assert_eq!(refused.header("retry-after"), "5");
    drop(held);
    let accepted = house.send(delivery(&[("x-hub-signature-256", &mac)], "", "{}")).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.fault());
    let counted = String::from_utf8_lossy(&house.get("/metrics").await.body).into_owned();
    assert!(counted.contains(r#"petrel_requests_refused_total{reason="body_budget"} 1"#), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g09_no_credential_of_any_webhook_is_stored_with_the_event() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("ada:{SECRET}")));
    let mac = signature("{}");
    let in_query = format!("token={}", encoded(SECRET));
    for (auth, place, query) in [
        (
            json!({ "kind": "shared_token", "header": "X-Gitlab-Token", "token": SECRET }),
            ("x-gitlab-token", SECRET),
            "",
        ),
        (json!({ "kind": "shared_token", "query": "token", "token": SECRET }), ("x-plain", "1"), in_query.as_str()),
        (json!({ "kind": "basic", "user": "ada", "password": SECRET }), ("authorization", basic.as_str()), ""),
        (
            json!({ "kind": "hmac", "scheme": "generic", "header": "X-Sign", "secret": SECRET }),
            ("x-sign", mac.as_str()),
            "",
        ),
    ] {
        let house = House::build(webhook(&auth)).await;
        let (once, uri) = (encoded(SECRET), format!("/webhooks/team/deploy?t={}", encoded(&encoded(SECRET))));
        let headers = [
            place,
            ("x-forwarded-uri", uri.as_str()),
            ("x-copy", SECRET),
            ("x-encoded", once.as_str()),
            ("x-event", "push"),
        ];
        let accepted = house.send(delivery(&headers, query, "{}")).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{auth}: {}", accepted.fault());
        let observer = house.key_of("observer").await;
        let shown = house.call(&observer, "GET", "/v1/triggerinstances?limit=9", None).await;
        let shown = String::from_utf8_lossy(&shown.body).into_owned();
        assert!(shown.contains("push"), "what is no credential is kept: {shown}");
        for form in [SECRET, &once, &once.to_uppercase(), &encoded(&once), &basic, &mac] {
            assert!(!shown.contains(form), "{auth}: {form} in {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_leaves_a_trace() {
    let house = House::new().await;
    let credentials = BASE64_STANDARD.encode("ada\u{1b}:wrong horse");
    let login = || {
        let request = Request::post("/v1/tokens").header("authorization", format!("Basic {credentials}"));
        house.send(request.body(Body::empty()).unwrap())
    };
    for _ in 0..8 {
        let refused: Answer = login().await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }
    house.call("no-such-key", "GET", "/v1/user", None).await;
    let audit = house.get("/v1/audit").await.json();
    let lines: Vec<&Value> = audit.as_array().unwrap().iter().filter(|line| line["what"] == "login.failed").collect();
    assert_eq!(lines.len(), 5, "the rest of the flood is counted only");
    assert_eq!((&lines[0]["detail"]["address"], &lines[0]["subject"]), (&json!("127.0.0.1"), &json!("ada\u{1b}")));
    let counted = String::from_utf8_lossy(&house.get("/metrics").await.body).into_owned();
    for line in [r#"failures_total{credential="password"} 8"#, r#"failures_total{credential="api_key"} 1"#] {
        assert!(counted.contains(line), "{line}: {counted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_use_up_the_rate() {
    let mut plan = Plan::default();
    plan.limits.rate_per_second = 3;
    let house = House::build(plan).await;
    for _ in 0..5 {
        for path in ["/v1/webhooks/team/deploy", "/v1/rules", "/v1/tokens"] {
            let refused = house.send(Request::post(path).body(Body::empty()).unwrap()).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    assert_eq!(house.get("/v1/user").await.status, StatusCode::OK);
    assert_eq!(house.post("/v1/webhooks/team/deploy", json!({})).await.status, StatusCode::ACCEPTED);
}
