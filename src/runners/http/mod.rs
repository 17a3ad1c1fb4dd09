//! The runner `http-request`: one HTTP exchange, bounded in time and size, with StackStorm's parameters and result.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Proxy, RequestBuilder, Response, Url, redirect};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::declared::{as_text, as_texts, parameter, read, required, secret, with_default};
use super::shortage::NotBegun;
use super::{Call, Outcome, RunEnd, Runner, Stop};
use crate::model::action::ParameterSpec;
use crate::model::execution::ExecutionStatus;

/// StackStorm's, for calls that bring none.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);
/// A result is stored and templated; what is larger belongs into a file.
const MAX_BODY_BYTES: usize = 10 << 20;
/// As browsers do.
const MAX_REDIRECTS: usize = 10;
/// StackStorm's: partial content yes, multi-status no.
const GOOD_STATUS: std::ops::RangeInclusive<u16> = 200..=206;

/// Clients kept; a site has a handful.
const MAX_CLIENTS: usize = 64;

/// Sends HTTP requests.
#[derive(Debug, Default)]
pub struct HttpRequest {
    /// Making one reads all certificates of the system, which takes longer than most requests.
    clients: Mutex<HashMap<Manner, Client>>,
}

/// What a client cannot be told with each request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Manner {
    allow_redirects: bool,
    verify_ssl_cert: bool,
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    hosts: Hosts,
}

#[async_trait]
impl Runner for HttpRequest {
    fn name(&self) -> &'static str {
        "http-request"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        BTreeMap::from([
            required(parameter("url", "string", "Where to.")),
            parameter("headers", "object", "Request headers."),
            parameter("cookies", "object", "Cookies to send."),
            parameter("http_proxy", "string", "Proxy for http addresses."),
            parameter("https_proxy", "string", "Proxy for https addresses."),
            with_default(parameter("allow_redirects", "boolean", "Follow redirects."), json!(false)),
            with_default(parameter("verify_ssl_cert", "boolean", "Check the server's certificate."), json!(true)),
            parameter("username", "string", "For basic authentication."),
            secret(parameter("password", "string", "For basic authentication.")),
            parameter("url_hosts_blacklist", "array", "Hosts that are never asked, also not by redirect."),
            parameter("url_hosts_whitelist", "array", "The only hosts that are asked."),
        ])
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        let exchanged = tokio::select! {
            exchanged = self.exchange(&call) => exchanged,
            () = stop.raised() => Err(canceled().into()),
        };
        exchanged.map_or_else(|end| end, RunEnd::Finished)
    }
}

#[derive(Deserialize)]
struct Given {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    cookies: Map<String, Value>,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    body: Value,
    file_content: Option<String>,
    file_content_type: Option<String>,
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    #[serde(default)]
    allow_redirects: bool,
    #[serde(default = "yes")]
    verify_ssl_cert: bool,
    username: Option<String>,
    password: Option<String>,
    #[serde(default)]
    url_hosts_blacklist: Vec<String>,
    #[serde(default)]
    url_hosts_whitelist: Vec<String>,
}

fn yes() -> bool {
    true
}

impl HttpRequest {
    async fn exchange(&self, call: &Call) -> Result<Outcome, RunEnd> {
        let given = read::<Given>(&call.parameters)?;
        let url: Url =
            given.url.parse().map_err(|error| Outcome::error(format!("`url` is not an address: {error}")))?;
        let hosts = Hosts::new(&given)?;
        hosts.check(&url).map_err(Outcome::error)?;
        let timeout = call.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let client = self.client(Manner::of(&given, hosts)).map_err(|error| failure(error, timeout))?;
        let may_redirect = given.allow_redirects;
        let request = request(&client, url, given, call)?;
        let response = request.timeout(timeout).send().await;
        let response = response.map_err(|error| match not_sent(&error) {
            Some(why) if !may_redirect => RunEnd::from(why),
            Some(_) | None => failure(error, timeout).into(),
        })?;
        Ok(answer(response, timeout).await?)
    }

