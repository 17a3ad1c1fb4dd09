//! What `configs/aws.yaml` says, and what the group says over it.

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::credentials::Credentials;
use super::service::Service;
use crate::model::pack::Catalogue;
use crate::model::time::deserialize_duration;

/// What is not said by a call: with another region or key, nothing that was made before would be found again.
const OWN_KEYS: [&str; 12] = [
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "endpoint",
    "ec2_endpoint",
    "elb_endpoint",
    "route53_endpoint",
    "request_timeout",
    "patience",
    "first_rest",
    "settle",
];

/// Where AWS is, with which key it is asked, and how patiently.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) region: String,
    pub(super) credentials: Credentials,
    endpoints: Endpoints,
    pub(super) pace: Pace,
    /// Beside the group, what says that a thing is this installation's.
    pub(super) owner: Option<String>,
    /// Which address of a node is used if the node was not told.
    pub(super) address_type: AddressType,
    /// All that was said, for those who read more of it.
    said: Map<String, Value>,
}

/// Where the services are, if not at AWS.
#[derive(Debug, Clone, Default, Deserialize)]
struct Endpoints {
    endpoint: Option<String>,
    ec2_endpoint: Option<String>,
    elb_endpoint: Option<String>,
    route53_endpoint: Option<String>,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Pace {
    /// For one answer.
    #[serde(default = "default_request_timeout", deserialize_with = "deserialize_duration")]
    pub(super) request_timeout: Duration,
    /// For a call that is throttled or not answered, with all of its repetitions.
    #[serde(default = "default_patience", deserialize_with = "deserialize_duration")]
    pub(super) patience: Duration,
    /// Before the first repetition.
    #[serde(default = "default_first_rest", deserialize_with = "deserialize_duration")]
    pub(super) first_rest: Duration,
    /// From one look to the next at what takes its time.
    #[serde(default = "default_check_interval", deserialize_with = "deserialize_duration")]
    pub(super) check_interval: Duration,
    /// What was just made is not seen by everybody at once: nothing is believed absent before this.
    #[serde(default = "default_settle", deserialize_with = "deserialize_duration")]
    pub(super) settle: Duration,
}

/// One of the addresses that an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AddressType {
    #[default]
    Private,
    Public,
}

impl fmt::Display for AddressType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Public => "public",
        })
    }
}

impl Settings {
    /// The pack's configuration as it is now, with what a call says otherwise.
    pub(super) fn of(catalogue: &Catalogue, call: &Map<String, Value>) -> anyhow::Result<Self> {
        let mut said = catalogue.configuration("aws");
        let otherwise = call.iter().filter(|(name, value)| !value.is_null() && !OWN_KEYS.contains(&name.as_str()));
        said.extend(otherwise.map(|(name, value)| (name.clone(), value.clone())));
        let needed = |name: &str, example: &str| {
            let text = said.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
            text.ok_or_else(|| anyhow!("configs/aws.yaml has no `{name}`: write `{name}: {example}`"))
        };
        let region = needed("region", "eu-central-1")?.to_owned();
        let plain = region.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-');
        ensure!(plain, "`region` in configs/aws.yaml is `{region}`; write one like `eu-central-1`");
        let id = needed("access_key_id", "the key's id, as AKIA…")?;
        let secret = needed("secret_access_key", "the key's secret")?;
        let token = said.get("session_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let credentials = Credentials::new(id, secret, token);
        let settings = Self {
            region,
            credentials,
            endpoints: part(&said)?,
            pace: part(&said)?,
            owner: said.get("owner").and_then(Value::as_str).map(str::to_owned),
            address_type: said.get("address_type").map_or(Ok(AddressType::Private), read)?,
            said,
        };
        for service in [Service::Ec2, Service::Elb, Service::Route53] {
            settings.endpoint(service)?;
        }
        Ok(settings)
    }

    /// A group of keys that belong together.
    pub(super) fn part<P: for<'de> Deserialize<'de>>(&self) -> anyhow::Result<P> {
        part(&self.said)
    }

    /// Where a service answers.
    pub(super) fn endpoint(&self, service: Service) -> anyhow::Result<Url> {
        let Endpoints { endpoint, ec2_endpoint, elb_endpoint, route53_endpoint } = &self.endpoints;
        let own = match service {
            Service::Ec2 => ec2_endpoint,
            Service::Elb => elb_endpoint,
            Service::Route53 => route53_endpoint,
        };
        let place = own.as_ref().or(endpoint.as_ref()).cloned().unwrap_or_else(|| self.at_aws(service));
        let url = place.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        url.with_context(|| format!("the endpoint of {service} in configs/aws.yaml is no address: write https://host"))
    }

    fn at_aws(&self, service: Service) -> String {
        let domain = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        match service {
            Service::Ec2 => format!("https://ec2.{}.{domain}", self.region),
            Service::Elb => format!("https://elasticloadbalancing.{}.{domain}", self.region),
            Service::Route53 => format!("https://route53.{domain}"),
        }
    }
}

/// Where nodes serve, if their owner says so.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Serving {
    pub(super) port: Option<NonZeroU16>,
}

