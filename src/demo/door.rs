//! The daemon as any client sees it: questions over HTTP, with the key that it wrote for its first admin.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::config::{ClientTarget, Endpoints, Environment, client_target};
use crate::model::decision::Decision;
use crate::model::node::{NodeName, NodePhase};
use crate::model::scaling::ScalingActivity;
use crate::model::time::Timestamp;

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
}

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
    /// The door of the daemon over this data folder.
    pub(super) fn find(data: &Path) -> anyhow::Result<Self> {
        let Endpoints { api: _, listeners } = Endpoints::read(data)?;
        let ClientTarget { url, api_key } = client_target(&Environment::new(), data)?;
        let mut key = HeaderValue::from_str(api_key.expose())?;
        key.set_sensitive(true);
        let headers = HeaderMap::from_iter([("st2-api-key".parse()?, key)]);
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).default_headers(headers).build()?;
        let newrelic = listeners.get("newrelic").context("the daemon has no listener for New Relic")?;
        Ok(Self { http, api: url, newrelic: format!("{newrelic}/st2/nrhook") })
    }

    /// Does it answer that it is ready?
    pub(super) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.api)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The group; `None` if there is none.
    pub(super) async fn group(&self) -> anyhow::Result<Option<Group>> {
        let url = format!("{}/v1/asg/{GROUP}", self.api);
        let answer = self.http.get(&url).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(good(&url, answer).await?.json().await?))
    }

    /// The governor's latest decisions, newest first.
    pub(super) async fn explain(&self) -> anyhow::Result<Vec<Explained>> {
        Ok(serde_json::from_value(self.ask(Method::GET, &format!("asg/{GROUP}/explain?limit=20"), None).await?)?)
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
        Ok(good(&url, request.send().await?).await?.json().await?)
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
        good(&self.newrelic, self.http.post(&self.newrelic).json(body).send().await?).await?;
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