    fn client(&self, manner: Manner) -> Result<Client, reqwest::Error> {
        if let Some(client) = self.clients().get(&manner) {
            return Ok(client.clone());
        }
        let client = manner.build()?;
        let mut clients = self.clients();
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(manner, client.clone());
        drop(clients);
        Ok(client)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Manner, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that could not be opened for want of a resource has carried nothing. It must be the first one: behind a
/// redirect somebody was asked already.
fn not_sent(error: &reqwest::Error) -> Option<NotBegun> {
    let first: &dyn std::error::Error = error;
    let mut chain = std::iter::successors(Some(first), |error| error.source());
    let cause = chain.find_map(|error| error.downcast_ref::<std::io::Error>())?;
    if error.is_connect() { NotBegun::for_want("cannot open a connection", cause) } else { None }
}

/// Which hosts may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hosts {
    All,
    AllBut(Vec<String>),
    Only(Vec<String>),
}

impl Hosts {
    fn new(given: &Given) -> Result<Self, Outcome> {
        match (given.url_hosts_blacklist.as_slice(), given.url_hosts_whitelist.as_slice()) {
            ([], []) => Ok(Self::All),
            (refused, []) => Ok(Self::AllBut(refused.to_vec())),
            ([], allowed) => Ok(Self::Only(allowed.to_vec())),
            (_, _) => Err(Outcome::error(
                "`url_hosts_blacklist` and `url_hosts_whitelist` exclude each other: give only one of them",
            )),
        }
    }

    fn check(&self, url: &Url) -> Result<(), String> {
        // Hosts compare without case, and IPv6 addresses without brackets, as StackStorm's lists have them.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let names = |hosts: &[String]| hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host));
        match self {
            Self::AllBut(refused) if names(refused) => Err(format!("host `{host}` is in `url_hosts_blacklist`")),
            Self::Only(allowed) if !names(allowed) => Err(format!("host `{host}` is not in `url_hosts_whitelist`")),
            Self::All | Self::AllBut(_) | Self::Only(_) => Ok(()),
        }
    }
}

impl Manner {
    fn of(given: &Given, hosts: Hosts) -> Self {
        Self {
            allow_redirects: given.allow_redirects,
            verify_ssl_cert: given.verify_ssl_cert,
            http_proxy: given.http_proxy.clone(),
            https_proxy: given.https_proxy.clone(),
            hosts,
        }
    }

    /// A client that keeps no connection: the next action would find many of them closed by the other side.
    fn build(&self) -> Result<Client, reqwest::Error> {
        let redirects = if self.allow_redirects { following(self.hosts.clone()) } else { redirect::Policy::none() };
        let mut builder = Client::builder()
            .redirect(redirects)
            .pool_max_idle_per_host(0)
            .no_proxy()
            .tls_danger_accept_invalid_certs(!self.verify_ssl_cert);
        if let Some(proxy) = &self.http_proxy {
            builder = builder.proxy(Proxy::http(proxy)?);
        }
        if let Some(proxy) = &self.https_proxy {
            builder = builder.proxy(Proxy::https(proxy)?);
        }
        builder.build()
    }
}

fn following(hosts: Hosts) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        match hosts.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(reason) => attempt.error(reason),
        }
    })
}

fn request(client: &Client, url: Url, given: Given, call: &Call) -> Result<RequestBuilder, Outcome> {
    let headers = headers(&given, call)?;
    let content = Content::of(&given, &headers);
    let mut request = client.request(method(&given, &content)?, url);
    if !given.params.is_empty() {
        request = request.query(&as_texts(&given.params));
    }
    if given.username.is_some() || given.password.is_some() {
        request = request.basic_auth(given.username.unwrap_or_default(), given.password);
    }
    Ok(content.put_into(request.headers(headers)))
}

fn method(given: &Given, content: &Content) -> Result<Method, Outcome> {
    let by_content = if matches!(content, Content::None) { "GET" } else { "POST" };
    let name = given.method.as_deref().unwrap_or(by_content).to_ascii_uppercase();
    name.parse().map_err(|error| Outcome::error(format!("`{name}` is not an HTTP method: {error}")))
}

