//! The way to one daemon of several: it may be dead, stopped or cut off, so every request can fail.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::daemon::is_over;
use crate::support::eventually;

/// Whoever does not answer within this time has not answered.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Requests to one daemon. It stays the same over all its lives.
#[derive(Clone)]
pub(super) struct Door {
    client: Client,
    url: String,
    key: Arc<OnceLock<String>>,
}

/// What a webhook's sender was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Accepted, as this instance.
    Accepted(String),
    /// An error, or nothing: it may have been accepted or not.
    Unknown(String),
}

impl Door {
    /// To the daemon at `url`; the key is filled in when it is known.
    pub(super) fn new(url: String, key: Arc<OnceLock<String>>) -> Self {
        let client = Client::builder().no_proxy().timeout(ANSWER_LIMIT).build().unwrap();
        Self { client, url, key }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match self.key.get() {
            Some(key) => request.header("St2-Api-Key", key),
            None => request,
        }
    }

    /// Sends a request, and gives back status and answer if there is one.
    pub(super) async fn try_send(&self, method: Method, path: &str, body: &Value) -> Option<(StatusCode, Value)> {
        let request = self.request(method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// What a path shows, if it is answered well.
    pub(super) async fn try_get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.try_send(Method::GET, path, &Value::Null).await?;
        status.is_success().then_some(body)
    }

    /// What a path shows.
    pub(super) async fn get(&self, path: &str) -> Value {
        let answer = self.try_send(Method::GET, path, &Value::Null).await;
        let (status, body) = answer.unwrap_or_else(|| panic!("GET {path}: no answer"));
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// How many a list has in all.
    pub(super) async fn count(&self, path: &str) -> usize {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        answer.headers()["x-total-count"].to_str().unwrap().parse().unwrap()
    }

    /// Whether it is ready, and if not, why.
    pub(super) async fn readiness(&self) -> Option<(StatusCode, Value)> {
        self.try_send(Method::GET, "/readyz", &Value::Null).await
    }

    /// A webhook's delivery.
    pub(super) async fn deliver(&self, hook: &str, key: Option<&str>, body: &Value) -> Delivered {
        let request = self.request(Method::POST, &format!("/v1/webhooks/{hook}")).json(body);
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(problem) if problem.is_connect() => return Delivered::Unknown("no connection".to_owned()),
            Err(problem) if problem.is_timeout() => return Delivered::Unknown("no answer in time".to_owned()),
            Err(_) => return Delivered::Unknown("connection lost".to_owned()),
        };
        let instance = answer.headers().get("x-trigger-instance-id").map(|id| id.to_str().unwrap().to_owned());
        match (answer.status(), instance) {
            (StatusCode::ACCEPTED, Some(instance)) => Delivered::Accepted(instance),
            (status, _) => Delivered::Unknown(status.to_string()),
        }
    }

    /// Asks for a run and gives back its id.
    pub(super) async fn run(&self, action: &str, parameters: Value) -> String {
        let mut wanted = json!({ "action": action });
        wanted["parameters"] = parameters;
        let answer = self.try_send(Method::POST, "/v1/executions", &wanted).await;
        let (status, answer) = answer.expect("an answer");
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// The execution once it is as wanted.
    pub(super) async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("execution {id} gets there"), async || {
            let row = self.try_get(&format!("/v1/executions/{id}")).await?;
            wanted(&row).then_some(row)
        })
        .await
    }

    /// The execution when it is over.
    pub(super) async fn end_of(&self, id: &str) -> Value {
        self.until(id, |row| is_over(&row["status"])).await
    }

    /// Whether no event and no execution is unfinished in the store that it shares. `None`: it does not say.
    pub(super) async fn is_idle(&self) -> Option<bool> {
        let status = self.try_get("/v1/status").await?;
        let by_status = status["executions_by_status"].as_object().unwrap();
        Some(status["pending_instances"] == 0 && by_status.keys().all(|status| is_over(&json!(status))))
    }
}
