//! The outside as one state machine: a provider, a load balancer, a zone and a configurer that are honest. What is asked again
//! is found and not done again, what cannot be is refused, and every call stands in a log with what it changed.

use std::collections::{BTreeMap, BTreeSet};

use petrel::model::time::Timestamp;
use serde_json::{Value, json};

use super::server::Trouble;

/// Below which names nodes are found.
pub(super) const DOMAIN: &str = "example.test";
/// Where every node serves.
const PORT: u16 = 8080;

/// One call that had its effect, or would have had one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// As `create_node`.
    pub(super) verb: String,
    /// The node's name, or the group's where it is about the group.
    pub(super) about: String,
    /// All that was said.
    pub(super) said: Value,
}

/// A call as it came out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) call: Call,
    /// Commits of the caller that were on disk when it was done.
    pub(super) commits: usize,
    /// The caller's time.
    pub(super) at: Timestamp,
    /// The world is another one since.
    pub(super) changed: bool,
    /// It was done, and did not fail for a reason of its own or one that a test made.
    pub(super) done: bool,
    /// What a test did to it.
    pub(super) trouble: Option<Trouble>,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Outside {
    /// Nodes with their tags.
    pub(super) nodes: BTreeMap<String, String>,
    pub(super) configured: BTreeSet<String>,
    /// Addresses of the servers that get requests.
    pub(super) backends: BTreeMap<String, String>,
    /// Full names with where they lead.
    pub(super) records: BTreeMap<String, String>,
    /// What stands around a group: `group`, `zone`, `pool`.
    pub(super) around: BTreeSet<String>,
    /// Tags under which a node was made once.
    spent: BTreeSet<String>,
    /// What no caller should ever have done.
    pub(super) wrongs: Vec<String>,
}

/// Verbs that only look.
pub(super) const LOOKS: [&str; 4] = ["wait_ready", "list_nodes", "list_backends", "list_records"];

/// Does one thing, or says why not.
type Answer = Result<Value, String>;

impl Outside {
    /// What a verb does. The second: whether anything is different now.
    pub(super) fn apply(&mut self, call: &Call) -> (Answer, bool) {
        let before = self.clone();
        let answer = self.act(call);
        let changed = Self { wrongs: Vec::new(), ..before } != Self { wrongs: Vec::new(), ..self.clone() };
        (answer, changed)
    }

    fn act(&mut self, call: &Call) -> Answer {
        let name = call.about.as_str();
        match call.verb.as_str() {
            "create_group" => Ok(self.stands("group")),
            "create_zone" => Ok(self.stands("zone")),
            "create_pool" => Ok(self.stands("pool")),
            "delete_group" => self.falls("group", |it| it.nodes.is_empty()),
            "delete_zone" => self.falls("zone", |it| it.records.is_empty()),
            "delete_pool" => self.falls("pool", |it| it.backends.is_empty()),
            "create_node" => self.create_node(name, text(&call.said, "tag")),
            "wait_ready" => self.node(name).map(|()| json!({ "address": address(name), "port": PORT })),
            "configure_node" => {
                self.node(name)?;
                self.configured.insert(name.to_owned());
                Ok(json!({}))
            }
            "delete_node" => Ok(self.delete_node(name)),
            "upsert_record" => {
                self.needs("zone")?;
                self.records.insert(name.to_owned(), text(&call.said, "data").to_owned());
                Ok(json!({}))
            }
            "delete_record" => Ok(json!({ "deleted": self.records.remove(name).is_some() })),
            "add_backend" => self.add_backend(name, text(&call.said, "address")),
            "drain_backend" => Ok(json!({ "drained": self.backends.contains_key(name) })),
            "remove_backend" => Ok(json!({ "removed": self.backends.remove(name).is_some() })),
            "list_nodes" => {
                Ok(json!({ "nodes": self.nodes.keys().map(|name| json!({ "name": name })).collect::<Vec<_>>() }))
            }
            "list_backends" => {
                let rows = self.backends.iter().map(|(name, address)| json!({ "name": name, "address": address }));
                Ok(json!({ "backends": rows.collect::<Vec<_>>() }))
            }
            "list_records" => {
                let rows = self.records.iter().map(|(name, data)| json!({ "name": name, "data": data }));
                Ok(json!({ "records": rows.collect::<Vec<_>>() }))
            }
            other => Err(format!("nobody can {other}")),
        }
    }

    fn stands(&mut self, what: &str) -> Value {
        json!({ "new": self.around.insert(what.to_owned()) })
    }

    fn falls(&mut self, what: &str, empty: fn(&Self) -> bool) -> Answer {
        if !empty(self) {
            self.wrongs.push(format!("the {what} was to go while it was not empty"));
            return Err(format!("the {what} is not empty"));
        }
        Ok(json!({ "deleted": self.around.remove(what) }))
    }

    fn needs(&self, what: &str) -> Result<(), String> {
        if self.around.contains(what) { Ok(()) } else { Err(format!("there is no {what}")) }
    }

    fn node(&self, name: &str) -> Result<(), String> {
        if self.nodes.contains_key(name) { Ok(()) } else { Err(format!("there is no node {name}")) }
    }

    fn create_node(&mut self, name: &str, tag: &str) -> Answer {
        self.needs("group")?;
        if let Some(there) = self.nodes.get(name) {
            let same = there == tag;
            return if same { Ok(json!({ "new": false })) } else { Err(format!("{name} is there for somebody else")) };
        }
        if !self.spent.insert(tag.to_owned()) {
            self.wrongs.push(format!("{name} was made twice under the tag {tag}"));
        }
        self.nodes.insert(name.to_owned(), tag.to_owned());
        Ok(json!({ "new": true }))
    }

    fn delete_node(&mut self, name: &str) -> Value {
        if self.backends.contains_key(name) {
            self.wrongs.push(format!("{name} was to go while it got requests"));
        }
        self.configured.remove(name);
        json!({ "deleted": self.nodes.remove(name).is_some() })
    }

    fn add_backend(&mut self, name: &str, address: &str) -> Answer {
        self.needs("pool")?;
        self.node(name)?;
        if !self.configured.contains(name) {
            self.wrongs.push(format!("{name} was to get requests before it was configured"));
        }
        self.backends.insert(name.to_owned(), address.to_owned());
        Ok(json!({}))
    }
}

/// Where a node answers.
pub(super) fn address(name: &str) -> String {
    format!("{name}.inside")
}

/// A node's name in the zone.
pub(super) fn record_of(name: &str) -> String {
    format!("{name}.web.{DOMAIN}")
}

fn text<'v>(said: &'v Value, key: &str) -> &'v str {
    said[key].as_str().unwrap_or_default()
}
