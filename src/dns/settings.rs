//! What `configs/dns.yaml` says, and what the group says over it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, anyhow, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigner};
use serde_json::{Map, Value};

use super::records::name_of;
use crate::model::pack::Catalogue;

const DEFAULT_PORT: u16 = 53;
/// Short, because the name of a node that is gone must not be believed for long.
const DEFAULT_TTL_SECONDS: u64 = 30;
/// How far two clocks may be apart, as RFC 8945 recommends.
const CLOCKS_MAY_DIFFER_SECONDS: u16 = 300;

/// Which server is asked, with which key.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) server: Server,
    /// Holds the secret; it has no way to print it.
    pub(super) key: TSigner,
    pub(super) ttl_seconds: u32,
    /// The zone of all names; without it the server is asked.
    pub(super) zone: Option<Name>,
    /// What stands in our marks; without it each name's own.
    pub(super) owner: Option<String>,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Settings {
    /// The pack's configuration as it is now, with what a call says otherwise.
    pub(super) fn of(catalogue: &Catalogue, said: &Map<String, Value>) -> anyhow::Result<Self> {
        let configured = catalogue.configuration("dns");
        let value = |name: &str| said.get(name).filter(|value| !value.is_null()).or_else(|| configured.get(name));
        let text = |name: &str| value(name).and_then(Value::as_str);
        let needed = |name: &str, example: &str| {
            let missing = "nor has the group's dns_parameters";
            text(name).ok_or_else(|| anyhow!("configs/dns.yaml has no `{name}`, {missing}: write `{name}: {example}`"))
        };
        let server = Server::parse(needed("server", "ns1.example.org")?)?;
        let key_name = needed("key_name", "petrel")?;
        let secret = needed("key_secret", "the secret that `tsig-keygen petrel` prints")?;
        let key = key_of(key_name, text("key_algorithm").unwrap_or("hmac-sha256"), secret)?;
        let ttl = value("ttl").map_or(Some(DEFAULT_TTL_SECONDS), Value::as_u64);
        let ttl_seconds = ttl.and_then(|ttl| u32::try_from(ttl).ok()).context("`ttl` in configs/dns.yaml: seconds")?;
        let zone = text("zone").map(name_of).transpose().context("`zone` in configs/dns.yaml")?;
        Ok(Self { server, key, ttl_seconds, zone, owner: text("owner").map(str::to_owned) })
    }
}

fn key_of(name: &str, algorithm: &str, secret: &str) -> anyhow::Result<TSigner> {
    let algorithm = match algorithm.to_ascii_lowercase().as_str() {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        _ => bail!("`key_algorithm` in configs/dns.yaml is one of hmac-sha256, hmac-sha384, hmac-sha512"),
    };
    let secret = BASE64_STANDARD.decode(secret.trim());
    // The decoder's own words quote what it read.
    let secret = secret.map_err(|_| anyhow!("`key_secret` in configs/dns.yaml is not base64"))?;
    ensure!(!secret.is_empty(), "`key_secret` in configs/dns.yaml is empty");
    let name = name_of(name).context("`key_name` in configs/dns.yaml")?;
    TSigner::new(secret, algorithm, name, CLOCKS_MAY_DIFFER_SECONDS).context("making the key of configs/dns.yaml")
}

impl Server {
    /// `host`, `host:port`, an address, or an IPv6 address in brackets with a port.
    fn parse(text: &str) -> anyhow::Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: address.to_string(), port: DEFAULT_PORT });
        }
        let wrong = || anyhow!("`server` in configs/dns.yaml is `host` or `host:port`, and `{text}` is not");
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (text, DEFAULT_PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = host.chars().all(|char| char.is_ascii_alphanumeric() || "-._".contains(char));
        ensure!(!host.is_empty() && (plain || host.parse::<Ipv6Addr>().is_ok()), wrong());
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use serde_json::json;

    use crate::model::pack::Pack;

    fn settings(config: Value) -> anyhow::Result<Settings> {
        settings_with(config, &json!({}))
    }

    fn settings_with(config: Value, said: &Value) -> anyhow::Result<Settings> {
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        let catalogue = Catalogue { packs: [("dns".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        Settings::of(&catalogue, said.as_object().unwrap())
    }

    #[test]
    fn what_a_group_says_comes_before_the_packs_configuration() {
        let config = json!({ "server": "ns1.example.org", "key_name": "petrel", "key_secret": "aHVudGVyMg==" });
        let said = json!({ "server": "ns2.example.org", "ttl": 5, "zone": null, "name": "web-001.web.example.org" });
        let settings = settings_with(config, &said).unwrap();
        assert_eq!((settings.server.to_string().as_str(), settings.ttl_seconds), ("ns2.example.org:53", 5));
    }

    fn refused(config: Value) -> String {
        format!("{:#}", settings(config).err().unwrap())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let said = json!({ "server": "ns1.example.org", "key_name": "petrel", "key_secret": "aHVudGVyMg==" });
        let settings = settings(said).unwrap();
        assert_eq!(settings.server.to_string(), "ns1.example.org:53");
        assert_eq!((settings.ttl_seconds, settings.zone, settings.owner), (30, None, None));
        assert_eq!(settings.key.algorithm(), &TsigAlgorithm::HmacSha256);
        assert_eq!(settings.key.signer_name().to_string(), "petrel.");
    }

    #[test]
    fn a_server_is_named_in_every_usual_way() {
        for (text, shown) in [
            ("127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("ns-1.example.org:5353", "ns-1.example.org:5353"),
        ] {
            assert_eq!(Server::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", ":53", "ns1:dns", "ns1:70000", "dns://ns1", "fe80::1::2"] {
            assert!(Server::parse(text).unwrap_err().to_string().contains("configs/dns.yaml"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_the_secret_is_not_shown() {
        let missing = refused(json!({}));
        assert!(missing.contains("configs/dns.yaml has no `server`"), "{missing}");
        let base = json!({ "server": "ns1", "key_name": "petrel", "key_secret": "aHVudGVyMg==" });
        for (name, value, says) in [
            ("key_secret", json!("hunter2!"), "is not base64"),
            ("key_secret", json!(""), "is empty"),
            ("key_algorithm", json!("hmac-md5"), "hmac-sha512"),
            ("ttl", json!(-1), "`ttl`"),
            ("zone", json!("a..b"), "`zone`"),
            ("key_name", json!("a..b"), "`key_name`"),
        ] {
            let mut config = base.clone();
            config[name] = value;
            let refusal = refused(config);
            assert!(refusal.contains(says), "{refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
