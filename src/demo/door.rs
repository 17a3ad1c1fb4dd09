//! The daemon as any client sees it: questions over HTTP, with the key that it wrote for its first admin.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::clock::{self, Clock};
use crate::config::{ClientTarget, Endpoints, Environment, client_target};
use crate::model::decision::Decision;
use crate::model::node::{NodeName, NodePhase};
use crate::model::scaling::ScalingActivity;
use crate::model::time::Timestamp;
use crate::secrets::SecretText;

/// A daemon that does not answer within this time hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// As much of a list as one answer may hold.
const PAGE: usize = 1000;

/// The demo's one group.
pub(super) const GROUP: &str = "web";

/// A running daemon's API and its listener for New Relic.
#[derive(Debug)]
pub(super) struct Door {
    http: reqwest::Client,
    api: String,
    newrelic: String,
    key: SecretText,
    outage: Outage,
}

/// What the store and the broker of the daemons may do meanwhile.
#[derive(Debug, Clone)]
pub(super) enum Outage {
    /// Nothing: they are part of the daemon.
    Impossible,
    /// Somebody may kill them. What is answered with 503 then was not done, and is asked again.
    Possible(Arc<dyn Clock>),
}

/// A store or broker that is not back after this long does not come back.
const OUTAGE_LIMIT: Duration = Duration::from_secs(90);
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What the ledger says of the group.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    /// Nodes not proven gone.
    pub(super) nodes: Vec<LedgerNode>,
    /// How many serve.
    pub(super) in_service: u32,
    /// How many are not proven gone.
    pub(super) total: u32,
    /// What is under way.
    pub(super) activity: Option<ScalingActivity>,
    /// What is believed to go on.
    pub(super) incidents: Vec<Value>,
}

/// What the ledger says of a node.
#[derive(Debug, Deserialize)]
pub(super) struct LedgerNode {
    pub(super) name: NodeName,
    pub(super) phase: NodePhase,
}

/// A decision of the governor with its sentence.
#[derive(Debug, Deserialize)]
pub(super) struct Explained {
    pub(super) first_at: Timestamp,
    pub(super) sentence: String,
    pub(super) decision: Decision,
}

impl Door {
    /// The door of the daemon over this data folder, with the key of the first admin if another daemon wrote it.
    pub(super) fn find(data: &Path, key: Option<SecretText>, outage: Outage) -> anyhow::Result<Self> {
        let Endpoints { api: _, listeners } = Endpoints::read(data)?;
        let known = key.map(|key| ("PETREL_API_KEY".to_owned(), key.expose().to_owned()));
        let ClientTarget { url, api_key } = client_target(&Environment::from_iter(known), data)?;
        let mut key = HeaderValue::from_str(api_key.expose())?;
        key.set_sensitive(true);
        let headers = HeaderMap::from_iter([("st2-api-key".parse()?, key)]);
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).default_headers(headers).build()?;
        let newrelic = listeners.get("newrelic").context("the daemon has no listener for New Relic")?;
        Ok(Self { http, api: url, newrelic: format!("{newrelic}/st2/nrhook"), key: api_key, outage })
    }

    /// The first admin's.
    pub(super) fn key(&self) -> SecretText {
        self.key.clone()
    }

    /// Does it answer that it is ready?
    pub(super) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.api)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The group; `None` if there is none.
    pub(super) async fn group(&self) -> anyhow::Result<Option<Group>> {
        let url = format!("{}/v1/asg/{GROUP}", self.api);
        let answer = self.send(self.http.get(&url)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(good(&url, answer).await?.json().await?))
    }

    /// The governor's latest decisions, newest first.
    pub(super) async fn explain(&self) -> anyhow::Result<Vec<Explained>> {
        Ok(serde_json::from_value(self.ask(Method::GET, &format!("asg/{GROUP}/explain?limit=20"), None).await?)?)
    }

    /// All of the governor's decisions, newest first.
    pub(super) async fn all_decisions(&self) -> anyhow::Result<Vec<Explained>> {
        let path = format!("asg/{GROUP}/explain?limit={PAGE}");
        Ok(serde_json::from_value(self.ask(Method::GET, &path, None).await?)?)
    }

    /// All activities of the group.
    pub(super) async fn activities(&self) -> anyhow::Result<Vec<ScalingActivity>> {
        Ok(serde_json::from_value(self.ask(Method::GET, &format!("asg/{GROUP}/activities?limit=1000"), None).await?)?)
    }

    /// One question to the API.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = format!("{}/v1/{path}", self.api);
        let request = self.http.request(method, &url);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        Ok(good(&url, self.send(request).await?).await?.json().await?)
    }

    /// Sends a request, and again while the daemon says that it cannot work just now.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let Outage::Possible(clock) = &self.outage else { return Ok(request.send().await?) };
        let begun = clock.monotonic();
        loop {
            let again = request.try_clone().context("a request whose body can be sent again")?;
            let answer = again.send().await?;
            let waited = clock.monotonic().saturating_sub(begun);
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE || waited > OUTAGE_LIMIT {
                return Ok(answer);
            }
            clock::sleep(&**clock, ASK_AGAIN).await;
        }
    }

    /// A whole list, page by page.
    pub(super) async fn all(&self, list: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        loop {
            let path = format!("{list}?limit={PAGE}&offset={}", items.len());
            let page: Vec<Value> = serde_json::from_value(self.ask(Method::GET, &path, None).await?)?;
            let last = page.len() < PAGE;
            items.extend(page);
            if last {
                return Ok(items);
            }
        }
    }

    /// What New Relic would send, sent where New Relic would send it.
    pub(super) async fn alert(&self, body: &Value) -> anyhow::Result<()> {
        good(&self.newrelic, self.send(self.http.post(&self.newrelic).json(body)).await?).await?;
        Ok(())
    }
}

async fn good(url: &str, answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    anyhow::bail!("{url} answered {status}: {text}")
}
