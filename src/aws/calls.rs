//! One call of AWS and its answer: signed, limited in time and size, repeated where that can do no harm.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use reqwest::{Client, Method, redirect};

use super::answer::Element;
use super::patience::Patience;
use super::refusal::{CallError, Nature};
use super::service::Service;
use super::settings::Settings;
use super::signature::{Scope, Signed, query_text};
use crate::clock::{Clock, timeout};

/// A page of a hundred instances has a quarter of a megabyte.
const MOST_ANSWER_BYTES: usize = 16 << 20;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const XML: &str = "application/xml";

/// What AWS is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    service: Service,
    action: &'static str,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: String,
}

impl Question {
    /// An action of EC2.
    pub(super) fn ec2(action: &'static str) -> Self {
        Self::of_query_api(Service::Ec2, action, "2016-11-15")
    }

    /// An action of ELBv2.
    pub(super) fn elb(action: &'static str) -> Self {
        Self::of_query_api(Service::Elb, action, "2015-12-01")
    }

    fn of_query_api(service: Service, action: &'static str, version: &str) -> Self {
        let body = format!("Action={action}&Version={version}");
        Self { service, action, method: Method::POST, path: "/".to_owned(), query: Vec::new(), body }
    }

    /// An action of Route 53, below the version of its API.
    pub(super) fn route53(action: &'static str, method: Method, path: &str) -> Self {
        let path = format!("/2013-04-01/{path}");
        Self { service: Service::Route53, action, method, path, query: Vec::new(), body: String::new() }
    }

    /// With a parameter: in the form of the query APIs, in the address of Route 53.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let pair = (name.to_owned(), value.to_owned());
        match self.service {
            Service::Ec2 | Service::Elb => self.body = format!("{}&{}", self.body, query_text(&[pair])),
            Service::Route53 => self.query.push(pair),
        }
        self
    }

    /// With a parameter, if there is something to say.
    #[must_use]
    pub(super) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With values numbered from 1, as `SecurityGroupId.1`.
    #[must_use]
    pub(super) fn with_each(self, name: &str, values: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let numbered = (1..).zip(values);
        numbered.fold(self, |question, (number, value)| question.with(&format!("{name}.{number}"), value.as_ref()))
    }

    /// With pairs numbered from 1, as `Tag.1.Key` and `Tag.1.Value`.
    #[must_use]
    pub(super) fn with_tags<'v>(self, name: &str, tags: impl IntoIterator<Item = (&'v str, &'v str)>) -> Self {
        let numbered = (1..).zip(tags);
        numbered.fold(self, |question, (number, (key, value))| {
            question.with(&format!("{name}.{number}.Key"), key).with(&format!("{name}.{number}.Value"), value)
        })
    }

    /// With a document.
    #[must_use]
    pub(super) fn with_body(self, body: String) -> Self {
        Self { body, ..self }
    }
}

/// AWS as one call of an action sees it.
pub(super) struct Aws {
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    http: Client,
    seed: u64,
}

/// What all calls are made with. Making it reads all certificates of the system.
pub(super) fn http_client() -> anyhow::Result<Client> {
    let client = Client::builder().no_proxy().redirect(redirect::Policy::none());
    client.build().context("making an HTTP client for AWS")
}

impl Aws {
    /// The seed keeps those apart who rest between attempts.
    pub(super) fn new(settings: Settings, clock: &Arc<dyn Clock>, http: Client, seed: u64) -> Self {
        Self { settings, clock: Arc::clone(clock), http, seed }
    }

    /// Patience for one thing, as long as the configuration says.
    pub(super) fn patience(&self) -> Patience {
        let pace = self.settings.pace;
        Patience::new(&self.clock, pace.patience, pace.first_rest, self.seed)
    }

    /// Asks for what may be asked again: as often as patience lasts while nobody says clearly yes or no.
    pub(super) async fn ask(&self, question: &Question) -> Result<Element, CallError> {
        let mut patience = self.patience();
        loop {
            let error = match self.ask_once(question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let worth_it = matches!(error.nature(), Nature::Throttled | Nature::Unclear);
            if !worth_it || !patience.rest().await {
                return Err(error);
            }
        }
    }

    /// Asks once.
    pub(super) async fn ask_once(&self, question: &Question) -> Result<Element, CallError> {
        let Question { service, action, .. } = *question;
        let limit = self.settings.pace.request_timeout;
        let exchanged = timeout(&*self.clock, limit, self.exchange(question)).await;
        let late = |_| Err(anyhow!("there was none within {limit:?}"));
        let exchanged = exchanged.unwrap_or_else(late);
        let (status, text) = exchanged.map_err(|source| CallError::Lost { service, action, source })?;
        let good = (200..300).contains(&status);
        let answer = if good { Element::parse(&text) } else { None };
        let is_of_aws = |answer: &Element| answer.name().ends_with("Response");
        answer
            .filter(is_of_aws)
            .ok_or_else(|| CallError::of(service, action, status, &self.settings.credentials.masked(&text)))
    }

    async fn exchange(&self, question: &Question) -> anyhow::Result<(u16, String)> {
        let Question { service, method, path, query, body, .. } = question;
        let mut url = self.settings.endpoint(*service)?;
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let content_type = if *service == Service::Route53 { XML } else { FORM };
        let headers = [("content-type", content_type), ("host", host.as_str())];
        let signed = Signed { method: method.as_str(), path, query, headers: &headers, body };
        // Route 53 is one for all regions, and signed as in its first.
        let region = if *service == Service::Route53 { "us-east-1" } else { self.settings.region.as_str() };
        let scope = Scope { region, service: service.signed_as() };
        let added = signed.headers(scope, &self.settings.credentials, self.clock.now());
        url.set_path(path);
        url.set_query(Some(query_text(query).as_str()).filter(|query| !query.is_empty()));
        let mut request = self.http.request(method.clone(), url).header("content-type", content_type);
        for (name, value) in added {
            request = request.header(name, value);
        }
        let response = request.body(body.clone()).send().await.map_err(reqwest::Error::without_url)?;
        read(response).await
    }
}

async fn read(mut response: reqwest::Response) -> anyhow::Result<(u16, String)> {
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        anyhow::ensure!(
            bytes.len() + part.len() <= MOST_ANSWER_BYTES,
            "the answer has more than {MOST_ANSWER_BYTES} bytes"
        );
        bytes.extend_from_slice(&part);
    }
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_tags_are_numbered_as_the_query_apis_want_them() {
        let question = Question::ec2("RunInstances")
            .with_each("SecurityGroupId", ["sg-1", "sg-2"])
            .with_tags("TagSpecification.1.Tag", [("petrel:group", "web & co")])
            .with_some("KeyName", None);
        assert_eq!(
            question.body,
            "Action=RunInstances&Version=2016-11-15&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2&\
             TagSpecification.1.Tag.1.Key=petrel%3Agroup&TagSpecification.1.Tag.1.Value=web%20%26%20co"
        );
    }

    #[test]
    fn what_route_53_is_asked_stands_in_the_address() {
        let question = Question::route53("ListHostedZonesByName", Method::GET, "hostedzonesbyname");
        let question = question.with("dnsname", "example.org");
        assert_eq!((question.path.as_str(), question.body.as_str()), ("/2013-04-01/hostedzonesbyname", ""));
        assert_eq!(query_text(&question.query), "dnsname=example.org");
    }
}
