//! What Prometheus answers to a question of its query language, over its HTTP API.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{RequestBuilder, Response, Url};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::model::group::GroupName;
use crate::model::pack::Catalogue;

/// A question that takes longer is no measurement of now.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer answers are not read on.
const LONGEST_ANSWER_BYTES: usize = 4 << 20;
/// Where a query says which group it is about.
const GROUP: &str = "{group}";
/// What a call may say otherwise than the pack's configuration.
const KEYS: [&str; 2] = ["url", "load_query"];
/// Who we are to the Prometheus of the configuration, and to no other.
const CREDENTIALS: [&str; 3] = ["bearer_token", "username", "password"];

/// Where Prometheus is, who we are to it, and how load is asked for.
#[derive(Deserialize)]
pub(super) struct Settings {
    #[serde(deserialize_with = "web_address")]
    url: Url,
    bearer_token: Option<String>,
    username: Option<String>,
    #[serde(default)]
    password: String,
    load_query: Option<String>,
}

impl Settings {
    /// The pack's configuration as it is now, with what a call says otherwise.
    pub(super) fn of(catalogue: &Catalogue, said: &Map<String, Value>) -> anyhow::Result<Self> {
        let mut given = catalogue.configuration("prometheus");
        if said.get("url").is_some_and(|url| !url.is_null() && given.get("url") != Some(url)) {
            CREDENTIALS.iter().for_each(|key| drop(given.remove(*key)));
        }
        let otherwise = KEYS.iter().filter_map(|key| said.get_key_value(*key)).filter(|(_, value)| !value.is_null());
        given.extend(otherwise.map(|(key, value)| (key.clone(), value.clone())));
        ensure!(
            given.contains_key("url"),
            "no Prometheus is named: write `url: http://127.0.0.1:9090` into configs/prometheus.yaml or into the group's \
             metrics_parameters"
        );
        serde_json::from_value(Value::Object(given))
            .context("cannot read configs/prometheus.yaml with the group's metrics_parameters")
    }

    /// How much work a group has is the answer to this.
    pub(super) fn load_query(&self, group: &GroupName) -> anyhow::Result<String> {
        let query = self.load_query.as_ref().with_context(|| {
            format!(
                "nothing says what the load of `{group}` is: write `load_query`, in which {GROUP} is the group's name, into \
                 configs/prometheus.yaml or into the group's metrics_parameters"
            )
        })?;
        Ok(query.replace(GROUP, group.as_str()))
    }
}

fn web_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    let url = text.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https"));
    // not as it was said: a password may stand in it
    url.ok_or_else(|| D::Error::custom("`url` is no web address; it is written as http://127.0.0.1:9090"))
}