fn headers(given: &Given, call: &Call) -> Result<HeaderMap, Outcome> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("petrel/", env!("CARGO_PKG_VERSION"))));
    let action = HeaderValue::from_str(call.action.reference.name());
    headers.extend(action.ok().map(|action| (HeaderName::from_static("x-stanley-action"), action)));
    for (name, value) in &given.headers {
        let key: HeaderName =
            name.parse().map_err(|error| Outcome::error(format!("`{name}` is not a header name: {error}")))?;
        headers.insert(key, header_value(name, &as_text(value))?);
    }
    if !given.cookies.is_empty() {
        let cookies: Vec<String> =
            as_texts(&given.cookies).iter().map(|(name, value)| format!("{name}={value}")).collect();
        headers.insert(COOKIE, header_value("Cookie", &cookies.join("; "))?);
    }
    Ok(headers)
}

/// The value may be secret: neither we nor the error repeat it.
fn header_value(name: &str, value: &str) -> Result<HeaderValue, Outcome> {
    let made = HeaderValue::from_str(value);
    made.map_err(|error| Outcome::error(format!("header `{name}` cannot be sent: {error}")))
}

/// What the request carries.
enum Content {
    None,
    Json(Value),
    Text(String),
    File { content: String, media_type: Option<String> },
}

impl Content {
    fn of(given: &Given, headers: &HeaderMap) -> Self {
        if let Some(content) = &given.file_content {
            return Self::File { content: content.clone(), media_type: given.file_content_type.clone() };
        }
        let says_json = headers.get(CONTENT_TYPE).is_some_and(is_json);
        match &given.body {
            Value::Null => Self::None,
            Value::String(text) if text.is_empty() => Self::None,
            Value::String(text) if says_json => {
                serde_json::from_str(text).map_or_else(|_| Self::Text(text.clone()), Self::Json)
            }
            Value::String(text) => Self::Text(text.clone()),
            value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Self::Json(value.clone())
            }
        }
    }

    /// Media types that the headers name stay; `json` adds its own only where there is none.
    fn put_into(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Json(value) => request.json(&value),
            Self::Text(text) => request.body(text),
            Self::File { content, media_type: Some(media_type) } => {
                request.header(CONTENT_TYPE, media_type).body(content)
            }
            Self::File { content, media_type: None } => request.body(content),
        }
    }
}

fn is_json(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    text.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
}

async fn answer(response: Response, timeout: Duration) -> Result<Outcome, Outcome> {
    let status_code = response.status().as_u16();
    let headers = response.headers().clone();
    let body = body_within_bounds(response, timeout).await?;
    let announced_json = headers.get(CONTENT_TYPE).is_some_and(is_json);
    let parsed = announced_json.then(|| serde_json::from_slice::<Value>(&body).ok()).flatten();
    let result = json!({
        "status_code": status_code,
        "parsed": parsed.is_some(),
        "body": parsed.unwrap_or_else(|| Value::String(into_text(body))),
        "headers": joined(&headers),
    });
    Ok(if GOOD_STATUS.contains(&status_code) { Outcome::succeeded(result) } else { Outcome::failed(result) })
}

async fn body_within_bounds(mut response: Response, timeout: Duration) -> Result<Vec<u8>, Outcome> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(error, timeout))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            let reason = format!("the answer is larger than {} MiB", MAX_BODY_BYTES >> 20);
            let result = json!({ "error": reason, "status_code": response.status().as_u16() });
            return Err(Outcome::failed(result));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn into_text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// As one object; repeated headers joined by commas, as the standard allows.
fn joined(headers: &HeaderMap) -> Map<String, Value> {
    let mut joined = Map::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        joined.insert(name.to_string(), Value::String(values.join(", ")));
    }
    joined
}

fn canceled() -> Outcome {
    Outcome { status: ExecutionStatus::Canceled, result: json!({ "error": "stopped on request" }) }
}

/// Without the address, whose query or user part may hold a secret.
fn failure(error: reqwest::Error, timeout: Duration) -> Outcome {
    if error.is_timeout() {
        let reason = format!("no complete answer within {} seconds", timeout.as_secs_f64());
        return Outcome { status: ExecutionStatus::Timeout, result: json!({ "error": reason }) };
    }
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    Outcome::error(reason)
}

#[cfg(test)]
mod tests;
