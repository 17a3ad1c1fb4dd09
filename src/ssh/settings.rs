//! What `configs/ssh.yaml` says: how nodes are reached if nobody says otherwise.

use std::num::NonZeroU16;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::pack::Catalogue;
use crate::runners::remote::{PrivateKey, Username};

/// How nodes are reached.
#[derive(Default, Deserialize)]
pub(super) struct Settings {
    pub(super) username: Option<Username>,
    pub(super) private_key: Option<PrivateKey>,
    pub(super) port: Option<NonZeroU16>,
    /// Where their host keys are remembered.
    pub(super) known_hosts: Option<PathBuf>,
    /// Whether steps run as root.
    #[serde(default)]
    pub(super) sudo: bool,
    /// What they become.
    pub(super) profile: Option<String>,
}

impl Settings {
    /// The pack's configuration as it is now.
    pub(super) fn of(catalogue: &Catalogue) -> anyhow::Result<Self> {
        let said = catalogue.packs.get("ssh").map(|pack| &pack.config);
        let given: Map<String, Value> = said
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let settings: Self = serde_json::from_value(Value::Object(given)).context("cannot read configs/ssh.yaml")?;
        if let Some(file) = &settings.known_hosts {
            ensure!(file.is_absolute(), "known_hosts in configs/ssh.yaml must be an absolute path");
        }
        Ok(settings)
    }
}