/// What a query evaluates to.
#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct Evaluated {
    /// `vector`, `scalar`, `matrix` or `string`.
    #[serde(rename = "resultType")]
    pub(super) kind: String,
    /// In the shape of its kind.
    pub(super) result: Value,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Answer {
    Success {
        data: Evaluated,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

impl Evaluated {
    /// The one number that it is. Nothing, several and what is no number are no measurement.
    pub(super) fn number(&self) -> anyhow::Result<f64> {
        let sample = match (self.kind.as_str(), &self.result) {
            ("scalar", sample) => sample,
            ("vector", Value::Array(series)) => match series.as_slice() {
                [] => bail!("it has no result: nothing is scraped that it names, or not for long enough"),
                [one] => &one["value"],
                several => bail!("it has {} results and must have one: put sum(…) around it", several.len()),
            },
            (kind, _) => bail!("it gives a {kind} and must give one number"),
        };
        let text = sample[1].as_str().context("its result has no value")?;
        let number: f64 = text.parse().with_context(|| format!("its value `{text}` is no number"))?;
        ensure!(number.is_finite(), "its value is {text}");
        Ok(number)
    }
}

/// Asks Prometheus.
pub(super) async fn evaluate(http: &reqwest::Client, settings: &Settings, query: &str) -> anyhow::Result<Evaluated> {
    let asked = async {
        let url = address(&settings.url)?;
        let request = known(http.post(url).form(&[("query", query)]), settings);
        let response = request.timeout(PATIENCE).send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let body = bounded(response).await?;
        match serde_json::from_slice(&body) {
            Ok(Answer::Success { data }) => Ok(data),
            Ok(Answer::Error { kind, error }) => bail!("it answered {status}, {kind}: {error}"),
            Err(_) => bail!("it answered {status} and not as Prometheus does: is it one?"),
        }
    };
    asked.await.with_context(|| format!("asking Prometheus at {} for `{query}`", place(&settings.url)))
}

/// Below whatever path Prometheus is served at.
fn address(url: &Url) -> anyhow::Result<Url> {
    let mut url = url.clone();
    let mut segments = url.path_segments_mut().ok().context("its `url` cannot have a path")?;
    segments.pop_if_empty().extend(["api", "v1", "query"]);
    drop(segments);
    Ok(url)
}

/// Without a password that may stand in it.
fn place(url: &Url) -> String {
    format!("{}://{}:{}", url.scheme(), url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0))
}

fn known(request: RequestBuilder, settings: &Settings) -> RequestBuilder {
    match (&settings.bearer_token, &settings.username) {
        (Some(token), _) => request.bearer_auth(token),
        (None, Some(name)) => request.basic_auth(name, Some(&settings.password)),
        (None, None) => request,
    }
}

async fn bounded(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&part);
        ensure!(body.len() <= LONGEST_ANSWER_BYTES, "its answer is longer than {LONGEST_ANSWER_BYTES} bytes");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluated(kind: &str, result: Value) -> Evaluated {
        Evaluated { kind: kind.to_owned(), result }
    }

    #[test]
    fn a_measurement_is_one_number_and_everything_else_is_said() {
        let one = |value: &str| json!([{ "metric": {}, "value": [1_700_000_000.0, value] }]);
        assert_eq!(evaluated("vector", one("212.5")).number().unwrap().to_bits(), 212.5_f64.to_bits());
        assert_eq!(evaluated("scalar", json!([1, "3"])).number().unwrap().to_bits(), 3.0_f64.to_bits());
        for (kind, result, says) in [
            ("vector", json!([]), "no result"),
            ("vector", json!([{ "value": [1, "1"] }, { "value": [1, "2"] }]), "put sum(…) around it"),
            ("vector", one("NaN"), "its value is NaN"),
            ("vector", one("+Inf"), "its value is +Inf"),
            ("vector", json!([{}]), "no value"),
            ("matrix", json!([]), "gives a matrix"),
            ("vector", json!("x"), "gives a vector"),
        ] {
            let refusal = evaluated(kind, result).number().unwrap_err().to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn the_group_stands_in_the_query_and_what_is_missing_is_named() {
        let of = |said: Value| Settings::of(&Catalogue::default(), said.as_object().unwrap());
        let refusal = of(json!({})).err().unwrap().to_string();
        assert!(refusal.contains("write `url: http://127.0.0.1:9090`"), "{refusal}");
        let refusal = of(json!({ "url": "unix:/x" })).err().unwrap().to_string();
        assert!(refusal.contains("cannot read"), "{refusal}");
        let web = "web".parse().unwrap();
        let settings = of(json!({ "url": "http://h:9090/prom/" })).unwrap();
        assert_eq!(address(&settings.url).unwrap().as_str(), "http://h:9090/prom/api/v1/query");
        assert!(settings.load_query(&web).unwrap_err().to_string().contains("write `load_query`"));
        let settings = of(json!({ "url": "http://u:p@h", "load_query": "sum(x{asg=\"{group}\"})" })).unwrap();
        assert_eq!(settings.load_query(&web).unwrap(), "sum(x{asg=\"web\"})");
        assert_eq!(place(&settings.url), "http://h:80");
    }
}
