//! A group whose owner has thought better of it: what may change at any time, and what only while it has no nodes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::governor::definition::{faults, played, refusal, refuse};
use crate::governor::error::GovernorError;
use crate::governor::service::Governor;
use crate::model::group::{Group, GroupName, NodeCount, Roles};
use crate::model::group_config::GroupConfig;
use crate::model::group_state::GroupState;

/// What is to be different about a group; what is not said stays.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redefinition {
    /// Some of the limits, steps and delays.
    pub config: Map<String, Value>,
    /// What alerts call it.
    pub application: Option<String>,
    /// Where notices go; empty is nowhere.
    pub channel: Option<String>,
    /// For new nodes only.
    pub node_parameters: Option<BTreeMap<String, Value>>,
    /// All that the pack that names nodes is told.
    pub dns_parameters: Option<BTreeMap<String, Value>>,
    /// All that the pack that sends traffic is told.
    pub load_balancer_parameters: Option<BTreeMap<String, Value>>,
    /// All that the pack that configures nodes is told.
    pub configure_parameters: Option<BTreeMap<String, Value>>,
    /// All that the pack that measures is told.
    pub metrics_parameters: Option<BTreeMap<String, Value>>,
    /// Only while there are no nodes: who made them must take them away.
    pub domain: Option<String>,
    /// Only while there are no nodes.
    pub provider: Option<String>,
    /// Only while there are no nodes.
    pub dns: Option<String>,
    /// Only while there are no nodes.
    pub load_balancer: Option<String>,
    /// For new nodes only.
    pub configure: Option<String>,
    /// The load that was measured counts until it is stale.
    pub metrics: Option<String>,
}

impl Governor {
    /// Changes some of a group's limits, steps and delays; the others stay.
    pub async fn configure(&self, name: &GroupName, changed: &Map<String, Value>) -> Result<(), GovernorError> {
        self.redefine(name, &Redefinition { config: changed.clone(), ..Redefinition::default() }).await
    }

    /// Changes what a group's owner wrote.
    pub async fn redefine(&self, name: &GroupName, change: &Redefinition) -> Result<(), GovernorError> {
        self.change(name, |state, _now| {
            let group = redefined(state, change).map_err(|problems| refusal(name.as_str(), problems))?;
            let catalogue = self.parts.catalogue.borrow();
            // a pack that vanished since then is no reason to keep somebody from lowering a limit
            let problems = if group.roles == state.group.roles {
                group.config.validate().err().unwrap_or_default()
            } else {
                faults(&group, &catalogue)
            };
            refuse(name.as_str(), problems)?;
            state.group = group;
            Ok(())
        })
        .await
    }
}

/// The group as it is to be. Whoever made, named or balanced the nodes that there are must be there to undo it.
fn redefined(state: &GroupState, change: &Redefinition) -> Result<Group, Vec<String>> {
    let change = change.clone();
    let mut group = state.group.clone();
    group.config = merged(&group.config, &change.config).map_err(|problem| vec![problem])?;
    group.application = change.application.filter(|name| !name.is_empty()).unwrap_or(group.application);
    if let Some(channel) = change.channel {
        group.channel = Some(channel).filter(|channel| !channel.is_empty());
    }
    group.node_parameters = change.node_parameters.unwrap_or(group.node_parameters);
    let told = &mut group.role_parameters;
    let parameters = [
        (&mut told.dns, change.dns_parameters),
        (&mut told.load_balancer, change.load_balancer_parameters),
        (&mut told.configure, change.configure_parameters),
        (&mut told.metrics, change.metrics_parameters),
    ];
    parameters.into_iter().for_each(|(known, said)| *known = said.unwrap_or_else(|| std::mem::take(known)));
    group.domain = change.domain.unwrap_or(group.domain);
    group.roles.provider = change.provider.unwrap_or(group.roles.provider);
    let Roles { dns, load_balancer, configure, metrics, .. } = &mut group.roles;
    let roles = [
        (dns, change.dns),
        (load_balancer, change.load_balancer),
        (configure, change.configure),
        (metrics, change.metrics),
    ];
    for (role, said) in roles {
        *role = if said.is_some() { played(said) } else { role.take() };
    }
    let fixed = |group: &Group| {
        let Roles { provider, dns, load_balancer, .. } = group.roles.clone();
        (group.domain.clone(), provider, dns, load_balancer)
    };
    if state.total() > NodeCount::ZERO && fixed(&group) != fixed(&state.group) {
        let what = "`domain`, `provider`, `dns` and `load_balancer` can only change while the group has no nodes";
        return Err(vec![format!("{what}: it has {}; make a new group, or deflate this one to 0", state.total())]);
    }
    Ok(group)
}

fn merged(config: &GroupConfig, changed: &Map<String, Value>) -> Result<GroupConfig, String> {
    let mut all = json!(config);
    if let Value::Object(knobs) = &mut all {
        knobs.extend(changed.clone());
    }
    serde_json::from_value(all).map_err(|problem| problem.to_string())
}
