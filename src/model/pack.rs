//! A loaded pack, and the catalogue: the immutable set of everything that is loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::action::{Action, ParameterSpec};
use super::refs::{ActionRef, AliasRef, PolicyRef, RuleRef, SensorRef, TriggerTypeRef};
use super::rule::Rule;
use super::trigger::{Sensor, TriggerType};

/// `pack.yaml` and where it was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pack {
    /// Short unique name, `^[a-z0-9_]+$`.
    pub reference: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Semantic version.
    pub version: String,
    /// Who made it.
    pub author: String,
    /// How to reach them.
    pub email: String,
    /// For searching.
    pub keywords: Vec<String>,
    /// Other packs it needs.
    pub dependencies: Vec<String>,
    /// The pack's folder; for `default` the site's root.
    pub path: PathBuf,
    /// `config.schema.yaml`, attribute by attribute.
    pub config_schema: BTreeMap<String, ParameterSpec>,
    /// Values from the site's configuration, before templates and defaults.
    pub config: BTreeMap<String, Value>,
}

impl Pack {
    /// The values of its configuration that its schema calls secret.
    pub fn secret_texts(&self) -> Vec<String> {
        let values = self.config_schema.iter().filter_map(|(name, spec)| Some((spec, self.config.get(name)?)));
        values.flat_map(|(spec, value)| spec.secret_texts(value)).collect()
    }

    /// Its configuration as somebody sees it who may not see secrets.
    pub fn masked_config(&self, mask: &str) -> BTreeMap<String, Value> {
        let is_secret = |name: &String| self.config_schema.get(name).is_some_and(|spec| spec.secret);
        let shown = |name: &String, value: &Value| if is_secret(name) { mask.into() } else { value.clone() };
        self.config.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
    }
}

/// A policy as declared; what it means is decided by `dispatch`.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `pack.name`.
    pub reference: PolicyRef,
    /// A disabled policy does nothing.
    pub enabled: bool,
    /// The action it governs.
    pub resource: ActionRef,
    /// What it does.
    pub rule: PolicyRule,
    /// The metadata file, relative to the pack.
    pub metadata_file: String,
}

/// The policies that StackStorm knows and Petrel acts on.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyRule {
    /// At most `threshold` executions at once, counted per values of `attributes`.
    Concurrency {
        /// How many may run.
        threshold: u32,
        /// Parameter names; executions with equal values are counted together. Empty: all together.
        attributes: Vec<String>,
        /// What becomes of those over the threshold.
        over: OverThreshold,
    },
    /// Run again after a failure or a timeout.
    Retry {
        /// Which ends are retried.
        on: RetryOn,
        /// How many further attempts.
        max_retry_count: u32,
        /// Time between them.
        delay: std::time::Duration,
    },
}

/// What a concurrency policy does with an execution that finds no free place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverThreshold {
    /// It waits, first come first served.
    Delay,
    /// It is canceled.
    Cancel,
}

/// Which ends a retry policy retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// Status `failed`.
    Failure,
    /// Status `timeout`.
    Timeout,
}

/// An action alias: how an action is called from chat. Read and listed; acted on by the chat adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    /// `pack.name`.
    pub reference: AliasRef,
    /// For people.
    pub description: String,
    /// A disabled alias is not matched.
    pub enabled: bool,
    /// The action it runs.
    pub action: ActionRef,
    /// The whole metadata, as written.
    pub metadata: Value,
    /// The metadata file, relative to the pack.
    pub metadata_file: String,
}

/// The immutable set of everything loaded, published as one `Arc` on a watch channel.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Grows by one with each change in this daemon, so that what is derived from it is made anew.
    pub version: u64,
    /// The version that was published for all daemons; `None`: the daemon's own files.
    pub published: Option<u64>,
    /// By `ref`.
    pub packs: BTreeMap<String, Arc<Pack>>,
    /// By reference.
    pub actions: BTreeMap<ActionRef, Arc<Action>>,
    /// By reference.
    pub trigger_types: BTreeMap<TriggerTypeRef, Arc<TriggerType>>,
    /// By reference.
    pub sensors: BTreeMap<SensorRef, Arc<Sensor>>,
    /// By reference; switches and rules from the API are already applied.
    pub rules: BTreeMap<RuleRef, Arc<Rule>>,
    /// By reference.
    pub policies: BTreeMap<PolicyRef, Arc<Policy>>,
    /// By reference.
    pub aliases: BTreeMap<AliasRef, Arc<Alias>>,
    /// What is loaded but cannot work, and why: shown by `list`, refused with this reason when used.
    /// By unique id, as `rule:default:restart_web`: see [`crate::model::refs::Ref::uid`].
    pub broken: BTreeMap<String, String>,
}

impl Catalogue {
    /// What an instance records that was matched with it.
    pub fn recorded_version(&self) -> u64 {
        self.published.unwrap_or(self.version)
    }

    /// What a pack's configuration says; nothing if it is not there, and without what it leaves empty.
    pub fn configuration(&self, pack: &str) -> Map<String, Value> {
        let said = self.packs.get(pack).map(|pack| &pack.config).into_iter().flatten();
        let said = said.filter(|(_, value)| !value.is_null());
        said.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Where it came from, as shown to people: `v3` as published, or `files`.
    pub fn source(&self) -> String {
        self.published.map_or_else(|| "files".to_owned(), |version| format!("v{version}"))
    }

    /// Why the action cannot be run, if it is broken.
    pub fn broken_action(&self, reference: &ActionRef) -> Option<&str> {
        self.broken.get(&reference.uid()).map(String::as_str)
    }

    /// Why the rule is not matched, if it is broken.
    pub fn broken_rule(&self, reference: &RuleRef) -> Option<&str> {
        self.broken.get(&reference.uid()).map(String::as_str)
    }
}
