//! What `configs/amqp.yaml` says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::amqp::address::Address;
use crate::config;
use crate::model::pack::Catalogue;
use crate::secrets::SecretText;

/// Where the pack's broker is, and which of its queues are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    url: Option<SecretText>,
    ca_file: Option<PathBuf>,
    /// Whose messages become triggers.
    pub(super) queues: BTreeSet<String>,
}

impl Settings {
    /// The pack's configuration, over the broker in front of the store.
    pub(super) fn of(catalogue: &Catalogue, fallback: &config::Bus) -> Self {
        let said = catalogue.packs.get("amqp").map(|pack| &pack.config);
        let value = |name: &str| said.and_then(|config| config.get(name));
        let text = |name: &str| value(name).and_then(Value::as_str);
        let (url, ca_file) = match text("url") {
            Some(url) => (Some(SecretText::new(url)), text("ca_file").map(PathBuf::from)),
            None => (fallback.url.clone(), fallback.ca_file.clone()),
        };
        let queues = value("queues").and_then(Value::as_array).into_iter().flatten();
        Self { url, ca_file, queues: queues.filter_map(Value::as_str).map(str::to_owned).collect() }
    }

    /// Where the broker is.
    pub(super) fn address(&self) -> anyhow::Result<Address> {
        let url = self.url.as_ref().ok_or_else(|| {
            anyhow::anyhow!("no broker is named: write `url: amqp://…` in configs/amqp.yaml, or set bus.url")
        })?;
        Ok(Address::parse(url.expose(), self.ca_file.as_deref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use crate::config::Config;
    use crate::model::pack::Pack;

    fn bus(url: &str) -> config::Bus {
        let environment = BTreeMap::from([("PETREL__BUS__URL".to_owned(), url.to_owned())]);
        Config::parse(Path::new("petrel.toml"), "", &environment).unwrap().bus
    }

    fn catalogue(config: Value) -> Catalogue {
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        Catalogue { packs: [("amqp".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() }
    }

    #[test]
    fn the_packs_own_broker_comes_before_the_one_in_front_of_the_store() {
        let own = catalogue(json!({ "url": "amqp://u:hunter2@own", "queues": ["b", "a", "b"] }));
        let settings = Settings::of(&own, &bus("amqp://shared"));
        assert_eq!(settings.address().unwrap().to_string(), "amqp://own:5672 (virtual host `/`)");
        assert_eq!(settings.queues.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let none = Settings::of(&catalogue(json!({})), &bus("amqp://shared"));
        assert_eq!(none.address().unwrap().to_string(), "amqp://shared:5672 (virtual host `/`)");
        assert!(none.queues.is_empty());
    }

    #[test]
    fn without_any_broker_the_way_out_is_said() {
        let nothing = Config::parse(Path::new("petrel.toml"), "", &BTreeMap::new()).unwrap().bus;
        let refusal = Settings::of(&Catalogue::default(), &nothing).address().unwrap_err();
        assert!(refusal.to_string().contains("configs/amqp.yaml"), "{refusal}");
    }
}
