//! Asks the daemon: one request in, its JSON or a [`Failure`] in words out. Commands see no HTTP.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::cli::args::{ClientCommand, Globals};
use crate::cli::commands::{Session, execute};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::clock::SystemClock;
use crate::config::{ClientTarget, Environment, client_target, process_environment};
use crate::packs::check::Runners;

/// A daemon that does not even accept a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Does what the command says and gives the code to end with. Failures are printed here.
/// `runners` are the daemon's, for what is checked before it is sent.
pub fn run(command: &ClientCommand, globals: &Globals, runners: fn() -> Runners) -> ExitCode {
    let output = Output::of_this_process(globals.format);
    let outcome = open(globals).and_then(|api| {
        let session = Session { api, output: output.clone(), clock: Arc::new(SystemClock::new()), runners };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Failure::Local { doing: "start the run-time".to_owned(), source })?;
        runtime.block_on(execute(&session, command))
    });
    match outcome {
        Ok(ending) => ending.into(),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            let told = output.complain(&failure);
            tracing::debug!(?told, "the failure was printed");
            ExitCode::from(code)
        }
    }
}

fn open(globals: &Globals) -> Result<Api, Failure> {
    let environment = override_by(globals, process_environment());
    Api::new(client_target(&environment, globals.data_dir())?)
}

/// Options go over the environment.
fn override_by(globals: &Globals, mut environment: Environment) -> Environment {
    let options = [("PETREL_URL", &globals.url), ("PETREL_API_KEY", &globals.api_key)];
    for (name, value) in options {
        if let Some(value) = value {
            environment.insert(name.to_owned(), value.clone());
        }
    }
    environment
}

/// Name and value pairs after the `?`.
pub(super) type Query<'a> = &'a [(&'a str, &'a str)];

/// The daemon's API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    url: String,
    base: Url,
}

/// A part of a longer list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Page {
    /// The part.
    pub(super) items: Value,
    /// How long the whole list is, if the daemon says so.
    pub(super) total: Option<usize>,
}

impl Api {
    /// Nothing is sent yet.
    pub(super) fn new(target: ClientTarget) -> Result<Self, Failure> {
        let ClientTarget { url, api_key } = target;
        let base = Url::parse(&url).ok().filter(|base| !base.cannot_be_a_base());
        let base = base.ok_or_else(|| Failure::Usage(format!("`{url}` is no URL such as http://127.0.0.1:9101")))?;
        let mut key = HeaderValue::from_str(api_key.expose())
            .map_err(|error| Failure::Usage(format!("the API key is none: {error}")))?;
        key.set_sensitive(true);
        let headers = HeaderMap::from_iter([("st2-api-key".parse().expect("a legal header name"), key)]);
        let http = reqwest::Client::builder().default_headers(headers).connect_timeout(CONNECT_TIMEOUT).no_proxy();
        let http = http.build().map_err(|source| Failure::Unreachable { url: url.clone(), source })?;
        Ok(Self { http, url, base })
    }

    /// `GET`, one thing.
    pub(super) async fn get(&self, path: &[&str], query: Query<'_>) -> Result<Value, Failure> {
        self.json(self.request(Method::GET, path, query)).await
    }

    /// `GET`, a list.
    pub(super) async fn list(&self, path: &[&str], query: Query<'_>) -> Result<Page, Failure> {
        let response = self.send(self.request(Method::GET, path, query)).await?;
        let total = response.headers().get("x-total-count");
        let total = total.and_then(|total| total.to_str().ok()?.parse().ok());
        if let Some(rows) = response.headers().get("x-petrel-damaged-rows").and_then(|rows| rows.to_str().ok()) {
            output::warn(&format!(
                "damaged rows of the store are left out ({rows}): the daemon's log says what is wrong"
            ));
        }
        Ok(Page { items: self.body(response).await?, total })
    }

    /// `GET`, plain text.
    pub(super) async fn text(&self, path: &[&str]) -> Result<String, Failure> {
        let response = self.send(self.request(Method::GET, path, &[])).await?;
        response.text().await.map_err(|source| self.unreachable(source))
    }

    /// `POST`.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.json(self.request(Method::POST, path, &[]).json(body)).await
    }

    /// `PUT`.
    pub(super) async fn put(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.json(self.request(Method::PUT, path, &[]).json(body)).await
    }

    /// `DELETE`.
    pub(super) async fn delete(&self, path: &[&str], query: Query<'_>) -> Result<Value, Failure> {
        self.json(self.request(Method::DELETE, path, query)).await
    }

    /// Server-sent events from after `last_id` on.
    pub(super) async fn events(&self, query: Query<'_>, last_id: Option<&str>) -> Result<Response, Failure> {
        let request = self.request(Method::GET, &["stream"], query).header("accept", "text/event-stream");
        let request = match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        self.send(request).await
    }

    /// What to say when an answer lacks something.
    pub(super) fn unexpected(&self, what: impl Into<String>) -> Failure {
        Failure::Unexpected { url: self.url.clone(), what: what.into() }
    }

    fn request(&self, method: Method, path: &[&str], query: Query<'_>) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        self.http.request(method, url).query(query)
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = self.send(request).await?;
        self.body(response).await
    }

    async fn body(&self, response: Response) -> Result<Value, Failure> {
        let bytes = response.bytes().await.map_err(|source| self.unreachable(source))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| self.unexpected(format!("it is no JSON: {error}")))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        Err(self.refusal(status, &text))
    }

    fn refusal(&self, status: StatusCode, text: &str) -> Failure {
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        let reason = match answer["faultstring"].as_str() {
            Some(reason) => reason.trim_end_matches('.').to_owned(),
            None => format!("{} answered {status}", self.url),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::NotAllowed { url: self.url.clone(), status, reason }
            }
            _ => Failure::Refused { status, reason },
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> Failure {
        Failure::Unreachable { url: self.url.clone(), source: source.without_url() }
    }
}
