//! What `configs/haproxy.yaml` says, and what the group says over it.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::names::{BackendTemplate, GROUP, Name};
use super::runtime::Place;
use crate::model::pack::Catalogue;
use crate::model::time::{deserialize_duration, format_duration};

/// Checks more often than this are a load of their own.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_hours(1);

/// What a call may say otherwise; `port` is a parameter of its own.
const KEYS: [&str; 6] = ["socket", "backend", "check_interval", "rise", "fall", "maxconn"];

/// Where HAProxy is, and how its servers are checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Settings {
    /// Where HAProxy takes commands.
    pub(super) socket: Place,
    /// How the backend of a group is called.
    #[serde(default)]
    pub(super) backend: BackendTemplate,
    /// How a new server is checked.
    #[serde(flatten)]
    pub(super) check: CheckOptions,
    /// Where nodes serve if nobody says otherwise.
    pub(super) port: Option<NonZeroU16>,
}

/// What a server is given when it is added: it inherits nothing of `default-server`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct CheckOptions {
    /// From one check to the next.
    #[serde(default = "default_interval", deserialize_with = "deserialize_duration")]
    pub(super) check_interval: Duration,
    /// So many checks in a row must pass.
    #[serde(default = "default_rise")]
    pub(super) rise: NonZeroU16,
    /// So many in a row must fail.
    #[serde(default = "default_fall")]
    pub(super) fall: NonZeroU16,
    /// Requests at the same time; more wait for their turn. No limit if not given.
    pub(super) maxconn: Option<NonZeroU32>,
}

impl Settings {
    /// The pack's configuration as it is now, with what a call says otherwise.
    pub(super) fn of(catalogue: &Catalogue, said: &Map<String, Value>) -> anyhow::Result<Self> {
        let mut given = catalogue.configuration("haproxy");
        let otherwise = KEYS.iter().filter_map(|key| said.get_key_value(*key)).filter(|(_, value)| !value.is_null());
        given.extend(otherwise.map(|(key, value)| (key.clone(), value.clone())));
        ensure!(
            given.contains_key("socket"),
            "no HAProxy is named: write `socket: /run/haproxy/admin.sock`, or its `host:port`, in configs/haproxy.yaml or \
             into the group's load_balancer_parameters"
        );
        let own_backend = said.get("backend").and_then(Value::as_str).filter(|name| !name.contains(GROUP));
        if own_backend.is_some() {
            given.remove("backend");
        }
        let mut settings: Self = serde_json::from_value(Value::Object(given))
            .context("cannot read configs/haproxy.yaml with the group's load_balancer_parameters")?;
        if let Some(name) = own_backend {
            settings.backend = name.parse::<Name>()?.into();
        }
        let interval = settings.check.check_interval;
        ensure!(
            (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval),
            "check_interval in configs/haproxy.yaml is {}; it must be from {} to {}",
            format_duration(interval),
            format_duration(SHORTEST_INTERVAL),
            format_duration(LONGEST_INTERVAL),
        );
        Ok(settings)
    }
}

const fn default_interval() -> Duration {
    Duration::from_secs(1)
}

/// HAProxy's own, as is the next one.
const fn default_rise() -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add(1)
}

const fn default_fall() -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add(2)
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
        let catalogue = Catalogue { packs: [("haproxy".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        Settings::of(&catalogue, said.as_object().unwrap())
    }

    #[test]
    fn what_a_group_says_comes_before_the_packs_configuration() {
        let said = json!({ "socket": "127.0.0.1:9999", "backend": "be_shop", "rise": 5, "name": "web-001" });
        let settings = settings_with(json!({ "socket": "/run/a.sock", "fall": 4 }), &said).unwrap();
        assert_eq!(settings.backend.backend_of(&"web".parse().unwrap()).to_string(), "be_shop");
        assert_eq!((settings.check.rise.get(), settings.check.fall.get()), (5, 4));
        let hostile = json!({ "backend": "be; shutdown sessions" });
        assert!(settings_with(json!({ "socket": "/run/a.sock" }), &hostile).is_err());
    }

    #[test]
    fn what_is_not_said_is_as_haproxy_has_it() {
        let settings = settings(json!({ "socket": "/run/haproxy/admin.sock", "maxconn": null })).unwrap();
        assert_eq!(settings.backend.backend_of(&"web".parse().unwrap()).to_string(), "web");
        let CheckOptions { check_interval, rise, fall, maxconn } = settings.check;
        assert_eq!((check_interval, rise.get(), fall.get()), (Duration::from_secs(1), 2, 3));
        assert_eq!((maxconn, settings.port), (None, None));
    }

    #[test]
    fn a_configuration_of_which_nothing_can_be_made_is_refused_with_the_way_out() {
        let socket = "127.0.0.1:9999";
        let cases = [
            (json!({}), "write `socket: /run/haproxy/admin.sock`"),
            (json!({ "socket": "admin.sock" }), "is neither an absolute path nor `host:port`"),
            (json!({ "socket": socket, "backend": "{group}; help" }), "does not say how the backend of a group"),
            (json!({ "socket": socket, "backend": "{group}\nhelp" }), "does not say how the backend of a group"),
            (json!({ "socket": socket, "check_interval": "often" }), "`often` is not a duration"),
            (json!({ "socket": socket, "check_interval": "1ms" }), "it must be from 10ms to 1h"),
            (json!({ "socket": socket, "rise": 0 }), "nonzero"),
            (json!({ "socket": socket, "port": 70000 }), "70000"),
        ];
        for (config, problem) in cases {
            let refusal = format!("{:#}", settings(config.clone()).unwrap_err());
            assert!(refusal.contains(problem) && refusal.contains("configs/haproxy.yaml"), "{config}: {refusal}");
        }
    }
}