fn part<P: for<'de> Deserialize<'de>>(said: &Map<String, Value>) -> anyhow::Result<P> {
    read(&Value::Object(said.clone()))
}

/// The reader's own words may quote what it read; only where it stands is shown.
fn read<P: for<'de> Deserialize<'de>>(value: &Value) -> anyhow::Result<P> {
    P::deserialize(value).context("cannot read configs/aws.yaml with the group's parameters")
}

const fn default_request_timeout() -> Duration {
    Duration::from_secs(30)
}

const fn default_patience() -> Duration {
    Duration::from_mins(2)
}

const fn default_first_rest() -> Duration {
    Duration::from_secs(1)
}

const fn default_check_interval() -> Duration {
    Duration::from_secs(3)
}

const fn default_settle() -> Duration {
    Duration::from_secs(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use serde_json::json;

    use crate::model::pack::Pack;

    fn settings(config: &Value, call: &Value) -> anyhow::Result<Settings> {
        let pack = Pack { config: serde_json::from_value(config.clone()).unwrap(), ..Pack::default() };
        let catalogue = Catalogue { packs: [("aws".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        Settings::of(&catalogue, call.as_object().unwrap())
    }

    fn good() -> Value {
        json!({ "region": "eu-central-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI" })
    }

    #[test]
    fn without_an_endpoint_it_is_aws_in_the_region() {
        let settings = settings(&good(), &json!({})).unwrap();
        let place = |service| settings.endpoint(service).unwrap().to_string();
        assert_eq!(place(Service::Ec2), "https://ec2.eu-central-1.amazonaws.com/");
        assert_eq!(place(Service::Elb), "https://elasticloadbalancing.eu-central-1.amazonaws.com/");
        assert_eq!(place(Service::Route53), "https://route53.amazonaws.com/");
        assert_eq!((settings.pace.request_timeout.as_secs(), settings.address_type), (30, AddressType::Private));
    }

    #[test]
    fn an_endpoint_of_a_service_comes_before_that_of_all() {
        let mut config = good();
        config["endpoint"] = json!("http://127.0.0.1:1");
        config["route53_endpoint"] = json!("http://127.0.0.1:2");
        let settings = settings(&config, &json!({})).unwrap();
        assert_eq!(settings.endpoint(Service::Elb).unwrap().port(), Some(1));
        assert_eq!(settings.endpoint(Service::Route53).unwrap().port(), Some(2));
    }

    #[test]
    fn a_group_says_what_its_nodes_are_and_not_whose_key_is_used() {
        let call =
            json!({ "image_id": "ami-2", "region": "us-east-1", "secret_access_key": "x", "address_type": "public" });
        let settings = settings(&good(), &call).unwrap();
        assert_eq!((settings.region.as_str(), settings.address_type), ("eu-central-1", AddressType::Public));
        assert_eq!(settings.credentials.secret_access_key(), "wJalrXUtnFEMI");
        assert_eq!(settings.said["image_id"], "ami-2");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_no_key_is_shown() {
        for (name, value, says) in [
            ("region", Value::Null, "configs/aws.yaml has no `region`: write `region: eu-central-1`"),
            ("access_key_id", Value::Null, "has no `access_key_id`"),
            ("secret_access_key", json!(" "), "has no `secret_access_key`"),
            ("region", json!("Frankfurt am Main"), "write one like `eu-central-1`"),
            ("request_timeout", json!("soon"), "cannot read configs/aws.yaml"),
            ("address_type", json!("both"), "cannot read configs/aws.yaml"),
            ("ec2_endpoint", json!("nowhere"), "the endpoint of EC2 in configs/aws.yaml is no address"),
        ] {
            let mut config = good();
            config[name] = value;
            let refusal = format!("{:#}", settings(&config, &json!({})).err().unwrap());
            assert!(refusal.contains(says), "{refusal}");
            assert!(!refusal.contains("wJalrXUtnFEMI"), "{refusal}");
        }
    }
}
