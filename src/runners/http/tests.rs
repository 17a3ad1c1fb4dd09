//! One exchange each, with a real server on loopback.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap as Headers, StatusCode, Uri};
use axum::response::Redirect;
use axum::routing::{any, get};

use super::*;
use crate::model::action::{Action, OnLost};
use crate::model::refs::ExecutionId;
use crate::runners::OutputSink;

async fn seen(headers: Headers, uri: Uri, body: String) -> axum::Json<Value> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    axum::Json(json!({
        "query": uri.query(), "body": body, "cookie": header("cookie"),
        "authorization": header("authorization"), "type": header("content-type"), "own": header("x-own"),
    }))
}

async fn server() -> String {
    let router = Router::new()
        .route("/seen", any(seen))
        .route("/text", get(|| async { "plain" }))
        .route("/missing", get(|| async { (StatusCode::NOT_FOUND, "no") }))
        .route("/moved", get(|| async { Redirect::temporary("/text") }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/large", get(|| async { vec![b'x'; MAX_BODY_BYTES + 1] }))
        .route("/never", get(std::future::pending::<&str>));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn call(parameters: &Value) -> Call {
    let action = Action {
        reference: "core.http".parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "http-request".to_owned(),
        entry_point: "".into(),
        parameters: BTreeMap::new(),
        output_schema: BTreeMap::new(),
        tags: Vec::new(),
        notify: Value::Null,
        on_lost: OnLost::Fail,
        permission: None,
        metadata_file: String::new(),
    };
    Call {
        execution: ExecutionId::from_bytes([7; 12]),
        attempt: 1,
        action: Arc::new(action),
        parameters: parameters.as_object().unwrap().clone(),
        user: "admin".to_owned(),
        output: OutputSink::ignored(),
        timeout: None,
    }
}

async fn outcome_of(call: Call) -> Outcome {
    match HttpRequest::default().run(call, Stop::default()).await {
        RunEnd::Finished(outcome) => outcome,
        other => panic!("it did not end: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_carries_all_that_was_given() {
    let server = server().await;
    let outcome = outcome_of(call(&json!({
        "url": format!("{server}/seen?a=1"), "method": "put", "params": {"b": "x y"}, "body": {"k": 1},
        "headers": {"X-Own": 5}, "cookies": {"c": "d"}, "username": "u", "password": "p",
    })))
    .await;
    assert_eq!(outcome.status, ExecutionStatus::Succeeded);
    let expected = json!({
        "query": "a=1&b=x+y", "body": "{\"k\":1}", "cookie": "c=d",
        "authorization": "Basic dTpw", "type": "application/json", "own": "5",
    });
    assert_eq!(outcome.result["body"], expected);
    assert_eq!((&outcome.result["parsed"], &outcome.result["status_code"]), (&json!(true), &json!(200)));
}

#[tokio::test]
async fn only_200_to_206_is_a_success() {
    let server = server().await;
    let cases = [
        (json!({"url": format!("{server}/text")}), ExecutionStatus::Succeeded, 200, "plain"),
        (json!({"url": format!("{server}/missing")}), ExecutionStatus::Failed, 404, "no"),
        (json!({"url": format!("{server}/moved")}), ExecutionStatus::Failed, 307, ""),
        (json!({"url": format!("{server}/moved"), "allow_redirects": true}), ExecutionStatus::Succeeded, 200, "plain"),
    ];
    for (parameters, status, code, body) in cases {
        let outcome = outcome_of(call(&parameters)).await;
        assert_eq!(outcome.status, status, "{parameters}");
        assert_eq!(outcome.result["status_code"], code, "{parameters}");
        assert_eq!((&outcome.result["body"], &outcome.result["parsed"]), (&json!(body), &json!(false)));
    }
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let server = server().await;
    let url = |path: &str| format!("{server}{path}");
    let cases = [
        (json!({"url": url("/loop"), "allow_redirects": true}), "more than 10 redirects"),
        (json!({"url": url("/large")}), "larger than 10 MiB"),
        (json!({"url": url("/text"), "url_hosts_blacklist": ["127.0.0.1"]}), "is in `url_hosts_blacklist`"),
        (json!({"url": url("/text"), "url_hosts_whitelist": ["example.org"]}), "is not in `url_hosts_whitelist`"),
        (
            json!({"url": url("/text"), "url_hosts_whitelist": ["a"], "url_hosts_blacklist": ["b"]}),
            "exclude each other",
        ),
        (json!({"url": url("/text"), "method": "a b"}), "not an HTTP method"),
        (json!({}), "do not fit"),
        (json!({"url": "no address"}), "is not an address"),
    ];
    for (parameters, reason) in cases {
        let outcome = outcome_of(call(&parameters)).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed, "{outcome:?}");
        assert!(outcome.result["error"].as_str().unwrap().contains(reason), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_error_does_not_show_the_address() {
    let outcome = outcome_of(call(&json!({"url": "http://user:hunter2@127.0.0.1:1/?token=hunter2"}))).await;
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert!(!outcome.result.to_string().contains("hunter2"), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout() {
    let server = server().await;
    let mut call = call(&json!({"url": format!("{server}/never")}));
    call.timeout = Some(Duration::from_millis(50));
    assert_eq!(outcome_of(call).await.status, ExecutionStatus::Timeout);
}

#[tokio::test]
async fn a_stop_ends_the_wait() {
    let server = server().await;
    let stop = Stop::default();
    stop.raise();
    let end = HttpRequest::default().run(call(&json!({"url": format!("{server}/never")})), stop).await;
    let RunEnd::Finished(outcome) = end else { panic!("waits") };
    assert_eq!(outcome.status, ExecutionStatus::Canceled);
}
